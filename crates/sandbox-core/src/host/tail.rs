//! The end of a file that another process writes, of which no more is read than was asked for.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use rustix::fs::{CWD, Mode, OFlags, openat};

/// Opens a regular file to read; a pipe or a link in its place is refused.
///
/// # Errors
/// What open(2) reports; `InvalidInput` for what is no regular file.
pub fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(openat(CWD, path, flags, Mode::empty())?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// Returns the whole lines among the last bytes of a file, at most so many bytes.
///
/// # Errors
/// As [`open`], and what read(2) reports.
pub fn tail(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut file = open(path)?;
    let from = file.metadata()?.len().saturating_sub(most);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    if from > 0 {
        let begin = memchr::memchr(b'\n', &bytes).map_or(0, |at| at + 1);
        bytes.drain(..begin);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_read_than_was_asked_for() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("log");
        std::fs::write(&path, "first\nsecond\nthird\n").unwrap();
        assert_eq!(tail(&path, 100).unwrap(), b"first\nsecond\nthird\n");
        assert_eq!(tail(&path, 10).unwrap(), b"third\n");
        File::options().write(true).open(&path).unwrap().set_len(8 << 40).unwrap();
        assert!(tail(&path, 10).unwrap().len() <= 10);
        std::os::unix::fs::symlink(&path, place.path().join("link")).unwrap();
        assert!(tail(&place.path().join("link"), 10).is_err());
        assert!(tail(place.path(), 10).is_err());
    }
}
