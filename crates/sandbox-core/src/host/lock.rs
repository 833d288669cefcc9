//! Locks of the whole host, below `/run/sandbox`.
//!
//! flock(2) asks for no more than an open file, so that a lock that others can open is one that others can hold for
//! good: the files are root's alone, and so is the right to put others in their place.

use std::{
    fs::{DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::Path,
};

use rustix::{
    fs::{FlockOperation, Mode, OFlags, flock, openat, unlinkat},
    io::Errno,
};

/// The directory of all of them.
pub const RUN: &str = "/run/sandbox";

/// Takes a lock by its name and waits for it; it is released with the file.
///
/// # Errors
/// Where the directory is another user's or can be written by others, and what the system reports.
pub fn take(name: &str) -> io::Result<File> {
    let file = open_in(Path::new(RUN), name)?;
    flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}

/// Takes a lock by its name; `None` where another process holds it.
///
/// # Errors
/// As [`take`].
pub fn try_take(name: &str) -> io::Result<Option<File>> {
    let file = open_in(Path::new(RUN), name)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Returns whether another process holds a lock. Makes nothing.
#[must_use]
pub fn is_held(name: &str) -> bool {
    let Ok(file) = File::open(Path::new(RUN).join(name)) else { return false };
    flock(&file, FlockOperation::NonBlockingLockShared).is_err()
}

fn open_in(directory: &Path, name: &str) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = File::from(rustix::fs::open(directory, flags, Mode::empty())?);
    let found = directory.metadata()?;
    let own = rustix::process::geteuid().as_raw();
    if found.uid() != own || found.mode() & 0o022 != 0 {
        let what = "the directory of locks belongs to another user, or others can write it";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    }
    let flags = OFlags::RDWR
        | OFlags::CREATE
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::NOCTTY
        | OFlags::CLOEXEC;
    for _ in 0..2 {
        let file = File::from(openat(&directory, name, flags, Mode::from_raw_mode(0o600))?);
        let found = file.metadata()?;
        if found.is_file() && found.uid() == own && found.mode() & 0o077 == 0 {
            return Ok(file);
        }
        // an earlier version's, which others may hold
        unlinkat(&directory, name, rustix::fs::AtFlags::empty())?;
    }
    Err(io::ErrorKind::PermissionDenied.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt as _};

    #[test]
    fn only_its_owner_can_open_a_lock() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("run");
        let path = directory.join("x.lock");
        drop(open_in(&directory, "x.lock").unwrap());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        // one that others could open, and hold
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let held = File::open(&path).unwrap();
        flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
        let lock = open_in(&directory, "x.lock").unwrap();
        assert_eq!(lock.metadata().unwrap().mode() & 0o777, 0o600);
        assert_ne!(lock.metadata().unwrap().ino(), held.metadata().unwrap().ino());
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(open_in(place.path(), "x").unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("/dev/null", place.path().join("x")).unwrap();
        assert_eq!(open_in(place.path(), "x").unwrap_err().raw_os_error(), Some(libc::ELOOP));
    }
}
