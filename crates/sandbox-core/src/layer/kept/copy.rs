//! A plan carried out: the tree made, by as many threads as there are processors.
//!
//! What a path costs is what counts, with tens of thousands of them: each folder is opened once for many of its
//! paths, everything is made relative to it, nothing is read but bytes of files, and nothing is synced here.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod, fchown, futimens,
    linkat, mkdirat, mknodat, symlinkat, utimensat,
};

use super::{
    entry::{Entry, Kind, Meta, Segment},
    plan::Plan,
};
use crate::host::{
    clonable::{self, BLOCK, share},
    large::{self, Buffer, LARGE, Source},
    live::{Cursor, Directory},
    root,
};

/// What the file system says of a path.
pub(super) type Failed = (PathBuf, io::Error);

/// How many threads work at once at most: each holds handles.
const THREADS: usize = 16;

/// Where the bytes of a layer's files are.
#[derive(Debug)]
pub enum Bytes {
    /// One after the other in one file.
    Data {
        /// The file.
        source: Source,
        /// It can share extents with the tree's files.
        shared: bool,
    },
    /// In the files of a tree at rest.
    Tree(Directory),
}

impl Bytes {
    /// Tells whether files of a folder can share them.
    pub fn shares_with(&self, folder: &Path) -> bool {
        match self {
            Self::Data { source, shared } => *shared && clonable::shares_with(source.file(), folder),
            Self::Tree(_) => false,
        }
    }

    /// Has all be copied.
    pub fn not_shared(&mut self) {
        if let Self::Data { shared, .. } = self {
            *shared = false;
        }
    }
}

/// Makes the tree of a plan in a folder that is there and empty.
///
/// # Errors
/// Of the first path that cannot be made, with the path.
pub fn make(plan: &Plan<'_>, sources: &[Bytes], tree: &Path) -> Result<(), Failed> {
    let top = || Directory::top(tree).map_err(|error| (tree.to_owned(), error));
    let mut cursor = Cursor::new(top()?);
    for entry in plan.folders.iter().filter(|entry| !entry.path.as_os_str().is_empty()) {
        make_folder(&mut cursor, &entry.path).map_err(at(&entry.path))?;
    }
    let place = top()?;
    in_threads(
        plan.work.len(),
        &|| Ok((Cursor::new(place.again()?), Buffer::default())),
        &|piece, state| {
            let (cursor, buffer) = state;
            plan.work
                .get(piece)
                .map_or(Ok(()), |range| paths(&plan.others[range.clone()], sources, cursor, buffer))
        },
    )?;
    let mut first_names = Cursor::new(top()?);
    for (path, first) in &plan.links {
        link((&mut first_names, first), (&mut cursor, path)).map_err(at(path))?;
    }
    // last of all, and the innermost first: what is made in a folder changes its time
    for entry in plan.folders.iter().rev() {
        let finished =
            cursor.go(&entry.path).and_then(|folder| finish(folder, entry.meta, &entry.attributes));
        finished.map_err(at(&entry.path))?;
    }
    Ok(())
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Failed {
    let path = path.to_owned();
    |error| (path, error)
}

/// Makes a folder; one that is there stays.
pub(super) fn make_folder(cursor: &mut Cursor, path: &Path) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default();
    match mkdirat(cursor.go(above(path))?, name, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Makes a second name of what was made.
pub(super) fn link(first: (&mut Cursor, &Path), second: (&mut Cursor, &Path)) -> io::Result<()> {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_owned();
    let (from, to) = (first.0.go(above(first.1))?, second.0.go(above(second.1))?);
    Ok(linkat(from, name(first.1), to, name(second.1), AtFlags::empty())?)
}

fn above(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// Does pieces of work in as many threads as there are processors, each with a state of its own. The first error ends
/// all.
///
/// # Errors
/// The first one, with its path.
pub(super) fn in_threads<S>(
    pieces: usize,
    begin: &(dyn Fn() -> io::Result<S> + Sync),
    piece: &(dyn Fn(usize, &mut S) -> Result<(), Failed> + Sync),
) -> Result<(), Failed> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let first: Mutex<Option<Failed>> = Mutex::new(None);
    let all = || -> Result<(), Failed> {
        let mut state = begin().map_err(at(Path::new("")))?;
        while !failed.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= pieces {
                break;
            }
            piece(number, &mut state)?;
        }
        Ok(())
    };
    let work = || {
        if let Err(problem) = all() {
            failed.store(true, Ordering::Relaxed);
            first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(problem);
        }
    };
    let threads = thread::available_parallelism().map_or(2, usize::from).min(THREADS).min(pieces);
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    first.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// Makes paths of one folder.
fn paths(
    others: &[(usize, &Entry)],
    sources: &[Bytes],
    cursor: &mut Cursor,
    buffer: &mut Buffer,
) -> Result<(), Failed> {
    let Some((_, first)) = others.first() else { return Ok(()) };
    let above = above(&first.path);
    let folder = cursor.go(above).map_err(at(above))?;
    for (layer, entry) in others {
        one(entry, &sources[*layer], folder, buffer).map_err(at(&entry.path))?;
    }
    Ok(())
}

fn one(entry: &Entry, source: &Bytes, folder: &Directory, buffer: &mut Buffer) -> io::Result<()> {
    let Some(name) = entry.path.file_name() else { return Ok(()) };
    match &entry.kind {
        Kind::File { size, segments } => {
            let file = new_file(folder, name)?;
            fill(&file, *size, segments, (entry, source), buffer)?;
            finish(&file, entry.meta, &entry.attributes)?;
        }
        Kind::Link { target } => new_link(folder, name, target, entry.meta)?,
        Kind::Node { kind, device } => new_node(folder, name, (*kind, *device), entry.meta)?,
        Kind::Folder | Kind::Removed => {}
    }
    Ok(())
}

/// Makes a file that was not there.
pub(super) fn new_file(folder: &Directory, name: &OsStr) -> io::Result<File> {
    root::new_file(std::os::fd::AsFd::as_fd(folder), Path::new(name))
}

/// Makes a symbolic link.
pub(crate) fn new_link(folder: &Directory, name: &OsStr, target: &OsStr, meta: Meta) -> io::Result<()> {
    symlinkat(target, folder, name)?;
    by_name(folder, name, meta)
}

/// Makes a device, a FIFO or a socket.
pub(crate) fn new_node(
    folder: &Directory,
    name: &OsStr,
    (kind, device): (u32, u64),
    meta: Meta,
) -> io::Result<()> {
    let kind = FileType::from_raw_mode(kind);
    mknodat(folder, name, kind, Mode::from_raw_mode(0o600), device)?;
    by_name(folder, name, meta)?;
    Ok(rustix::fs::chmodat(folder, name, Mode::from_raw_mode(meta.mode), AtFlags::empty())?)
}

/// Gives a new file its bytes: shared where the file system can and they are many, else copied; holes stay holes. To
/// share a few takes longer than to copy them: the file system writes each sharing down (xfs, measured).
fn fill(
    file: &File,
    size: u64,
    segments: &[Segment],
    (entry, source): (&Entry, &Bytes),
    piece: &mut Buffer,
) -> io::Result<()> {
    let own;
    let (from, shared) = match source {
        Bytes::Data { source, shared } => (source, *shared),
        Bytes::Tree(top) => {
            own = Source::new(open(top, &entry.path)?, None);
            (&own, false)
        }
    };
    let mut end = 0;
    for segment in segments {
        let whole = segment.length.next_multiple_of(BLOCK);
        let aligned = segment.at.is_multiple_of(BLOCK) && segment.data.is_multiple_of(BLOCK);
        if shared
            && aligned
            && segment.length >= LARGE
            && share(from.file(), segment.data, whole, file, segment.at).is_ok()
        {
            end = segment.at + whole;
            continue;
        }
        large::copy(from, segment.data, segment.length, file, segment.at, piece)?;
        end = if segment.length < LARGE { segment.at + segment.length } else { u64::MAX };
    }
    if end == size { Ok(()) } else { file.set_len(size) }
}

/// Opens a file of a tree at rest.
pub(super) fn open(top: &Directory, path: &Path) -> io::Result<File> {
    let mut cursor = Cursor::new(top.again()?);
    let folder = cursor.go(above(path))?;
    Ok(folder.regular(path.file_name().unwrap_or_default())?.0)
}

/// Gives an open file or folder its owner, then its permissions (a change of owner clears set-id bits and
/// capabilities), its attributes, its time.
pub(crate) fn finish(
    file: &impl std::os::fd::AsFd,
    meta: Meta,
    attributes: &[(std::ffi::OsString, Vec<u8>)],
) -> io::Result<()> {
    let Meta { mode, uid, gid, .. } = meta;
    if (uid, gid) != (0, 0) {
        fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    fchmod(file, Mode::from_raw_mode(mode))?;
    for (name, value) in attributes {
        rustix::fs::fsetxattr(file, name, value, XattrFlags::empty())?;
    }
    Ok(futimens(file, &times(meta))?)
}

fn by_name(folder: &Directory, name: &OsStr, meta: Meta) -> io::Result<()> {
    if (meta.uid, meta.gid) != (0, 0) {
        let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
        chownat(folder, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(utimensat(folder, name, &times(meta), AtFlags::SYMLINK_NOFOLLOW)?)
}

const fn times(meta: Meta) -> Timestamps {
    let time = Timespec { tv_sec: meta.mtime.0, tv_nsec: meta.mtime.1 as _ };
    Timestamps { last_access: time, last_modification: time }
}
