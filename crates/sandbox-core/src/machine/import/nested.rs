//! Archives whose tree is below a directory: a single one, as machinectl takes them, and what LXD and incus write.
//!
//! **Source**: systemd's src/shared/import-util.c and src/import/import-common.c, `import_mangle_os_tree`; incus'
//! doc/image-format.md (`metadata.yaml`, `rootfs/`, `templates/`) and doc/backup.md (`backup/container/rootfs`).

use std::{
    ffi::{OsStr, OsString},
    io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, XattrFlags, fsetxattr, mkdirat, renameat, renameat_with, statat,
    unlinkat,
};

use crate::{
    host::{
        live::attributes,
        root::{self, Links, Meta, Root},
    },
    tarfile::is_of_a_tree,
};

/// Where incus and LXD have the tree in a backup.
const BACKUP: &str = "backup/container/rootfs";

/// Where they have it in an image, and what may be beside it.
const IMAGE: &str = "rootfs";
const BESIDE: [&str; 3] = ["metadata.yaml", "templates", IMAGE];

/// The name of a tree that is being moved up.
const MOVED: &str = ".sandbox-moved";

/// Reports whether a path is in the `dev` of a tree, or of one that is below a directory.
pub fn is_dev(path: &Path) -> bool {
    let mut parts = path.components();
    path.starts_with("dev")
        || path.strip_prefix(BACKUP).is_ok_and(|path| path.starts_with("dev"))
        || parts.next().is_some() && parts.as_path().starts_with("dev")
}

/// Finds the directory that the tree is in, where it is not at the top.
pub fn find(root: &Root, inits: &[&str]) -> Option<PathBuf> {
    let is_tree = |below: &Path| {
        let is_directory = root.kind(below).ok().flatten() == Some(FileType::Directory);
        is_directory && inits.iter().any(|init| has(root, below, Path::new(init)))
    };
    if inits.iter().any(|init| root.has(Path::new(init))) {
        return None;
    }
    let names = root.list(Path::new("")).ok()?;
    let known = |name: &PathBuf| BESIDE.iter().any(|beside| name == Path::new(beside));
    let candidate = match names.as_slice() {
        [only] if only == Path::new("backup") => PathBuf::from(BACKUP),
        [only] => only.clone(),
        several if several.iter().all(known) => PathBuf::from(IMAGE),
        _ => return None,
    };
    is_tree(&candidate).then_some(candidate)
}

/// Reports whether a tree below a directory has a path. Its absolute links begin at the directory.
fn has(root: &Root, below: &Path, path: &Path) -> bool {
    root.within(below, Links::InTree).is_ok_and(|tree| tree.has(path))
}

/// Moves a directory's contents to the top of the tree, in place of what is there; the top is then as the directory was.
///
/// # Errors
/// What the file system says.
pub fn move_up(tree: &Root, nested: &Path) -> io::Result<()> {
    let top = tree.at(Path::new(""), OFlags::RDONLY | OFlags::DIRECTORY, 0)?;
    let own = tree.at(nested, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, 0)?;
    let stat = rustix::fs::fstat(&own)?;
    let all = attributes(&own.try_clone()?.into())?;
    let (above, name) = tree.parent(nested)?;
    mkdirat(&top, MOVED, Mode::RWXU)?;
    let moved = tree.at(Path::new(MOVED), OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, 0)?;
    renameat(&above, &name, &moved, "tree")?;
    for other in tree.list(Path::new(""))? {
        if other != Path::new(MOVED) {
            remove(tree, &top, &other)?;
        }
    }
    let inner = Path::new(MOVED).join("tree");
    for child in tree.list(&inner)? {
        // its own name may be that of the directory for what is moved
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        renameat_with(&own, &child, &top, &child, flags)?;
    }
    unlinkat(&moved, "tree", AtFlags::REMOVEDIR)?;
    unlinkat(&top, MOVED, AtFlags::REMOVEDIR)?;
    let meta = Meta { mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid, mtime: stat.st_mtime };
    let lists = |name: &OsStr| name.as_encoded_bytes().starts_with(b"system.posix_acl_");
    let set = |(name, value): &(OsString, Vec<u8>)| {
        fsetxattr(&top, name.as_os_str(), value, XattrFlags::empty()).map_err(io::Error::from)
    };
    all.iter().filter(|(name, _)| is_of_a_tree(name.as_encoded_bytes())).try_for_each(set)?;
    root::finish_folder(top.as_fd(), meta)?;
    all.iter().filter(|(name, _)| lists(name)).try_for_each(set)
}

/// Removes a name of the top with all below it.
fn remove(tree: &Root, top: &impl std::os::fd::AsFd, name: &Path) -> io::Result<()> {
    let found = statat(top, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
        return Ok(unlinkat(top, name, AtFlags::empty())?);
    }
    tree.empty(name)?;
    Ok(unlinkat(top, name, AtFlags::REMOVEDIR)?)
}
