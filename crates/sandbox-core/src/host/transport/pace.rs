//! The slowest answer that is read on.

use std::{
    io::{self, Read},
    time::{Duration, Instant},
};

/// How slowly an answer may come: a server that sends a byte now and then is never silent, and would be read for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The fewest bytes that must come in each span of waiting.
    pub least: u64,
    /// The span. Only waiting for the server counts, not what is done with the bytes.
    pub span: Duration,
}

impl Default for Pace {
    /// 1 KiB a second, over a minute.
    fn default() -> Self {
        Self { least: 60 << 10, span: Duration::from_secs(60) }
    }
}

/// A reader that fails once less than the least came in a span of waiting.
pub(super) struct Paced<R> {
    body: R,
    pace: Pace,
    waited: Duration,
    came: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("bytes came too slowly")]
pub(super) struct TooSlow(pub(super) Pace);

impl<R> Paced<R> {
    pub(super) const fn new(body: R, pace: Pace) -> Self {
        Self { body, pace, waited: Duration::ZERO, came: 0 }
    }

    /// Counts what came and how long it was waited for.
    fn count(&mut self, came: u64, waited: Duration) -> io::Result<()> {
        self.waited += waited;
        self.came += came;
        if self.waited < self.pace.span {
            return Ok(());
        }
        if self.came < self.pace.least {
            return Err(io::Error::new(io::ErrorKind::TimedOut, TooSlow(self.pace)));
        }
        (self.waited, self.came) = (Duration::ZERO, 0);
        Ok(())
    }
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let begun = Instant::now();
        let count = self.body.read(buffer)?;
        // its end may come as late as it likes
        if count > 0 {
            self.count(count as u64, begun.elapsed())?;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        error::{Cause as _, Class},
        host::transport::{TransportError, broken},
    };

    #[test]
    fn an_answer_that_drips_ends_and_a_slow_one_does_not() {
        let pace = Pace { least: 1000, span: Duration::from_secs(60) };
        let second = Duration::from_secs(2);
        let mut drips = Paced::new(io::empty(), pace);
        let ended = (0..100).find_map(|at| drips.count(1, second).err().map(|error| (at, error)));
        let (at, error) = ended.unwrap();
        assert_eq!(at, 29, "after a minute of waiting");
        let error = broken("http://a.invalid/x", 1, error);
        assert!(matches!(error, TransportError::Slow { least: 1000, seconds: 60, .. }), "{error:?}");
        assert!(!error.is_transient() && error.class() == Class::Unreachable);
        let mut slow = Paced::new(io::empty(), pace);
        assert!((0..1000).all(|_| slow.count(40, second).is_ok()));
    }
}
