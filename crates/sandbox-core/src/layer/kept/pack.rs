//! A difference: what a tree has more, other or less than before, in a manifest and one file of data.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, FileType, Mode, OFlags, SeekFrom, Stat, openat, readlinkat, seek};

use super::{
    entry::{Entry, Kind, Meta, Segment},
    walk::{Change, Seen},
    whole::has_gone,
};
use crate::host::{
    clonable::{BLOCK, share},
    large::{self, Buffer, LARGE, Source},
};

/// What belongs to the host, not to a tree.
const HOSTS_OWN: &[&str] = &["security.selinux", "security.ima", "security.evm"];

/// Opens a folder of a tree at rest, its last link not followed.
pub fn open_folder(tree: &impl std::os::fd::AsFd, path: &Path) -> io::Result<File> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(tree, path, flags, Mode::empty())?.into())
}

/// Lists the entries of a tree's changes. The data of files is where [`Data`] puts it, or in the files themselves.
pub fn entries(tree: &Path, changes: &[Change<'_>], data: Option<&mut Data>) -> io::Result<Vec<Entry>> {
    entries_of(tree, changes, data, None)
}

/// Lists the same of a tree in which others are at work: what has gone in the meantime is left out and written to a
/// list. The data of files is in the files themselves.
pub fn entries_of_live(
    tree: &Path,
    changes: &[Change<'_>],
    gone: &mut Vec<PathBuf>,
) -> io::Result<Vec<Entry>> {
    entries_of(tree, changes, None, Some(gone))
}

fn entries_of(
    tree: &Path,
    changes: &[Change<'_>],
    mut data: Option<&mut Data>,
    mut gone: Option<&mut Vec<PathBuf>>,
) -> io::Result<Vec<Entry>> {
    let top = openat(CWD, tree, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut groups = Groups::default();
    let mut folder = (Path::new("").to_owned(), open_folder(&top, Path::new(""))?);
    let mut entries = Vec::with_capacity(changes.len());
    for change in changes {
        let seen = match change {
            Change::Removed(path) => {
                let path = path.to_path_buf();
                let meta = Meta::default();
                entries.push(Entry { path, kind: Kind::Removed, meta, group: 0, attributes: Vec::new() });
                continue;
            }
            Change::Made(seen) => seen,
        };
        let above = seen.path.parent().unwrap_or(Path::new(""));
        let mut listed = || {
            if folder.0 != above {
                folder = (above.to_owned(), open_folder(&top, above)?);
            }
            entry(&folder.1, seen, &mut groups, data.as_deref_mut())
        };
        match (listed(), &mut gone) {
            (Err(error), Some(gone)) if has_gone(&error) => gone.push(seen.path.clone()),
            (listed, _) => entries.push(listed?),
        }
    }
    Ok(entries)
}

/// The files with several names, by inode number: their group's number, and what was read of the first.
#[derive(Default)]
struct Groups(HashMap<u64, Group>);

type Group = (u64, Kind, Vec<(OsString, Vec<u8>)>);

fn entry(folder: &File, seen: &Seen, groups: &mut Groups, data: Option<&mut Data>) -> io::Result<Entry> {
    let stat = &seen.stat;
    let meta = meta(stat);
    let path = seen.path.clone();
    let name = seen.path.file_name().unwrap_or(OsStr::new("."));
    let kind = FileType::from_raw_mode(stat.st_mode);
    let several = stat.st_nlink > 1 && kind != FileType::Directory;
    if several && let Some((group, kind, attributes)) = groups.0.get(&stat.st_ino) {
        return Ok(Entry { path, kind: kind.clone(), meta, group: *group, attributes: attributes.clone() });
    }
    let open = |flags: OFlags| -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(folder, name, OFlags::RDONLY | flags, Mode::empty())?.into())
    };
    let (kind, attributes) = match kind {
        FileType::Directory => (Kind::Folder, attributes(&open(OFlags::DIRECTORY)?)?),
        FileType::RegularFile => {
            let file = open(OFlags::NOATIME)?;
            let size = stat.st_size.cast_unsigned();
            let mut segments = segments(&file, stat)?;
            let attributes = attributes(&file)?;
            if let Some(data) = data {
                let source = Source::new(file, None);
                for segment in &mut segments {
                    segment.data = data.take(&source, *segment)?;
                }
            }
            (Kind::File { size, segments }, attributes)
        }
        FileType::Symlink => {
            let target = readlinkat(folder, name, Vec::new())?;
            (Kind::Link { target: OsStr::from_bytes(target.to_bytes()).to_owned() }, Vec::new())
        }
        _ => {
            let kind = stat.st_mode & libc::S_IFMT;
            (Kind::Node { kind, device: stat.st_rdev }, Vec::new())
        }
    };
    let group = if several {
        let group = groups.0.len() as u64 + 1;
        groups.0.insert(stat.st_ino, (group, kind.clone(), attributes.clone()));
        group
    } else {
        0
    };
    Ok(Entry { path, kind, meta, group, attributes })
}

fn meta(stat: &Stat) -> Meta {
    let nanoseconds = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    Meta {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: (stat.st_mtime, nanoseconds),
    }
}

/// Finds what of a file is no hole: its data are where they are in the file.
pub(crate) fn segments(file: &File, stat: &Stat) -> io::Result<Vec<Segment>> {
    let size = stat.st_size.cast_unsigned();
    if size == 0 {
        return Ok(Vec::new());
    }
    if stat.st_blocks.cast_unsigned() * 512 >= size {
        return Ok(vec![Segment { at: 0, length: size, data: 0 }]);
    }
    let mut found = Vec::new();
    let mut at = 0;
    while at < size {
        at = match seek(file, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(rustix::io::Errno::NXIO) => break,
            Err(errno) => return Err(errno.into()),
        };
        let end = seek(file, SeekFrom::Hole(at))?.min(size);
        found.push(Segment { at, length: end - at, data: at });
        at = end;
    }
    Ok(found)
}

/// Reads the extended attributes of an open file, without what is the host's.
pub(crate) fn attributes(file: &File) -> io::Result<Vec<(OsString, Vec<u8>)>> {
    let mut names = vec![0_u8; 256];
    let length = loop {
        match rustix::fs::flistxattr(file, &mut *names) {
            Ok(length) => break length,
            Err(rustix::io::Errno::RANGE) => names.resize(names.len() * 4, 0),
            Err(rustix::io::Errno::NOTSUP) => return Ok(Vec::new()),
            Err(errno) => return Err(errno.into()),
        }
    };
    let mut found = Vec::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = OsStr::from_bytes(name);
        if HOSTS_OWN.iter().any(|own| name == *own) {
            continue;
        }
        let mut value = vec![0_u8; 64 << 10];
        let length = rustix::fs::fgetxattr(file, name, &mut *value)?;
        value.truncate(length);
        found.push((name.to_owned(), value));
    }
    Ok(found)
}

/// The bytes of a layer's files, one after the other in one file.
pub struct Data {
    file: File,
    length: u64,
    /// Large files share extents with it.
    shared: bool,
    buffer: Buffer,
}

impl Data {
    /// Begins a layer's data in a new file.
    pub fn new(file: File, shared: bool) -> Self {
        Self { file, length: 0, shared, buffer: Buffer::default() }
    }

    /// Tells how many bytes there are, and sees that the last one's block is whole.
    pub fn finish(mut self) -> io::Result<u64> {
        self.length = self.length.next_multiple_of(BLOCK);
        self.file.set_len(self.length)?;
        Ok(self.length)
    }

    fn take(&mut self, file: &Source, segment: Segment) -> io::Result<u64> {
        let large = segment.length >= LARGE;
        if large {
            self.length = self.length.next_multiple_of(BLOCK);
        }
        let begin = self.length;
        self.length += segment.length;
        if large {
            self.length = self.length.next_multiple_of(BLOCK);
        }
        if self.shared && large && segment.at.is_multiple_of(BLOCK) {
            // up to the end of the file, where it ends within a block
            if share(file.file(), segment.at, segment.length, &self.file, begin).is_ok() {
                return Ok(begin);
            }
        }
        large::copy(file, segment.at, segment.length, &self.file, begin, &mut self.buffer)?;
        Ok(begin)
    }
}
