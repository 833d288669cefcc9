//! What of a machine's tree is as the layers had it that it was made of.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::{FileType, OFlags};

use super::walk::Found;
use crate::{
    host::live::attributes,
    layer::kept::{
        Held, LayerError,
        content::{Content, contents, read_at},
        entry::{Entry, Kind, Segment},
        segments,
    },
};

/// The layers that a tree was made of.
pub struct Base {
    /// What each adds, the lowest first.
    pub layers: Vec<Content>,
    last: HashMap<PathBuf, (usize, usize)>,
}

impl Base {
    /// Reads a whole stack.
    ///
    /// # Errors
    /// Where a layer is damaged.
    pub fn read(stack: &[Held]) -> Result<Self, LayerError> {
        let layers = contents(stack)?;
        let mut last = HashMap::new();
        for (layer, content) in layers.iter().enumerate() {
            for (at, entry) in content.entries.iter().enumerate() {
                if entry.kind == Kind::Removed {
                    last.remove(&entry.path);
                } else {
                    last.insert(entry.path.clone(), (layer, at));
                }
            }
        }
        Ok(Self { layers, last })
    }

    fn get(&self, path: &Path) -> Option<(&Content, &Entry)> {
        let (layer, at) = *self.last.get(path)?;
        let content = self.layers.get(layer)?;
        Some((content, content.entries.get(at)?))
    }

    /// Gives every path that the layers together have, with whether it is a folder, in order.
    pub fn paths(&self) -> BTreeMap<&Path, bool> {
        let kind = |path: &Path| self.get(path).is_some_and(|(_, entry)| entry.kind == Kind::Folder);
        self.last.keys().map(|path| (path.as_path(), kind(path))).collect()
    }

    /// Tells whether a path looks as the layers had it: kind, owner, permissions, size and time.
    pub fn looks_same(&self, found: &Found<'_>) -> bool {
        let Some((_, entry)) = self.get(found.path) else { return false };
        let (stat, meta) = (&found.stat, &entry.meta);
        let is_folder = found.kind() == FileType::Directory;
        let time = (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0));
        let same = (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid)
            == (meta.mode & 0o7777, meta.uid, meta.gid)
            && (is_folder || time == meta.mtime);
        same && match &entry.kind {
            Kind::Folder => is_folder,
            Kind::File { size, .. } => {
                found.kind() == FileType::RegularFile && stat.st_size.cast_unsigned() == *size
            }
            Kind::Link { .. } => found.kind() == FileType::Symlink,
            Kind::Node { kind, device } => *kind == stat.st_mode & libc::S_IFMT && *device == stat.st_rdev,
            Kind::Removed => false,
        }
    }

    /// Tells whether a path is as the layers had it, to the last byte.
    ///
    /// # Errors
    /// What reading either says.
    pub fn is_same(&self, found: &Found<'_>) -> io::Result<bool> {
        let Some((content, entry)) = self.get(found.path) else { return Ok(false) };
        if !self.looks_same(found) {
            return Ok(false);
        }
        match &entry.kind {
            Kind::Folder => {
                let own = File::from(found.open(OFlags::RDONLY | OFlags::DIRECTORY)?);
                Ok(attributes(&own)? == entry.attributes)
            }
            Kind::Link { target } => Ok(found.link()? == *target),
            Kind::File { segments: theirs, .. } => {
                let own = File::from(found.open(OFlags::RDONLY)?);
                if attributes(&own)? != entry.attributes {
                    return Ok(false);
                }
                same_bytes(&own, &segments(&own, &found.stat)?, &content.open(entry)?, theirs)
            }
            Kind::Node { .. } | Kind::Removed => Ok(true),
        }
    }
}

/// Tells whether two files of one size have the same bytes. Holes of one may be zeros of the other.
fn same_bytes(own: &File, ours: &[Segment], kept: &File, theirs: &[Segment]) -> io::Result<bool> {
    let (mut a, mut b) = (vec![0_u8; 128 << 10], vec![0_u8; 128 << 10]);
    for segment in theirs {
        let mut done = 0;
        while done < segment.length {
            let count = usize::try_from(segment.length - done).map_or(a.len(), |left| left.min(a.len()));
            read_at(kept, segment, done, &mut b[..count])?;
            own.read_exact_at(&mut a[..count], segment.at + done)?;
            if a[..count] != b[..count] {
                return Ok(false);
            }
            done += count as u64;
        }
    }
    // what the layer has as a hole must be nothing but zeros here
    let mut at = 0;
    let ends = theirs.iter().map(|segment| (segment.at, segment.at + segment.length));
    for (begin, end) in ends.chain([(u64::MAX, u64::MAX)]) {
        for segment in ours {
            let (from, to) = (segment.at.max(at), (segment.at + segment.length).min(begin));
            if from < to && !is_zero(own, from, to, &mut a)? {
                return Ok(false);
            }
        }
        at = end;
    }
    Ok(true)
}

fn is_zero(file: &File, from: u64, to: u64, buffer: &mut [u8]) -> io::Result<bool> {
    let mut at = from;
    while at < to {
        let count = usize::try_from(to - at).map_or(buffer.len(), |left| left.min(buffer.len()));
        file.read_exact_at(&mut buffer[..count], at)?;
        if buffer[..count].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at += count as u64;
    }
    Ok(true)
}
