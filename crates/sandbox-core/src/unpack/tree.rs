//! Writes entries into a tree, many threads at once.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsStr,
    io::{self, Read, Write},
    os::fd::{AsFd as _, OwnedFd},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::Mutex,
};

use rustix::{
    fs::{FileType, OFlags, XattrFlags, fsetxattr},
    io::Errno,
};

use super::UnpackError;
use crate::host::{
    parallel::processors,
    root::{
        Meta, Root, finish_file, finish_folder, make_folder, make_hard_link, make_link, make_node, new_file,
        target,
    },
};

/// How many folders a writer keeps open at most.
const OPEN: usize = 64;

/// Returns how many folders a writer keeps open: fewer where the process may have few descriptors, of which all writers
/// together take a part.
///
/// **Source**: getrlimit(2), `RLIMIT_NOFILE`.
fn open_folders() -> usize {
    const PART: usize = 8;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    (limit / PART / processors()).clamp(1, OPEN)
}

/// Something to be made.
#[derive(Debug)]
pub struct Entry {
    pub meta: Meta,
    pub kind: Kind,
}

/// What it is.
#[derive(Debug)]
pub enum Kind {
    Folder,
    Link(Vec<u8>),
    HardLink(String),
    Fifo,
}

/// How many bytes are written at once: file systems that have large folios make few of them.
const PIECE: u64 = 256 << 10;

/// Copies all that a reader gives, in large pieces.
fn copy(from: &mut impl Read, to: &mut impl Write, buffer: &mut Vec<u8>) -> io::Result<u64> {
    let mut copied = 0;
    loop {
        buffer.clear();
        let read = from.take(PIECE).read_to_end(buffer)?;
        to.write_all(buffer)?;
        copied += read as u64;
        if (read as u64) < PIECE {
            return Ok(copied);
        }
    }
}

/// What folders are to look like at the end: as the first package in the lock's order has them.
#[derive(Debug, Default)]
pub struct Folders(Mutex<BTreeMap<PathBuf, (usize, Meta)>>);

impl Folders {
    fn wish(&self, path: &str, package: usize, meta: Meta) {
        let mut wishes = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let wish = wishes.entry(PathBuf::from(path)).or_insert((package, meta));
        if package < wish.0 {
            *wish = (package, meta);
        }
    }

    /// Gives every folder its owner, permissions and time, the deepest first.
    pub fn finish(&self, root: &Root, epoch: i64) -> Result<(), UnpackError> {
        let wishes = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (path, (_, meta)) in wishes.iter().rev() {
            let meta = Meta { mtime: meta.mtime.min(epoch), ..*meta };
            root.at(path, OFlags::PATH | OFlags::DIRECTORY, 0)
                .and_then(|folder| finish_folder(folder.as_fd(), meta))
                .map_err(UnpackError::tree(path))?;
        }
        Ok(())
    }
}

/// A thread's way into the tree.
pub struct Writer<'a> {
    root: &'a Root,
    folders: &'a Folders,
    package: usize,
    open: HashMap<String, OwnedFd>,
    /// How many of them at most.
    most: usize,
    buffer: Vec<u8>,
}

impl<'a> Writer<'a> {
    /// Makes a writer for one package, by its place in the lock.
    pub fn new(root: &'a Root, folders: &'a Folders, package: usize) -> Self {
        Self { root, folders, package, open: HashMap::new(), most: open_folders(), buffer: Vec::new() }
    }

    /// Makes something that is no regular file.
    pub fn put(&mut self, path: &str, entry: &Entry) -> io::Result<()> {
        let Entry { meta, kind } = entry;
        match kind {
            Kind::Folder => self.folder(path, *meta),
            Kind::Link(to) => self.link(path, OsStr::from_bytes(to), *meta),
            Kind::HardLink(to) => self.hard_link(path, to),
            Kind::Fifo => {
                let (folder, name) = self.parent(path)?;
                make_node(folder.as_fd(), Path::new(name), FileType::Fifo, (0, 0), *meta)
            }
        }
    }

    /// Makes a regular file of what a reader gives.
    pub fn file(
        &mut self,
        path: &str,
        meta: Meta,
        size: u64,
        from: &mut impl Read,
        attributes: &[(String, Vec<u8>)],
    ) -> io::Result<()> {
        let (folder, name) = self.parent(path)?;
        let mut file = new_file(folder.as_fd(), Path::new(name))?;
        let copied = copy(from, &mut file, &mut self.buffer)?;
        if copied != size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        finish_file(&file, meta)?;
        // last: a change of owner removes file capabilities
        for (name, value) in attributes {
            fsetxattr(&file, name.as_str(), value, XattrFlags::empty())?;
        }
        Ok(())
    }

    fn folder(&mut self, path: &str, meta: Meta) -> io::Result<()> {
        if !path.is_empty() {
            let (folder, name) = self.parent(path)?;
            match make_folder(folder.as_fd(), Path::new(name), Meta { mode: 0o755, ..meta }) {
                Ok(()) => {}
                // a link to a folder is one: /lib of merged /usr
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    self.root.at(Path::new(path), OFlags::PATH | OFlags::DIRECTORY, 0)?;
                    let kind = self.root.kind(Path::new(path))?;
                    if kind == Some(FileType::Symlink) {
                        return Ok(());
                    }
                }
                Err(error) => return Err(error),
            }
        }
        self.folders.wish(path, self.package, meta);
        Ok(())
    }

    fn link(&mut self, path: &str, to: &OsStr, meta: Meta) -> io::Result<()> {
        let (folder, name) = self.parent(path)?;
        match make_link(folder.as_fd(), Path::new(name), to, meta) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // the same link from another package, or made beforehand, is no collision
                match target(folder.as_fd(), Path::new(name)) {
                    Ok(there) if there.as_os_str() == to => Ok(()),
                    _ => Err(error),
                }
            }
            other => other,
        }
    }

    fn hard_link(&mut self, path: &str, to: &str) -> io::Result<()> {
        let (from_folder, from) = self.root.parent(Path::new(to))?;
        let (folder, name) = self.parent(path)?;
        make_hard_link((from_folder.as_fd(), &from), (folder.as_fd(), Path::new(name)))
    }

    /// Opens the folder of a path, made where no entry has made it.
    fn parent<'p>(&mut self, path: &'p str) -> io::Result<(&OwnedFd, &'p str)> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        if name.is_empty() {
            return Err(Errno::INVAL.into());
        }
        if !self.open.contains_key(parent) {
            let opened = match self.root.at(Path::new(parent), OFlags::PATH | OFlags::DIRECTORY, 0) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.root.make_folders(Path::new(parent), Meta::of_root(0o755, 0))?;
                    self.root.at(Path::new(parent), OFlags::PATH | OFlags::DIRECTORY, 0)?
                }
                other => other?,
            };
            if self.open.len() >= self.most {
                self.open.clear();
            }
            self.open.insert(parent.to_owned(), opened);
        }
        let folder = self.open.get(parent).ok_or(Errno::NOENT)?;
        Ok((folder, name))
    }
}
