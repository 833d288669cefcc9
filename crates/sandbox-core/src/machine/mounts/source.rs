//! Sources of mounts: opened without following a link, and compared with what was recorded.
//!
//! A guest that can write to a parent of a source could put a link or another directory in its place. So a path is
//! never followed twice: the directory is recognized by what the file system says of it.

use std::{
    fs, io,
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, CWD, Mode, OFlags, ResolveFlags, Statx, StatxFlags, fstatfs, fstatvfs, makedev, openat2,
        statx,
    },
    io::Errno,
};

use crate::{
    error::{Cause, Class, Hint},
    machine::direct::run,
};

/// Which directory a path led to when it was mounted.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Identity {
    /// The device's number; another boot of the host may give another one.
    pub device: u64,
    /// The inode's number.
    pub inode: u64,
    /// When the inode was made, in nanoseconds since 1970, where the file system keeps that: numbers are used again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub born: Option<i64>,
    /// What kind of file system it is (statfs(2), `f_type`).
    pub kind: i64,
    /// Which file system it is (statfs(2), `f_fsid`); of btrfs, which subvolume.
    pub file_system: u64,
    /// The owner's id. A directory that has become root's since is not taken for the recorded one, whose owner is a user of
    /// the machine.
    pub owner: u32,
    /// The boot of the host in which the device had this number.
    pub boot: String,
}

/// Kinds of file systems whose number is made of their UUID, and of btrfs' subvolume: it is the same at every boot.
///
/// **Source**: `ext4_statfs`, `btrfs_statfs` of Linux 5.12 to 6.18; `EXT4_SUPER_MAGIC`, `BTRFS_SUPER_MAGIC`.
const STABLE: [i64; 2] = [0xEF53, 0x9123_683E];

impl Identity {
    /// Tells whether a directory that was found is this one.
    ///
    /// The inode and its birth always count. The file system is recognized by its own number where that is stable,
    /// else by the device's in the same boot of the host, else by its kind.
    #[must_use]
    pub fn is(&self, found: &Self) -> bool {
        let born = match (self.born, found.born) {
            (Some(before), Some(now)) => before == now,
            _ => true,
        };
        let file_system = if STABLE.contains(&self.kind) {
            self.file_system == found.file_system
        } else {
            self.boot != found.boot || self.device == found.device
        };
        let owner = self.owner == 0 || found.owner != 0;
        self.inode == found.inode && owner && born && self.kind == found.kind && file_system
    }
}

/// An open source.
#[derive(Debug)]
pub struct Source {
    /// The directory.
    pub fd: OwnedFd,
    /// Which one it is.
    pub identity: Identity,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// Why a source is not mounted.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Another directory than the recorded one has its path.
    #[error("{path} is another directory than the one that was mounted", path = path.display())]
    Replaced {
        /// The path.
        path: PathBuf,
        /// Commands that resolve it.
        commands: Commands,
    },
    /// A symbolic link is on the way to it.
    #[error("a symbolic link is on the path {path}, which had none", path = path.display())]
    Link {
        /// The path.
        path: PathBuf,
        /// Commands that resolve it.
        commands: Commands,
    },
    /// A symbolic link on the way of a typed path is not root's.
    #[error("{path} is a symbolic link that belongs to another user than root", path = path.display())]
    LinkOwner {
        /// The link.
        path: PathBuf,
    },
    /// It cannot be opened.
    #[error("{path} cannot be opened", path = path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What a user can do about a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commands {
    /// Accepts the directory that is there.
    pub accept: String,
    /// Gives the mount up.
    pub forget: String,
}

impl Commands {
    /// None are known.
    pub const NONE: Self = Self { accept: String::new(), forget: String::new() };
}

impl Cause for SourceError {
    fn class(&self) -> Class {
        match self {
            Self::Replaced { .. } | Self::Link { .. } | Self::LinkOwner { .. } => Class::Untrusted,
            Self::Io { source, .. }
                if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
            {
                Class::Unavailable
            }
            Self::Io { .. } => Class::Host,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Replaced { commands, .. } if !commands.accept.is_empty() => vec![
                Hint::run("mount the directory that is there now", commands.accept.clone()),
                Hint::run("remove the mount", commands.forget.clone()),
            ],
            Self::Link { commands, .. } if !commands.accept.is_empty() => vec![
                Hint::run("remove the mount", commands.forget.clone()),
                Hint::run("then mount what the link leads to", commands.accept.clone()),
            ],
            Self::LinkOwner { .. } => {
                vec![Hint::Note("if it leads where you want, give the path that it leads to".to_owned())]
            }
            _ => Vec::new(),
        }
    }
}

/// A path without links, and how it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The path as it was typed.
    pub typed: PathBuf,
    /// The path without links.
    pub path: PathBuf,
    /// Every directory in which a name of it, or of a link on the way, was looked up.
    pub looked_in: Vec<PathBuf>,
}

/// As many links as the kernel follows (path_resolution(7)).
const LINKS: usize = 40;

/// Resolves an absolute path as its user typed it.
///
/// A directory in which a guest writes is on the way of such a path where a link leads through it, too. Links are root's
/// (or the caller's own): a guest that has a directory mounted only until it ends may have put a link there, and such a
/// mount is not recorded.
///
/// # Errors
/// [`SourceError::Io`], [`SourceError::LinkOwner`].
pub fn resolve(typed: &Path) -> Result<Resolved, SourceError> {
    let caller = rustix::process::geteuid().as_raw();
    let failed = |source| SourceError::Io { path: typed.to_owned(), source };
    let mut rest: Vec<_> = typed.components().rev().map(|part| part.as_os_str().to_owned()).collect();
    let mut found = Resolved { typed: typed.to_owned(), path: PathBuf::from("/"), looked_in: Vec::new() };
    let mut links = 0;
    while let Some(part) = rest.pop() {
        match Path::new(&part).components().next() {
            Some(Component::RootDir) => found.path = PathBuf::from("/"),
            Some(Component::ParentDir) => drop(found.path.pop()),
            Some(Component::Normal(name)) => {
                found.looked_in.push(found.path.clone());
                let next = found.path.join(name);
                let meta = fs::symlink_metadata(&next).map_err(failed)?;
                if !meta.is_symlink() {
                    found.path = next;
                    continue;
                }
                if ![0, caller].contains(&meta.uid()) {
                    return Err(SourceError::LinkOwner { path: next });
                }
                links += 1;
                if links > LINKS {
                    return Err(failed(Errno::LOOP.into()));
                }
                let target = fs::read_link(&next).map_err(failed)?;
                rest.extend(target.components().rev().map(|part| part.as_os_str().to_owned()));
            }
            Some(Component::CurDir | Component::Prefix(_)) | None => {}
        }
    }
    Ok(found)
}

/// Opens a source by its canonical path.
///
/// # Errors
/// [`SourceError::Link`] for a path that meets a link, [`SourceError::Io`].
///
/// **Source**: openat2(2), `RESOLVE_NO_SYMLINKS`.
pub fn open(path: &Path, commands: &Commands) -> Result<Source, SourceError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match openat2(CWD, path, flags, Mode::empty(), resolve) {
        Ok(fd) => of(fd).map_err(|source| SourceError::Io { path: path.to_owned(), source }),
        Err(Errno::LOOP) => Err(SourceError::Link { path: path.to_owned(), commands: commands.clone() }),
        Err(errno) => Err(SourceError::Io { path: path.to_owned(), source: errno.into() }),
    }
}

/// Opens a source that must be the recorded directory, where there is a record of it.
///
/// # Errors
/// [`SourceError`].
pub fn reopen(path: &Path, recorded: Option<&Identity>, commands: &Commands) -> Result<Source, SourceError> {
    let source = open(path, commands)?;
    match recorded {
        Some(recorded) if !recorded.is(&source.identity) => {
            Err(SourceError::Replaced { path: path.to_owned(), commands: commands.clone() })
        }
        _ => Ok(source),
    }
}

fn of(fd: OwnedFd) -> io::Result<Source> {
    let found = statx(&fd, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS | StatxFlags::BTIME)?;
    let identity = Identity {
        device: makedev(found.stx_dev_major, found.stx_dev_minor),
        inode: found.stx_ino,
        born: born(&found),
        kind: kind(&fd)?,
        file_system: fstatvfs(&fd)?.f_fsid,
        owner: found.stx_uid,
        boot: run::boot().map_err(io::Error::other)?,
    };
    Ok(Source { fd, identity, uid: found.stx_uid, gid: found.stx_gid })
}

fn born(found: &Statx) -> Option<i64> {
    let has = found.stx_mask & StatxFlags::BTIME.bits() != 0;
    let seconds = found.stx_btime.tv_sec.checked_mul(1_000_000_000)?;
    has.then(|| seconds.saturating_add(found.stx_btime.tv_nsec.into()))
}

#[allow(clippy::useless_conversion, clippy::unnecessary_cast, reason = "its width is the architecture's")]
fn kind(fd: &OwnedFd) -> io::Result<i64> {
    Ok(fstatfs(fd)?.f_type as i64)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn identity() -> Identity {
        Identity {
            device: 1,
            inode: 2,
            born: Some(3),
            kind: 0x0102_1994,
            file_system: 4,
            owner: 1000,
            boot: "b".to_owned(),
        }
    }

    #[test]
    fn a_directory_is_recognized_by_its_inode_birth_and_file_system() {
        let recorded = identity();
        assert!(recorded.is(&identity()));
        for other in [
            Identity { inode: 9, ..identity() },
            Identity { born: Some(9), ..identity() },
            Identity { kind: 9, ..identity() },
            Identity { device: 9, ..identity() },
            Identity { owner: 0, ..identity() },
        ] {
            assert!(!recorded.is(&other), "{other:?}");
        }
        let unborn = Identity { born: None, ..identity() };
        assert!(recorded.is(&unborn) && unborn.is(&recorded));
        assert!(recorded.is(&Identity { owner: 1001, ..identity() }));
    }

    #[test]
    fn devices_may_have_other_numbers_after_a_boot_and_stable_file_systems_at_any_time() {
        let rebooted = Identity { device: 9, file_system: 9, boot: "c".to_owned(), ..identity() };
        assert!(identity().is(&rebooted));
        for kind in STABLE {
            let recorded = Identity { kind, ..identity() };
            assert!(recorded.is(&Identity { device: 9, ..recorded.clone() }));
            for boot in ["b", "c"] {
                let other = Identity { file_system: 9, boot: boot.to_owned(), ..recorded.clone() };
                assert!(!recorded.is(&other), "another subvolume has the same inode number");
            }
        }
    }

    #[test]
    fn every_directory_on_the_way_of_a_path_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        fs::create_dir_all(top.join("project/sub")).unwrap();
        fs::create_dir_all(top.join("secret/deep")).unwrap();
        symlink("../secret", top.join("project/link")).unwrap();
        symlink(top.join("project/link/deep"), top.join("mine")).unwrap();
        symlink("circle", top.join("circle")).unwrap();
        let plain = resolve(&top.join("project/./sub")).unwrap();
        assert_eq!(
            (&plain.path, plain.looked_in.last()),
            (&top.join("project/sub"), Some(&top.join("project")))
        );
        for typed in ["project/link/deep", "mine", "project/sub/../link/deep"] {
            let found = resolve(&top.join(typed)).unwrap();
            assert_eq!(found.path, top.join("secret/deep"), "{typed}");
            assert_eq!(found.path, top.join(typed).canonicalize().unwrap());
            assert!(found.looked_in.contains(&top.join("project")), "{typed}: {found:?}");
        }
        assert_eq!(resolve(&top.join("circle")).unwrap_err().class(), Class::Host);
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::lchown(top.join("project/link"), Some(1234), None).unwrap();
            let error = resolve(&top.join("mine")).unwrap_err();
            assert!(matches!(&error, SourceError::LinkOwner { path } if *path == top.join("project/link")));
            assert_eq!(error.class(), Class::Untrusted);
        }
        assert_eq!(resolve(&top.join("nothing")).unwrap_err().class(), Class::Unavailable);
    }

    #[test]
    fn a_source_that_was_replaced_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("project/sub");
        let above = path.parent().unwrap();
        fs::create_dir_all(&path).unwrap();
        let commands = Commands { accept: "a".to_owned(), forget: "f".to_owned() };
        let recorded = open(&path, &commands).unwrap().identity;
        assert!(reopen(&path, Some(&recorded), &commands).is_ok());

        fs::rename(&path, above.join("old")).unwrap();
        let error = reopen(&path, Some(&recorded), &commands).unwrap_err();
        assert_eq!(error.class(), Class::Unavailable);
        fs::create_dir(&path).unwrap();
        let error = reopen(&path, Some(&recorded), &commands).unwrap_err();
        assert!(matches!(error, SourceError::Replaced { .. }), "{error}");
        assert_eq!((error.class(), error.hints().len()), (Class::Untrusted, 2));

        fs::remove_dir(&path).unwrap();
        symlink(above.join("old"), &path).unwrap();
        let error = reopen(&path, Some(&recorded), &commands).unwrap_err();
        assert!(matches!(error, SourceError::Link { .. }), "{error}");
        fs::rename(above, folder.path().join("away")).unwrap();
        symlink("away", above).unwrap();
        let error = open(&above.join("old"), &commands).unwrap_err();
        assert!(matches!(error, SourceError::Link { .. }), "a link above it: {error}");
    }
}
