//! A machine's tree, path by path in one order. The machine may run: nothing that it changes meanwhile leads out.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, openat, openat2, statat},
    io::Errno,
};

use crate::host::root::entries;

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

/// Something in the tree.
#[derive(Debug)]
pub struct Found<'a> {
    /// Its path, relative; that of the tree itself is empty.
    pub path: &'a Path,
    /// What the kernel says of it.
    pub stat: Stat,
    /// The folder that it is in.
    pub folder: BorrowedFd<'a>,
    /// Its name there.
    pub name: &'a Path,
}

impl Found<'_> {
    /// Tells what it is.
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// Opens it.
    ///
    /// # Errors
    /// What open(2) says; `EXDEV` and `ELOOP` where something else is in its place by now.
    pub fn open(&self, flags: OFlags) -> io::Result<OwnedFd> {
        open(self.folder, self.name, flags)
    }
}

fn open(folder: BorrowedFd<'_>, name: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    Ok(openat2(folder, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), inside)?)
}

/// What is walked.
pub struct Tree {
    top: OwnedFd,
    /// Folders that stand in the place of the tree's own: volumes that go with it.
    instead: BTreeMap<PathBuf, OwnedFd>,
    /// The tree may change meanwhile: what is gone when it is looked at was not there.
    live: bool,
}

/// A folder under way: what is left of it, the last first.
struct Frame {
    folder: OwnedFd,
    path: PathBuf,
    left: Vec<PathBuf>,
}

impl Tree {
    /// Opens a tree.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn open(tree: &Path, live: bool) -> io::Result<Self> {
        Ok(Self { top: folder(tree)?, instead: BTreeMap::new(), live })
    }

    /// Has a folder stand in the place of one of the tree's.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn put(&mut self, path: &Path, source: &Path) -> io::Result<()> {
        self.instead.insert(path.to_owned(), folder(source)?);
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
        visit: &mut dyn FnMut(&Found<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let top = Path::new("");
        let begin = || -> io::Result<(Stat, Frame)> {
            let own = openat(&self.top, ".", folder_flags(), Mode::empty())?;
            Ok((statat(&own, ".", AtFlags::empty())?, frame(own, top)?))
        };
        let (stat, first) = begin().map_err(|error| failed(top, error))?;
        visit(&Found { path: top, stat, folder: first.folder.as_fd(), name: Path::new(".") })?;
        let mut stack = vec![first];
        while let Some(frame) = stack.last_mut() {
            let Some(name) = frame.left.pop() else {
                stack.pop();
                continue;
            };
            let path = frame.path.join(&name);
            let next = self.one(frame, &name, &path, failed, visit)?;
            stack.extend(next);
        }
        Ok(())
    }

    /// Visits one path, and gives what is in it.
    fn one<E>(
        &self,
        above: &Frame,
        name: &Path,
        path: &Path,
        failed: &dyn Fn(&Path, io::Error) -> E,
        visit: &mut dyn FnMut(&Found<'_>) -> Result<(), E>,
    ) -> Result<Option<Frame>, E> {
        let (folder, name) = match self.instead.get(path) {
            Some(volume) => (volume.as_fd(), Path::new(".")),
            None => (above.folder.as_fd(), name),
        };
        let stat = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(errno) if self.is_gone(errno) => return Ok(None),
            Err(errno) => return Err(failed(path, errno.into())),
        };
        let found = Found { path, stat, folder, name };
        // a socket is of a running program: nothing to keep
        if found.kind() == FileType::Socket {
            return Ok(None);
        }
        visit(&found)?;
        if found.kind() != FileType::Directory || is_run(path) {
            return Ok(None);
        }
        match found.open(folder_flags()).and_then(|folder| frame(folder, path)) {
            Ok(frame) => Ok(Some(frame)),
            Err(error) if error.raw_os_error().is_some_and(|code| self.is_gone_code(code)) => Ok(None),
            Err(error) => Err(failed(path, error)),
        }
    }

    /// Tells the same of an error's number.
    pub fn is_gone_code(&self, code: i32) -> bool {
        self.is_gone(Errno::from_raw_os_error(code))
    }

    /// Tells whether an error means that a running machine took something away.
    pub fn is_gone(&self, errno: Errno) -> bool {
        self.live && matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::STALE)
    }
}

const fn folder_flags() -> OFlags {
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC)
}

fn folder(path: &Path) -> io::Result<OwnedFd> {
    Ok(openat(CWD, path, folder_flags() | OFlags::NOFOLLOW, Mode::empty())?)
}

fn frame(folder: OwnedFd, path: &Path) -> io::Result<Frame> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut left: Vec<PathBuf> = entries(&folder)?.into_iter().map(|(name, _)| name).collect();
    left.sort_unstable_by(|a, b| b.as_os_str().as_bytes().cmp(a.as_os_str().as_bytes()));
    Ok(Frame { folder, path: path.to_owned(), left })
}
