//! What is done where no mirror can be reached: the lists of the cache are read.
//!
//! That is done only where every source is cut off, and no address that may be a mirror answers. Where one of them does,
//! another that does not is an error as ever: one who can keep a mirror of security updates from answering is not to have an older list taken in silence.
//! A kept list is verified again, and one past its `Valid-Until` is refused.

use super::{Archive, ArchiveError, Opened, Opening, Options, Source};

/// Returns whether no mirror of any source could be reached.
pub(super) fn is_cut_off(opened: &[Opened]) -> bool {
    let cut_off = |one: &Opened| one.as_ref().err().is_some_and(ArchiveError::is_cut_off);
    !opened.is_empty() && opened.iter().all(cut_off)
}

impl Opening<'_> {
    /// Opens sources from the cache; where that has not all of them, what came of asking stands.
    pub(super) fn all_kept(&self, sources: &[Source], asked: Vec<Opened>) -> Vec<Opened> {
        let options = Options { offline: true, ..*self.options };
        let kept = Opening { options: &options, ..*self }.all(sources);
        // that one is too old says more than that there is no network
        let says_more = |one: &Opened| one.is_ok() || matches!(one, Err(ArchiveError::Expired { .. }));
        if kept.iter().all(says_more) { kept } else { asked }
    }
}

impl Archive {
    /// Returns in words which lists are of the cache: `the package lists of 2026-11-29 (trixie, trixie-security)`;
    /// none where all are of mirrors.
    #[must_use]
    pub fn old(&self) -> Option<String> {
        let kept: Vec<_> = self.releases.iter().filter(|release| release.kept).collect();
        let oldest = kept.iter().map(|release| release.date).min()?;
        let day = jiff::Timestamp::from_second(oldest).unwrap_or_default().strftime("%Y-%m-%d");
        let suites: Vec<_> = kept.iter().map(|release| release.suite.as_str()).collect();
        Some(format!("the package lists of {day} ({})", suites.join(", ")))
    }
}
