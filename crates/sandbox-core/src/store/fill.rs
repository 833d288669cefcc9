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

use super::{Checksum, Delivery, Entry, Store, StoreError, Ways, elsewhere::gravest};
use crate::{
    host::transport::Transport,
    lock::{Lock, LockedPackage},
    report::{Event, Phase, Reporter, Unit},
};

/// A lock of which every package is in the cache and was seen to be right.
///
/// Only [`fill`] and [`deliver`] make one.
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
/// [`StoreError::Gone`] with all packages that are not to be had, or the first problem of another kind.
pub fn fill(
    lock: &Lock,
    store: &Store,
    transport: &dyn Transport,
    jobs: usize,
    reporter: &dyn Reporter,
) -> Result<Filled, StoreError> {
    fill_by(lock, store, Ways::mirrors(transport), jobs, reporter)
}

/// Does as [`fill`], by any ways.
///
/// # Errors
/// As [`fill`].
pub fn fill_by(
    lock: &Lock,
    store: &Store,
    ways: Ways<'_>,
    jobs: usize,
    reporter: &dyn Reporter,
) -> Result<Filled, StoreError> {
    let delivery = Delivery::new((0..lock.packages.len()).collect());
    match deliver(lock, store, ways, jobs, &delivery, reporter)? {
        Some(filled) => Ok(filled),
        None => unreachable!("nobody stops this delivery"),
    }
}

/// Does as [`fill`], and hands each package on as soon as it is there and right.
///
/// Gives nothing where it was stopped because no more is wanted.
///
/// # Errors
/// As [`fill`]; the delivery has then ended.
pub fn deliver(
    lock: &Lock,
    store: &Store,
    ways: Ways<'_>,
    jobs: usize,
    delivery: &Delivery,
    reporter: &dyn Reporter,
) -> Result<Option<Filled>, StoreError> {
    let started = Instant::now();
    let total = lock.packages.iter().map(|package| package.size).sum();
    reporter.report(Event::Started { phase: Phase::Fetch, unit: Unit::Bytes, total });
    let entries = all(lock, store, ways, jobs, delivery, reporter);
    delivery.end();
    let Some(entries) = entries? else { return Ok(None) };
    let filled = Filled { lock: lock.clone(), entries };
    reporter.report(Event::Finished {
        phase: Phase::Fetch,
        elapsed: started.elapsed(),
        summary: summary(&filled, total),
    });
    Ok(Some(filled))
}

fn all(
    lock: &Lock,
    store: &Store,
    ways: Ways<'_>,
    jobs: usize,
    delivery: &Delivery,
    reporter: &dyn Reporter,
) -> Result<Option<Vec<Entry>>, StoreError> {
    let order = delivery.order();
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let unreachable = AtomicBool::new(false);
    let done: Vec<Mutex<Option<Result<Entry, StoreError>>>> =
        lock.packages.iter().map(|_| Mutex::new(None)).collect();
    thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, lock.packages.len().max(1)) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) && !delivery.is_stopped() {
                    let rank = next.fetch_add(1, Ordering::Relaxed);
                    let Some(&at) = order.get(rank) else { break };
                    let alone = unreachable.load(Ordering::Relaxed);
                    let package = &lock.packages[at];
                    let mut recoding = None;
                    let outcome = match recoded(package, store, delivery, reporter) {
                        Ok(None) => {
                            let fetched = one(lock, package, store, ways, alone, reporter);
                            if delivery.takes_recoded() {
                                recoding = store.recoding(&package.sha256);
                            }
                            fetched
                        }
                        Ok(Some(entry)) => Ok(entry),
                        Err(problem) => Err(problem),
                    };
                    match &outcome {
                        Ok(entry) => delivery.put(rank, entry, recoding),
                        // The rest is looked for all the same, so that all that is missing is told at once;
                        // but where nobody answers, only in the cache.
                        Err(problem) if problem.is_absent() => {
                            unreachable.fetch_or(!problem.is_missing(), Ordering::Relaxed);
                        }
                        Err(_) => stop.store(true, Ordering::Relaxed),
                    }
                    *done[at].lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
                }
            });
        }
    });
    // A place is empty where the work was given up: after a failure, which is told, or when it was stopped.
    let mut entries = Vec::with_capacity(done.len());
    let mut problems = Vec::new();
    for (package, one) in lock.packages.iter().zip(done) {
        match one.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(Ok(entry)) => entries.push(entry),
            Some(Err(problem)) => problems.push((package, problem)),
            None => {}
        }
    }
    match gravest(problems) {
        Some(problem) => Err(problem),
        None => Ok((entries.len() == lock.packages.len()).then_some(entries)),
    }
}

/// Gives the recoded form of a package, where it will do and is there.
fn recoded(
    package: &LockedPackage,
    store: &Store,
    delivery: &Delivery,
    reporter: &dyn Reporter,
) -> Result<Option<Entry>, StoreError> {
    if !delivery.takes_recoded() {
        return Ok(None);
    }
    let found = store.recoded(&package.sha256)?;
    if found.is_some() {
        reporter.report(Event::Advanced { phase: Phase::Fetch, delta: package.size });
    }
    Ok(found)
}

fn one(
    lock: &Lock,
    package: &LockedPackage,
    store: &Store,
    ways: Ways<'_>,
    alone: bool,
    reporter: &dyn Reporter,
) -> Result<Entry, StoreError> {
    reporter.report(Event::At { phase: Phase::Fetch, subject: package.name.clone() });
    let progress = |delta| reporter.report(Event::Advanced { phase: Phase::Fetch, delta });
    let checksum = Checksum::Sha256(package.sha256);
    let mut entry = if alone {
        let found = store.find(&checksum, Some(package.size))?;
        found.ok_or_else(|| StoreError::NoAddress { checksum: Box::new(checksum) })?
    } else {
        ways.fetch(lock, package, store, &progress)?
    };
    if entry.fetched == 0 {
        // it may have been fetched ahead, by this very run
        entry.fetched = store.fetched().get(&checksum).copied().unwrap_or(0);
    }
    Ok(entry)
}

fn summary(filled: &Filled, total: u64) -> String {
    let packages = filled.entries.len();
    let cached = filled.entries.iter().filter(|entry| entry.fetched() == 0).count();
    // Tenths of a megabyte, rounded down, without leaving whole numbers.
    let (whole, tenth) = (total / 1_000_000, total / 100_000 % 10);
    format!("{packages} packages, {whole}.{tenth} MB, {cached} from the cache")
}
