//! A transport for hosts that many lean on and that say when it is too much: few connections, and a pause that all share.

use std::{
    io::{self, Read},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::transport::{Get, Got, Transport, TransportError};

/// The longest pause, whatever the host asks for.
const LONGEST: Duration = Duration::from_secs(60);

/// A transport with at most so many answers open at once, which keeps still for a while when told that it asks
/// too much (429) or that there is nothing to be had now (503).
///
/// It does not ask again by itself: that is decided by the stage that asks.
pub struct Polite<'a> {
    inner: &'a dyn Transport,
    gate: Arc<Gate>,
}

/// Who may ask, and when.
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
    most: usize,
    pause: Duration,
}

struct State {
    open: usize,
    /// How often in a row the host refused.
    refused: u32,
    not_before: Option<Instant>,
}

impl<'a> Polite<'a> {
    /// Wraps a transport. `pause` is the first wait; it doubles with each refusal in a row.
    #[must_use]
    pub fn new(inner: &'a dyn Transport, most: usize, pause: Duration) -> Self {
        let state = Mutex::new(State { open: 0, refused: 0, not_before: None });
        Self { inner, gate: Arc::new(Gate { state, changed: Condvar::new(), most, pause }) }
    }
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(self: &Arc<Self>) -> Permit {
        let mut state = self.state();
        loop {
            let wait = state.not_before.and_then(|until| until.checked_duration_since(Instant::now()));
            state = match wait.filter(|wait| !wait.is_zero()) {
                Some(wait) => {
                    self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0
                }
                None if state.open >= self.most => {
                    self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
                }
                None => break,
            };
        }
        state.open += 1;
        drop(state);
        Permit { gate: Arc::clone(self) }
    }

    fn heard(&self, outcome: &Result<Got, TransportError>) {
        let mut state = self.state();
        match outcome {
            Err(TransportError::Status { status: 429 | 503, retry_after, .. }) => {
                let own = self.pause.saturating_mul(2_u32.saturating_pow(state.refused));
                let asked = retry_after.map_or(own, Duration::from_secs);
                state.refused += 1;
                state.not_before = Some(Instant::now() + asked.max(own).min(LONGEST));
            }
            Err(_) => {}
            Ok(_) => state.refused = 0,
        }
    }
}

/// A place among those that ask; given back when dropped.
struct Permit {
    gate: Arc<Gate>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.state().open -= 1;
        self.gate.changed.notify_all();
    }
}

/// A body that holds a place until it is read.
struct Held {
    body: Box<dyn Read + Send>,
    _permit: Permit,
}

impl Read for Held {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.body.read(buffer)
    }
}

impl Transport for Polite<'_> {
    fn get(&self, request: &Get<'_>) -> Result<Got, TransportError> {
        let permit = self.gate.enter();
        let outcome = self.inner.get(request);
        self.gate.heard(&outcome);
        let Got { total, resumed_at, body } = outcome?;
        Ok(Got { total, resumed_at, body: Box::new(Held { body, _permit: permit }) })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        thread,
    };

    use super::*;

    /// Counts how many answers are open at once, and refuses the first few requests.
    #[derive(Default)]
    struct Host {
        open: Arc<AtomicUsize>,
        most: AtomicUsize,
        refusals: AtomicUsize,
    }

    struct Open(Arc<AtomicUsize>);

    impl Read for Open {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            thread::sleep(Duration::from_millis(5));
            Ok(0)
        }
    }

    impl Drop for Open {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    impl Transport for Host {
        fn get(&self, request: &Get<'_>) -> Result<Got, TransportError> {
            let left =
                self.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            if left.is_ok() {
                return Err(TransportError::Status {
                    url: request.url.to_owned(),
                    status: 429,
                    retry_after: None,
                });
            }
            let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(open, Ordering::SeqCst);
            Ok(Got { total: None, resumed_at: 0, body: Box::new(Open(Arc::clone(&self.open))) })
        }
    }

    const REQUEST: Get<'_> = Get { url: "http://x/", offset: 0, limit: 1 };

    #[test]
    fn no_more_than_so_many_answers_are_open() {
        let host = Host::default();
        let polite = Polite::new(&host, 3, Duration::from_millis(1));
        thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| io::read_to_string(polite.get(&REQUEST).map(|got| got.body).ok().unwrap()));
            }
        });
        assert_eq!(host.most.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn a_refusal_makes_all_wait_longer_each_time() {
        let host = Host { refusals: AtomicUsize::new(3), ..Host::default() };
        let polite = Polite::new(&host, 3, Duration::from_millis(20));
        let begun = Instant::now();
        for _ in 0..3 {
            assert!(polite.get(&REQUEST).is_err());
        }
        assert!(polite.get(&REQUEST).is_ok());
        assert!(begun.elapsed() >= Duration::from_millis(20 + 40 + 80), "{:?}", begun.elapsed());
    }
}
