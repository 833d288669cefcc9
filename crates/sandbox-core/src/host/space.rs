//! Room on a file system: what a guest decides the size of does not fill the host's, and what is missing is named.

use std::{
    fmt,
    fs::File,
    io::{self, Read, Write as _},
    os::fd::AsFd,
    path::Path,
};

use rustix::fs::{StatVfs, fstatvfs, statvfs};

use crate::error::Hint;

/// The most bytes that are left free, and the part of the whole that they are at most.
const RESERVE: u64 = 512 << 20;
const PART: u64 = 50;
/// Fewer bytes are not looked at each.
const SMALL: u64 = 1 << 20;
/// After how many bytes it is looked again.
const STEP: u64 = 64 << 20;

/// Below so many bytes a file system is called full.
const FULL: u64 = 256 << 10;

/// What a file system has too little of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// Space.
    Bytes,
    /// Inodes, while it has space.
    Inodes,
}

impl Shortage {
    /// Returns what a file system lacks; none where it lacks nothing. Some have no number of inodes.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        Self::in_numbers(&statvfs(path).ok()?)
    }

    fn in_numbers(found: &StatVfs) -> Option<Self> {
        if found.f_files > 0 && found.f_favail == 0 {
            return Some(Self::Inodes);
        }
        (found.f_bavail.saturating_mul(found.f_frsize) < FULL).then_some(Self::Bytes)
    }

    /// Returns the command that shows where there is more of it.
    #[must_use]
    pub fn hint(self) -> Hint {
        match self {
            Self::Bytes => Hint::run("see where space is left", "df -h"),
            Self::Inodes => Hint::run("see where inodes are left", "df -i"),
        }
    }
}

/// `is full`, `has no inodes left`.
impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes => "is full",
            Self::Inodes => "has no inodes left",
        })
    }
}

/// `ENOSPC` of a file system that has space.
#[derive(Debug, thiserror::Error)]
#[error("No inodes left on device")]
struct NoInodes;

/// Returns an error as it is, and "no space left" of a file system that has space as what it means.
#[must_use]
pub fn explained(error: io::Error, place: impl AsFd) -> io::Error {
    if error.raw_os_error() != Some(libc::ENOSPC) {
        return error;
    }
    match fstatvfs(place).ok().as_ref().and_then(Shortage::in_numbers) {
        Some(Shortage::Inodes) => io::Error::new(io::ErrorKind::StorageFull, NoInodes),
        _ => error,
    }
}

/// Returns what to do about an error of a file system that is full; none for another error.
#[must_use]
pub fn hint(error: &io::Error) -> Option<Hint> {
    let shortage = match error.get_ref() {
        Some(inner) if inner.is::<NoInodes>() => Shortage::Inodes,
        _ => Shortage::Bytes,
    };
    (error.kind() == io::ErrorKind::StorageFull).then(|| shortage.hint())
}

/// Why no more is written.
#[derive(Debug, thiserror::Error)]
#[error("No space left beside the {} KiB of the file system that stay free", reserve >> 10)]
struct Full {
    reserve: u64,
}

/// Checks that so many more bytes leave a reserve on the file system of an open file.
///
/// # Errors
/// `StorageFull`.
pub fn check(file: impl AsFd, bytes: u64) -> io::Result<()> {
    if bytes < SMALL {
        return Ok(());
    }
    let found = fstatvfs(file)?;
    let total = found.f_blocks.saturating_mul(found.f_frsize);
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let reserve = RESERVE.min(total / PART);
    if total > 0 && free < bytes {
        return Err(rustix::io::Errno::NOSPC.into());
    }
    if total > 0 && free < bytes.saturating_add(reserve) {
        return Err(io::Error::new(io::ErrorKind::StorageFull, Full { reserve }));
    }
    Ok(())
}

/// Counts what is written in many pieces, and looks at the room now and then.
#[derive(Debug, Default)]
pub struct Meter(u64);

impl Meter {
    /// Checks the room for so many more bytes in an open file, where they are many or many were written since.
    ///
    /// # Errors
    /// As [`check`].
    pub fn add(&mut self, file: impl AsFd, bytes: u64) -> io::Result<()> {
        self.0 = self.0.saturating_add(bytes);
        if bytes < SMALL && self.0 < STEP {
            return Ok(());
        }
        self.0 = 0;
        check(file, bytes.max(SMALL))
    }

    /// Does the same for a file whose room is checked by itself where it is large.
    ///
    /// # Errors
    /// As [`check`].
    pub fn add_small(&mut self, file: impl AsFd, bytes: u64) -> io::Result<()> {
        if bytes < SMALL { self.add(file, bytes) } else { Ok(()) }
    }
}

/// Copies all that a reader has into a file, as long as a reserve is left; blocks of zeros become holes. The file's
/// length is what was copied.
///
/// # Errors
/// `StorageFull`, what the reader and write(2) say.
pub fn copy(from: &mut impl Read, file: &mut File) -> io::Result<u64> {
    use io::{Seek as _, SeekFrom};
    let mut buffer = vec![0_u8; 128 << 10];
    let (mut all, mut since) = (0_u64, STEP);
    loop {
        let mut filled = 0;
        while filled < buffer.len() {
            match from.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if filled == 0 {
            file.set_len(all)?;
            return Ok(all);
        }
        let piece = &buffer[..filled];
        if is_zero(piece) {
            file.seek(SeekFrom::Current(i64::try_from(filled).unwrap_or(0)))?;
        } else {
            if since >= STEP {
                check(&*file, STEP)?;
                since = 0;
            }
            file.write_all(piece)?;
            since += filled as u64;
        }
        all += filled as u64;
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    let (first, rest) = bytes.split_first().unwrap_or((&0, &[]));
    *first == 0 && bytes[..rest.len()] == *rest
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_reserve_is_kept() {
        let file = tempfile::tempfile().unwrap();
        check(&file, 0).unwrap();
        let error = check(&file, u64::MAX / 2).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn a_hint_is_about_what_is_missing() {
        let command = |error: &io::Error| match hint(error) {
            Some(Hint::Run { command, .. }) => command,
            other => format!("{other:?}"),
        };
        let file = tempfile::tempfile().unwrap();
        let full = || io::Error::from_raw_os_error(libc::ENOSPC);
        assert_eq!(command(&full()), "df -h");
        assert_eq!(command(&explained(full(), &file)), "df -h");
        assert_eq!(command(&io::Error::new(io::ErrorKind::StorageFull, NoInodes)), "df -i");
        assert_eq!(hint(&io::ErrorKind::NotFound.into()), None);
        let mut numbers = fstatvfs(&file).unwrap();
        (numbers.f_files, numbers.f_favail, numbers.f_bavail) = (10, 1, 1 << 20);
        assert_eq!(Shortage::in_numbers(&numbers), None);
        numbers.f_favail = 0;
        assert_eq!(Shortage::in_numbers(&numbers), Some(Shortage::Inodes));
        // btrfs has no number of inodes
        numbers.f_files = 0;
        assert_eq!(Shortage::in_numbers(&numbers), None);
        numbers.f_bavail = 0;
        assert_eq!(Shortage::in_numbers(&numbers), Some(Shortage::Bytes));
    }

    #[test]
    fn zeros_become_holes_and_the_bytes_are_the_same() {
        let mut bytes = vec![0_u8; 1 << 20];
        bytes[700_000] = 7;
        bytes.extend(vec![0; 300_001]);
        let mut file = tempfile::tempfile().unwrap();
        assert_eq!(copy(&mut &bytes[..], &mut file).unwrap(), bytes.len() as u64);
        let mut back = vec![0; bytes.len()];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut back, 0).unwrap();
        let found = file.metadata().unwrap();
        assert!(back == bytes && found.len() == bytes.len() as u64);
        assert!(found.blocks() * 512 < bytes.len() as u64, "{}", found.blocks());
    }
}
