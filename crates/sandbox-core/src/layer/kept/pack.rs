//! A difference: what a tree has more, other or less than before, in a manifest and one file of data.

use std::{collections::HashMap, ffi::OsString, fs::File, io, path::Path};

use rustix::fs::{FileType, Stat};

use super::{
    entry::{Entry, Kind, Meta, Segment},
    walk::{Change, Seen},
};
use crate::host::{
    clonable::{BLOCK, share},
    large::{self, Buffer, LARGE, Source},
    live::{self, Cursor, Directory, Identity},
};

/// Lists the entries of a tree's changes. The data of files is where [`Data`] puts it, or in the files themselves.
///
/// # Errors
/// What the file system says; `ESTALE` where the tree is not at rest.
pub fn entries(tree: &Path, changes: &[Change<'_>], mut data: Option<&mut Data>) -> io::Result<Vec<Entry>> {
    let mut cursor = Cursor::new(Directory::top(tree)?);
    let mut groups = Groups::default();
    let mut entries = Vec::with_capacity(changes.len());
    for change in changes {
        entries.push(match change {
            Change::Removed(path) => {
                let path = path.to_path_buf();
                let meta = Meta::default();
                Entry { path, kind: Kind::Removed, meta, group: 0, attributes: Vec::new() }
            }
            Change::Made(seen) => {
                let above = cursor.go(seen.above())?;
                entry(above, *seen, &mut groups, data.as_deref_mut())?
            }
        });
    }
    Ok(entries)
}

/// The files with several names: their group's number, and what was read of the first. Two subvolumes of a tree have
/// the same inode numbers, on devices of their own.
#[derive(Default)]
struct Groups(HashMap<Identity, Group>);

type Group = (u64, Kind, Vec<(OsString, Vec<u8>)>);

fn entry(
    above: &Directory,
    seen: Seen<'_>,
    groups: &mut Groups,
    data: Option<&mut Data>,
) -> io::Result<Entry> {
    let (path, name, identity) = (seen.path.to_owned(), seen.name(), seen.facts.identity());
    if path.as_os_str().is_empty() {
        let stat = above.own()?;
        let attributes = live::attributes(&above.again()?.into_handle())?;
        return Ok(Entry { path, kind: Kind::Folder, meta: meta(&stat), group: 0, attributes });
    }
    let several = seen.facts.has_others();
    if several && let Some((group, kind, attributes)) = groups.0.get(&identity) {
        let meta = meta(&above.stat_of(name, identity)?);
        return Ok(Entry { path, kind: kind.clone(), meta, group: *group, attributes: attributes.clone() });
    }
    let (stat, kind, attributes) = match identity.kind {
        FileType::Directory => {
            let own = above.directory(name, identity)?;
            (own.own()?, Kind::Folder, live::attributes(&own.into_handle())?)
        }
        FileType::RegularFile => {
            let (file, stat) = above.file(name, identity)?;
            let size = stat.st_size.cast_unsigned();
            let mut segments = segments(&file, &stat)?;
            let attributes = live::attributes(&file)?;
            if let Some(data) = data {
                let source = Source::new(file, None);
                for segment in &mut segments {
                    segment.data = data.take(&source, *segment)?;
                }
            }
            (stat, Kind::File { size, segments }, attributes)
        }
        FileType::Symlink => {
            let stat = above.stat_of(name, identity)?;
            (stat, Kind::Link { target: above.link(name)? }, Vec::new())
        }
        _ => {
            let stat = above.stat_of(name, identity)?;
            let kind = stat.st_mode & libc::S_IFMT;
            (stat, Kind::Node { kind, device: stat.st_rdev }, Vec::new())
        }
    };
    let group = if several {
        let group = groups.0.len() as u64 + 1;
        groups.0.insert(identity, (group, kind.clone(), attributes.clone()));
        group
    } else {
        0
    };
    Ok(Entry { path, kind, meta: meta(&stat), group, attributes })
}

/// Returns what of a path's facts is kept.
pub(crate) fn meta(stat: &Stat) -> Meta {
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
    let parts = live::data_parts(file, stat)?;
    Ok(parts.into_iter().map(|(at, end)| Segment { at, length: end - at, data: at }).collect())
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
