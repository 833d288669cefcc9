//! All packages of a lock, side by side.

use std::{
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use super::{Checksum, Entry, Store, StoreError, Wanted};
use crate::{
    host::transport::Transport,
    lock::{Lock, LockedPackage},
    report::{Event, Phase, Reporter, Unit},
};

/// A lock of which every package is in the cache and was seen to be right.
///
/// Only [`fill`] makes one.
#[derive(Debug)]
pub struct Filled {
    lock: Lock,
    entries: Vec<Entry>,
}

impl Filled {
    /// Gives the lock.
    #[must_use]
    pub const fn lock(&self) -> &Lock {
        &self.lock
    }

    /// Gives the path of a package's file, by its place in the lock.
    ///
    /// # Panics
    /// Where the lock has no such place.
    #[must_use]
    pub fn path(&self, index: usize) -> &Path {
        self.entries[index].path()
    }

    /// Lists the packages with their files, in the lock's order.
    pub fn packages(&self) -> impl ExactSizeIterator<Item = (&LockedPackage, &Path)> {
        self.lock.packages.iter().zip(self.entries.iter().map(Entry::path))
    }

    /// How many bytes came over the network.
    #[must_use]
    pub fn fetched(&self) -> u64 {
        self.entries.iter().map(Entry::fetched).sum()
    }
}

/// Brings every package of a lock into the cache, `jobs` at a time.
///
/// # Errors
/// The first [`StoreError`] that a package ran into; the others are given up.
pub fn fill(
    lock: &Lock,
    store: &Store,
    transport: &dyn Transport,
    jobs: usize,
    reporter: &dyn Reporter,
) -> Result<Filled, StoreError> {
    let started = Instant::now();
    let total = lock.packages.iter().map(|package| package.size).sum();
    reporter.report(Event::Started { phase: Phase::Fetch, unit: Unit::Bytes, total });
    let entries = all(lock, store, transport, jobs, reporter)?;
    let filled = Filled { lock: lock.clone(), entries };
    reporter.report(Event::Finished {
        phase: Phase::Fetch,
        elapsed: started.elapsed(),
        summary: summary(&filled, total),
    });
    Ok(filled)
}

fn all(
    lock: &Lock,
    store: &Store,
    transport: &dyn Transport,
    jobs: usize,
    reporter: &dyn Reporter,
) -> Result<Vec<Entry>, StoreError> {
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let done: Vec<Mutex<Option<Result<Entry, StoreError>>>> =
        lock.packages.iter().map(|_| Mutex::new(None)).collect();
    thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, lock.packages.len().max(1)) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(package) = lock.packages.get(at) else { break };
                    let outcome = one(lock, package, store, transport, reporter);
                    stop.fetch_or(outcome.is_err(), Ordering::Relaxed);
                    *done[at].lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
                }
            });
        }
    });
    // A place is empty only after one that failed, for work is handed out in order; look for failures first.
    let mut outcomes: Vec<_> =
        done.into_iter().filter_map(|one| one.into_inner().unwrap_or_else(PoisonError::into_inner)).collect();
    match outcomes.iter().position(Result::is_err) {
        Some(at) => outcomes.swap_remove(at).map(|entry| vec![entry]),
        None => outcomes.into_iter().collect(),
    }
}

fn one(
    lock: &Lock,
    package: &LockedPackage,
    store: &Store,
    transport: &dyn Transport,
    reporter: &dyn Reporter,
) -> Result<Entry, StoreError> {
    reporter.report(Event::At { phase: Phase::Fetch, subject: package.name.clone() });
    let source = lock.sources.iter().find(|source| source.id == package.source);
    let urls: Vec<String> = source
        .map(|source| source.mirrors.iter().map(|mirror| format!("{mirror}/{}", package.path)).collect())
        .unwrap_or_default();
    let wanted = Wanted {
        urls: &urls,
        checksum: Checksum::Sha256(package.sha256),
        size: Some(package.size),
        limit: package.size,
    };
    store.fetch(&wanted, transport, &|delta| reporter.report(Event::Advanced { phase: Phase::Fetch, delta }))
}

fn summary(filled: &Filled, total: u64) -> String {
    let packages = filled.entries.len();
    let cached = filled.entries.iter().filter(|entry| entry.fetched() == 0).count();
    // Tenths of a megabyte, rounded down, without leaving whole numbers.
    let (whole, tenth) = (total / 1_000_000, total / 100_000 % 10);
    format!("{packages} packages, {whole}.{tenth} MB, {cached} from the cache")
}
