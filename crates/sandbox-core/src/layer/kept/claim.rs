//! The right to build a layer: one at a time, and whoever dies has it no more.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::{fd::AsFd as _, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

/// A claimed layer. Its file is removed when this goes.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    file: File,
}

impl Claim {
    /// Takes a claim; where another has it, `wait` is told who, and says whether to wait for it.
    pub fn take(path: &Path, holder: &str, wait: &mut dyn FnMut(&str) -> bool) -> io::Result<Option<Self>> {
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(path)?;
            match flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let by = fs::read_to_string(path).unwrap_or_default();
                    if !wait(if by.is_empty() { "another process" } else { &by }) {
                        return Ok(None);
                    }
                    flock(file.as_fd(), FlockOperation::LockExclusive)?;
                }
                Err(errno) => return Err(errno.into()),
            }
            // the one that was waited for removed it: what is locked now is no longer this path's
            let same = super::same_file(&file, path);
            if same {
                file.set_len(0)?;
                (&file).write_all(holder.as_bytes())?;
                return Ok(Some(Self { path: path.to_owned(), file }));
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        let _ = flock(self.file.as_fd(), FlockOperation::Unlock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::mpsc, thread, time::Duration};

    #[test]
    fn the_second_learns_who_has_it_and_gets_it_when_the_first_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c");
        let first = Claim::take(&path, "process 1", &mut |_| unreachable!()).unwrap().unwrap();
        let mut told = String::new();
        let none = Claim::take(&path, "process 2", &mut |by| {
            told = by.to_owned();
            false
        });
        assert!(none.unwrap().is_none() && told == "process 1");
        let (send, receive) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                let claim = Claim::take(&path, "process 2", &mut |_| send.send(()).is_ok()).unwrap();
                assert!(claim.is_some() && fs::read_to_string(&path).unwrap() == "process 2");
            });
            receive.recv_timeout(Duration::from_secs(10)).unwrap();
            drop(first);
        });
        assert!(!path.exists());
    }
}
