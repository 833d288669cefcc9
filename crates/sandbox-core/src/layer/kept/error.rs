//! What can be wrong with kept layers.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    error::{Cause, Class, Hint},
    host::live,
};

/// Why a layer cannot be kept, found, laid out or removed.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The file system refused.
    #[error("{path}: {doing} failed", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A layer is not as it was written.
    #[error("layer {id} is damaged")]
    Damaged {
        /// The layer's short name.
        id: String,
        /// Why.
        source: io::Error,
    },
    /// There is no such layer.
    #[error("there is no layer `{wanted}`")]
    Missing {
        /// What was asked for.
        wanted: String,
    },
    /// A name that begins several layers' ids.
    #[error("`{wanted}` begins the names of several layers: {}", found.join(", "))]
    Ambiguous {
        /// What was asked for.
        wanted: String,
        /// What there is.
        found: Vec<String>,
    },
    /// A layer that something needs.
    #[error("layer {id} (`{name}`) is needed by {}", by.join(", "))]
    Needed {
        /// The layer's short name.
        id: String,
        /// The profile's or image's name.
        name: String,
        /// Machines, locks, layers, builds.
        by: Vec<String>,
    },
}

impl LayerError {
    /// Says what was being done to a path.
    pub(super) fn io(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, doing, source }
    }
}

impl Cause for LayerError {
    fn class(&self) -> Class {
        match self {
            Self::Io { source, .. } => live::class_of(source, Class::Host),
            Self::Damaged { .. } => Class::State,
            Self::Ambiguous { .. } => Class::Usage,
            Self::Missing { .. } | Self::Needed { .. } => Class::Unavailable,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Damaged { id, .. } => {
                vec![Hint::run("have it built anew", format!("sandbox layer remove {id}"))]
            }
            Self::Missing { .. } | Self::Ambiguous { .. } | Self::Needed { .. } => {
                vec![Hint::run("see which there are, and who needs them", "sandbox layer list")]
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                vec![Hint::run("remove layers that nothing needs", "sandbox layer prune")]
            }
            Self::Io { .. } => Vec::new(),
        }
    }
}
