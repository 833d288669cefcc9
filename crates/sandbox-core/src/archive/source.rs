//! What is to be opened, and how strictly.

use crate::keyring::Keyring;

/// One suite of an archive.
#[derive(Clone, Debug)]
pub struct Source {
    /// The name that errors and the lock use: `release`, `security`.
    pub id: String,
    /// Base addresses without a trailing slash, the preferred one first.
    pub mirrors: Vec<String>,
    /// The folder below `dists/`.
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
    /// Where old states of the archive are kept: a base address in which `{timestamp}` stands for the moment.
    pub snapshot: Option<String>,
}

/// How strictly; the default is the safe choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Takes a Release file whose `Valid-Until` is over: for snapshots and locks.
    pub ignore_valid_until: bool,
    /// Takes a Release file that is older than one that was seen before.
    pub allow_older_release: bool,
    /// Asks no mirror: takes the Release files and indexes that the cache kept, verified anew.
    pub offline: bool,
}
