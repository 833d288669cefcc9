//! A machine's tree, path by path in one order. The machine may run: nothing that it changes meanwhile leads out.

use std::{
    collections::BTreeMap,
    io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use rustix::fs::FileType;

pub use crate::host::live::Found;
use crate::host::live::{self, Directory, Walker};

/// Folders whose contents belong to a running machine or to nobody.
///
/// **Source**: file-hierarchy(7).
const OF_A_RUN: [&str; 5] = ["dev", "proc", "run", "sys", "tmp"];

fn is_run(path: &Path) -> bool {
    OF_A_RUN.iter().any(|run| path == Path::new(run))
}

/// Tells whether a path belongs to a running machine, or to nobody.
pub fn is_of_a_run(path: &Path) -> bool {
    path.ancestors().skip(1).any(is_run)
}

/// What is walked.
pub struct Tree {
    top: Directory,
    /// Folders that stand in the place of the tree's own: volumes that go with it.
    instead: BTreeMap<PathBuf, Directory>,
    /// The tree may change meanwhile: what is gone when it is looked at was not there.
    live: bool,
}

impl Tree {
    /// Opens a tree.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn open(tree: &Path, live: bool) -> io::Result<Self> {
        Ok(Self { top: Directory::top(tree)?, instead: BTreeMap::new(), live })
    }

    /// Has a folder stand in the place of one of the tree's.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn put(&mut self, path: &Path, source: &Path) -> io::Result<()> {
        self.instead.insert(path.to_owned(), Directory::top(source)?);
        Ok(())
    }

    /// Visits all that belongs to the machine and not to its run, a folder before what is in it, names in the order
    /// of their bytes.
    ///
    /// # Errors
    /// The visitor's, and what the kernel says with the path that it says it of.
    pub fn visit<E>(
        &self,
        failed: &dyn Fn(&Path, io::Error) -> E,
        visitor: &mut dyn FnMut(&Found<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let top = Path::new("");
        let at_top = |error| failed(top, error);
        let stat = self.top.own().map_err(at_top)?;
        visitor(&Found { path: top, stat, folder: self.top.as_fd(), name: Path::new(".") })?;
        let mut walker = Walker::new(self.top.again().map_err(at_top)?, self.live, true).map_err(at_top)?;
        while let Some(found) = walker.advance().map_err(|(path, error)| failed(&path, error))? {
            let instead = self.instead.get(found.path);
            let found = match instead {
                Some(volume) => {
                    let stat = volume.own().map_err(|error| failed(found.path, error))?;
                    Found { stat, folder: volume.as_fd(), name: Path::new("."), ..found }
                }
                None => found,
            };
            // a socket is of a running program: nothing to keep
            if found.kind() == FileType::Socket {
                continue;
            }
            visitor(&found)?;
            if found.kind() != FileType::Directory || is_run(found.path) {
                continue;
            }
            let entered = match instead {
                Some(volume) => {
                    let volume = volume.again().map_err(|error| failed(found.path, error))?;
                    walker.enter_instead(volume)
                }
                None => walker.enter().map(drop),
            };
            entered.map_err(|(path, error)| failed(&path, error))?;
        }
        Ok(())
    }

    /// Tells whether an error means that a running machine took something away.
    pub fn is_gone(&self, error: &io::Error) -> bool {
        self.live && live::vanished(error)
    }
}
