//! A mirror's signed set of indexes and packages: fetched, believed only once verified, decoded.
//!
//! For each source: the signed Release file (InRelease, or Release with Release.gpg) is verified against the
//! source's keyring, its identity and dates are checked, and then each component's `Packages` index is fetched
//! by the digest that the Release file lists, checked before it is decoded and again after.
//!
//! **Source**: <https://wiki.debian.org/DebianRepository/Format>.

mod error;
mod index;
mod kept;
mod nearby;
mod offline;
mod release;
mod snapshot;
mod source;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

pub use error::ArchiveError;
pub use index::Index;
pub use snapshot::Snapshots;
pub use source::{Early, Options, Source};

use release::Verified;

use crate::{
    digest::Sha256,
    host::transport::{self, Transport, TransportError},
    report::{Event, Phase, Reporter, Unit},
    store::Store,
};

/// What was opened: the releases in the order of the sources, and their indexes.
#[derive(Debug)]
pub struct Archive {
    /// One for each source.
    pub releases: Vec<Release>,
    /// One or more for each source, in its components' order.
    pub indexes: Vec<Index>,
}

/// A verified suite.
#[derive(Clone, Debug)]
pub struct Release {
    /// The source's id.
    pub source: String,
    /// The source's mirrors.
    pub mirrors: Vec<String>,
    /// The folder below `dists/`.
    pub suite: String,
    /// What else the suite is called: its `Suite` and `Codename`.
    pub names: Vec<String>,
    /// The priority that apt gives to its versions: [`crate::deb::release::Release::priority`].
    pub priority: u16,
    /// The components that were read.
    pub components: Vec<String>,
    /// `Date`, in seconds since 1970.
    pub date: i64,
    /// The digest of the signed text.
    pub digest: Sha256,
    /// The primary fingerprint of the certificate that signed.
    pub signer: String,
    /// Whether it came from the cache instead of a mirror.
    pub kept: bool,
    /// Where old states of the archive are kept.
    pub snapshot: Option<String>,
}

/// Opens sources, all at once. Where no mirror of any of them can be reached, the newest lists of the cache are read,
/// with the same checks of signature and dates: see [`Archive::old`].
///
/// **Units**: `now` in seconds since 1970.
///
/// # Errors
/// [`ArchiveError`] of the first source, in order, that fails.
pub fn open(
    sources: &[Source],
    options: &Options<'_>,
    store: &Store,
    transport: &dyn Transport,
    now: i64,
    reporter: &dyn Reporter,
) -> Result<Archive, ArchiveError> {
    let started = Instant::now();
    reporter.report(Event::Started { phase: Phase::Archive, unit: Unit::Bytes, total: 0 });
    let answered = AtomicBool::new(false);
    let opening = Opening { options, store, transport, now, reporter, answered: &answered };
    let opened = opening.all(sources);
    let cut_off = !answered.load(Ordering::Relaxed) && offline::is_cut_off(&opened);
    let opened = if cut_off { opening.all_kept(sources, opened) } else { opened };
    let mut archive = Archive { releases: Vec::new(), indexes: Vec::new() };
    for (source, one) in sources.iter().zip(opened) {
        let (release, indexes) = one.map_err(|problem| of_source(source, problem))?;
        archive.releases.push(release);
        archive.indexes.extend(indexes);
    }
    reporter.report(Event::Finished {
        phase: Phase::Archive,
        elapsed: started.elapsed(),
        summary: format!("{} suites, {} indexes", archive.releases.len(), archive.indexes.len()),
    });
    Ok(archive)
}

/// Names the source, where it is not the distribution's own.
fn of_source(source: &Source, problem: ArchiveError) -> ArchiveError {
    if !source.is_foreign {
        return problem;
    }
    let name = source.id.split(crate::lock::FOREIGN).next().unwrap_or(&source.id).to_owned();
    ArchiveError::Foreign { name, source: Box::new(problem) }
}

/// What came of one source.
type Opened = Result<(Release, Vec<Index>), ArchiveError>;

/// What all sources have in common while they are opened.
struct Opening<'a> {
    options: &'a Options<'a>,
    store: &'a Store,
    transport: &'a dyn Transport,
    now: i64,
    reporter: &'a dyn Reporter,
    /// Whether anything that was asked for a Release file has answered, whatever it said.
    answered: &'a AtomicBool,
}

impl Opening<'_> {
    /// Opens sources, all at once.
    fn all(&self, sources: &[Source]) -> Vec<Opened> {
        thread::scope(|scope| {
            let threads: Vec<_> = sources.iter().map(|source| scope.spawn(|| self.one(source))).collect();
            threads.into_iter().map(joined).collect()
        })
    }

    fn one(&self, source: &Source) -> Opened {
        let subject = format!("{} {}", source.id, source.suite);
        self.reporter.report(Event::At { phase: Phase::Archive, subject });
        let (verified, indexes) = self.consistent(source)?;
        let priority = verified.release.priority();
        let release = Release {
            source: source.id.clone(),
            mirrors: if verified.guessed { verified.mirrors } else { source.mirrors.clone() },
            suite: source.suite.clone(),
            components: source.components.clone(),
            names: verified.release.suite.into_iter().chain(verified.release.codename).collect(),
            priority,
            date: verified.release.date,
            digest: verified.digest,
            signer: verified.signer,
            kept: verified.kept,
            snapshot: source.snapshot.clone(),
        };
        Ok((release, indexes))
    }

    /// Gets a Release file and the indexes that it lists.
    ///
    /// A mirror may be updated between the two. Where an index is not what was listed, the Release file is asked
    /// for anew, once, and where it is another, its indexes.
    fn consistent(&self, source: &Source) -> Result<(Verified, Vec<Index>), ArchiveError> {
        let verified = self.release(source)?;
        let problem = match self.indexes(source, &verified) {
            Ok(indexes) => return Ok((verified, indexes)),
            Err(ArchiveError::Index { id, path, source: problem })
                if !self.options.offline && problem.may_have_moved() =>
            {
                ArchiveError::Index { id, path, source: problem }
            }
            Err(problem) => return Err(problem),
        };
        let anew = self.release(source)?;
        if anew.digest == verified.digest {
            return Err(problem);
        }
        let indexes = self.indexes(source, &anew).map_err(|problem| ArchiveError::Moving {
            id: source.id.clone(),
            suite: source.suite.clone(),
            source: Box::new(problem),
        })?;
        Ok((anew, indexes))
    }

    /// Fetches a small file into memory, with a few tries.
    fn read(&self, url: &str, tries: u32) -> Result<Vec<u8>, TransportError> {
        const LIMIT: u64 = 32 << 20;
        let mut pause = Duration::from_millis(250);
        let read = || {
            let read = transport::read(self.transport, url, LIMIT);
            if !read.as_ref().is_err_and(TransportError::is_cut_off) {
                self.answered.store(true, Ordering::Relaxed);
            }
            read
        };
        for _ in 1..tries {
            match read() {
                Err(problem) if problem.is_transient() => thread::sleep(pause),
                other => return other,
            }
            pause *= 2;
        }
        read()
    }

    fn advanced(&self, delta: u64) {
        self.reporter.report(Event::Advanced { phase: Phase::Archive, delta });
    }
}

/// Waits for a thread; its panic goes on in this one.
fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
