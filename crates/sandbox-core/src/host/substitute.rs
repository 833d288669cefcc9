//! Files of a tree that a contained command finds replaced, in its mount namespace alone.
//!
//! The tree itself is not changed: the file is covered by a mount, which goes with the namespace.
//!
//! **Source**: mount(2) "Creating a bind mount", mount_namespaces(7).

#![allow(unsafe_code, reason = "what must happen between fork and exec has no safe form")]

use std::{
    ffi::{CStr, CString},
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    ptr,
};

/// The directory of substitutes and of what they replace; /dev of a contained command is its own.
const DIRECTORY: &CStr = c"/dev/sandbox";

/// A file that a contained command finds in the place of another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Substitute {
    path: PathBuf,
    content: Vec<u8>,
}

impl Substitute {
    /// Replaces the program at a path of the tree. The program that is replaced is at [`Self::original`] meanwhile.
    #[must_use]
    pub const fn new(path: PathBuf, content: Vec<u8>) -> Self {
        Self { path, content }
    }

    /// Returns the path of a replaced program while its substitute is in its place.
    #[must_use]
    pub fn original(path: &Path) -> PathBuf {
        named(path, "")
    }
}

fn named(path: &Path, ending: &str) -> PathBuf {
    let name = path.to_string_lossy().replace('/', "-");
    Path::new(&*DIRECTORY.to_string_lossy()).join(name.trim_start_matches('-').to_owned() + ending)
}

/// A substitute, as system calls take it.
pub(super) struct Prepared {
    path: CString,
    original: CString,
    copy: CString,
    content: Vec<u8>,
}

impl Prepared {
    pub(super) fn new(substitute: &Substitute) -> io::Result<Self> {
        let text = |path: &Path| CString::new(path.as_os_str().as_bytes());
        Ok(Self {
            path: text(&substitute.path)?,
            original: text(&Substitute::original(&substitute.path))?,
            copy: text(&named(&substitute.path, ".substitute"))?,
            content: substitute.content.clone(),
        })
    }

    /// Covers the file. Where that is not possible it stays, since the command runs all the same.
    ///
    /// # Safety
    /// Between fork and exec, in a mount namespace of its own and with the tree as the root.
    pub(super) unsafe fn mount(&self) {
        // SAFETY: system calls on prepared memory.
        unsafe {
            libc::mkdir(DIRECTORY.as_ptr(), 0o755);
            if write(&self.original, &[])
                && bind(&self.path, &self.original)
                && write(&self.copy, &self.content)
            {
                bind(&self.copy, &self.path);
            }
        }
    }
}

/// Writes a program.
unsafe fn write(path: &CStr, content: &[u8]) -> bool {
    // SAFETY: system calls on prepared memory.
    unsafe {
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC;
        let file = libc::open(path.as_ptr(), flags, 0o755);
        if file < 0 {
            return false;
        }
        let written = libc::write(file, content.as_ptr().cast(), content.len());
        libc::close(file) == 0 && usize::try_from(written).is_ok_and(|written| written == content.len())
    }
}

unsafe fn bind(from: &CStr, to: &CStr) -> bool {
    let none = ptr::null();
    // SAFETY: both are strings with their ends.
    unsafe { libc::mount(from.as_ptr(), to.as_ptr(), none, libc::MS_BIND, ptr::null()) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_has_a_name_of_its_own() {
        let original = Substitute::original(Path::new("/usr/sbin/tool"));
        assert_eq!(original, Path::new("/dev/sandbox/usr-sbin-tool"));
    }
}
