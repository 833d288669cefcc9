//! Where an export is written: under a temporary name, which gets its own when all of it is on disk.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::{
        fd::AsFd as _,
        unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};

use super::error::ExportError;
use crate::host::{root, temporary};

/// A file or folder under its temporary name. Dropped before its end, it is removed; what a killed process left,
/// the next export to the same place removes.
pub struct Target {
    path: PathBuf,
    temporary: PathBuf,
    lock: File,
    done: bool,
}

fn failed(path: &Path) -> impl Fn(io::Error) -> ExportError {
    let path = path.to_owned();
    move |source| ExportError::Write { path: path.clone(), source }
}

impl Target {
    /// Begins a file that only its owner may read: a machine's tree has all that is in it.
    ///
    /// # Errors
    /// Where it is there already, or being written.
    pub fn file(path: &Path) -> Result<Self, ExportError> {
        let temporary = begin(path)?;
        let mut options = File::options();
        let lock = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let lock = lock.custom_flags(libc::O_NOFOLLOW).open(&temporary).map_err(failed(path))?;
        hold(&lock, path)?;
        lock.set_len(0).map_err(failed(path))?;
        Ok(Self { path: path.to_owned(), temporary, lock, done: false })
    }

    /// Begins a folder.
    ///
    /// # Errors
    /// Where it is there already, or being written.
    pub fn folder(path: &Path) -> Result<Self, ExportError> {
        let temporary = begin(path)?;
        match fs::DirBuilder::new().mode(0o700).create(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(path)(error)),
            _ => {}
        }
        let lock = File::open(&temporary).map_err(failed(path))?;
        hold(&lock, path)?;
        for entry in fs::read_dir(&temporary).map_err(failed(path))? {
            let old = entry.map_err(failed(path))?.path();
            match fs::symlink_metadata(&old).is_ok_and(|found| found.is_dir()) {
                true => root::remove_tree(&old).map_err(failed(path))?,
                false => fs::remove_file(&old).map_err(failed(path))?,
            }
        }
        Ok(Self { path: path.to_owned(), temporary, lock, done: false })
    }

    /// Gives the temporary file or folder.
    pub fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// Gives the open file.
    pub const fn out(&mut self) -> &mut File {
        &mut self.lock
    }

    /// Gives it its name; all that is in it is on disk then.
    ///
    /// # Errors
    /// What the file system says.
    pub fn finish(mut self) -> Result<u64, ExportError> {
        let failed = failed(&self.path);
        self.lock.flush().and_then(|()| self.lock.sync_all()).map_err(&failed)?;
        let length = self.lock.metadata().map_err(&failed)?.len();
        let renamed = renameat_with(CWD, &self.temporary, CWD, &self.path, RenameFlags::NOREPLACE);
        renamed.map_err(|errno| match errno {
            rustix::io::Errno::EXIST => ExportError::Taken { path: self.path.clone() },
            other => failed(other.into()),
        })?;
        self.done = true;
        File::open(above(&self.path)).and_then(|folder| folder.sync_all()).map_err(&failed)?;
        Ok(length)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.done {
            let _ = fs::remove_file(&self.temporary).or_else(|_| root::remove_tree(&self.temporary));
        }
    }
}

fn above(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn begin(path: &Path) -> Result<PathBuf, ExportError> {
    if fs::symlink_metadata(path).is_ok() {
        return Err(ExportError::Taken { path: path.to_owned() });
    }
    Ok(temporary::beside(path, "sandbox-partial"))
}

fn hold(lock: &File, path: &Path) -> Result<(), ExportError> {
    match flock(lock.as_fd(), FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(ExportError::Busy { path: path.to_owned() }),
        Err(errno) => Err(failed(path)(errno.into())),
    }
}
