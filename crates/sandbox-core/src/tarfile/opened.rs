//! The bytes of a file that another process may change meanwhile.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::FileExt as _,
};

use super::member::{Bytes, Segment};

/// The bytes of an open file. What a running machine cut off meanwhile is zeros.
pub struct Opened {
    file: File,
    buffer: Vec<u8>,
}

impl Opened {
    /// Takes a file whose bytes are wanted.
    pub fn new(file: File) -> Self {
        Self { file, buffer: vec![0; 256 << 10] }
    }
}

impl Bytes for Opened {
    fn write(&mut self, segment: Segment, out: &mut dyn Write) -> io::Result<()> {
        let mut done = 0;
        while done < segment.length {
            let left = segment.length - done;
            let want = usize::try_from(left).map_or(self.buffer.len(), |left| left.min(self.buffer.len()));
            let count = self.file.read_at(&mut self.buffer[..want], segment.at + done)?;
            if count == 0 {
                return io::copy(&mut io::Read::take(io::repeat(0), left), out).map(drop);
            }
            out.write_all(&self.buffer[..count])?;
            done += count as u64;
        }
        Ok(())
    }
}
