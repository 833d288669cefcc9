//! What a layer has at a path, and the file that lists it: a manifest.
//!
//! **Shape**: `sandbox layer 1\n`, then for each path in the order of its bytes: a letter, the path, what the letter
//! stands for. Numbers are little-endian, of 64 bits; texts have their length in front. At the end the SHA-256 of
//! all before.

use std::{
    ffi::OsString,
    io,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::PathBuf,
};

use crate::digest::Sha256;

const HEAD: &[u8] = b"sandbox layer 1\n";

/// Owner, permissions and time, to the nanosecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time: seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
}

/// Bytes of a file that are not a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where they are in the file.
    pub at: u64,
    /// How many.
    pub length: u64,
    /// Where they are in the layer's data.
    pub data: u64,
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A file: its size, and what of it is no hole.
    File {
        /// Its size.
        size: u64,
        /// Its bytes, in order.
        segments: Vec<Segment>,
    },
    /// A symbolic link.
    Link {
        /// What it says.
        target: OsString,
    },
    /// A device, a FIFO or a socket.
    Node {
        /// The file type bits of st_mode.
        kind: u32,
        /// The device's number.
        device: u64,
    },
    /// Nothing any more: what lower layers have here is gone.
    Removed,
}

/// A path of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The path in the tree, relative; that of the tree itself is empty.
    pub path: PathBuf,
    /// What is there.
    pub kind: Kind,
    /// Owner, permissions, time.
    pub meta: Meta,
    /// Paths of one layer with the same number are hard links of each other; 0 is none's.
    pub group: u64,
    /// Extended attributes: capabilities, access lists.
    pub attributes: Vec<(OsString, Vec<u8>)>,
}

/// Writes a manifest.
pub fn write(entries: &[Entry]) -> Vec<u8> {
    let mut out = Out(HEAD.to_vec());
    out.number(entries.len() as u64);
    for entry in entries {
        out.entry(entry);
    }
    let digest = Sha256::of(&out.0);
    out.0.extend_from_slice(digest.as_bytes());
    out.0
}

/// Reads a manifest.
///
/// # Errors
/// Where it is not as it was written.
pub fn read(bytes: &[u8]) -> io::Result<Vec<Entry>> {
    let body = bytes.len().checked_sub(32).ok_or_else(damaged)?;
    let (body, digest) = bytes.split_at(body);
    if Sha256::of(body).as_bytes() != digest {
        return Err(damaged());
    }
    let mut input = In(body.strip_prefix(HEAD).ok_or_else(damaged)?);
    let count = input.number()?;
    // each has at least a letter, a length and three numbers
    if count > (input.0.len() / 8) as u64 {
        return Err(damaged());
    }
    let entries = (0..count).map(|_| input.entry()).collect::<io::Result<_>>()?;
    if input.0.is_empty() { Ok(entries) } else { Err(damaged()) }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the manifest is not as it was written")
}

struct Out(Vec<u8>);

impl Out {
    fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn text(&mut self, text: &[u8]) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text);
    }

    fn entry(&mut self, entry: &Entry) {
        let letter = match entry.kind {
            Kind::Folder => b'd',
            Kind::File { .. } => b'f',
            Kind::Link { .. } => b'l',
            Kind::Node { .. } => b'n',
            Kind::Removed => b'-',
        };
        self.0.push(letter);
        self.text(entry.path.as_os_str().as_bytes());
        match &entry.kind {
            Kind::Removed => return,
            Kind::Folder => {}
            Kind::File { size, segments } => {
                self.number(*size);
                self.number(segments.len() as u64);
                for Segment { at, length, data } in segments {
                    [*at, *length, *data].into_iter().for_each(|number| self.number(number));
                }
            }
            Kind::Link { target } => self.text(target.as_bytes()),
            Kind::Node { kind, device } => {
                self.number(u64::from(*kind));
                self.number(*device);
            }
        }
        let Meta { mode, uid, gid, mtime } = entry.meta;
        self.number(u64::from(mode));
        self.number(u64::from(uid) | u64::from(gid) << 32);
        self.number(mtime.0.cast_unsigned());
        self.number(u64::from(mtime.1));
        self.number(entry.group);
        self.number(entry.attributes.len() as u64);
        for (name, value) in &entry.attributes {
            self.text(name.as_bytes());
            self.text(value);
        }
    }
}

struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    fn take(&mut self, count: u64) -> io::Result<&'a [u8]> {
        let count = usize::try_from(count).map_err(|_| damaged())?;
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> io::Result<u64> {
        let bytes = self.take(8)?;
        Ok(u64::from_le_bytes(bytes.try_into().map_err(|_| damaged())?))
    }

    fn small(&mut self) -> io::Result<u32> {
        u32::try_from(self.number()?).map_err(|_| damaged())
    }

    fn text(&mut self) -> io::Result<OsString> {
        let length = self.number()?;
        Ok(OsString::from_vec(self.take(length)?.to_vec()))
    }

    fn entry(&mut self) -> io::Result<Entry> {
        let letter = self.take(1)?[0];
        let path = PathBuf::from(self.text()?);
        if path.components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
            return Err(damaged());
        }
        let kind = match letter {
            b'd' => Kind::Folder,
            b'f' => {
                let size = self.number()?;
                let count = self.number()?;
                Kind::File { size, segments: (0..count).map(|_| self.segment()).collect::<io::Result<_>>()? }
            }
            b'l' => Kind::Link { target: self.text()? },
            b'n' => Kind::Node { kind: self.small()?, device: self.number()? },
            b'-' => {
                let meta = Meta::default();
                return Ok(Entry { path, kind: Kind::Removed, meta, group: 0, attributes: Vec::new() });
            }
            _ => return Err(damaged()),
        };
        let mode = self.small()?;
        let owner = self.number()?;
        let mtime = (self.number()?.cast_signed(), self.small()?);
        let meta = Meta { mode, uid: (owner & 0xffff_ffff) as u32, gid: (owner >> 32) as u32, mtime };
        let group = self.number()?;
        let count = self.number()?;
        let attribute = |input: &mut Self| -> io::Result<_> {
            let name = input.text()?;
            let length = input.number()?;
            Ok((name, input.take(length)?.to_vec()))
        };
        let attributes = (0..count).map(|_| attribute(self)).collect::<io::Result<_>>()?;
        Ok(Entry { path, kind, meta, group, attributes })
    }

    fn segment(&mut self) -> io::Result<Segment> {
        Ok(Segment { at: self.number()?, length: self.number()?, data: self.number()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<Entry> {
        let meta = Meta { mode: 0o4755, uid: 1000, gid: u32::MAX, mtime: (-5, 999_999_999) };
        let entry = |path: &str, kind| Entry {
            path: path.into(),
            kind,
            meta,
            group: 7,
            attributes: vec![("security.capability".into(), vec![0, 1, 255])],
        };
        let segments = vec![Segment { at: 0, length: 3, data: 4096 }];
        vec![
            entry("", Kind::Folder),
            entry("a", Kind::File { size: 9, segments }),
            entry("b", Kind::Link { target: OsString::from_vec(vec![0xff, b'/']) }),
            entry("c", Kind::Node { kind: libc::S_IFCHR, device: 0x103 }),
            Entry {
                path: "d/e".into(),
                kind: Kind::Removed,
                meta: Meta::default(),
                group: 0,
                attributes: vec![],
            },
        ]
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(read(&write(&entries())).unwrap(), entries());
    }

    #[test]
    fn one_that_was_cut_or_changed_anywhere_is_refused() {
        let whole = write(&entries());
        for length in 0..whole.len() {
            read(&whole[..length]).unwrap_err();
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            read(&changed).unwrap_err();
        }
    }

    #[test]
    fn a_path_that_leads_out_is_refused() {
        for path in ["../x", "/x", "a/../b"] {
            let mut entries = entries();
            entries[1].path = path.into();
            read(&write(&entries)).unwrap_err();
        }
    }
}
