//! A directory tree as a handle: nothing that is done in it leads out of it.
//!
//! Every path is resolved by the kernel from the handle (openat2(2)), never by the process's own root. Two
//! rules are used: in a tree whose links are not to be believed yet, a path that meets a link out of the
//! tree is refused (`RESOLVE_BENEATH`); in a finished tree absolute links mean the tree's own root, as they
//! would after chroot(2) (`RESOLVE_IN_ROOT`).

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, chmodat, chownat,
        fchmod, fchown, futimens, linkat, mkdirat, mknodat, open, openat, openat2, readlinkat, renameat,
        statat, symlinkat, unlinkat, utimensat,
    },
    io::Errno,
};

pub use super::live::{clear_tree, remove_tree};
use super::{
    live::{self, Budget, Directory},
    space, temporary,
};

/// The most bytes that are read of a file where nothing else is said.
pub const LIMIT: u64 = 1 << 20;
/// The most bytes that are read of one of dpkg's lists, or of a configuration file that is compared.
pub const LISTS: u64 = 64 << 20;

/// How links are taken that lead out of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// They are refused.
    Refused,
    /// Every link on the way is refused, also one that stays in the tree.
    Never,
    /// They begin at the tree's own root.
    InTree,
}

/// A tree.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    path: PathBuf,
    links: Links,
}

/// Owner, permissions and time of something new.
#[derive(Clone, Copy, Debug)]
pub struct Meta {
    /// Permission bits, set-id and sticky bits included.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time in seconds since 1970.
    pub mtime: i64,
}

impl Meta {
    /// A file of root's.
    #[must_use]
    pub const fn of_root(mode: u32, mtime: i64) -> Self {
        Self { mode, uid: 0, gid: 0, mtime }
    }

    const fn times(self) -> Timestamps {
        let time = Timespec { tv_sec: self.mtime, tv_nsec: 0 };
        Timestamps { last_access: time, last_modification: time }
    }
}

/// Gives the parts of a path that name something, and refuses `..`.
fn relative(path: &Path) -> io::Result<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => clean.push(part),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(Errno::XDEV.into()),
        }
    }
    Ok(clean)
}

impl Root {
    /// Opens a tree.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn open(path: &Path, links: Links) -> io::Result<Self> {
        let fd = open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { fd, path: path.to_owned(), links })
    }

    /// Opens a folder of the tree as a tree of its own.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn within(&self, path: &Path, links: Links) -> io::Result<Self> {
        let fd = self.at(path, OFlags::PATH | OFlags::DIRECTORY, 0)?;
        Ok(Self { fd, path: self.path.join(relative(path)?), links })
    }

    /// Gives the tree's path on the host, for messages and for programs that take one.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn resolve(&self) -> ResolveFlags {
        ResolveFlags::NO_MAGICLINKS
            | match self.links {
                Links::Refused => ResolveFlags::BENEATH,
                Links::Never => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
                Links::InTree => ResolveFlags::IN_ROOT,
            }
    }

    /// Opens something in the tree.
    ///
    /// # Errors
    /// `EXDEV` for a path that leads out.
    pub fn at(&self, path: &Path, flags: OFlags, mode: u32) -> io::Result<OwnedFd> {
        let path = relative(path)?;
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { &path };
        Ok(openat2(&self.fd, path, flags | OFlags::CLOEXEC, Mode::from_raw_mode(mode), self.resolve())?)
    }

    /// Opens the folder that has a path, and gives the last part of it.
    ///
    /// # Errors
    /// `EXDEV` for a path that leads out; `EINVAL` for one that names nothing.
    pub fn parent(&self, path: &Path) -> io::Result<(OwnedFd, PathBuf)> {
        let path = relative(path)?;
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let parent = path.parent().unwrap_or(Path::new(""));
        Ok((self.at(parent, OFlags::PATH | OFlags::DIRECTORY, 0)?, PathBuf::from(name)))
    }

    /// Tells what kind of thing a path is, its last link not followed; none where there is nothing.
    ///
    /// # Errors
    /// What stat(2) says otherwise.
    pub fn kind(&self, path: &Path) -> io::Result<Option<FileType>> {
        let found = self
            .parent(path)
            .and_then(|(folder, name)| Ok(statat(&folder, &name, AtFlags::SYMLINK_NOFOLLOW)?));
        match found {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Tells whether a path leads to something, links followed within the tree.
    #[must_use]
    pub fn has(&self, path: &Path) -> bool {
        self.at(path, OFlags::PATH, 0).is_ok()
    }

    /// Reads a whole regular file of at most [`LIMIT`] bytes, links followed within the tree.
    ///
    /// # Errors
    /// What open(2) and read(2) say; [`live::Excess`] for a larger file, and for what is not a file.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.read_up_to(path, LIMIT)
    }

    /// Reads a whole regular file of at most some bytes, links followed within the tree.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_up_to(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let file = self.at(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, 0)?;
        live::read(file.into(), path, limit)
    }

    /// Lists a folder's names; none where it is not there.
    ///
    /// # Errors
    /// What open(2) and getdents(2) say.
    pub fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        match self.at(path, OFlags::PATH | OFlags::DIRECTORY, 0) {
            Ok(folder) => {
                let mut names = Directory::of(folder)?.names(&mut Budget::default())?;
                Ok(std::iter::from_fn(|| names.take()).map(PathBuf::from).collect())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Makes a folder with all above it; one that is there stays as it is.
    ///
    /// # Errors
    /// What mkdir(2) says.
    pub fn make_folders(&self, path: &Path, meta: Meta) -> io::Result<()> {
        let path = relative(path)?;
        let mut so_far = PathBuf::new();
        for part in path.components() {
            so_far.push(part);
            if !self.has(&so_far) {
                let (folder, name) = self.parent(&so_far)?;
                match make_folder(folder.as_fd(), &name, meta) {
                    // another thread was faster
                    Err(problem) if problem.kind() == io::ErrorKind::AlreadyExists => {}
                    other => other?,
                }
            }
        }
        Ok(())
    }

    /// Writes a whole file, in place of what was there: a temporary name, then renamed over it.
    ///
    /// # Errors
    /// What open(2), write(2) and rename(2) say.
    pub fn write(&self, path: &Path, mut bytes: &[u8], meta: Meta) -> io::Result<()> {
        self.write_from(path, &mut bytes, meta)
    }

    /// Writes a whole file of what a reader gives, as [`Self::write`] does.
    ///
    /// # Errors
    /// What open(2), write(2) and rename(2) say, and the reader.
    pub fn write_from(&self, path: &Path, from: &mut impl io::Read, meta: Meta) -> io::Result<()> {
        let (folder, name) = self.parent(path)?;
        let temporary = PathBuf::from(temporary::new(name.as_os_str()));
        let _ = unlinkat(&folder, &temporary, AtFlags::empty());
        let mut file = new_file(folder.as_fd(), &temporary)?;
        let mut put = || -> io::Result<()> {
            io::copy(from, &mut file)?;
            finish_file(&file, meta)?;
            Ok(renameat(&folder, &temporary, &folder, &name)?)
        };
        put().inspect_err(|_| {
            let _ = unlinkat(&folder, &temporary, AtFlags::empty());
        })
    }

    /// Makes a symbolic link, in place of what was there.
    ///
    /// # Errors
    /// What symlink(2) says.
    pub fn link(&self, path: &Path, target: &OsStr, mtime: i64) -> io::Result<()> {
        let (folder, name) = self.parent(path)?;
        match unlinkat(&folder, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        make_link(folder.as_fd(), &name, target, Meta::of_root(0, mtime))
    }

    /// Renames something of the tree, in place of what was there.
    ///
    /// # Errors
    /// What rename(2) says.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let ((from, old), (to, new)) = (self.parent(from)?, self.parent(to)?);
        Ok(renameat(&from, &old, &to, &new)?)
    }

    /// Removes a file or link; one that is not there is well.
    ///
    /// # Errors
    /// What unlink(2) says.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        let removed =
            self.parent(path).and_then(|(folder, name)| Ok(unlinkat(&folder, &name, AtFlags::empty())?));
        match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Removes all that is in a folder, not the folder; one that is not there is well.
    ///
    /// # Errors
    /// What unlink(2) says.
    pub fn empty(&self, path: &Path) -> io::Result<()> {
        match self.at(path, OFlags::RDONLY | OFlags::DIRECTORY, 0) {
            Ok(folder) => live::empty(Directory::of(folder)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Makes a folder and gives it its owner, permissions and time.
///
/// # Errors
/// What mkdir(2) says.
pub fn make_folder(parent: BorrowedFd<'_>, name: &Path, meta: Meta) -> io::Result<()> {
    mkdirat(parent, name, Mode::from_raw_mode(0o700)).map_err(refused(parent))?;
    chownat(parent, name, Some(uid(meta)), Some(gid(meta)), AtFlags::SYMLINK_NOFOLLOW)?;
    chmodat(parent, name, Mode::from_raw_mode(meta.mode), AtFlags::empty())?;
    Ok(())
}

/// Makes a file that was not there.
///
/// # Errors
/// `EEXIST` where it was.
pub fn new_file(parent: BorrowedFd<'_>, name: &Path) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(parent, name, flags, Mode::from_raw_mode(0o600)).map_err(refused(parent))?.into())
}

/// Gives a written file its owner, then its permissions (a change of owner clears set-id bits), its time.
///
/// # Errors
/// What fchown(2), fchmod(2) and futimens(2) say.
pub fn finish_file(file: &File, meta: Meta) -> io::Result<()> {
    if (meta.uid, meta.gid) != (0, 0) {
        fchown(file, Some(uid(meta)), Some(gid(meta)))?;
    }
    fchmod(file, Mode::from_raw_mode(meta.mode))?;
    Ok(futimens(file, &meta.times())?)
}

/// Makes a symbolic link with its owner and time.
///
/// # Errors
/// What symlink(2) says.
pub fn make_link(parent: BorrowedFd<'_>, name: &Path, target: &OsStr, meta: Meta) -> io::Result<()> {
    symlinkat(target, parent, name).map_err(refused(parent))?;
    if (meta.uid, meta.gid) != (0, 0) {
        chownat(parent, name, Some(uid(meta)), Some(gid(meta)), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(utimensat(parent, name, &meta.times(), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Makes a hard link to something else of the tree.
///
/// # Errors
/// What link(2) says.
pub fn make_hard_link(from: (BorrowedFd<'_>, &Path), to: (BorrowedFd<'_>, &Path)) -> io::Result<()> {
    Ok(linkat(from.0, from.1, to.0, to.1, AtFlags::empty())?)
}

/// Makes a device node, FIFO or socket with its owner, permissions and time.
///
/// # Errors
/// What mknod(2) says.
pub fn make_node(
    parent: BorrowedFd<'_>,
    name: &Path,
    kind: FileType,
    (major, minor): (u32, u32),
    meta: Meta,
) -> io::Result<()> {
    let device = rustix::fs::makedev(major, minor);
    mknodat(parent, name, kind, Mode::from_raw_mode(0o600), device).map_err(refused(parent))?;
    chownat(parent, name, Some(uid(meta)), Some(gid(meta)), AtFlags::SYMLINK_NOFOLLOW)?;
    chmodat(parent, name, Mode::from_raw_mode(meta.mode), AtFlags::empty())?;
    Ok(utimensat(parent, name, &meta.times(), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Gives a folder's final owner, permissions and time, after all in it is there.
///
/// # Errors
/// What the kernel says.
pub fn finish_folder(folder: BorrowedFd<'_>, meta: Meta) -> io::Result<()> {
    chownat(folder, "", Some(uid(meta)), Some(gid(meta)), AtFlags::EMPTY_PATH)?;
    // fchmod and futimens refuse a handle that was opened for its path alone
    let own = openat(folder, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    fchmod(&own, Mode::from_raw_mode(meta.mode))?;
    Ok(futimens(&own, &meta.times())?)
}

/// Makes the error of what could not be created in a folder.
fn refused(parent: BorrowedFd<'_>) -> impl FnOnce(Errno) -> io::Error + '_ {
    move |errno| space::explained(errno.into(), parent)
}

/// Reads a link's target.
///
/// # Errors
/// What readlink(2) says.
pub fn target(parent: BorrowedFd<'_>, name: &Path) -> io::Result<PathBuf> {
    use std::os::unix::ffi::OsStringExt as _;
    let target = readlinkat(parent, name, Vec::new())?;
    Ok(PathBuf::from(std::ffi::OsString::from_vec(target.into_bytes())))
}

fn uid(meta: Meta) -> Uid {
    Uid::from_raw(meta.uid)
}

fn gid(meta: Meta) -> Gid {
    Gid::from_raw(meta.gid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn no_path_leads_out() {
        let outside = tempfile::tempdir().unwrap();
        let tree = tempfile::tempdir().unwrap();
        symlink(outside.path(), tree.path().join("absolute")).unwrap();
        symlink("../../../../../../../../tmp", tree.path().join("relative")).unwrap();
        let strict = Root::open(tree.path(), Links::Refused).unwrap();
        for path in ["absolute/x", "relative/x", "../x", "a/../../x"] {
            let error = strict.write(Path::new(path), b"", Meta::of_root(0o644, 0)).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EXDEV), "{path}: {error}");
        }
        let chroot = Root::open(tree.path(), Links::InTree).unwrap();
        assert!(chroot.write(Path::new("absolute/x"), b"", Meta::of_root(0o644, 0)).is_err());
        std::fs::create_dir(tree.path().join("tmp")).unwrap();
        chroot.write(Path::new("relative/x"), b"in", Meta::of_root(0o644, 0)).unwrap();
        assert_eq!(std::fs::read(tree.path().join("tmp/x")).unwrap(), b"in");
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_of_the_longest_name_is_written_and_a_failed_write_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Root::open(folder.path(), Links::Refused).unwrap();
        let name = "x".repeat(temporary::NAME);
        for text in ["one", "two"] {
            tree.write(Path::new(&name), text.as_bytes(), Meta::of_root(0o644, 0)).unwrap();
            assert_eq!(std::fs::read_to_string(folder.path().join(&name)).unwrap(), text);
        }
        std::fs::create_dir(folder.path().join("taken")).unwrap();
        tree.write(Path::new("taken"), b"", Meta::of_root(0o644, 0)).unwrap_err();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_tree_is_removed_and_what_its_links_name_stays() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("keep"), "").unwrap();
        let parent = tempfile::tempdir().unwrap();
        let tree = parent.path().join("tree");
        let mut deep = tree.clone();
        for _ in 0..200 {
            deep.push("d");
        }
        std::fs::create_dir_all(&deep).unwrap();
        symlink(outside.path(), deep.join("out")).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists() && outside.path().join("keep").exists());
    }
}
