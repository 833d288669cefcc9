//! What is to be opened, and how strictly.

use crate::keyring::Keyring;

/// One suite of an archive.
#[derive(Clone, Debug)]
pub struct Source {
    /// The name that errors and the lock use: `release`, `security`.
    pub id: String,
    /// Base addresses without a trailing slash, the preferred one first.
    pub mirrors: Vec<String>,
    /// Addresses that may be mirrors, asked before the others, all at once: those whose Release file is believed are
    /// then the only ones.
    pub guesses: Vec<String>,
    /// The folder below `dists/`; with a slash at the end, of a flat archive, below the base address itself.
    pub suite: String,
    /// What the Release file's `Codename` must be.
    pub expect_codename: Option<String>,
    /// What the Release file's `Suite` must be.
    ///
    /// Where neither is given, one of the two fields must equal `suite`.
    pub expect_suite: Option<String>,
    /// Which components to read.
    pub components: Vec<String>,
    /// Debian architecture.
    pub architecture: String,
    /// The certificates that may sign, already pinned.
    pub keyring: Keyring,
    /// Whether it is an archive beside the distribution's own, which is read as apt reads it: see
    /// docs/design/0027-foreign-archives.md.
    pub is_foreign: bool,
    /// Where old states of the archive are kept: a base address in which `{timestamp}` stands for the moment.
    pub snapshot: Option<String>,
}

impl Source {
    /// Tells whether the archive is flat: one index, beside the Release file, and no components.
    ///
    /// **Source**: sources.list(5), "exact path".
    #[must_use]
    pub fn is_flat(&self) -> bool {
        self.suite.ends_with('/')
    }

    /// Gives the folder of the Release file on a mirror, without a trailing slash.
    pub(super) fn base(&self, mirror: &str) -> String {
        match self.suite.trim_start_matches("./").trim_matches('/') {
            _ if !self.is_flat() => format!("{mirror}/dists/{}", self.suite),
            "" | "." => mirror.to_owned(),
            path => format!("{mirror}/{path}"),
        }
    }
}

/// Sees an index while it is decoded, to make use of the time.
///
/// Its compressed form was seen to be what the Release file lists; the decoded text was not yet.
pub trait Early: Sync {
    /// Takes the next piece of an index of a source, by the index's path: those of several components are decoded
    /// side by side. It must not block for long.
    fn piece(&self, source: &Source, path: &str, piece: &[u8]);
}

/// How strictly; the default is the safe choice.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// Who sees indexes while they are decoded.
    pub early: Option<&'a dyn Early>,
    /// Takes a Release file whose `Valid-Until` is over: for snapshots and locks.
    pub ignore_valid_until: bool,
    /// Takes a Release file that is older than one that was seen before.
    pub allow_older_release: bool,
    /// Asks no mirror: takes the Release files and indexes that the cache kept, verified anew.
    pub offline: bool,
}
