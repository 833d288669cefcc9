//! The signed Release file of one source: fetched, verified, checked for identity and dates.

use super::{
    ArchiveError, Opening, Source,
    kept::{self, Raw},
};
use crate::{deb::release::Release, digest::Sha256, host::transport::TransportError, report::Event};

/// How far a Release file's `Date` may lie in the future, for clocks that differ.
///
/// **Units**: seconds.
const SKEW: i64 = 3600;

/// A Release file that may be believed.
pub(super) struct Verified {
    pub(super) release: Release,
    pub(super) digest: Sha256,
    pub(super) signer: String,
    pub(super) kept: bool,
    /// The mirrors in the order in which to ask: the one first that gave the Release file. None offline.
    pub(super) mirrors: Vec<String>,
}

impl Opening<'_> {
    /// Gets the Release file from the first mirror whose one may be believed, or from the cache when offline.
    pub(super) fn release(&self, source: &Source) -> Result<Verified, ArchiveError> {
        if self.options.offline {
            return self.recalled(source);
        }
        let mut told = None;
        for (at, mirror) in source.mirrors.iter().enumerate() {
            match self.ask(source, mirror) {
                Ok((mut verified, raw)) => {
                    self.keep(source, &verified, &raw)?;
                    verified.mirrors.clone_from(&source.mirrors);
                    verified.mirrors[..=at].rotate_right(1);
                    return Ok(verified);
                }
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

    fn ask(&self, source: &Source, mirror: &str) -> Result<(Verified, Raw), ArchiveError> {
        let base = source.base(mirror);
        let failed = |problem| ArchiveError::Unreachable {
            id: source.id.clone(),
            suite: source.suite.clone(),
            source: problem,
        };
        let raw = match self.read(&format!("{base}/InRelease")) {
            Ok(bytes) => Raw::Inline(bytes),
            Err(TransportError::Missing { .. }) => Raw::Detached {
                text: self.read(&format!("{base}/Release")).map_err(failed)?,
                signature: self.read(&format!("{base}/Release.gpg")).map_err(failed)?,
            },
            Err(problem) => return Err(failed(problem)),
        };
        let verified = self.verified(source, &raw, &base)?;
        Ok((verified, raw))
    }

    /// Keeps the newest Release file that was seen, and says so when a mirror goes back behind it: stable suites
    /// have no `Valid-Until`, and a replayed one would withhold security updates unseen.
    fn keep(&self, source: &Source, verified: &Verified, raw: &Raw) -> Result<(), ArchiveError> {
        let before = kept::recall(self.store, source)?;
        let newest = before.and_then(|before| self.verified(source, &before, "cache:").ok());
        match newest {
            Some(newest) if newest.release.date > verified.release.date => {
                let text = format!(
                    "the mirror of {} is behind: its Release file is of {}, one of {} was seen before",
                    source.suite,
                    moment(verified.release.date),
                    moment(newest.release.date),
                );
                self.reporter.report(Event::Warning { text });
                Ok(())
            }
            _ => kept::keep(self.store, source, raw),
        }
    }

    fn recalled(&self, source: &Source) -> Result<Verified, ArchiveError> {
        let raw = kept::recall(self.store, source)?
            .ok_or_else(|| ArchiveError::NotKept { id: source.id.clone(), suite: source.suite.clone() })?;
        let verified = self.verified(source, &raw, &format!("cache:{}", source.suite))?;
        Ok(Verified { kept: true, ..verified })
    }

    fn verified(&self, source: &Source, raw: &Raw, base: &str) -> Result<Verified, ArchiveError> {
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
        let signed = signed.map_err(|source| ArchiveError::Signature { url: url.clone(), source })?;
        let release = Release::parse(&signed.text)
            .map_err(|source| ArchiveError::Malformed { url: url.clone(), source })?;
        identity(source, &release, &url)?;
        self.dates(&release, &url)?;
        Ok(Verified {
            digest: Sha256::of(&signed.text),
            signer: signed.signer.to_string(),
            release,
            kept: false,
            mirrors: Vec::new(),
        })
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
    // a flat archive is one suite, whatever it calls itself
    if source.is_flat() {
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

fn moment(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| format!("@{seconds}"), |moment| moment.to_string())
}
