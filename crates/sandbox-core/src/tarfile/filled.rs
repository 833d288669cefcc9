//! A member's bytes where holes have no place.

use std::io::{self, Read};

use super::{
    holes::Piece,
    read::{Member, Tar},
};

/// The bytes of the member that came last, with zeros in its holes. Its reader bounds how many are taken.
pub struct Filled<'a, R> {
    tar: &'a mut Tar<R>,
    pieces: Vec<Piece>,
    next: usize,
    at: u64,
    size: u64,
}

impl<'a, R: Read> Filled<'a, R> {
    /// Begins a member.
    pub fn new(tar: &'a mut Tar<R>, member: &Member) -> Self {
        let pieces = member.pieces.clone().unwrap_or_else(|| vec![(0, member.size)]);
        Self { tar, pieces, next: 0, at: 0, size: member.size }
    }
}

impl<R: Read> Read for Filled<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let up_to = |left: u64| usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        while let Some((begin, length)) = self.pieces.get(self.next).copied() {
            let end = begin.saturating_add(length);
            if self.at < begin {
                return Ok(self.zeros(buffer, begin));
            }
            if self.at < end {
                let want = up_to(end - self.at);
                let count = self.tar.read(&mut buffer[..want])?;
                self.at += count as u64;
                return Ok(count);
            }
            self.next += 1;
        }
        Ok(self.zeros(buffer, self.size))
    }
}

impl<R> Filled<'_, R> {
    fn zeros(&mut self, buffer: &mut [u8], end: u64) -> usize {
        let left = end.saturating_sub(self.at);
        let count = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        buffer[..count].fill(0);
        self.at += count as u64;
        count
    }
}
