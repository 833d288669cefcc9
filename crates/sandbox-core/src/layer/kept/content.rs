//! What a kept layer adds, to be read by those who make something else of it than a tree.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use super::{
    BESIDE, Held, LayerError, Walk,
    copy::{self, Bytes},
    entry::{Entry, Segment},
    pack, walk,
};
use crate::host::live::Directory;

/// What a layer adds to those below it, changes and takes away.
pub struct Content {
    /// In the order of their paths' bytes.
    pub entries: Vec<Entry>,
    bytes: Bytes,
}

impl Content {
    /// Opens what a file's bytes are read of.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn open(&self, entry: &Entry) -> io::Result<File> {
        match &self.bytes {
            Bytes::Data { source, .. } => source.file().try_clone(),
            Bytes::Tree(top) => copy::open(top, &entry.path),
        }
    }
}

/// Reads exactly a piece of a segment of an open file.
///
/// # Errors
/// What read(2) says; `UnexpectedEof` where the layer is damaged.
pub fn read_at(file: &File, segment: &Segment, from: u64, into: &mut [u8]) -> io::Result<()> {
    file.read_exact_at(into, segment.data + from)
}

/// Reads what each layer of a whole stack adds, the lowest first.
///
/// # Errors
/// [`LayerError::Damaged`].
pub fn contents(stack: &[Held]) -> Result<Vec<Content>, LayerError> {
    let mut below: Option<&Held> = None;
    let mut all = Vec::new();
    for held in stack {
        let content = content(held, below);
        all.push(content.map_err(|source| LayerError::Damaged { id: held.made.id.short(), source })?);
        below = Some(held);
    }
    Ok(all)
}

fn content(held: &Held, below: Option<&Held>) -> io::Result<Content> {
    let tree = held.folder.join("tree");
    if !tree.exists() {
        let (entries, bytes) = super::read(held)?;
        return Ok(Content { entries, bytes });
    }
    // a snapshot has the numbers and times of what it was taken of
    let before = match below.map(|below| below.folder.join("tree")).filter(|tree| tree.exists()) {
        Some(tree) => Walk::of(&tree, BESIDE)?,
        None if below.is_some() => return Err(io::Error::other("it stands on a layer of another kind")),
        None => Walk::default(),
    };
    let now = Walk::of(&tree, BESIDE)?;
    let changes: Vec<walk::Change<'_>> = now.since(&before);
    let entries: Vec<Entry> = pack::entries(&tree, &changes, None)?;
    Ok(Content { entries, bytes: Bytes::Tree(Directory::top(&tree)?) })
}
