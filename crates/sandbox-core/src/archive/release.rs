//! The signed Release file of one source: fetched, verified, checked for identity and dates.

use std::time::Instant;

use super::{
    ArchiveError, Opening, Source,
    kept::{self, Raw},
};
use crate::{
    deb::release::Release,
    digest::Sha256,
    host::{parallel::parallel, transport::TransportError},
    report::Event,
};

/// How far a Release file's `Date` may lie in the future, for clocks that differ.
///
/// **Units**: seconds.
const SKEW: i64 = 3600;

/// How often the last mirror is asked where it stalls or breaks off; those before it are asked once, as it is
/// quicker to ask the next.
pub(super) const TRIES: u32 = 3;

/// A Release file that may be believed.
pub(super) struct Verified {
    pub(super) release: Release,
    pub(super) digest: Sha256,
    pub(super) signer: String,
    pub(super) kept: bool,
    /// Whether a guessed mirror gave it, which is then the only one.
    pub(super) guessed: bool,
    /// The mirrors in the order in which to ask: the one first that gave the Release file. None offline.
    pub(super) mirrors: Vec<String>,
    /// The mirror answers so fast that fewer seconds of decoding are worth more bytes.
    pub(super) near: bool,
}

/// How many guesses are asked at once.
const GUESSES: usize = 8;

/// From which rate on a mirror is near: at it, what gzip has more in bytes than xz takes as long to come as xz
/// takes longer to decode.
///
/// **Units**: bytes in a second.
pub(super) const NEAR: f64 = 8e6;

impl Opening<'_> {
    /// Gets the Release file from the first mirror whose one may be believed, or from the cache when offline.
    ///
    /// A mirror that is behind what was seen before is passed over: stable suites have no `Valid-Until`, and a
    /// replayed Release file would withhold security updates unseen. Mirrors differ in freshness, so that the
    /// next one may well be up to date.
    pub(super) fn release(&self, source: &Source) -> Result<Verified, ArchiveError> {
        if self.options.offline {
            return self.recalled(source);
        }
        let newest = self.newest_seen(source)?;
        let (guessed, silent) = self.guessed(source, newest.as_ref());
        if let Some(guessed) = guessed {
            self.report_silent(silent);
            return Ok(guessed);
        }
        let mut told = None;
        for (at, mirror) in source.mirrors.iter().enumerate() {
            let last = at + 1 == source.mirrors.len();
            let asked = self.ask(source, mirror, if last { TRIES } else { 1 });
            match asked
                .and_then(|(verified, raw, url)| self.keep(source, newest.as_ref(), verified, &raw, &url))
            {
                Ok(mut verified) => {
                    self.report_silent(silent);
                    verified.mirrors.clone_from(&source.mirrors);
                    verified.mirrors[..=at].rotate_right(1);
                    return Ok(verified);
                }
                Err(problem @ ArchiveError::Kept { .. }) => return Err(problem),
                // A mirror that cannot be believed is graver than one that cannot be reached.
                Err(problem) => {
                    if !matches!((&told, &problem), (Some(_), ArchiveError::Unreachable { .. })) {
                        told = Some(problem);
                    }
                }
            }
        }
        Err(told.unwrap_or_else(|| ArchiveError::NoMirror { id: source.id.clone() }))
    }

    /// Reports the guesses that cannot be reached: they may well be mirrors. Where nothing can be, that says it all.
    fn report_silent(&self, silent: Vec<String>) {
        for text in silent {
            self.reporter.report(Event::Notice { text });
        }
    }

    /// Asks all guesses, and returns the Release file of the first that is believed, with all that are believed as
    /// the mirrors; none where none is. Those that cannot be reached are given in words.
    fn guessed(&self, source: &Source, newest: Option<&Verified>) -> (Option<Verified>, Vec<String>) {
        let asked = parallel(&source.guesses, GUESSES, |mirror| {
            let (verified, raw, url) = self.ask(source, mirror, 1)?;
            self.keep(source, newest, verified, &raw, &url)
        });
        let (mut first, mut silent): (Option<Verified>, _) = (None, Vec::new());
        for (mirror, answer) in source.guesses.iter().zip(asked) {
            match answer {
                Ok(verified) => {
                    let first = first.get_or_insert(Verified { guessed: true, ..verified });
                    first.mirrors.push(mirror.clone());
                }
                Err(ArchiveError::Unreachable {
                    source: problem @ TransportError::Unreachable { .. },
                    ..
                }) => {
                    silent.push(format!("{mirror} may be a mirror and is not used: {problem}"));
                }
                Err(_) => {}
            }
        }
        (first, silent)
    }

    /// Asks one mirror, at most `tries` times.
    pub(super) fn ask(
        &self,
        source: &Source,
        mirror: &str,
        tries: u32,
    ) -> Result<(Verified, Raw, String), ArchiveError> {
        let base = source.base(mirror);
        let failed = |problem| ArchiveError::Unreachable {
            id: source.id.clone(),
            suite: source.suite.clone(),
            source: problem,
        };
        let begun = Instant::now();
        let raw = match self.read(&format!("{base}/InRelease"), tries) {
            Ok(bytes) => Raw::Inline(bytes),
            Err(TransportError::Missing { .. }) => Raw::Detached {
                text: self.read(&format!("{base}/Release"), tries).map_err(failed)?,
                signature: self.read(&format!("{base}/Release.gpg"), tries).map_err(failed)?,
            },
            Err(problem) => return Err(failed(problem)),
        };
        let bytes = match &raw {
            Raw::Inline(bytes) => bytes.len(),
            Raw::Detached { text, signature } => text.len() + signature.len(),
        };
        let near = bytes as f64 > NEAR * begun.elapsed().as_secs_f64();
        let (verified, url) = self.believed(source, &raw, &base)?;
        let verified = Verified { near, ..verified };
        self.dates(&verified.release, &url)?;
        self.warn_of_odd(source, &verified.release, &url);
        Ok((verified, raw, url))
    }

    /// Says what is accepted of a foreign archive and weakens what its signature is worth, as apt does.
    fn warn_of_odd(&self, source: &Source, release: &Release, url: &str) {
        if !source.is_foreign {
            return;
        }
        let warn = |text: String| self.reporter.report(Event::Warning { text });
        if release.date == 0 {
            warn(format!("{url} has no date that can be read: an older state of the archive is not noticed"));
        }
        let names: Vec<&str> =
            [&release.suite, &release.codename].into_iter().flatten().map(String::as_str).collect();
        if !source.is_flat() && !names.is_empty() && !names.contains(&source.suite.as_str()) {
            warn(format!("{url} is of the suite `{}`, not `{}`", names.join("`, `"), source.suite));
        }
    }

    /// Keeps the newest Release file that was seen, and refuses one that is older.
    fn keep(
        &self,
        source: &Source,
        newest: Option<&Verified>,
        verified: Verified,
        raw: &Raw,
        url: &str,
    ) -> Result<Verified, ArchiveError> {
        let Some(newest) = newest.filter(|newest| newest.release.date > verified.release.date) else {
            kept::keep(self.store, source, raw)?;
            return Ok(verified);
        };
        let older = ArchiveError::Older {
            url: url.to_owned(),
            date: moment(verified.release.date),
            newest: moment(newest.release.date),
        };
        if !self.options.allow_older_release {
            return Err(older);
        }
        self.reporter.report(Event::Warning { text: older.to_string() });
        Ok(verified)
    }

    /// Gives the newest Release file that was seen and is still believed, whatever its dates are now.
    fn newest_seen(&self, source: &Source) -> Result<Option<Verified>, ArchiveError> {
        let seen = kept::recall(self.store, source)?;
        let believed = seen.iter().filter_map(|raw| self.believed(source, raw, "cache:").ok());
        Ok(believed.map(|(verified, _)| verified).max_by_key(|verified| verified.release.date))
    }

    fn recalled(&self, source: &Source) -> Result<Verified, ArchiveError> {
        let base = format!("cache:{}", source.suite);
        let mut told = None;
        let mut found: Option<Verified> = None;
        for raw in kept::recall(self.store, source)? {
            match self.believed(source, &raw, &base) {
                Ok((verified, _))
                    if found.as_ref().is_some_and(|found| found.release.date >= verified.release.date) => {}
                Ok((verified, _)) => found = Some(verified),
                Err(problem) => told = Some(problem),
            }
        }
        match (found, told) {
            (Some(verified), _) => {
                self.dates(&verified.release, &base)?;
                Ok(Verified { kept: true, ..verified })
            }
            (None, Some(problem)) => Err(problem),
            (None, None) => Err(ArchiveError::NotKept { id: source.id.clone(), suite: source.suite.clone() }),
        }
    }

    /// Believes a Release file that is signed and of the suite, whatever its dates.
    fn believed(&self, source: &Source, raw: &Raw, base: &str) -> Result<(Verified, String), ArchiveError> {
        let (url, signed) = match raw {
            Raw::Inline(bytes) => {
                self.advanced(bytes.len() as u64);
                (format!("{base}/InRelease"), source.keyring.verify_inline(bytes, self.now))
            }
            Raw::Detached { text, signature } => {
                self.advanced((text.len() + signature.len()) as u64);
                (format!("{base}/Release"), source.keyring.verify_detached(text, signature, self.now))
            }
        };
        let signed = signed.map_err(|source| match raw {
            Raw::Inline(bytes) if bytes.trim_ascii_start().starts_with(b"<") => {
                ArchiveError::Page { url: url.clone() }
            }
            _ => ArchiveError::Signature { url: url.clone(), source },
        })?;
        let parse = if source.is_foreign { Release::parse_foreign } else { Release::parse };
        let release =
            parse(&signed.text).map_err(|source| ArchiveError::Malformed { url: url.clone(), source })?;
        identity(source, &release, &url)?;
        let verified = Verified {
            digest: Sha256::of(&signed.text),
            signer: signed.signer.to_string(),
            release,
            kept: false,
            guessed: false,
            mirrors: Vec::new(),
            near: false,
        };
        Ok((verified, url))
    }

    fn dates(&self, release: &Release, url: &str) -> Result<(), ArchiveError> {
        if release.date > self.now.saturating_add(SKEW) {
            return Err(ArchiveError::Future { url: url.to_owned(), date: moment(release.date) });
        }
        match release.valid_until {
            Some(until) if until < self.now && !self.options.ignore_valid_until => {
                Err(ArchiveError::Expired { url: url.to_owned(), since: moment(until) })
            }
            _ => Ok(()),
        }
    }
}

/// Checks that the file is of the suite that was asked for: a signature alone would let a mirror answer with
/// another suite of the same archive.
fn identity(source: &Source, release: &Release, url: &str) -> Result<(), ArchiveError> {
    let (suite, codename) =
        (release.suite.as_deref().unwrap_or_default(), release.codename.as_deref().unwrap_or_default());
    let wrong = |field, expected: &str, found: String| {
        Err(ArchiveError::Identity { url: url.to_owned(), field, expected: expected.to_owned(), found })
    };
    // a flat archive is one suite, whatever it calls itself, and a foreign one was named with its key by the user
    if source.is_flat() || source.is_foreign {
        return Ok(());
    }
    if let Some(expected) = source.expect_codename.as_deref().filter(|expected| *expected != codename) {
        return wrong("Codename", expected, codename.to_owned());
    }
    if let Some(expected) = source.expect_suite.as_deref().filter(|expected| *expected != suite) {
        return wrong("Suite", expected, suite.to_owned());
    }
    let unnamed = source.expect_codename.is_none() && source.expect_suite.is_none();
    if unnamed && ![suite, codename].contains(&source.suite.as_str()) {
        return wrong("Suite or Codename", &source.suite, format!("{suite}, {codename}"));
    }
    Ok(())
}

pub(super) fn moment(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| format!("@{seconds}"), |moment| moment.to_string())
}
