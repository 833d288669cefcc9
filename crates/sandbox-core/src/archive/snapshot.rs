//! Old states of archives, for packages of a lock that no mirror has any more.
//!
//! A snapshot service gives the archive as it was at a moment. What a Release file of a date lists comes into the
//! service some hours later, and packages stay in a later state for a day or more after they are superseded: so
//! some moments after the date are tried in turn.
//!
//! **Source**: <https://snapshot.debian.org/>, <https://snapshot.ubuntu.com/>.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use super::{ArchiveError, Opening, Options, Source, release::moment};
use crate::{
    error::Cause as _,
    host::{
        polite::Polite,
        transport::{Transport, TransportError},
    },
    lock::LockedSource,
    report::{Event, Reporter},
    store::{Elsewhere, Store},
};

/// How many answers of a snapshot service may be open at once.
const CONNECTIONS: usize = 4;

/// The first wait after a service said that it is asked too much.
const PAUSE: Duration = Duration::from_secs(1);

/// How long after a Release file's date its state is looked for, in turn.
///
/// **Units**: seconds.
const LATER: [i64; 3] = [6 * 3600, 24 * 3600, 72 * 3600];

/// How far a snapshot's Release file may be dated after its moment, for clocks that differ.
const SKEW: i64 = 3600;

/// The snapshot services of some sources.
pub struct Snapshots<'a> {
    sources: &'a [Source],
    transport: Polite<'a>,
    store: &'a Store,
    now: i64,
    reporter: &'a dyn Reporter,
    /// Base addresses by source; nothing where it was asked in vain.
    found: Mutex<BTreeMap<String, Option<String>>>,
}

impl<'a> Snapshots<'a> {
    /// Makes them of sources, whose keyrings say who may sign. Nothing is asked yet.
    #[must_use]
    pub fn new(
        sources: &'a [Source],
        transport: &'a dyn Transport,
        store: &'a Store,
        now: i64,
        reporter: &'a dyn Reporter,
    ) -> Self {
        let transport = Polite::new(transport, CONNECTIONS, PAUSE);
        Self { sources, transport, store, now, reporter, found: Mutex::default() }
    }

    /// Looks for a state whose Release file is signed and not before the lock's.
    fn search(&self, source: &Source, template: &str, locked: &LockedSource) -> Result<String, ArchiveError> {
        // Waived here alone: an old state is past its date by its nature, and the lock says which one is meant.
        let options = Options { ignore_valid_until: true, allow_older_release: true, ..Options::default() };
        let answered = AtomicBool::new(false);
        let opening = Opening {
            options: &options,
            store: self.store,
            transport: &self.transport,
            now: self.now,
            reporter: self.reporter,
            answered: &answered,
        };
        let mut told = None;
        for at in moments(locked.date, self.now) {
            let base = template.replace("{timestamp}", &timestamp(at));
            match opening.ask(source, &base, super::release::TRIES) {
                Ok((found, ..)) if (locked.date..=at + SKEW).contains(&found.release.date) => {
                    let same = if found.digest == locked.release { "the lock's own" } else { "a later one" };
                    let date = moment(found.release.date);
                    let text = format!(
                        "{} from the snapshot {base}: its Release file is {same}, of {date}",
                        source.suite
                    );
                    self.reporter.report(Event::Notice { text });
                    return Ok(base);
                }
                // Not the state of that moment, or one before the lock: a later moment may be right.
                Ok(_) | Err(ArchiveError::Unreachable { source: TransportError::Missing { .. }, .. }) => {}
                // What is not to be trusted at one moment is not asked for at another.
                Err(problem) if problem.class() == crate::Class::Untrusted => return Err(problem),
                Err(problem) => told = Some(problem),
            }
        }
        Err(told.unwrap_or_else(|| none(locked)))
    }
}

fn none(locked: &LockedSource) -> ArchiveError {
    ArchiveError::NoSnapshot { id: locked.id.clone(), suite: locked.suite.clone(), date: moment(locked.date) }
}

impl Elsewhere for Snapshots<'_> {
    fn base(&self, locked: &LockedSource) -> Result<Option<String>, ArchiveError> {
        let Some(source) = self.sources.iter().find(|source| source.id == locked.id) else { return Ok(None) };
        let template = source.snapshot.as_deref().or(locked.snapshot.as_deref());
        let Some(template) = template else { return Ok(None) };
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        match found.get(&locked.id) {
            Some(Some(base)) => Ok(Some(base.clone())),
            // It is asked once, and its answer is told once.
            Some(None) => Err(none(locked)),
            None => {
                let outcome = self.search(source, template, locked);
                found.insert(locked.id.clone(), outcome.as_ref().ok().cloned());
                outcome.map(Some)
            }
        }
    }

    fn transport(&self) -> &dyn Transport {
        &self.transport
    }
}

/// Lists the moments at which to look for the state of a date.
fn moments(date: i64, now: i64) -> Vec<i64> {
    let mut moments: Vec<i64> = LATER.iter().map(|later| date.saturating_add(*later).min(now)).collect();
    moments.dedup();
    moments
}

/// Writes a moment as snapshot services do: `20261118T221743Z`.
fn timestamp(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap_or_default().strftime("%Y%m%dT%H%M%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_after_the_date_and_not_in_the_future() {
        let hour = 3600;
        assert_eq!(moments(0, 1000 * hour), [6 * hour, 24 * hour, 72 * hour]);
        assert_eq!(moments(0, 10 * hour), [6 * hour, 10 * hour]);
        assert_eq!(moments(0, hour), [hour]);
        assert_eq!(timestamp(1_795_040_263), "20261118T221743Z");
    }
}
