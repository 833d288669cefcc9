//! All that is in a tree, a directory before what is in it, without recursion.

use std::{
    ffi::OsString,
    io,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::fs::{FileType, OFlags, Stat};

use super::{
    Excess, PATH,
    directory::{Directory, Identity, open_seen},
    names::{Budget, Names},
    stack::Stack,
    vanished,
};

/// Something in the tree.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// Its path, relative; that of the tree itself is empty.
    pub path: &'a Path,
    /// What the kernel says of it.
    pub stat: Stat,
    /// The directory that it is in.
    pub folder: BorrowedFd<'a>,
    /// Its name there; `.` for the tree itself and for what stands in the place of a directory.
    pub name: &'a Path,
}

impl Found<'_> {
    /// Returns what it is.
    #[must_use]
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// Reads the target of a link.
    ///
    /// # Errors
    /// What readlinkat(2) says: `EINVAL` where it is no link any more.
    pub fn link(&self) -> io::Result<OsString> {
        use std::os::unix::ffi::OsStringExt as _;
        let target = rustix::fs::readlinkat(self.folder, self.name, Vec::new())?;
        Ok(OsString::from_vec(target.into_bytes()))
    }

    /// Opens it.
    ///
    /// # Errors
    /// What openat2(2) says; `ESTALE` where something else is in its place by now.
    pub fn open(&self, flags: OFlags) -> io::Result<OwnedFd> {
        open_seen(self.folder, self.name, flags, Identity::from(&self.stat))
    }
}

struct Level {
    left: Names,
    /// How long the directory's path is.
    path: usize,
}

/// A walk under way.
pub struct Walker {
    stack: Stack,
    levels: Vec<Level>,
    path: Vec<u8>,
    found: Option<(PathBuf, Stat)>,
    budget: Budget,
    live: bool,
    sorted: bool,
}

/// An error of a walk: the path, and what the kernel says of it.
pub type Failed = (PathBuf, io::Error);

impl Walker {
    /// Begins at a tree's top. In a `live` tree what vanishes while it is looked at is left out; `sorted` gives names
    /// in the order of their bytes.
    ///
    /// # Errors
    /// What getdents(2) says.
    pub fn new(top: Directory, live: bool, sorted: bool) -> io::Result<Self> {
        Self::within(top, (live, sorted), Budget::default())
    }

    pub(super) fn within(top: Directory, (live, sorted): (bool, bool), budget: Budget) -> io::Result<Self> {
        let mut walker = Self {
            stack: Stack::new(top),
            levels: Vec::new(),
            path: Vec::new(),
            found: None,
            budget,
            live,
            sorted,
        };
        walker.list()?;
        Ok(walker)
    }

    #[cfg(test)]
    pub(super) fn handles(&self) -> usize {
        self.stack.handles()
    }

    fn list(&mut self) -> io::Result<()> {
        let mut left = self.stack.here().names(&mut self.budget)?;
        if self.sorted {
            left.sort();
        }
        self.levels.push(Level { left, path: self.path.len() });
        Ok(())
    }

    fn failed(&self, error: io::Error) -> Failed {
        (PathBuf::from(std::ffi::OsStr::from_bytes(&self.path)), error)
    }

    fn is_gone(&self, error: &io::Error) -> bool {
        self.live && vanished(error)
    }

    /// Finds what comes next. What is in a directory comes next where [`Self::enter`] is called.
    ///
    /// # Errors
    /// What the kernel says of a path, and of a tree over the limits.
    pub fn advance(&mut self) -> Result<Option<Found<'_>>, Failed> {
        loop {
            self.found = None;
            let Some(level) = self.levels.last_mut() else { return Ok(None) };
            self.path.truncate(level.path);
            let Some(name) = level.left.take() else {
                self.leave()?;
                continue;
            };
            self.append(&name)?;
            match self.stack.here().stat(&name) {
                Ok(stat) => {
                    self.found = Some((PathBuf::from(name), stat));
                    break;
                }
                Err(error) if self.is_gone(&error) => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        Ok(self.found.as_ref().map(|(name, stat)| Found {
            path: Path::new(std::ffi::OsStr::from_bytes(&self.path)),
            stat: *stat,
            folder: self.stack.here().as_fd(),
            name,
        }))
    }

    fn append(&mut self, name: &OsString) -> Result<(), Failed> {
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name.as_bytes());
        let counted = if self.path.len() > PATH {
            Err(Excess::path(std::ffi::OsStr::from_bytes(&self.path)))
        } else {
            self.budget.path(self.path.len())
        };
        counted.map_err(|excess| (PathBuf::new(), excess.into()))
    }

    fn leave(&mut self) -> Result<(), Failed> {
        self.levels.pop();
        match self.stack.pop() {
            Ok(()) => Ok(()),
            // another process moved the directory: what is above it is found again from the top only
            Err(error) if self.is_gone(&error) => {
                self.levels.truncate(1);
                Ok(())
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Has what is in the directory that was just found come next; gives why it vanished, where it did.
    ///
    /// # Errors
    /// What the kernel says of its path, and of a tree over the limits.
    pub fn enter(&mut self) -> Result<Option<io::Error>, Failed> {
        let Some((name, stat)) = &self.found else { return Ok(None) };
        match self.stack.here().directory(name.as_os_str(), Identity::from(stat)) {
            Ok(directory) => {
                let pushed = self.stack.push(directory);
                self.entered(pushed).map(|()| None)
            }
            Err(error) if self.is_gone(&error) => Ok(Some(error)),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Has what is in another directory come next, as if it were in the one that was just found.
    ///
    /// # Errors
    /// As [`Self::enter`].
    pub fn enter_instead(&mut self, directory: Directory) -> Result<(), Failed> {
        let pushed = self.stack.push_instead(directory);
        self.entered(pushed)
    }

    fn entered(&mut self, pushed: io::Result<()>) -> Result<(), Failed> {
        pushed.map_err(|error| self.failed(error))?;
        match self.list() {
            Ok(()) => Ok(()),
            Err(error) if self.is_gone(&error) => {
                self.levels.push(Level { left: Names::default(), path: self.path.len() });
                Ok(())
            }
            Err(error) if super::is_excess(&error) => Err((PathBuf::new(), error)),
            Err(error) => Err(self.failed(error)),
        }
    }
}
