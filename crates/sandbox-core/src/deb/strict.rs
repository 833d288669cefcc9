//! A package's tar stream, whose heads are looked at as they pass.
//!
//! The reader of tar streams trusts them: it takes a name of any length into memory, fills the holes of
//! sparse files, and lets an extended header say another size than the head does. None of that is in any
//! package, and dpkg reads none of it; here it ends the stream before anybody acts on it.
//!
//! **Source**: tar(5); dpkg's lib/dpkg/tarfn.c for what dpkg takes; CVE-2025-62518 for what comes of two
//! readers that differ about a size.

use std::io::{self, Read};

/// The most bytes of a long name or a long link's target; Linux takes 4096.
const NAME_LIMIT: u64 = 64 << 10;

/// The most bytes of an extended header.
const EXTENDED_LIMIT: u64 = 1 << 20;

/// The most entries; the packages in Debian with the most files have a tenth of it.
const ENTRY_LIMIT: u64 = 1 << 20;

/// The most bytes that an entry may say it has.
const SIZE_LIMIT: u64 = 1 << 40;

const BLOCK: usize = 512;

/// What no package's tar stream may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Odd {
    /// A head that does not add up, or has a size that is no number.
    #[error("a head of its tar stream is malformed")]
    Head,
    /// A size that nothing has.
    #[error("an entry of its tar stream says that it has {size} bytes")]
    Size {
        /// The size.
        size: u64,
    },
    /// A folder, link or device with content.
    #[error("an entry of its tar stream has content and is of kind `{kind}`, which has none")]
    Content {
        /// tar's letter.
        kind: char,
    },
    /// A name or an extended header that is too long.
    #[error("its tar stream has a name or an extended header of {size} bytes")]
    Long {
        /// Its size.
        size: u64,
    },
    /// A file with holes.
    #[error("its tar stream has a sparse file, which packages do not have")]
    Sparse,
    /// A header for all entries after it.
    #[error("its tar stream has a global header, which packages do not have")]
    Global,
    /// An extended header that changes a size.
    #[error("an extended header of its tar stream gives a second size")]
    TwoSizes,
    /// More entries than there may be.
    #[error("its tar stream has more than {ENTRY_LIMIT} entries")]
    Many,
}

impl From<Odd> for io::Error {
    fn from(odd: Odd) -> Self {
        Self::new(io::ErrorKind::InvalidData, odd)
    }
}

/// A reader that passes a tar stream on and fails at the first thing that no package has.
#[derive(Debug)]
pub struct Strict<R> {
    inner: R,
    head: Vec<u8>,
    /// Bytes of the present entry that are still to come, and after those how many fill its last block.
    left: (u64, u64),
    /// The present extended header.
    extended: Option<Vec<u8>>,
    entries: u64,
    ended: bool,
}

impl<R> Strict<R> {
    /// Looks at what a reader gives.
    pub const fn new(inner: R) -> Self {
        Self { inner, head: Vec::new(), left: (0, 0), extended: None, entries: 0, ended: false }
    }

    fn see(&mut self, mut bytes: &[u8]) -> Result<(), Odd> {
        while !bytes.is_empty() && !self.ended {
            let (content, filling) = self.left;
            if content > 0 {
                let (now, rest) = bytes.split_at(within(content, bytes));
                if let Some(extended) = &mut self.extended {
                    extended.extend_from_slice(now);
                }
                self.left.0 -= now.len() as u64;
                bytes = rest;
                if self.left.0 == 0 {
                    self.extended.take().map_or(Ok(()), |extended| check_extended(&extended))?;
                }
            } else if filling > 0 {
                let now = within(filling, bytes);
                self.left.1 -= now as u64;
                bytes = &bytes[now..];
            } else {
                let (now, rest) = bytes.split_at(bytes.len().min(BLOCK - self.head.len()));
                self.head.extend_from_slice(now);
                bytes = rest;
                if self.head.len() == BLOCK {
                    self.head()?;
                    self.head.clear();
                }
            }
        }
        Ok(())
    }

    fn head(&mut self) -> Result<(), Odd> {
        if self.head.iter().all(|&byte| byte == 0) {
            self.ended = true;
            return Ok(());
        }
        self.entries += 1;
        if self.entries > ENTRY_LIMIT {
            return Err(Odd::Many);
        }
        let header = tar::Header::from_byte_slice(&self.head);
        let sum = |part: &[u8]| part.iter().map(|&byte| u32::from(byte)).sum::<u32>();
        let blanks = 8 * u32::from(b' ');
        if header.cksum().ok() != Some(sum(&self.head[..148]) + blanks + sum(&self.head[156..])) {
            return Err(Odd::Head);
        }
        let size = header.entry_size().map_err(|_| Odd::Head)?;
        if size > SIZE_LIMIT {
            return Err(Odd::Size { size });
        }
        match header.entry_type().as_byte() {
            b'S' => return Err(Odd::Sparse),
            b'g' => return Err(Odd::Global),
            b'L' | b'K' if size > NAME_LIMIT => return Err(Odd::Long { size }),
            b'x' | b'X' if size > EXTENDED_LIMIT => return Err(Odd::Long { size }),
            b'x' | b'X' => self.extended = Some(Vec::new()),
            kind @ b'1'..=b'6' if size > 0 => return Err(Odd::Content { kind: char::from(kind) }),
            _ => {}
        }
        self.left = (size, size.next_multiple_of(BLOCK as u64) - size);
        Ok(())
    }
}

impl<R: Read> Read for Strict<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.see(&buffer[..read])?;
        Ok(read)
    }
}

fn within(count: u64, bytes: &[u8]) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX).min(bytes.len())
}

/// Refuses the records of an extended header that would change what the head says.
fn check_extended(bytes: &[u8]) -> Result<(), Odd> {
    for record in tar::PaxExtensions::new(bytes) {
        let record = record.map_err(|_| Odd::Head)?;
        match record.key_bytes() {
            b"size" => return Err(Odd::TwoSizes),
            key if key.starts_with(b"GNU.sparse") => return Err(Odd::Sparse),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: u8, size: u64, content: &[u8]) -> Vec<u8> {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..4].copy_from_slice(b"./x\0");
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_size(size);
        header.set_mode(0o644);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }

    fn seen(bytes: &[u8]) -> Result<u64, Odd> {
        // a few bytes at a time: no boundary of a read is one of the stream
        struct Drops<'a>(&'a [u8]);
        impl Read for Drops<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let most = buffer.len().min(7);
                self.0.read(&mut buffer[..most])
            }
        }
        let copied = io::copy(&mut Strict::new(Drops(bytes)), &mut io::sink());
        copied.map_err(|error| *error.get_ref().and_then(|inner| inner.downcast_ref::<Odd>()).unwrap())
    }

    #[test]
    fn a_common_stream_passes_whole() {
        let end = [0; 2 * BLOCK];
        let stream = [
            entry(b'5', 0, b""),
            entry(b'L', 130, &[b'n'; 130]),
            entry(b'0', 700, &[b'S'; 700]),
            entry(b'x', 30, b"30 SCHILY.xattr.user.note=abc\n"),
            entry(b'2', 0, b""),
            end.to_vec(),
            b"whatever follows the end".to_vec(),
        ]
        .concat();
        assert_eq!(seen(&stream), Ok(stream.len() as u64));
    }

    #[test]
    fn what_no_package_has_ends_it() {
        let pax = |record: &[u8]| entry(b'x', record.len() as u64, record);
        for (stream, odd) in [
            (entry(b'S', 0, b""), Odd::Sparse),
            (pax(b"22 GNU.sparse.major=1\n"), Odd::Sparse),
            (pax(b"9 size=1\n"), Odd::TwoSizes),
            (pax(b"no record"), Odd::Head),
            (entry(b'g', 9, b"9 size=1\n"), Odd::Global),
            (entry(b'L', NAME_LIMIT + 1, b""), Odd::Long { size: NAME_LIMIT + 1 }),
            (entry(b'x', EXTENDED_LIMIT + 1, b""), Odd::Long { size: EXTENDED_LIMIT + 1 }),
            (entry(b'1', 5, b"12345"), Odd::Content { kind: '1' }),
            (entry(b'0', u64::MAX, b""), Odd::Size { size: u64::MAX }),
            (vec![b'x'; BLOCK], Odd::Head),
        ] {
            assert_eq!(seen(&stream), Err(odd));
            assert_eq!(seen(&[entry(b'0', 3, b"abc"), stream].concat()), Err(odd));
        }
    }
}
