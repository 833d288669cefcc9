//! One file from one of several addresses, resumed, retried and checked.

use std::{cell::Cell, thread, time::Duration};

use super::{Checksum, Entry, Store, StoreError, partial::Partial};
use crate::{
    digest::Sha256,
    host::transport::{Get, Transport, TransportError, broken},
};

/// How often one address is asked again after it broke off, stalled or had a passing error.
const TRIES: u32 = 4;

/// How often one address may give wrong bytes: a second time, in case an old partial download was the cause.
const WRONG: u32 = 2;

/// The wait before the second try; it doubles from there.
const PAUSE: Duration = Duration::from_millis(250);

/// A try that brought at least so many bytes does not count against the address.
const HEADWAY: u64 = 1 << 20;

/// A file that is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Where it may be, the preferred address first.
    pub urls: &'a [String],
    /// What it must hash to.
    pub checksum: Checksum,
    /// How many bytes it must have, where that is known.
    pub size: Option<u64>,
    /// The most bytes that are taken where the size is not known.
    pub limit: u64,
}

impl Wanted<'_> {
    fn most(&self) -> u64 {
        self.size.unwrap_or(self.limit)
    }
}

pub(super) fn fetch(
    store: &Store,
    wanted: &Wanted<'_>,
    transport: &dyn Transport,
    progress: &dyn Fn(u64),
) -> Result<Entry, StoreError> {
    let found = |entry: Entry| {
        progress(entry.size);
        entry
    };
    if let Some(entry) = store.find(&wanted.checksum, wanted.size)? {
        return Ok(found(entry));
    }
    if wanted.urls.is_empty() {
        return Err(StoreError::NoAddress { checksum: Box::new(wanted.checksum) });
    }
    let mut partial = Partial::lock(&store.root.join("partial"), &wanted.checksum)?;
    // Another process may have brought it while this one waited for the lock.
    if let Some(entry) = store.find(&wanted.checksum, wanted.size)? {
        partial.discard()?;
        return Ok(found(entry));
    }
    let meter = Meter { shown: Cell::new(0), fetched: Cell::new(0), progress };
    match from_any(store, wanted, transport, &mut partial, &meter) {
        Ok(()) => {
            let path = store.path_of(&wanted.checksum);
            let size = partial.length();
            partial.rename(&path)?;
            let fetched = meter.fetched.get();
            store.fetched().insert(wanted.checksum, fetched);
            Ok(Entry { path, size, fetched })
        }
        Err(problem) => {
            // What is there is worth keeping only if it may yet become right.
            if !worth_resuming(&problem) || partial.length() == 0 {
                partial.discard()?;
            }
            Err(problem)
        }
    }
}

/// Fetches what no digest is known of, and keeps it by the one that it has. It is never resumed: what comes
/// later may be of another file.
pub(super) fn take(
    store: &Store,
    url: &str,
    limit: u64,
    transport: &dyn Transport,
) -> Result<Sha256, StoreError> {
    let place = Checksum::Sha256(Sha256::of(url.as_bytes()));
    let wanted = Wanted { urls: &[], checksum: place, size: None, limit };
    let mut partial = Partial::lock(&store.root.join("partial"), &place)?;
    let meter = Meter { shown: Cell::new(0), fetched: Cell::new(0), progress: &|_| {} };
    let mut tries = 1;
    loop {
        partial.restart()?;
        let failed = |source| StoreError::Transport { source };
        let got = transport.get(&Get { url, offset: 0, limit }).map_err(failed);
        let outcome = got.and_then(|mut got| {
            receive(url, &wanted, &mut got.body, &mut partial, &meter)?;
            let whole = got.total.is_none_or(|total| total == partial.length());
            if whole { Ok(()) } else { Err(failed(early_end(url))) }
        });
        match outcome {
            Err(problem) if worth_resuming(&problem) && tries < TRIES => {
                thread::sleep(PAUSE * 2_u32.pow(tries - 1));
                tries += 1;
            }
            Err(problem) => {
                partial.discard()?;
                return Err(problem);
            }
            Ok(()) => {
                let found = partial.checksum();
                partial.rename(&store.path_of(&found))?;
                let Checksum::Sha256(digest) = found else { unreachable!("of the kind of its place") };
                return Ok(digest);
            }
        }
    }
}

fn worth_resuming(problem: &StoreError) -> bool {
    matches!(problem, StoreError::Transport { source } if source.is_transient())
}

/// Counts bytes; tells progress only of what was not told before, however often a download starts again.
struct Meter<'a> {
    shown: Cell<u64>,
    fetched: Cell<u64>,
    progress: &'a dyn Fn(u64),
}

impl Meter<'_> {
    fn at(&self, length: u64) {
        if let Some(delta) = length.checked_sub(self.shown.get()).filter(|delta| *delta > 0) {
            self.shown.set(length);
            (self.progress)(delta);
        }
    }
}

/// Tries each address in order, once, and then again those that may yet answer. Of all problems the gravest is
/// told: what came wrong before what did not come.
fn from_any(
    store: &Store,
    wanted: &Wanted<'_>,
    transport: &dyn Transport,
    partial: &mut Partial,
    meter: &Meter<'_>,
) -> Result<(), StoreError> {
    let mut told: Option<StoreError> = None;
    let mut urls: Vec<&String> = wanted.urls.iter().collect();
    // A host that was silent for one file is not waited for first by the next.
    urls.sort_by_key(|url| store.silent().contains(host(url)));
    let rounds = if urls.len() > 1 { [1, TRIES].as_slice() } else { &[TRIES] };
    for &tries in rounds {
        let mut again = Vec::new();
        for url in urls {
            match from_one(url, wanted, transport, partial, meter, tries) {
                Ok(()) => return Ok(()),
                Err(problem @ StoreError::Disk { .. }) => return Err(problem),
                Err(problem) => {
                    if worth_resuming(&problem) {
                        store.silent().insert(host(url).to_owned());
                        again.push(url);
                    }
                    if told.as_ref().is_none_or(|before| gravity(&problem) >= gravity(before)) {
                        told = Some(problem);
                    }
                }
            }
        }
        urls = again;
    }
    Err(told.unwrap_or(StoreError::NoAddress { checksum: Box::new(wanted.checksum) }))
}

/// Gives scheme, host and port of an address.
fn host(url: &str) -> &str {
    let begin = url.find("://").map_or(0, |at| at + 3);
    url[begin..].find('/').map_or(url, |end| &url[..begin + end])
}

fn gravity(problem: &StoreError) -> u8 {
    match problem {
        StoreError::Size { .. } | StoreError::Digest { .. } => 2,
        problem if problem.is_missing() => 0,
        _ => 1,
    }
}

fn from_one(
    url: &str,
    wanted: &Wanted<'_>,
    transport: &dyn Transport,
    partial: &mut Partial,
    meter: &Meter<'_>,
    most: u32,
) -> Result<(), StoreError> {
    let (mut tries, mut wrong) = (0, 0);
    loop {
        let before = partial.length();
        let problem = match attempt(url, wanted, transport, partial, meter) {
            Ok(()) => return Ok(()),
            Err(problem) => problem,
        };
        match &problem {
            StoreError::Size { .. } | StoreError::Digest { .. } => {
                wrong += 1;
                partial.restart()?;
                if wrong == WRONG {
                    return Err(problem);
                }
            }
            StoreError::Transport { source: TransportError::Offset { .. } } if before > 0 => {
                partial.restart()?;
            }
            StoreError::Transport { source } if source.is_transient() => {
                tries = if partial.length() >= before + HEADWAY { 1 } else { tries + 1 };
                if tries >= most {
                    return Err(problem);
                }
                thread::sleep(PAUSE * 2_u32.pow(tries - 1));
            }
            _ => return Err(problem),
        }
    }
}

/// Asks once for what is missing, and checks the whole.
fn attempt(
    url: &str,
    wanted: &Wanted<'_>,
    transport: &dyn Transport,
    partial: &mut Partial,
    meter: &Meter<'_>,
) -> Result<(), StoreError> {
    let failed = |source| StoreError::Transport { source };
    let wrong_size = |expected, found| StoreError::Size { url: url.to_owned(), expected, found };
    if partial.length() > wanted.most() {
        partial.restart()?;
    }
    if wanted.size.is_none_or(|size| partial.length() < size) {
        let request = Get { url, offset: partial.length(), limit: wanted.most() };
        let mut got = match transport.get(&request) {
            // Told here and not as "too long", so that both directions of a wrong size look the same.
            Err(TransportError::Long { limit, .. }) if wanted.size.is_some() => {
                return Err(wrong_size(limit, limit + 1));
            }
            other => other.map_err(failed)?,
        };
        if let (Some(size), Some(total)) = (wanted.size, got.total)
            && size != total
        {
            return Err(wrong_size(size, total));
        }
        if got.resumed_at != partial.length() {
            partial.restart()?;
        }
        receive(url, wanted, &mut got.body, partial, meter)?;
        // An answer without a length may end early unnoticed.
        if let Some(size) = wanted.size.filter(|size| partial.length() < *size) {
            return Err(match got.total {
                Some(_) => failed(early_end(url)),
                None => wrong_size(size, partial.length()),
            });
        }
    }
    let found = partial.checksum();
    if found == wanted.checksum {
        Ok(())
    } else {
        Err(StoreError::Digest {
            url: url.to_owned(),
            expected: Box::new(wanted.checksum),
            found: Box::new(found),
        })
    }
}

fn early_end(url: &str) -> TransportError {
    TransportError::Broken { url: url.to_owned(), source: std::io::ErrorKind::UnexpectedEof.into() }
}

fn receive(
    url: &str,
    wanted: &Wanted<'_>,
    body: &mut dyn std::io::Read,
    partial: &mut Partial,
    meter: &Meter<'_>,
) -> Result<(), StoreError> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = match body.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(problem) if problem.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(problem) => {
                let source = broken(url, wanted.most(), problem);
                return Err(match (source, wanted.size) {
                    (TransportError::Long { limit, .. }, Some(expected)) => {
                        StoreError::Size { url: url.to_owned(), expected, found: limit + 1 }
                    }
                    (source, _) => StoreError::Transport { source },
                });
            }
        };
        partial.append(&buffer[..count])?;
        meter.fetched.set(meter.fetched.get() + count as u64);
        meter.at(partial.length());
    }
}
