//! What no honest tree has: more than the limits of this module.

use std::{ffi::OsStr, io, os::unix::ffi::OsStrExt as _, path::PathBuf};

use super::{ATTRIBUTES, HELD, PARTS, PATH, PATHS, TEXT, ZEROS};
use crate::error::Class;

/// How much of a path an error shows.
const SHOWN: usize = 60;

/// A limit that a tree goes over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Excess {
    /// A path that is too long, or too deep.
    #[error("a path in it has more than {PATH} bytes: `/{begins}…`")]
    Path {
        /// How it begins.
        begins: String,
    },
    /// Too many paths.
    #[error("it has more than {PATHS} paths")]
    Paths,
    /// Paths that are too long together.
    #[error("its paths have more than {TEXT} bytes together")]
    Text,
    /// A file of the guest's that is too large to be read.
    #[error("/{path} has more than {limit} bytes", path = path.display())]
    File {
        /// Its path in the tree.
        path: PathBuf,
        /// The most bytes that are read of it.
        limit: u64,
    },
    /// Something in the place of a file.
    #[error("/{path} is not a regular file", path = path.display())]
    NotRegular {
        /// Its path in the tree.
        path: PathBuf,
    },
    /// Too many or too large extended attributes.
    #[error("a file has more than {ATTRIBUTES} bytes of extended attributes")]
    Attributes,
    /// Too many or too large extended attributes of directories, which are set when all is in them.
    #[error("its directories have more than {HELD} bytes of extended attributes")]
    Held,
    /// A file in too many pieces.
    #[error("a file has more than {PARTS} holes")]
    Parts,
    /// A stream whose map of holes makes no sense.
    #[error("{what}")]
    Map {
        /// What is wrong with it.
        what: &'static str,
    },
    /// Holes that would have to be written as zeros.
    #[error("a file has holes of more than {ZEROS} bytes, which would be written as zeros")]
    Zeros,
}

impl Excess {
    /// Makes the error of a path that is too long.
    #[must_use]
    pub fn path(path: &OsStr) -> Self {
        let bytes = path.as_bytes();
        Self::Path { begins: String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN)]).into_owned() }
    }
}

impl From<Excess> for io::Error {
    fn from(excess: Excess) -> Self {
        Self::new(io::ErrorKind::InvalidData, excess)
    }
}

/// Reports whether an error is that of a limit of this module.
#[must_use]
pub fn is_excess(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Excess>())
}

/// Returns the class of an error that came from a machine's tree: a tree over a limit is not to be trusted.
#[must_use]
pub fn class_of(error: &io::Error, otherwise: Class) -> Class {
    if is_excess(error) { Class::Untrusted } else { otherwise }
}
