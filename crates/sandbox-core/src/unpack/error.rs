//! Why a package is not in the tree.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    deb::archive::DebError,
    error::{Cause, Class, Hint},
    host::space,
};

/// Why a package is not in the tree.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// Its file in the cache cannot be read.
    #[error("package `{package}` cannot be read from {path}", path = path.display())]
    Read {
        /// The package.
        package: String,
        /// Its file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its file is no package.
    #[error("package `{package}` is malformed")]
    Malformed {
        /// The package.
        package: String,
        /// Why.
        #[source]
        source: DebError,
    },
    /// Its control file says that it is another package.
    #[error("package `{package}` says of itself that its {field} is `{found}`, not `{wanted}`")]
    Identity {
        /// The package.
        package: String,
        /// The control field.
        field: &'static str,
        /// What it says.
        found: String,
        /// What the index said.
        wanted: String,
    },
    /// A path that no package may have.
    #[error("package `{package}` has the path `{path}`, which leads out of the tree")]
    Escape {
        /// The package.
        package: String,
        /// The path, as the archive has it.
        path: String,
    },
    /// A path that is no name of a file.
    #[error("package `{package}` has the path `{path}`, which {problem}")]
    Name {
        /// The package.
        package: String,
        /// The path, as the archive has it, what cannot be shown replaced.
        path: String,
        /// `is not UTF-8`, `has a control character`, `is too long for any file system`.
        problem: &'static str,
    },
    /// A device node.
    ///
    /// **Source**: Debian Policy §10.6.
    #[error("package `{package}` has `{path}` as a device node, which no package may have")]
    Device {
        /// The package.
        package: String,
        /// The path.
        path: String,
    },
    /// A path that another package has as something else.
    #[error("package `{package}` has `{path}`, which another package has as something else")]
    Collision {
        /// The package.
        package: String,
        /// The path.
        path: String,
    },
    /// A path that a profile has put a file at.
    #[error("package `{package}` has `{path}`, where profile `{profile}` has put a file of its own")]
    Reserved {
        /// The package.
        package: String,
        /// The path.
        path: String,
        /// The profile.
        profile: String,
    },
    /// An entry of a kind that no package may have.
    #[error("package `{package}` has `{path}` as an entry of kind `{kind}`")]
    Kind {
        /// The package.
        package: String,
        /// The path.
        path: String,
        /// tar's letter.
        kind: String,
    },
    /// Its archive breaks off or is malformed.
    #[error("the files of package `{package}` cannot be read")]
    Data {
        /// The package.
        package: String,
        /// Why.
        source: io::Error,
    },
    /// The file system refused.
    #[error("`{path}` of package `{package}` cannot be made")]
    Write {
        /// The package.
        package: String,
        /// The path.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The tree itself cannot be worked in.
    #[error("{path} cannot be made", path = path.display())]
    Tree {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl UnpackError {
    /// Makes an error of the tree itself.
    pub(super) fn tree(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Tree { path, source }
    }
}

impl Cause for UnpackError {
    fn class(&self) -> Class {
        match self {
            Self::Read { .. } | Self::Tree { .. } => Class::Host,
            Self::Write { source, .. } => Class::of_path(source),
            Self::Reserved { .. } => Class::File,
            _ => Class::Untrusted,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Write { source, .. } | Self::Tree { source, .. } => {
                space::hint(source).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }
}
