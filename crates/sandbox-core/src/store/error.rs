//! Why a file is not in the cache.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::Checksum;
use crate::{
    error::{Cause, Class, Hint},
    host::transport::TransportError,
};

/// Why a file could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The cache's own folder or a file in it fails.
    #[error("the cache cannot {action} {}", .path.display())]
    Disk {
        /// What was being done, as a verb.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// It is not in the cache and there is nowhere to fetch it from.
    #[error("{checksum} is not in the cache, and no address of it may be asked")]
    NoAddress {
        /// What was wanted.
        checksum: Box<Checksum>,
    },
    /// It has another size than its index says.
    #[error("{url} has {found} bytes where {expected} are listed")]
    Size {
        /// Where it came from.
        url: String,
        /// What the index says.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// It has another digest than its index says.
    #[error("{url} has the digest {found} where {expected} is listed")]
    Digest {
        /// Where it came from.
        url: String,
        /// What the index says.
        expected: Box<Checksum>,
        /// What came.
        found: Box<Checksum>,
    },
    /// No address has it, or none could be reached.
    #[error(transparent)]
    Transport {
        /// The problem, which names the address.
        source: TransportError,
    },
}

/// Gives the class of what the cache's file system says: the host's own limits, or damage.
pub(crate) fn disk_class(problem: &io::Error) -> Class {
    match problem.kind() {
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::StorageFull
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::QuotaExceeded => Class::Host,
        _ => Class::State,
    }
}

impl StoreError {
    pub(super) fn disk(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Disk { action, path: path.to_path_buf(), source }
    }

    /// Tells whether the file is known not to be where it was looked for.
    #[must_use]
    pub const fn is_missing(&self) -> bool {
        matches!(self, Self::Transport { source: TransportError::Missing { .. } })
    }
}

impl Cause for StoreError {
    fn class(&self) -> Class {
        match self {
            Self::Disk { source, .. } => disk_class(source),
            Self::NoAddress { .. } => Class::Unavailable,
            Self::Size { .. } | Self::Digest { .. } => Class::Untrusted,
            Self::Transport { source } => source.class(),
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Disk { .. } => vec![Hint::Note("--cache-dir puts the cache elsewhere".into())],
            Self::NoAddress { .. } => vec![Hint::Note("run it once with the network".into())],
            Self::Size { .. } | Self::Digest { .. } => vec![Hint::Note(
                "the mirror may be in the middle of an update, or a proxy keeps old files: \
                 try again later, or another --mirror"
                    .into(),
            )],
            Self::Transport { source: TransportError::Missing { .. } } => vec![Hint::Note(
                "archives drop superseded packages: resolve anew, or use a snapshot mirror".into(),
            )],
            Self::Transport { source } => source.hints(),
        }
    }
}
