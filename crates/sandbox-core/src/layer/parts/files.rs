//! Files and links of the tree, and who owns them.

use std::{ffi::OsStr, io, path::Path};

use super::PartError;
use crate::{
    host::root::{Meta, Root},
    spec::TreeFile,
};

pub(in crate::layer) fn failed(path: &Path) -> impl FnOnce(io::Error) -> PartError + use<> {
    let path = path.to_owned();
    move |source| PartError::Write { path, source }
}

pub(super) fn folder_of(root: &Root, path: &Path, epoch: i64) -> Result<(), PartError> {
    match path.parent() {
        Some(folder) => root.make_folders(folder, Meta::of_root(0o755, epoch)).map_err(failed(path)),
        None => Ok(()),
    }
}

/// Makes a folder's missing parents, which below somebody's home are that user's.
pub(in crate::layer) fn folder_for(
    root: &Root,
    path: &Path,
    owner: &Account,
    epoch: i64,
) -> Result<(), PartError> {
    let Some(folder) = path.parent() else { return Ok(()) };
    let meta = match folder.starts_with(&owner.home) && owner.uid != 0 {
        true => Meta { mode: 0o755, uid: owner.uid, gid: owner.gid, mtime: epoch },
        false => Meta::of_root(0o755, epoch),
    };
    root.make_folders(folder, meta).map_err(failed(path))
}

/// TOML's multi-line strings are easier to read with a line feed at the top.
pub(super) fn text(content: &str) -> &str {
    content.strip_prefix('\n').unwrap_or(content)
}

pub(super) fn write(root: &Root, file: &TreeFile, epoch: i64) -> Result<(), PartError> {
    let mode = u32::from_str_radix(&file.mode, 8).unwrap_or(0o644);
    let account = account(root, &file.owner, &file.path)?;
    let gid = match &file.group {
        Some(group) => group_of(root, group, &file.path)?,
        None => account.gid,
    };
    folder_for(root, &file.path, &account, epoch)?;
    let meta = Meta { mode, uid: account.uid, gid, mtime: epoch };
    root.write(&file.path, text(&file.content).as_bytes(), meta).map_err(failed(&file.path))
}

/// Writes a file of root's that everybody may read.
pub(super) fn write_text(root: &Root, path: &Path, text: &str, epoch: i64) -> Result<(), PartError> {
    folder_of(root, path, epoch)?;
    root.write(path, text.as_bytes(), Meta::of_root(0o644, epoch)).map_err(failed(path))
}

pub(super) fn make_link(root: &Root, path: &Path, target: &str, epoch: i64) -> Result<(), PartError> {
    folder_of(root, path, epoch)?;
    root.link(path, OsStr::new(target), epoch).map_err(failed(path))
}

/// A user of the tree: numbers and home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    /// Its number.
    pub uid: u32,
    /// Its own group's number.
    pub gid: u32,
    /// Its groups' numbers, its own among them.
    pub groups: Vec<u32>,
    /// Its home.
    pub home: String,
}

/// Finds a user with its groups in the tree's own files.
///
/// **Source**: passwd(5), group(5).
pub(crate) fn account(root: &Root, name: &str, path: &Path) -> Result<Account, PartError> {
    if name == "root" {
        return Ok(Account { uid: 0, gid: 0, groups: vec![0], home: "/root".to_owned() });
    }
    let passwd = read(root, "etc/passwd")?;
    let found = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.len() > 5 && fields[0] == name)
            .then(|| Some((fields[2].parse().ok()?, fields[3].parse().ok()?, fields[5].to_owned())))?
    });
    let (uid, gid, home) =
        found.ok_or_else(|| PartError::Owner { owner: name.to_owned(), path: path.to_owned() })?;
    let mut groups = vec![gid];
    for line in read(root, "etc/group")?.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        if fields.len() > 3
            && fields[3].split(',').any(|member| member == name)
            && let Ok(gid) = fields[2].parse()
            && !groups.contains(&gid)
        {
            groups.push(gid);
        }
    }
    Ok(Account { uid, gid, groups, home })
}

/// Finds a group's number in the tree's group file.
fn group_of(root: &Root, name: &str, path: &Path) -> Result<u32, PartError> {
    let group = read(root, "etc/group")?;
    let found = group.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.len() > 2 && fields[0] == name).then(|| fields[2].parse().ok())?
    });
    found.ok_or_else(|| PartError::Group { group: name.to_owned(), path: path.to_owned() })
}

/// Reads a file of the tree that all trees with users have.
pub(in crate::layer) fn read(root: &Root, path: &str) -> Result<String, PartError> {
    match root.read(Path::new(path)) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(PartError::Write { path: Path::new("/").join(path), source }),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt as _};

    use super::*;
    use crate::host::root::Links;

    #[test]
    fn a_file_has_the_group_it_asks_for_and_its_folder_is_its_owners() {
        let tree = tempfile::tempdir().unwrap();
        let own = nix::unistd::geteuid().as_raw();
        if own != 0 {
            return;
        }
        fs::create_dir_all(tree.path().join("etc")).unwrap();
        fs::create_dir_all(tree.path().join("home/a")).unwrap();
        fs::write(tree.path().join("etc/passwd"), "a:x:1000:1001::/home/a:/bin/sh\n").unwrap();
        fs::write(tree.path().join("etc/group"), "a:x:1001:\nadm:x:4:b,a\n").unwrap();
        let root = Root::open(tree.path(), Links::InTree).unwrap();
        let mut file = TreeFile {
            path: "/home/a/.config/x/y".into(),
            content: "\nz\n".to_owned(),
            mode: "0640".to_owned(),
            owner: "a".to_owned(),
            group: Some("adm".to_owned()),
        };
        write(&root, &file, 0).unwrap();
        let made = fs::metadata(tree.path().join("home/a/.config/x/y")).unwrap();
        assert_eq!((made.uid(), made.gid(), made.mode() & 0o777), (1000, 4, 0o640));
        let folder = fs::metadata(tree.path().join("home/a/.config")).unwrap();
        assert_eq!((folder.uid(), folder.gid()), (1000, 1001));
        assert_eq!(account(&root, "a", Path::new("/")).unwrap().groups, [1001, 4]);
        file.group = Some("none".to_owned());
        let error = write(&root, &file, 0).unwrap_err().to_string();
        assert!(error.contains("`none`"), "{error}");
    }
}
