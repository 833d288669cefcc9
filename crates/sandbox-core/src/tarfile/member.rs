//! What a tar file has of a path.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Write},
    path::Path,
};

use rustix::fs::Stat;

use crate::host::live;

/// Bytes of a file that are not a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where they are in the file.
    pub at: u64,
    /// How many.
    pub length: u64,
}

impl Segment {
    /// Lists those of an open file, in order.
    ///
    /// # Errors
    /// As [`live::data_parts`].
    pub fn all(file: &File, stat: &Stat) -> io::Result<Vec<Self>> {
        let parts = live::data_parts(file, stat)?;
        Ok(parts.into_iter().map(|(at, end)| Self { at, length: end - at }).collect())
    }
}

/// What is at a path.
#[derive(Clone, Copy, Debug)]
pub enum What<'a> {
    /// A folder.
    Folder,
    /// A file.
    File {
        /// Its size.
        size: u64,
        /// What of it is no hole, in order.
        segments: &'a [Segment],
    },
    /// A symbolic link and what it says.
    Link(&'a OsStr),
    /// A second name of an earlier path.
    Hard(&'a Path),
    /// A device or a FIFO.
    Node {
        /// The file type bits of st_mode.
        kind: u32,
        /// The device's number.
        device: u64,
    },
}

/// A path with all that is known of it but its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// The path, relative; that of the tree itself is empty.
    pub path: &'a Path,
    /// What is there.
    pub what: What<'a>,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time in seconds since 1970.
    pub mtime: i64,
    /// Extended attributes, in order, access control lists among them.
    pub attributes: &'a [(OsString, Vec<u8>)],
}

/// Gives the bytes of a file, segment by segment.
pub trait Bytes {
    /// Writes exactly the bytes of a segment.
    ///
    /// # Errors
    /// What reading and writing say.
    fn write(&mut self, segment: Segment, out: &mut dyn Write) -> io::Result<()>;
}

/// Something without bytes.
pub struct Nothing;

impl Bytes for Nothing {
    fn write(&mut self, _: Segment, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes that are in memory.
pub struct Text<'a>(pub &'a [u8]);

impl Bytes for Text<'_> {
    fn write(&mut self, segment: Segment, out: &mut dyn Write) -> io::Result<()> {
        let begin = usize::try_from(segment.at).unwrap_or(usize::MAX);
        let end = begin.saturating_add(usize::try_from(segment.length).unwrap_or(usize::MAX));
        let bytes = self.0.get(begin..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.write_all(bytes)
    }
}
