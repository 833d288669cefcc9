//! Sparse files in extended headers, in the three forms that GNU tar has had; bsdtar writes the last one.
//!
//! **Shape**: in 0.0 the header has `GNU.sparse.size`, `.numblocks`, and `.offset` and `.numbytes` once for each piece;
//! in 0.1 the pieces are one record, `GNU.sparse.map`, and the name is `GNU.sparse.name`; in 1.0 the header has
//! `GNU.sparse.major`, `.minor`, `.name` and `.realsize`, and the member's bytes begin with the pieces: their number,
//! then the offset and the length of each, in decimal with a newline each, filled up with NULs to a whole block.
//!
//! **Source**: GNU tar's manual, "Storing Sparse Files", "PAX Format" 0.0, 0.1 and 1.0.

use std::io::Read;

use super::{
    pax::number,
    read::{BLOCK, PIECES, TarError, broken},
};

/// A piece of a file that is no hole: where it is, and how long.
pub type Piece = (u64, u64);

/// What the records of a member say of its holes.
#[derive(Default)]
pub struct Holes {
    version: (Option<u64>, Option<u64>),
    name: Option<Vec<u8>>,
    size: Option<u64>,
    offset: Option<u64>,
    pieces: Vec<Piece>,
    is_sparse: bool,
}

fn wrong() -> TarError {
    broken("the pieces of a sparse file")
}

impl Holes {
    /// Reads a record, whose key is without `GNU.sparse.`.
    pub fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), TarError> {
        self.is_sparse = true;
        match key {
            b"major" => self.version.0 = Some(number(value)?),
            b"minor" => self.version.1 = Some(number(value)?),
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(number(value)?),
            b"offset" => self.offset = Some(number(value)?),
            b"numbytes" => {
                let offset = self.offset.take().ok_or_else(wrong)?;
                self.add((offset, number(value)?))?;
            }
            b"map" if value.is_empty() => {}
            b"map" => {
                let mut numbers = value.split(|byte| *byte == b',');
                while let Some(offset) = numbers.next() {
                    let length = numbers.next().ok_or_else(wrong)?;
                    self.add((number(offset)?, number(length)?))?;
                }
            }
            // the number of pieces, which are counted
            _ => {}
        }
        Ok(())
    }

    fn add(&mut self, piece: Piece) -> Result<(), TarError> {
        if self.pieces.len() == PIECES {
            return Err(wrong());
        }
        self.pieces.push(piece);
        Ok(())
    }

    /// Takes the name of the file, where it is not the member's.
    pub fn name(&mut self) -> Option<Vec<u8>> {
        self.name.take()
    }

    /// Returns the size of the file and its pieces, none where it is not sparse. In form 1.0 the pieces are read from
    /// the member, whose bytes left are counted down.
    ///
    /// # Errors
    /// [`TarError`].
    pub fn finish(
        self,
        input: &mut impl Read,
        left: &mut u64,
    ) -> Result<Option<(u64, Vec<Piece>)>, TarError> {
        if !self.is_sparse {
            return Ok(None);
        }
        let size = self.size.ok_or_else(wrong)?;
        match self.version {
            (None | Some(0), None | Some(0 | 1)) => Ok(Some((size, self.pieces))),
            (Some(1), None | Some(0)) => Ok(Some((size, Map::read(input, left)?))),
            _ => Err(TarError::Unknown { what: "a sparse file in a form later than GNU tar's 1.0" }),
        }
    }
}

/// The pieces at the head of a member's bytes.
struct Map<'a, R> {
    input: &'a mut R,
    left: &'a mut u64,
    block: [u8; BLOCK as usize],
    at: usize,
}

impl<R: Read> Map<'_, R> {
    fn read(input: &mut R, left: &mut u64) -> Result<Vec<Piece>, TarError> {
        let mut map = Map { input, left, block: [0; BLOCK as usize], at: BLOCK as usize };
        let count = map.number()?;
        if count > PIECES as u64 {
            return Err(wrong());
        }
        let mut pieces = Vec::new();
        for _ in 0..count {
            pieces.push((map.number()?, map.number()?));
        }
        Ok(pieces)
    }

    fn byte(&mut self) -> Result<u8, TarError> {
        if self.at == self.block.len() {
            *self.left = self.left.checked_sub(BLOCK).ok_or_else(wrong)?;
            self.input.read_exact(&mut self.block)?;
            self.at = 0;
        }
        self.at += 1;
        Ok(self.block[self.at - 1])
    }

    fn number(&mut self) -> Result<u64, TarError> {
        let mut number = 0_u64;
        for at in 0.. {
            match self.byte()? {
                b'\n' if at > 0 => break,
                digit @ b'0'..=b'9' => {
                    let next =
                        number.checked_mul(10).and_then(|tens| tens.checked_add((digit - b'0').into()));
                    number = next.ok_or_else(wrong)?;
                }
                _ => return Err(wrong()),
            }
        }
        Ok(number)
    }
}
