//! What bytes pass on their way into a file: compression, a digest, and which end failed.

use std::{
    cell::Cell,
    io::{self, BufWriter, Write},
    rc::Rc,
};

use liblzma::write::XzEncoder;

use crate::digest::{Hasher, Sha256};

/// How bytes are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    Plain,
    /// As gzip does.
    Gzip,
    /// As bzip2 does.
    Bzip2,
    /// As xz does.
    Xz,
    /// Zstandard.
    Zstd,
}

/// A compressor under way.
pub enum Encoder<W: Write> {
    /// None.
    Plain(W),
    /// gzip.
    Gzip(flate2::write::GzEncoder<W>),
    /// bzip2.
    Bzip2(bzip2::write::BzEncoder<W>),
    /// xz.
    Xz(XzEncoder<W>),
    /// Zstandard.
    Zstd(zstd::stream::write::Encoder<'static, W>),
}

impl<W: Write> Encoder<W> {
    /// Begins: the same bytes become the same bytes.
    ///
    /// # Errors
    /// Where there is no memory for it.
    pub fn new(compression: Compression, out: W) -> io::Result<Self> {
        Ok(match compression {
            Compression::Plain => Self::Plain(out),
            // no name and no time in the head: the same bytes for the same bytes
            Compression::Gzip => {
                Self::Gzip(flate2::write::GzEncoder::new(out, flate2::Compression::default()))
            }
            Compression::Bzip2 => Self::Bzip2(bzip2::write::BzEncoder::new(out, bzip2::Compression::best())),
            Compression::Xz => Self::Xz(XzEncoder::new(out, 6)),
            Compression::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(out, 3)?;
                encoder.include_checksum(true)?;
                Self::Zstd(encoder)
            }
        })
    }

    /// Ends, and gives back what was written to.
    ///
    /// # Errors
    /// What write(2) says.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Self::Plain(out) => Ok(out),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Bzip2(encoder) => encoder.finish(),
            Self::Xz(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Bzip2(encoder) => encoder.write(bytes),
            Self::Xz(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(out) => out.flush(),
            Self::Gzip(encoder) => encoder.flush(),
            Self::Bzip2(encoder) => encoder.flush(),
            Self::Xz(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
    }
}

/// Counts and hashes what passes.
pub struct Hashed<W> {
    inner: W,
    hasher: Hasher,
    length: u64,
}

impl<W: Write> Hashed<W> {
    /// Begins.
    pub fn new(inner: W) -> Self {
        Self { inner, hasher: Hasher::default(), length: 0 }
    }

    /// Ends: what was written to, the digest, the number of bytes.
    pub fn finish(self) -> (W, Sha256, u64) {
        (self.inner, self.hasher.finish(), self.length)
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.length += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Where the bytes end; it remembers that it failed, as a copy does not report which end of it did.
pub struct Sink<'a> {
    out: BufWriter<&'a mut dyn Write>,
    broken: Rc<Cell<bool>>,
}

impl<'a> Sink<'a> {
    /// Begins; what is given with it tells later whether writing failed.
    pub fn new(out: &'a mut dyn Write) -> (Self, Rc<Cell<bool>>) {
        let broken = Rc::new(Cell::new(false));
        (Self { out: BufWriter::with_capacity(1 << 20, out), broken: Rc::clone(&broken) }, broken)
    }

    fn blame<T>(&self, outcome: io::Result<T>) -> io::Result<T> {
        if outcome.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::Interrupted) {
            self.broken.set(true);
        }
        outcome
    }
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let outcome = self.out.write(bytes);
        self.blame(outcome)
    }

    fn flush(&mut self) -> io::Result<()> {
        let outcome = self.out.flush();
        self.blame(outcome)
    }
}
