//! A download under way: a file that one writer at a time holds.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use super::{Checksum, StoreError, checksum::Check};

/// A locked partial file with the checksum of what it holds so far.
pub(super) struct Partial {
    path: PathBuf,
    file: File,
    check: Check,
    checksum: Checksum,
    length: u64,
}

impl Partial {
    /// Opens or makes the partial file of a checksum, waiting for another writer to finish.
    pub(super) fn lock(folder: &Path, checksum: &Checksum) -> Result<Self, StoreError> {
        let path = folder.join(format!("{}-{}", checksum.algorithm(), checksum.digits()));
        let failed = |action| {
            let path = path.clone();
            move |source| StoreError::disk(action, &path, source)
        };
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                // what others can open they can lock
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(&path)
                .map_err(failed("open"))?;
            file.lock().map_err(failed("lock"))?;
            // The one that was waited for renamed or removed it: what is locked now is no longer this path's.
            if !same_file(&file, &path).map_err(failed("look at"))? {
                continue;
            }
            let mut partial = Self { path, file, check: Check::of(checksum), checksum: *checksum, length: 0 };
            partial.length = partial
                .check
                .read(&mut partial.file, u64::MAX)
                .map_err(|source| partial.failed("read", source))?;
            return Ok(partial);
        }
    }

    /// How many bytes there are.
    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    /// Throws away what there is.
    pub(super) fn restart(&mut self) -> Result<(), StoreError> {
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map_err(|source| self.failed("empty", source))?;
        self.check = Check::of(&self.checksum);
        self.length = 0;
        Ok(())
    }

    /// Adds bytes at the end.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.write_all(bytes).map_err(|source| self.failed("write", source))?;
        self.check.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Gives the checksum of what there is.
    pub(super) fn checksum(&self) -> Checksum {
        self.check.clone().finish()
    }

    /// Gives the file its name. Its checksum must have been seen to be right.
    ///
    /// It is not synced: what a crash leaves under the name is seen to be wrong when it is used, and fetched
    /// again. A sync of every package would cost more than that.
    pub(super) fn rename(self, name: &Path) -> Result<(), StoreError> {
        if let Some(folder) = name.parent() {
            fs::create_dir_all(folder).map_err(|source| StoreError::disk("make", folder, source))?;
        }
        self.file
            .set_permissions(fs::Permissions::from_mode(0o644))
            .map_err(|source| self.failed("open to all", source))?;
        fs::rename(&self.path, name).map_err(|source| self.failed("rename", source))
    }

    /// Removes the file.
    pub(super) fn discard(self) -> Result<(), StoreError> {
        fs::remove_file(&self.path).map_err(|source| self.failed("remove", source))
    }

    fn failed(&self, action: &'static str, source: io::Error) -> StoreError {
        StoreError::disk(action, &self.path, source)
    }
}

fn same_file(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(named) => Ok(held.dev() == named.dev() && held.ino() == named.ino()),
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(problem) => Err(problem),
    }
}
