//! A directory's handle: the only opener of what is in such a tree.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::Path,
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, open, openat2, readlinkat, statat},
    io::Errno,
};

use super::names::{Budget, Names};

/// Which object a walk saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The file system.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
    /// What it is.
    pub kind: FileType,
}

impl std::hash::Hash for Identity {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.device, self.inode).hash(state);
    }
}

impl From<&Stat> for Identity {
    fn from(stat: &Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino, kind: FileType::from_raw_mode(stat.st_mode) }
    }
}

/// An open directory.
#[derive(Debug)]
pub struct Directory(OwnedFd);

/// What every object of a tree is opened with: nothing is waited for, no terminal acquired, no link followed.
const ALWAYS: OFlags = OFlags::NONBLOCK.union(OFlags::NOCTTY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);
const INSIDE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Refuses what is not exactly one name.
fn single(name: &OsStr) -> io::Result<&OsStr> {
    match name.as_bytes() {
        b"" | b"." | b".." => Err(Errno::ISDIR.into()),
        bytes if bytes.contains(&b'/') => Err(Errno::ISDIR.into()),
        _ => Ok(name),
    }
}

impl Directory {
    /// Opens the top of a tree by the host's own path to it.
    ///
    /// # Errors
    /// What open(2) says; `ELOOP` or `ENOTDIR` where the last name is a link.
    pub fn top(path: &Path) -> io::Result<Self> {
        Ok(Self(open(path, DIRECTORY | ALWAYS, Mode::empty())?))
    }

    /// Opens the directory that a handle stands for, which may be one for its path alone.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn of(handle: impl AsFd) -> io::Result<Self> {
        Ok(Self(openat2(handle, ".", DIRECTORY | ALWAYS, Mode::empty(), INSIDE)?))
    }

    /// Opens the same directory again.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn again(&self) -> io::Result<Self> {
        Self::of(&self.0)
    }

    /// Returns what the kernel says of the directory itself.
    ///
    /// # Errors
    /// What fstat(2) says.
    pub fn own(&self) -> io::Result<Stat> {
        Ok(fstat(&self.0)?)
    }

    /// Returns what the kernel says of a name in it.
    ///
    /// # Errors
    /// What fstatat(2) says.
    pub fn stat(&self, name: &OsStr) -> io::Result<Stat> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        Ok(statat(&self.0, single(name)?, flags)?)
    }

    /// Returns what the kernel says of a name in it, where it still is what was seen.
    ///
    /// # Errors
    /// What fstatat(2) says; `ESTALE` where it is another object.
    pub fn stat_of(&self, name: &OsStr, seen: Identity) -> io::Result<Stat> {
        let stat = self.stat(name)?;
        same(&stat, seen).map(|()| stat)
    }

    /// Opens what was seen of a name.
    ///
    /// # Errors
    /// What openat2(2) says; `ESTALE` where it is another object.
    pub fn open(&self, name: &OsStr, flags: OFlags, seen: Identity) -> io::Result<(OwnedFd, Stat)> {
        let found = openat2(&self.0, single(name)?, flags | ALWAYS, Mode::empty(), INSIDE)?;
        let stat = fstat(&found)?;
        same(&stat, seen).map(|()| (found, stat))
    }

    /// Opens a directory in it that was seen.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn directory(&self, name: &OsStr, seen: Identity) -> io::Result<Self> {
        self.open(name, DIRECTORY, seen).map(|(found, _)| Self(found))
    }

    /// Opens a directory in it, whichever it is.
    ///
    /// # Errors
    /// What openat2(2) says.
    pub fn child(&self, name: &OsStr) -> io::Result<Self> {
        Ok(Self(openat2(&self.0, single(name)?, DIRECTORY | ALWAYS, Mode::empty(), INSIDE)?))
    }

    /// Opens a regular file in it to be read, whichever it is.
    ///
    /// # Errors
    /// What openat2(2) says; `ESTALE` where it is no regular file.
    pub fn regular(&self, name: &OsStr) -> io::Result<(File, Stat)> {
        let seen = Identity::from(&self.stat(name)?);
        if seen.kind != FileType::RegularFile {
            return Err(Errno::STALE.into());
        }
        self.file(name, seen)
    }

    /// Opens a file in it that was seen, to be read.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn file(&self, name: &OsStr, seen: Identity) -> io::Result<(File, Stat)> {
        self.open(name, OFlags::RDONLY, seen).map(|(found, stat)| (found.into(), stat))
    }

    /// Reads the target of a link in it.
    ///
    /// # Errors
    /// What readlinkat(2) says: `EINVAL` where it is no link.
    pub fn link(&self, name: &OsStr) -> io::Result<OsString> {
        Ok(OsString::from_vec(readlinkat(&self.0, single(name)?, Vec::new())?.into_bytes()))
    }

    /// Gives the handle away, as a file whose attributes are to be read.
    #[must_use]
    pub fn into_handle(self) -> File {
        self.0.into()
    }

    /// Lists its names.
    ///
    /// # Errors
    /// What getdents(2) says; an excess of names.
    pub fn names(&self, budget: &mut Budget) -> io::Result<Names> {
        Names::of(&self.0, budget)
    }

    /// Opens the directory above it, where that is the expected one.
    ///
    /// # Errors
    /// What openat2(2) says; `ESTALE` where it has been moved elsewhere.
    pub fn above(&self, expected: Identity) -> io::Result<Self> {
        let inside = INSIDE - ResolveFlags::BENEATH;
        let found = openat2(&self.0, "..", DIRECTORY | ALWAYS, Mode::empty(), inside)?;
        same(&fstat(&found)?, expected).map(|()| Self(found))
    }
}

/// Opens the file or directory that was seen by the name of a handle: `.` stands for the handle's own directory.
pub(super) fn open_seen(
    handle: BorrowedFd<'_>,
    name: &Path,
    flags: OFlags,
    seen: Identity,
) -> io::Result<OwnedFd> {
    let name = if name == Path::new(".") { name.as_os_str() } else { single(name.as_os_str())? };
    let found = openat2(handle, name, flags | ALWAYS, Mode::empty(), INSIDE)?;
    same(&fstat(&found)?, seen).map(|()| found)
}

fn same(stat: &Stat, seen: Identity) -> io::Result<()> {
    if Identity::from(stat) == seen { Ok(()) } else { Err(Errno::STALE.into()) }
}
