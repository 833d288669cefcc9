//! The names of a directory, in little memory: a million in one directory is possible.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
};

use rustix::fs::{RawDir, SeekFrom, seek};

use super::{Excess, PATHS, TEXT};

/// How many paths, and bytes of paths, a tree may still have.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    paths: usize,
    text: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { paths: PATHS, text: TEXT }
    }
}

impl Budget {
    #[cfg(test)]
    pub(super) const fn of(paths: usize, text: usize) -> Self {
        Self { paths, text }
    }

    /// Makes one for what is removed, of which there may be any number.
    pub(super) const fn unlimited() -> Self {
        Self { paths: usize::MAX, text: usize::MAX }
    }

    fn name(&mut self) -> Result<(), Excess> {
        self.paths = self.paths.checked_sub(1).ok_or(Excess::Paths)?;
        Ok(())
    }

    /// Counts the bytes of a path.
    ///
    /// # Errors
    /// [`Excess::Text`].
    pub fn path(&mut self, bytes: usize) -> Result<(), Excess> {
        self.text = self.text.checked_sub(bytes).ok_or(Excess::Text)?;
        Ok(())
    }
}

/// Names, one after the other with a NUL behind each.
#[derive(Clone, Debug, Default)]
pub struct Names {
    text: Vec<u8>,
    at: Vec<usize>,
}

impl Names {
    pub(super) fn of(directory: &OwnedFd, budget: &mut Budget) -> io::Result<Self> {
        let mut names = Self::default();
        let mut buffer = Vec::with_capacity(32 << 10);
        // another list of the same handle may have been read to its end
        seek(directory, SeekFrom::Start(0))?;
        let mut raw = RawDir::new(directory, buffer.spare_capacity_mut());
        while let Some(entry) = raw.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes_with_nul();
            if name != b".\0" && name != b"..\0" {
                budget.name()?;
                names.at.push(names.text.len());
                names.text.extend_from_slice(name);
            }
        }
        Ok(names)
    }

    fn get(&self, at: usize) -> &OsStr {
        let rest = &self.text[at..];
        let end = memchr::memchr(0, rest).unwrap_or(rest.len());
        OsStr::from_bytes(&rest[..end])
    }

    /// Has them given in the order of their bytes.
    pub fn sort(&mut self) {
        let mut at = std::mem::take(&mut self.at);
        at.sort_unstable_by(|a, b| self.get(*b).cmp(self.get(*a)));
        self.at = at;
    }

    /// Takes the next one.
    pub fn take(&mut self) -> Option<OsString> {
        let at = self.at.pop()?;
        Some(self.get(at).to_owned())
    }
}
