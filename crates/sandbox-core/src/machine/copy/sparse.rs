//! Files with holes in a stream: their map, then what is no hole.
//!
//! **Shape**: the member's data begin with the number of parts, then the offset and the length of each, in decimal
//! with a newline each, filled up with NULs to a whole block; the parts follow. The extended header has
//! `GNU.sparse.major=1`, `GNU.sparse.minor=0`, the name and the size.
//!
//! **Source**: GNU tar's manual, "Storing Sparse Files", "PAX Format, Version 1.0".

use std::{
    fs::File,
    io::{self, Read, Seek as _, SeekFrom},
    os::unix::{ffi::OsStrExt as _, fs::FileExt as _},
    path::{Path, PathBuf},
};

use crate::host::{
    live::{self, Excess},
    space::Meter,
};

const BLOCK: usize = 512;

/// The parts of a file that are no holes: where each begins and ends.
pub type Parts = [(u64, u64)];

/// Counts the bytes that parts have.
pub fn stored(parts: &Parts) -> u64 {
    parts.iter().map(|(begin, end)| end - begin).sum()
}

/// Writes the map of a file.
pub fn map(parts: &Parts, size: u64) -> Vec<u8> {
    // one of no length says where a file ends whose end is a hole
    let end = parts.last().is_none_or(|(_, end)| *end < size).then_some((size, size));
    let all = || parts.iter().copied().chain(end);
    let mut text = format!("{}\n", all().count());
    for (begin, end) in all() {
        text.push_str(&format!("{begin}\n{}\n", end - begin));
    }
    let mut bytes = text.into_bytes();
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

/// Words the records of the extended header.
pub fn records(name: &Path, size: u64) -> Vec<(String, Vec<u8>)> {
    let record = |key: &str, value: &[u8]| (format!("GNU.sparse.{key}"), value.to_vec());
    vec![
        record("major", b"1"),
        record("minor", b"0"),
        record("name", name.as_os_str().as_bytes()),
        record("realsize", size.to_string().as_bytes()),
    ]
}

/// The bytes of a file's parts, one after the other. What is cut off meanwhile is zeros, as with tar(1).
pub struct Reader<'a> {
    pub file: &'a File,
    pub parts: &'a Parts,
    done: u64,
}

impl<'a> Reader<'a> {
    /// Begins.
    pub const fn new(file: &'a File, parts: &'a Parts) -> Self {
        Self { file, parts, done: 0 }
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while let Some(((begin, end), rest)) = self.parts.split_first() {
            let left = end - begin - self.done;
            if left == 0 {
                (self.parts, self.done) = (rest, 0);
                continue;
            }
            let count = usize::try_from(left).map_or(into.len(), |left| left.min(into.len()));
            let read = match self.file.read_at(&mut into[..count], begin + self.done)? {
                0 => {
                    into[..count].fill(0);
                    count
                }
                read => read,
            };
            self.done += read as u64;
            return Ok(read);
        }
        Ok(0)
    }
}

/// A file with holes that comes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Its name, where the member has another.
    pub name: Option<PathBuf>,
    size: u64,
}

impl Header {
    /// Reads the extended header of a member; none where it says nothing of holes.
    pub fn of(entry: &mut tar::Entry<'_, impl Read>) -> io::Result<Option<Self>> {
        let Some(records) = entry.pax_extensions()? else { return Ok(None) };
        let (mut header, mut version) = (Self::default(), (None, None));
        for record in records {
            let record = record?;
            let value = record.value_bytes();
            match record.key().ok().and_then(|key| key.strip_prefix("GNU.sparse.")) {
                Some("major") => version.0 = Some(value == b"1"),
                Some("minor") => version.1 = Some(value == b"0"),
                Some("name") => header.name = Some(std::ffi::OsStr::from_bytes(value).into()),
                Some("realsize") => {
                    let size = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    header.size = size.ok_or_else(|| wrong("the size of a file with holes is no number"))?;
                }
                _ => {}
            }
        }
        match version {
            (Some(true), Some(true)) => Ok(Some(header)),
            (None, None) => Ok(None),
            _ => Err(wrong("a file's holes are described in a way that is not supported")),
        }
    }

    /// Writes the file: its holes are holes, and its parts are in order and within it.
    pub fn write(&self, data: &mut impl Read, to: &mut File, meter: &mut Meter) -> io::Result<u64> {
        let mut lines = Lines { data, read: 0 };
        let count = lines.number()?;
        if count > live::PARTS as u64 + 1 {
            return Err(Excess::Parts.into());
        }
        let mut parts = Vec::new();
        let mut last = 0;
        for _ in 0..count {
            let (begin, length) = (lines.number()?, lines.number()?);
            let end = begin.checked_add(length).filter(|end| begin >= last && *end <= self.size);
            last = end.ok_or_else(|| wrong("the parts of a file with holes are not in order"))?;
            parts.push((begin, length));
        }
        lines.pad()?;
        let mut written = 0;
        for (begin, length) in parts {
            meter.add(&*to, length)?;
            to.seek(SeekFrom::Start(begin))?;
            let copied = io::copy(&mut (&mut *data).take(length), to)?;
            if copied < length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            written += copied;
        }
        to.set_len(self.size)?;
        Ok(written)
    }
}

fn wrong(what: &'static str) -> io::Error {
    Excess::Map { what }.into()
}

/// The numbers of a map.
struct Lines<'a, R: Read> {
    data: &'a mut R,
    read: usize,
}

impl<R: Read> Lines<'_, R> {
    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.data.read_exact(&mut byte)?;
        self.read += 1;
        Ok(byte[0])
    }

    fn number(&mut self) -> io::Result<u64> {
        let mut number = 0_u64;
        for at in 0.. {
            match self.byte()? {
                b'\n' if at > 0 => break,
                digit @ b'0'..=b'9' => {
                    let next =
                        number.checked_mul(10).and_then(|tens| tens.checked_add((digit - b'0').into()));
                    number = next.ok_or_else(|| wrong("a number in a file's map of holes is too large"))?;
                }
                _ => return Err(wrong("a file's map of holes is no list of numbers")),
            }
        }
        Ok(number)
    }

    fn pad(&mut self) -> io::Result<()> {
        while !self.read.is_multiple_of(BLOCK) {
            self.byte()?;
        }
        Ok(())
    }
}
