//! Locks: what is read is written and read again as the same, and nothing in it leads out of a folder.

use sandbox_core::lock::{read, write};

use crate::memory::bounded;

/// Takes the bytes as a lock file.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(lock) = bounded(1024 * data.len() + (1 << 20), || read(text)) else { return };
    let written = write(&lock);
    let again = read(&written).unwrap_or_else(|problem| panic!("{written}\n{problem}"));
    assert_eq!(again, lock, "{written}");
    assert_eq!(write(&again), written);
    for package in &lock.packages {
        for text in [&package.name, &package.version, &package.architecture] {
            assert!(!text.contains('/') && text != "..", "{text}");
        }
        assert!(!package.path.starts_with('/') && package.path.split('/').all(|part| part != ".."));
    }
}
