//! A plan carried out: the tree made, by as many threads as there are processors.
//!
//! What a path costs is what counts, with tens of thousands of them: each folder is opened once for many of its
//! paths, everything is made relative to it, nothing is read but bytes of files, and nothing is synced here.

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, BorrowedFd},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod,
    fchown, futimens, linkat, mkdirat, mknodat, openat, symlinkat, utimensat,
};

use super::{
    entry::{Entry, Kind, Meta, Segment},
    pack::open_folder,
    plan::Plan,
    whole::has_gone,
};
use crate::host::{
    clonable::{self, BLOCK, share},
    large::{self, Buffer, LARGE, Source},
};

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
    /// In the files of a tree.
    Tree {
        /// The tree.
        tree: File,
        /// Files can share extents with its files.
        shared: bool,
    },
}

impl Bytes {
    /// Tells whether files of a folder can share them.
    pub fn shares_with(&self, folder: &Path) -> bool {
        match self {
            Self::Data { source, shared } => *shared && clonable::shares_with(source.file(), folder),
            Self::Tree { .. } => false,
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
pub fn make(plan: &Plan<'_>, sources: &[Bytes], tree: &Path) -> Result<(), (PathBuf, io::Error)> {
    make_over(plan, sources, tree, None)
}

/// Makes the paths of a plan in a folder that has some: folders that are there stay. With a list, what has gone from
/// its source in the meantime is written there and passed over.
///
/// # Errors
/// Of the first path that cannot be made, with the path.
pub fn make_over(
    plan: &Plan<'_>,
    sources: &[Bytes],
    tree: &Path,
    gone: Option<&Mutex<Vec<PathBuf>>>,
) -> Result<(), (PathBuf, io::Error)> {
    let passed = |path: &Path, error: io::Error| match gone {
        Some(gone) if has_gone(&error) => {
            gone.lock().unwrap_or_else(PoisonError::into_inner).push(path.to_owned());
            Ok(())
        }
        _ => Err((path.to_owned(), error)),
    };
    let top = openat(CWD, tree, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| (tree.to_owned(), errno.into()))?;
    let top = top.as_fd();
    let at = |entry: &Entry| {
        let path = entry.path.clone();
        |error: io::Error| (path, error)
    };
    for entry in plan.folders.iter().filter(|entry| !entry.path.as_os_str().is_empty()) {
        match mkdirat(top, &entry.path, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => return Err(at(entry)(errno.into())),
        }
    }
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let first: Mutex<Option<(PathBuf, io::Error)>> = Mutex::new(None);
    let work = || {
        let mut piece = Buffer::default();
        while !failed.load(Ordering::Relaxed) {
            let Some(range) = plan.work.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
            if let Err(problem) = paths(&plan.others[range.clone()], sources, top, (&mut piece, &passed)) {
                failed.store(true, Ordering::Relaxed);
                first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(problem);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(work);
        }
        work();
    });
    if let Some(problem) = first.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(problem);
    }
    for (path, first) in &plan.links {
        match linkat(top, *first, top, *path, AtFlags::empty()) {
            Ok(()) => {}
            Err(errno) => passed(path, errno.into())?,
        }
    }
    // last of all, and the innermost first: what is made in a folder changes its time
    for entry in plan.folders.iter().rev() {
        open_folder(&top, &entry.path).and_then(|folder| finish(&folder, entry)).map_err(at(entry))?;
    }
    Ok(())
}

/// What is done about a path that cannot be made.
type Passed<'a> = dyn Fn(&Path, io::Error) -> Result<(), (PathBuf, io::Error)> + Sync + 'a;

/// Makes paths of one folder.
fn paths(
    others: &[(usize, &Entry)],
    sources: &[Bytes],
    top: BorrowedFd<'_>,
    (piece, passed): (&mut Buffer, &Passed<'_>),
) -> Result<(), (PathBuf, io::Error)> {
    let Some((_, first)) = others.first() else { return Ok(()) };
    let above = first.path.parent().unwrap_or(Path::new(""));
    let folder = open_folder(&top, above).map_err(|error| (above.to_owned(), error))?;
    for (layer, entry) in others {
        if let Err(error) = one(entry, &sources[*layer], &folder, piece) {
            passed(&entry.path, error)?;
        }
    }
    Ok(())
}

fn one(entry: &Entry, source: &Bytes, folder: &File, piece: &mut Buffer) -> io::Result<()> {
    let Some(name) = entry.path.file_name() else { return Ok(()) };
    match &entry.kind {
        Kind::File { size, segments } => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file: File = openat(folder, name, flags, Mode::from_raw_mode(0o600))?.into();
            fill(&file, *size, segments, entry, source, piece)?;
            finish(&file, entry)?;
        }
        Kind::Link { target } => {
            symlinkat(target, folder, name)?;
            by_name(folder, name.as_ref(), entry.meta)?;
        }
        Kind::Node { kind, device } => {
            let kind = FileType::from_raw_mode(*kind);
            mknodat(folder, name, kind, Mode::from_raw_mode(0o600), *device)?;
            by_name(folder, name.as_ref(), entry.meta)?;
            rustix::fs::chmodat(folder, name, Mode::from_raw_mode(entry.meta.mode), AtFlags::empty())?;
        }
        Kind::Folder | Kind::Removed => {}
    }
    Ok(())
}

/// Gives a new file its bytes: shared where the file system can and they are many, else copied; holes stay holes. To
/// share a few takes longer than to copy them: the file system writes each sharing down (xfs, measured).
fn fill(
    file: &File,
    size: u64,
    segments: &[Segment],
    entry: &Entry,
    source: &Bytes,
    piece: &mut Buffer,
) -> io::Result<()> {
    let own;
    let (from, shared) = match source {
        Bytes::Data { source, shared } => (source, *shared),
        Bytes::Tree { tree, shared } => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file_of_tree: File = openat(tree, &entry.path, flags, Mode::empty())?.into();
            // all of it, holes too
            if *shared && size >= LARGE && share(&file_of_tree, 0, 0, file, 0).is_ok() {
                return Ok(());
            }
            own = Source::new(file_of_tree, None);
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

/// Gives an open file or folder its owner, then its permissions (a change of owner clears set-id bits and
/// capabilities), its attributes, its time.
fn finish(file: &File, entry: &Entry) -> io::Result<()> {
    let Meta { mode, uid, gid, .. } = entry.meta;
    if (uid, gid) != (0, 0) {
        fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    fchmod(file, Mode::from_raw_mode(mode))?;
    for (name, value) in &entry.attributes {
        rustix::fs::fsetxattr(file, name, value, XattrFlags::empty())?;
    }
    Ok(futimens(file, &times(entry.meta))?)
}

fn by_name(folder: &File, name: &Path, meta: Meta) -> io::Result<()> {
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
