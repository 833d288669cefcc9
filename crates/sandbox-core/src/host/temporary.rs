//! Names of files and directories that are not whole yet.
//!
//! A temporary name carries the final one, so that a process finds what a killed one left for the same target. The
//! final name is a user's, an archive's or a guest's and may be as long as a name can be: what does not fit is replaced
//! by a digest of the whole.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use crate::digest::Sha256;

/// The most bytes of a name.
///
/// **Source**: `NAME_MAX`, pathconf(3); every file system for Linux trees has this limit.
pub const NAME: usize = 255;

/// How many digits of a digest stand in place of what does not fit.
const DIGITS: usize = 16;

/// Returns the name of a file that is written in the same directory and then renamed to `name`.
///
/// ```
/// use sandbox_core::host::temporary;
/// assert_eq!(temporary::new("passwd".as_ref()), ".sandbox-new.passwd");
/// assert_eq!(temporary::new("x".repeat(255).as_ref()).len(), 255);
/// ```
#[must_use]
pub fn new(name: &OsStr) -> OsString {
    enclosed(".sandbox-new.", name, "")
}

/// Returns the path of a hidden file or directory beside `path` that ends with a dot and `suffix`.
#[must_use]
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    path.with_file_name(enclosed(".", path.file_name().unwrap_or_default(), &format!(".{suffix}")))
}

/// Returns a name of at most `room` bytes: the name itself where it fits, else its beginning, `~=` and a digest.
#[must_use]
pub fn shortened(name: &OsStr, room: usize) -> OsString {
    if name.len() <= room {
        return name.to_owned();
    }
    let digest = Sha256::of(name.as_bytes()).to_string();
    let begin = room.saturating_sub(DIGITS + "~=".len());
    let mut short = OsStr::from_bytes(&name.as_bytes()[..begin]).to_owned();
    short.push("~=");
    short.push(&digest[..DIGITS]);
    short
}

fn enclosed(prefix: &str, name: &OsStr, suffix: &str) -> OsString {
    let mut whole = OsString::from(prefix);
    whole.push(shortened(name, NAME.saturating_sub(prefix.len() + suffix.len())));
    whole.push(suffix);
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_temporary_one_that_fits_and_is_its_own() {
        let folder = tempfile::tempdir().unwrap();
        for length in [1, 200, 235, 242, 243, 254, 255] {
            let [one, other] = ["a", "b"].map(|end| OsString::from("x".repeat(length - 1) + end));
            let names =
                |name: &OsStr| [new(name), beside(&folder.path().join(name), "sandbox-partial").into()];
            for (first, second) in names(&one).into_iter().zip(names(&other)) {
                assert_ne!(first, second);
                let path = folder.path().join(&first);
                std::fs::write(&path, "").unwrap();
                std::fs::remove_file(&path).unwrap();
            }
        }
        assert_eq!(beside(Path::new("/a/b.tar"), "sandbox-partial"), Path::new("/a/.b.tar.sandbox-partial"));
    }
}
