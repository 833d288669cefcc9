//! A mirror that is taken for near, looked at once more while the first of an index comes from it.
//!
//! A Release file is small: on a line that lets a burst pass it comes as from next door.

use std::{
    io::{Cursor, Read},
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use crate::host::transport::{Get, Got, Transport, TransportError};

/// What may be a burst, and is not counted.
const BURST: usize = 128 << 10;

/// What is timed.
const SAMPLE: usize = 256 << 10;

/// A transport that does not have what comes too slowly.
pub(super) struct Nearby<'a> {
    inner: &'a dyn Transport,
    /// From which rate on it is fast enough, in bytes in a second.
    rate: f64,
    slow: AtomicBool,
}

impl<'a> Nearby<'a> {
    pub(super) const fn new(inner: &'a dyn Transport, rate: f64) -> Self {
        Self { inner, rate, slow: AtomicBool::new(false) }
    }
}

impl Transport for Nearby<'_> {
    fn get(&self, request: &Get<'_>) -> Result<Got, TransportError> {
        let url = || request.url.to_owned();
        if self.slow.load(Ordering::Relaxed) {
            return Err(TransportError::Missing { url: url() });
        }
        let Got { total, resumed_at, mut body } = self.inner.get(request)?;
        let broken = |source| TransportError::Broken { url: url(), source };
        let mut first = Vec::with_capacity(BURST + SAMPLE);
        body.by_ref().take(BURST as u64).read_to_end(&mut first).map_err(broken)?;
        let begun = Instant::now();
        let sampled = body.by_ref().take(SAMPLE as u64).read_to_end(&mut first).map_err(broken)?;
        let is_slow = sampled == SAMPLE && (sampled as f64) < self.rate * begun.elapsed().as_secs_f64();
        if is_slow {
            self.slow.store(true, Ordering::Relaxed);
            return Err(TransportError::Missing { url: url() });
        }
        Ok(Got { total, resumed_at, body: Box::new(Cursor::new(first).chain(body)) })
    }
}

#[cfg(test)]
mod tests {
    use std::{io, sync::atomic::AtomicUsize, thread, time::Duration};

    use super::*;

    /// A mirror that sends a burst at once, and then waits before each further piece.
    struct Line {
        pause: Duration,
        asked: AtomicUsize,
    }

    struct Body {
        sent: usize,
        pause: Duration,
    }

    const WHOLE: usize = 1 << 20;

    impl Read for Body {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.sent >= BURST {
                thread::sleep(self.pause);
            }
            let piece = buffer.len().min(32 << 10).min(WHOLE - self.sent);
            for (at, byte) in buffer[..piece].iter_mut().enumerate() {
                *byte = u8::try_from((self.sent + at) % 251).unwrap();
            }
            self.sent += piece;
            Ok(piece)
        }
    }

    impl Transport for Line {
        fn get(&self, _request: &Get<'_>) -> Result<Got, TransportError> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let body = Box::new(Body { sent: 0, pause: self.pause });
            Ok(Got { total: Some(WHOLE as u64), resumed_at: 0, body })
        }
    }

    fn line(pause: u64) -> Line {
        Line { pause: Duration::from_millis(pause), asked: AtomicUsize::new(0) }
    }

    const INDEX: Get<'static> = Get { url: "http://a.example/Packages.gz", offset: 0, limit: WHOLE as u64 };

    #[test]
    fn what_comes_fast_comes_whole() {
        let line = line(0);
        let mut got = Nearby::new(&line, 1e3).get(&INDEX).unwrap();
        let (mut whole, mut same) = (Vec::new(), Vec::new());
        got.body.read_to_end(&mut whole).unwrap();
        line.get(&INDEX).unwrap().body.read_to_end(&mut same).unwrap();
        assert!(whole == same, "{} bytes instead of {}", whole.len(), same.len());
    }

    #[test]
    fn what_is_slow_after_a_burst_is_given_up_and_not_asked_for_again() {
        // 32 KiB in 10 ms: 3 MB a second
        let line = line(10);
        let nearby = Nearby::new(&line, 8e6);
        for _ in 0..2 {
            assert!(matches!(nearby.get(&INDEX), Err(TransportError::Missing { .. })));
        }
        assert_eq!(line.asked.load(Ordering::Relaxed), 1);
    }
}
