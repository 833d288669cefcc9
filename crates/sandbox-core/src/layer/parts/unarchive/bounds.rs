//! How much an archive may become.

use std::io::{self, Read};

/// What any archive may unpack to, as packages may.
const LEAST: u64 = 256 << 20;

/// How many times its size a larger one may.
const RATIO: u64 = 200;

/// More came than an archive of its size has.
#[derive(Debug, thiserror::Error)]
#[error("more than an archive of its size has")]
pub(super) struct TooMuch;

fn too_much() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, TooMuch)
}

const fn limit(size: u64) -> u64 {
    let most = size.saturating_mul(RATIO);
    if most > LEAST { most } else { LEAST }
}

/// A decoder's output that ends with an error once it is more than its input can honestly be.
pub(super) struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R> Bounded<R> {
    /// Bounds what comes of so many bytes.
    pub(super) const fn new(inner: R, size: u64) -> Self {
        Self { inner, left: limit(size) }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(too_much)?;
        Ok(count)
    }
}

/// What all files of an archive together may have: holes of sparse files count as bytes do.
pub(super) struct Budget {
    limit: u64,
    left: u64,
}

impl Budget {
    pub(super) const fn of(size: u64) -> Self {
        Self { limit: limit(size), left: limit(size) }
    }

    pub(super) const fn limit(&self) -> u64 {
        self.limit
    }

    /// Reads a file on the budget.
    pub(super) fn reader<'a>(&'a mut self, from: &'a mut dyn Read) -> Spending<'a> {
        Spending { budget: self, from, problem: None }
    }
}

/// A file that is read on a budget. Its problems are kept, so that they are told from those of writing.
pub(super) struct Spending<'a> {
    budget: &'a mut Budget,
    from: &'a mut dyn Read,
    pub(super) problem: Option<io::Error>,
}

impl Read for Spending<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer).and_then(|count| {
            self.budget.left = self.budget.left.checked_sub(count as u64).ok_or_else(too_much)?;
            Ok(count)
        });
        match read {
            Err(problem) if problem.kind() != io::ErrorKind::Interrupted => {
                self.problem = Some(problem);
                Err(io::ErrorKind::Other.into())
            }
            other => other,
        }
    }
}
