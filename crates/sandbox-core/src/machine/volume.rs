//! Folders of the guest that outlive its tree.
//!
//! ```text
//! <state>/volumes/
//!   agents/                     a machine's
//!     home-agent-.claude        one of its folders: `/` is `-`, and `~` stands before a `-` or `~` of the name
//! ```
//!
//! They stand beside the trees, so that no layer, snapshot or export of a tree has what is in them. Owners on disk
//! are the guest's own numbers, as in a tree; the mount shifts them.

mod fill;

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use crate::{
    error::{Cause, Class},
    host::{
        live::{self, Directory},
        root::{self, Links, Meta, Root},
        temporary,
    },
    machine::guest::id,
    name::MachineName,
    spec::{Volume, VolumeKind},
};

/// A volume of one machine.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Mounted {
    /// Its folder on the host.
    pub source: PathBuf,
    /// Where the guest has it.
    pub path: PathBuf,
    /// What it is for.
    pub kind: VolumeKind,
    /// Its owner in the guest.
    pub owner: String,
    /// Permission bits in octal.
    pub mode: String,
}

/// Why a volume cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The file system refused.
    #[error("the volume {path} cannot be made", path = path.display())]
    Io {
        /// Where the guest would have it.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its owner is not a user of the tree.
    #[error("`{owner}`, who is to own the volume {path}, is no user of the machine", path = path.display())]
    Owner {
        /// The owner.
        owner: String,
        /// Where the guest would have it.
        path: PathBuf,
    },
}

impl Cause for VolumeError {
    fn class(&self) -> Class {
        match self {
            Self::Io { source, .. } => live::class_of(source, Class::Host),
            Self::Owner { .. } => Class::File,
        }
    }
}

/// Gives the folder of a machine's volumes.
#[must_use]
pub fn folder(state: &Path, name: &MachineName) -> PathBuf {
    state.join("volumes").join(name)
}

/// Gives the volumes of a machine; each path once.
#[must_use]
pub fn of(state: &Path, name: &MachineName, volumes: &[Volume]) -> Vec<Mounted> {
    let mut all: Vec<Mounted> = Vec::new();
    for volume in volumes {
        if all.iter().any(|known| known.path == volume.path) {
            continue;
        }
        all.push(Mounted {
            source: folder(state, name).join(escaped(&volume.path)),
            path: volume.path.clone(),
            kind: volume.kind,
            owner: volume.owner.clone(),
            mode: volume.mode.clone(),
        });
    }
    // one below another is mounted after it
    all.sort_by(|a, b| a.path.cmp(&b.path));
    all
}

/// A volume that is part of snapshots, clones and forks. There is none of a kind other than `home`: what can be made
/// again is, and of logins nothing that copies machines ever has the path.
#[derive(Clone, Copy, Debug)]
pub struct Work<'a>(&'a Mounted);

/// Gives the volumes that are part of snapshots, clones and forks.
#[must_use]
pub fn work(volumes: &[Mounted]) -> Vec<Work<'_>> {
    volumes.iter().filter(|volume| volume.kind == VolumeKind::Home).map(Work).collect()
}

impl<'a> Work<'a> {
    /// Gives its folder on the host.
    #[must_use]
    pub fn source(self) -> &'a Path {
        &self.0.source
    }

    /// Gives its path in the guest.
    #[must_use]
    pub fn path(self) -> &'a Path {
        &self.0.path
    }

    /// Gives its folder's name, the same for every machine.
    #[must_use]
    pub fn name(self) -> &'a OsStr {
        self.0.source.file_name().unwrap_or_default()
    }
}

/// Names the folder of a volume: `~` stands before nothing but `-` and `~`, so that a shortened name is no other path's.
fn escaped(path: &Path) -> OsString {
    let mut name = String::new();
    for letter in path.to_string_lossy().trim_matches('/').chars() {
        match letter {
            '/' => name.push('-'),
            '-' | '~' => name.extend(['~', letter]),
            _ => name.push(letter),
        }
    }
    temporary::shortened(name.as_ref(), temporary::NAME)
}

/// Makes the volumes that are not there, and the folders of the tree that they are mounted on. What the tree has
/// at their place is copied into them, but for what they have already.
///
/// # Errors
/// [`VolumeError`].
pub fn make(tree: &Path, volumes: &[Mounted]) -> Result<(), VolumeError> {
    volumes.iter().try_for_each(|volume| make_one(tree, volume))
}

fn make_one(tree: &Path, volume: &Mounted) -> Result<(), VolumeError> {
    let failed = |source| VolumeError::Io { path: volume.path.clone(), source };
    let tree = Root::open(tree, Links::InTree).map_err(failed)?;
    let owner = owner(&tree, &volume.owner).map_err(failed)?;
    let (uid, gid, home) =
        owner.ok_or_else(|| VolumeError::Owner { owner: volume.owner.clone(), path: volume.path.clone() })?;
    let mode = match (volume.kind, u32::from_str_radix(&volume.mode, 8).unwrap_or(0o700)) {
        // logins are nobody else's, whatever is asked for
        (VolumeKind::Auth, mode) => mode & 0o700,
        (_, mode) => mode,
    };
    let meta = Meta { mode, uid, gid, mtime: 0 };
    let own = |folder: &Path| match uid != 0 && folder.starts_with(&home) {
        true => Meta { mode: 0o755, ..meta },
        false => Meta::of_root(0o755, 0),
    };
    let parent = volume.path.parent().unwrap_or(Path::new("/"));
    tree.make_folders(parent, own(parent)).map_err(failed)?;
    tree.make_folders(&volume.path, meta).map_err(failed)?;
    let is_new = fs::symlink_metadata(&volume.source).is_err();
    open_folder(&volume.source).map_err(failed)?;
    let target = Root::open(&volume.source, Links::Refused).map_err(failed)?;
    let folder = |root: &Root, path| Directory::of(root.at(path, OFlags::PATH | OFlags::DIRECTORY, 0)?);
    let source = folder(&tree, &volume.path).map_err(failed)?;
    let target = folder(&target, Path::new("")).map_err(failed)?;
    fill::fill(&source, &target).map_err(failed)?;
    fill::finish_top(&source, target, meta, is_new).map_err(failed)
}

/// Makes a folder of the host that only root may enter, with those above it.
fn open_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

pub(in crate::machine) fn owner(tree: &Root, name: &str) -> io::Result<Option<(u32, u32, String)>> {
    if name == "root" {
        return Ok(Some((0, 0, "/root".to_owned())));
    }
    let passwd = tree.read(Path::new("etc/passwd"))?;
    let passwd = String::from_utf8_lossy(&passwd);
    Ok(passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.len() > 5 && fields[0] == name)
            .then(|| Some((id(fields[2])?, id(fields[3])?, fields[5].to_owned())))?
    }))
}

/// Removes volumes, and the folders above them that are empty then.
///
/// # Errors
/// What the file system says.
pub fn remove(sources: &[PathBuf]) -> io::Result<()> {
    for source in sources {
        root::clear_tree(source)?;
        for folder in source.ancestors().skip(1).take(2) {
            let _ = fs::remove_dir(folder);
        }
    }
    Ok(())
}

/// Lists the volumes that stand in a machine's folder, also those that no profile asks for any more.
#[must_use]
pub fn present(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<_> = fs::read_dir(folder)
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
        .unwrap_or_default();
    all.sort();
    all
}

/// Writes nspawn's word for the mount of a volume: source, target, options.
///
/// **Source**: systemd-nspawn(1), `--bind=`; `idmap` is known from 250 on.
#[must_use]
pub fn bind(volume: &Mounted, privileged: bool) -> String {
    let escape = |path: &Path| path.to_string_lossy().replace('\\', "\\\\").replace(':', "\\:");
    let options = if privileged { "norbind" } else { "norbind,idmap" };
    format!("{}:{}:{options}", escape(&volume.source), escape(&volume.path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn volume(path: &str, kind: VolumeKind) -> Volume {
        Volume { path: path.into(), kind, owner: "root".to_owned(), mode: "0755".to_owned() }
    }

    #[test]
    fn every_path_has_a_folder_of_its_own() {
        let paths = ["/a/b", "/a-b", "/a~/b", "/a/~b", "/a~-b", "/home/agent/.claude"];
        let names: std::collections::BTreeSet<_> =
            paths.iter().map(|path| escaped(Path::new(path))).collect();
        assert_eq!(names.len(), paths.len(), "{names:?}");
        assert!(names.contains(OsStr::new("home-agent-.claude")));
        let [one, other] =
            ["a", "b"].map(|end| escaped(Path::new(&format!("/{}/{end}", "deep/".repeat(60)))));
        assert!(one != other && one.len() == temporary::NAME, "{one:?}");
        assert!(names.iter().all(|name| !name.to_string_lossy().contains('/')));
    }

    #[test]
    fn a_volume_begins_with_what_the_tree_has_and_keeps_what_it_has() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let state = tempfile::tempdir().unwrap();
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir_all(tree.path().join("srv/login/deep")).unwrap();
        fs::write(tree.path().join("srv/login/deep/notes"), "of the tree").unwrap();
        fs::write(tree.path().join("srv/login/second"), "of the tree").unwrap();
        std::os::unix::fs::symlink("/usr/share/skills", tree.path().join("srv/login/skills")).unwrap();
        let name = MachineName::new("a").unwrap();
        let all = of(state.path(), &name, &[volume("/srv/login", VolumeKind::Auth)]);
        make(tree.path(), &all).unwrap();
        let source = state.path().join("volumes/a/srv-login");
        assert_eq!(all[0].source, source);
        assert_eq!(fs::metadata(&source).unwrap().mode() & 0o777, 0o700, "a login that others may read");
        assert_eq!(fs::read(source.join("deep/notes")).unwrap(), b"of the tree");
        assert_eq!(fs::read_link(source.join("skills")).unwrap(), Path::new("/usr/share/skills"));

        // a second machine of the name: the guest's own changes stay, its links are not followed
        let outside = tempfile::tempdir().unwrap();
        fs::write(source.join("second"), "of the guest").unwrap();
        fs::remove_dir_all(source.join("deep")).unwrap();
        std::os::unix::fs::symlink(outside.path(), source.join("deep")).unwrap();
        make(tree.path(), &all).unwrap();
        assert_eq!(fs::read(source.join("second")).unwrap(), b"of the guest");
        assert!(fs::read_dir(outside.path()).unwrap().next().is_none(), "a guest's link was followed");

        remove(&present(&folder(state.path(), &name))).unwrap();
        assert!(!state.path().join("volumes").exists());
    }

    #[test]
    fn an_owner_is_a_user_with_a_number() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("etc")).unwrap();
        // chown(2) leaves an owner as it was for the greatest number, which would be root
        let passwd =
            "a:x:7:8::/a:/bin/sh\nevil:x:4294967295:1::/:\nworse:x:1:4294967295::/:\nnone:x:-1:-1::/:\n";
        fs::write(place.path().join("etc/passwd"), passwd).unwrap();
        let tree = Root::open(place.path(), Links::InTree).unwrap();
        assert_eq!(owner(&tree, "a").unwrap(), Some((7, 8, "/a".to_owned())));
        for name in ["evil", "worse", "none"] {
            assert_eq!(owner(&tree, name).unwrap(), None, "{name}");
        }
    }

    #[test]
    fn a_mount_shifts_owners_but_where_there_is_no_user_namespace() {
        let state = Path::new("/s:t");
        let name = MachineName::new("a").unwrap();
        let all = of(state, &name, &[volume("/b/c", VolumeKind::Home), volume("/b", VolumeKind::Cache)]);
        assert_eq!(all[0].path, Path::new("/b"), "one below another is mounted after it");
        assert_eq!(bind(&all[1], false), "/s\\:t/volumes/a/b-c:/b/c:norbind,idmap");
        assert_eq!(bind(&all[0], true), "/s\\:t/volumes/a/b:/b:norbind");
    }
}
