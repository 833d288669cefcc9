//! Why an archive is not opened.

use std::{io, path::PathBuf};

use crate::{
    deb::release::Malformed,
    error::{Cause, Class, Hint},
    host::transport::TransportError,
    keyring::KeyringError,
    store::{Checksum, StoreError, disk_class},
};

/// Why an archive could not be opened. Every variant names the source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The source has no mirror.
    #[error("source `{id}` has no mirror")]
    NoMirror {
        /// The source.
        id: String,
    },
    /// No mirror gave the Release file.
    #[error("no mirror of source `{id}` gave the Release file of `{suite}`")]
    Unreachable {
        /// The source.
        id: String,
        /// The suite.
        suite: String,
        /// The last mirror's problem.
        #[source]
        source: TransportError,
    },
    /// Without a network: the cache has no Release file of it.
    #[error("the cache keeps no Release file of source `{id}`, suite `{suite}`")]
    NotKept {
        /// The source.
        id: String,
        /// The suite.
        suite: String,
    },
    /// An archive beside the distribution's own cannot be used.
    #[error("the archive of source `{name}` cannot be used")]
    Foreign {
        /// The source.
        name: String,
        /// Why.
        source: Box<Self>,
    },
    /// The Release file is not signed by a key that may.
    #[error("the signature of {url} is not to be trusted")]
    Signature {
        /// The file.
        url: String,
        /// Why.
        #[source]
        source: KeyringError,
    },
    /// The Release file is signed but cannot be read.
    #[error("{url} is signed but malformed")]
    Malformed {
        /// The file.
        url: String,
        /// What is wrong.
        #[source]
        source: Malformed,
    },
    /// The Release file is of another suite.
    #[error("{url} is of {field} `{found}` where `{expected}` is wanted")]
    Identity {
        /// The file.
        url: String,
        /// `Suite`, `Codename`, or both.
        field: &'static str,
        /// What the source wants.
        expected: String,
        /// What the file says.
        found: String,
    },
    /// `Valid-Until` is over.
    #[error("{url} is expired since {since}")]
    Expired {
        /// The file.
        url: String,
        /// The `Valid-Until` moment, RFC 3339.
        since: String,
    },
    /// `Date` is in the future.
    #[error("{url} is dated {date}, which is in the future")]
    Future {
        /// The file.
        url: String,
        /// The `Date` moment, RFC 3339.
        date: String,
    },
    /// It is older than one that was seen before.
    #[error("{url} is dated {date}, and one of {newest} was seen before")]
    Older {
        /// The file.
        url: String,
        /// Its `Date`, RFC 3339.
        date: String,
        /// The `Date` of the newest that was seen.
        newest: String,
    },
    /// A web page came in place of a Release file.
    #[error("{url} is a web page and no Release file")]
    Page {
        /// The file.
        url: String,
    },
    /// The archive changed between the Release file and an index, and did so again.
    #[error("the archive of source `{id}`, suite `{suite}`, changes while it is read")]
    Moving {
        /// The source.
        id: String,
        /// The suite.
        suite: String,
        /// What was wrong the second time.
        #[source]
        source: Box<ArchiveError>,
    },
    /// No older state of the archive has what the lock was made of.
    #[error("no snapshot of source `{id}`, suite `{suite}`, has the state of {date}")]
    NoSnapshot {
        /// The source.
        id: String,
        /// The suite.
        suite: String,
        /// The `Date` of the lock's Release file, RFC 3339.
        date: String,
    },
    /// The Release file lists no index of a component and architecture.
    #[error(
        "source `{id}`, suite `{suite}`, has no packages of component `{component}` for `{architecture}`"
    )]
    NoIndex {
        /// The source.
        id: String,
        /// The suite.
        suite: String,
        /// The component.
        component: String,
        /// The architecture.
        architecture: String,
    },
    /// An index could not be fetched, or is not what the Release file lists.
    #[error("index `{path}` of source `{id}` could not be had")]
    Index {
        /// The source.
        id: String,
        /// Its path below the suite's folder.
        path: String,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// An index cannot be decompressed.
    #[error("index `{path}` of source `{id}` cannot be decompressed")]
    Decode {
        /// The source.
        id: String,
        /// Its path below the suite's folder.
        path: String,
        /// What the decoder says.
        #[source]
        source: io::Error,
    },
    /// An index decompresses to something other than what the Release file lists.
    #[error(
        "index `{path}` of source `{id}` decompresses to {found_size} bytes ({found}), listed are {size} ({expected})"
    )]
    Content {
        /// The source.
        id: String,
        /// Its path below the suite's folder.
        path: String,
        /// Listed bytes.
        size: u64,
        /// Bytes that came, or the limit where there were more.
        found_size: u64,
        /// Listed digest.
        expected: Box<Checksum>,
        /// Digest of what came.
        found: Box<Checksum>,
    },
    /// The Release file could not be kept for use without a network, or read back.
    #[error("the kept Release file {} fails", .path.display())]
    Kept {
        /// Where it is kept.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

impl ArchiveError {
    /// Returns whether no mirror could be connected to.
    pub(super) fn is_cut_off(&self) -> bool {
        matches!(self, Self::Unreachable { source, .. } if source.is_cut_off())
    }
}

impl Cause for ArchiveError {
    fn class(&self) -> Class {
        match self {
            Self::NoMirror { .. } => Class::File,
            Self::Unreachable { source, .. } => source.class(),
            Self::NotKept { .. } | Self::NoIndex { .. } => Class::Unavailable,
            Self::Foreign { source, .. } => source.class(),
            Self::Signature { source, .. } => source.class(),
            Self::Malformed { .. }
            | Self::Identity { .. }
            | Self::Expired { .. }
            | Self::Older { .. }
            | Self::Page { .. }
            | Self::Future { .. }
            | Self::Decode { .. }
            | Self::Content { .. } => Class::Untrusted,
            Self::Index { source, .. } => source.class(),
            Self::Moving { source, .. } => source.class(),
            Self::NoSnapshot { .. } => Class::Unreachable,
            Self::Kept { source, .. } => disk_class(source),
        }
    }

    fn hints(&self) -> Vec<Hint> {
        let note = |text: &str| vec![Hint::Note(text.to_owned())];
        match self {
            Self::Unreachable { id, source, .. } => {
                let missing = || {
                    note(
                        "check the suite's name and the mirror: releases at their end of life move to another host",
                    )
                };
                let is_missing = matches!(source, TransportError::Missing { .. });
                let hints = if is_missing { missing() } else { source.hints() };
                let locked = source.is_cut_off().then(|| Hint::Note(LOCKED.to_owned()));
                locked.into_iter().chain(hints).chain(of_pocket(id)).collect()
            }
            Self::Foreign { name, source } => of_foreign(name, source),
            Self::NotKept { .. } => note("run it once with the network"),
            Self::Signature { source, .. } => source.hints(),
            Self::Expired { url, .. } if url.starts_with("cache:") => note(
                "no mirror can be reached, and what the cache keeps is too old to be trusted: connect the network; \
                 --locked builds from a lock without lists",
            ),
            Self::Expired { .. } => note(
                "the mirror is stale or replays an old state: try another --mirror; \
                 --ignore-valid-until takes it all the same, for snapshots",
            ),
            Self::Older { .. } => note(
                "the mirror is behind or replays an old state, which would withhold security updates: \
                 try another --mirror, or again later; --allow-older-release takes it all the same",
            ),
            Self::Page { .. } => note(
                "a portal or proxy answers in the mirror's place: see what a browser shows there, or try another --mirror",
            ),
            Self::Moving { .. } => {
                note("the mirror is in the middle of an update: try again later, or another --mirror")
            }
            Self::Future { .. } => note("the clock of this host is probably wrong: set it"),
            Self::Identity { .. } => {
                note("the mirror serves another suite under this name: try another --mirror")
            }
            Self::Index { source, .. } => source.hints(),
            Self::Content { .. } | Self::Decode { .. } => note("try another --mirror"),
            Self::Kept { .. } => note("--cache-dir puts the cache elsewhere"),
            _ => Vec::new(),
        }
    }
}

/// What helps without a network.
const LOCKED: &str =
    "without a network, build from a lock whose packages are in the cache:  --locked sandbox.lock";

/// Says what to do about an archive that the user named: no option of this program's gives another mirror of it.
fn of_foreign(name: &str, problem: &ArchiveError) -> Vec<Hint> {
    let note = |text: String| vec![Hint::Note(text)];
    match problem {
        ArchiveError::Unreachable { source: TransportError::Missing { .. }, .. } => {
            note(format!("check URIs, Suites and Components of source `{name}`"))
        }
        ArchiveError::Signature { source: KeyringError::NoGoodSignature { .. }, .. } => note(format!(
            "take the present key of source `{name}` from its owner; a key by SHA-1, DSA or a rare curve is theirs \
             to replace"
        )),
        ArchiveError::Signature { .. } | ArchiveError::Page { .. } => note(format!(
            "something else answers in the place of source `{name}`: see what a browser shows there"
        )),
        ArchiveError::Expired { .. } => {
            note("its owner has to renew it; --ignore-valid-until accepts it".to_owned())
        }
        ArchiveError::Older { .. } => note(
            "its owner may have rolled back to an older state; --allow-older-release accepts it".to_owned(),
        ),
        ArchiveError::Moving { .. } | ArchiveError::Index { .. } | ArchiveError::Content { .. } => {
            note(format!("source `{name}` may be in the middle of an update: try again later"))
        }
        ArchiveError::Identity { .. } | ArchiveError::Malformed { .. } | ArchiveError::Decode { .. } => {
            note(format!("only the owner of source `{name}` can mend it: leave it out, or report it to them"))
        }
        other => other.hints(),
    }
}

/// Says how to go on without a pocket whose mirror does not answer; every image has the pocket `release`.
fn of_pocket(id: &str) -> Vec<Hint> {
    if id == "release" || id.contains(crate::lock::FOREIGN) {
        return Vec::new();
    }
    let mirror = if id == "security" { "--mirror security=URL" } else { "--mirror URL" };
    vec![
        Hint::run(format!("name a mirror that has the pocket `{id}`"), mirror),
        Hint::run("build without further pockets", "--pocket none"),
    ]
}
