//! Fetches what every tree has while the index that lists it is still being decoded: the line would be idle.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use super::Doors;
use crate::{
    archive::{Early, Source},
    deb::{deb822, packages::quoted},
    digest::Sha256,
    resolve::Variant,
    store::{Checksum, Wanted},
};

/// How many downloads run ahead at once.
pub(super) const JOBS: usize = 4;

/// Packages that will be wanted whatever the resolver chooses, fetched into the cache as their stanzas are seen.
///
/// A wrong guess costs a download that nobody uses; what is in the tree is the resolver's choice alone.
pub(super) struct Prefetch<'a> {
    doors: &'a Doors<'a>,
    /// Priority `required` too, not only what is essential.
    required: bool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The end of what was seen of each index, by source and path, that is no whole stanza yet.
    rest: BTreeMap<(String, String), Vec<u8>>,
    queue: VecDeque<Guess>,
    ended: bool,
}

struct Guess {
    urls: Vec<String>,
    size: u64,
    sha256: Sha256,
}

impl<'a> Prefetch<'a> {
    pub(super) fn new(doors: &'a Doors<'a>, variant: Variant) -> Self {
        let required = !matches!(variant, Variant::Essential | Variant::Apt);
        Self { doors, required, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Fetches guesses until there are no more. To be called by each of its threads.
    pub(super) fn work(&self) {
        let mut state = self.state();
        loop {
            if state.ended {
                return;
            }
            let Some(guess) = state.queue.pop_front() else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(state);
            let wanted = Wanted {
                urls: &guess.urls,
                checksum: Checksum::Sha256(guess.sha256),
                size: Some(guess.size),
                limit: guess.size,
            };
            // what fails here is asked for again, and told then
            let _ = self.doors.store.fetch(&wanted, self.doors.transport, &|_| {});
            state = self.state();
        }
    }

    /// Does the work that guesses are made in; after it nothing new is begun, what is on its way goes on.
    pub(super) fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        let _ending = Ending(self);
        work()
    }

    fn guess(&self, stanza: &[u8], source: &Source) -> Option<Guess> {
        let says = |line: &[u8]| memchr::memmem::find(stanza, line).is_some();
        let wanted = says(b"\nEssential: yes\n") || (self.required && says(b"\nPriority: required\n"));
        if !wanted {
            return None;
        }
        let stanza = deb822::stanzas(stanza).next()?;
        let path = stanza.get("Filename").filter(|path| !path.contains(".."))?;
        let size = stanza.get("Size")?.parse().ok()?;
        let sha256 = stanza.get("SHA256")?.parse().ok()?;
        let urls = source.mirrors.iter().map(|mirror| format!("{mirror}/{}", quoted(path))).collect();
        Some(Guess { urls, size, sha256 })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the guesses, however the work ends: threads wait for it.
struct Ending<'a>(&'a Prefetch<'a>);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.state().ended = true;
        self.0.changed.notify_all();
    }
}

impl Early for Prefetch<'_> {
    fn piece(&self, source: &Source, path: &str, piece: &[u8]) {
        let index = (source.id.clone(), path.to_owned());
        let mut state = self.state();
        let mut text = state.rest.remove(&index).unwrap_or_default();
        text.extend_from_slice(piece);
        let whole = memchr::memmem::rfind(&text, b"\n\n").map_or(0, |at| at + 2);
        state.rest.insert(index, text.split_off(whole));
        drop(state);
        let mut guesses = VecDeque::new();
        let mut from = 0;
        for at in memchr::memmem::find_iter(&text, b"\n\n") {
            guesses.extend(self.guess(&text[from..at + 1], source));
            from = at + 2;
        }
        self.state().queue.append(&mut guesses);
        self.changed.notify_all();
    }
}
