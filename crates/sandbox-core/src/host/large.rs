//! Large files read and written past the kernel's cache: a tree's bytes are on their way to the disk at once, and a
//! copy of gigabytes does not push out what programs need.
//!
//! **Source**: open(2) for `O_DIRECT`, preadv2(2) for `RWF_NOWAIT`.

use std::{fs::File, io, io::IoSliceMut, os::unix::fs::FileExt as _};

use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::{ReadWriteFlags, preadv2},
};

use super::clonable::BLOCK;

/// From this size on a file is large.
pub const LARGE: u64 = 256 << 10;

const ALIGNED: usize = BLOCK as usize;
const PIECE: usize = 1 << 20;

/// A piece of memory that begins where a disk can read and write.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    begin: usize,
}

impl Default for Buffer {
    fn default() -> Self {
        let bytes = vec![0_u8; PIECE + ALIGNED];
        let begin = bytes.as_ptr().align_offset(ALIGNED);
        Self { bytes, begin }
    }
}

impl Buffer {
    /// Gives the piece.
    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[self.begin..self.begin + PIECE]
    }
}

/// Bytes to be read: as they are cached, and past the cache where they are not.
#[derive(Debug)]
pub struct Source {
    cached: File,
    direct: Option<File>,
}

impl Source {
    /// Takes a file that is open twice, the second time for reading past the cache.
    #[must_use]
    pub fn new(cached: File, direct: Option<File>) -> Self {
        let direct = direct.filter(|file| past_the_cache(file, true));
        Self { cached, direct }
    }

    /// Gives the file.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.cached
    }

    fn read(&self, buffer: &mut Buffer, length: usize, at: u64) -> io::Result<usize> {
        let Some(direct) = self.direct.as_ref().filter(|_| at.is_multiple_of(BLOCK)) else {
            return self.cached.read_at(&mut buffer.bytes()[..length], at);
        };
        let into = &mut buffer.bytes()[..length];
        match preadv2(&self.cached, &mut [IoSliceMut::new(into)], at, ReadWriteFlags::NOWAIT) {
            Ok(count) if count == length => Ok(count),
            _ => direct.read_at(&mut buffer.bytes()[..length.next_multiple_of(ALIGNED)], at),
        }
    }
}

/// Has a file be read and written past the cache, or through it again; tells whether that is so now.
fn past_the_cache(file: &File, past: bool) -> bool {
    let set = |flags: OFlags| {
        let flags = if past { flags | OFlags::DIRECT } else { flags - OFlags::DIRECT };
        fcntl_setfl(file, flags)
    };
    fcntl_getfl(file).and_then(set).is_ok()
}

/// Copies bytes to a block's beginning in another file, past the cache where that can be done. What follows them in
/// their last block is of no meaning then: the caller sets the file's length.
///
/// # Errors
/// What read(2) and write(2) say; `UnexpectedEof` where the source is shorter.
pub fn copy(
    source: &Source,
    from: u64,
    length: u64,
    to: &File,
    at: u64,
    buffer: &mut Buffer,
) -> io::Result<()> {
    let mut direct = at.is_multiple_of(BLOCK) && length >= LARGE && past_the_cache(to, true);
    let copied = (|| {
        let mut done = 0;
        while done < length {
            let want = usize::try_from(length - done).map_or(PIECE, |left| left.min(PIECE));
            let count = source.read(buffer, want, from + done)?.min(want);
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if direct && count < want {
                // the rest would not begin where the disk can write
                direct = !past_the_cache(to, false);
            }
            let whole = if direct { count.next_multiple_of(ALIGNED) } else { count };
            buffer.bytes()[count..whole].fill(0);
            to.write_all_at(&buffer.bytes()[..whole], at + done)?;
            done += count as u64;
        }
        Ok(())
    })();
    if direct {
        past_the_cache(to, false);
    }
    copied
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_copied_is_the_same_past_the_cache_and_through_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let bytes: Vec<u8> = (0..3_000_001_u32).map(|number| (number % 251) as u8).collect();
        std::fs::write(at("from"), &bytes).unwrap();
        let open = || File::open(at("from")).unwrap();
        for (from, length, to) in
            [(0, 3_000_001, 0), (4096, 1_000_001, 8192), (5, 300_000, 4096), (8192, 9, 1)]
        {
            for source in [Source::new(open(), None), Source::new(open(), Some(open()))] {
                let made = File::options().write(true).create(true).truncate(true).open(at("to")).unwrap();
                copy(&source, from, length, &made, to, &mut Buffer::default()).unwrap();
                made.set_len(to + length).unwrap();
                let got = std::fs::read(at("to")).unwrap();
                let expected = &bytes[from as usize..(from + length) as usize];
                assert!(got[to as usize..] == *expected, "{from} {length} {to}");
            }
        }
        let source = Source::new(open(), Some(open()));
        let made = File::create(at("short")).unwrap();
        copy(&source, 2_999_000, 5_000, &made, 0, &mut Buffer::default()).unwrap_err();
    }
}
