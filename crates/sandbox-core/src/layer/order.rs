//! What an order stacks, and what can be wrong with it.

use std::collections::BTreeSet;

use super::Order;
use crate::{
    digest::Sha256,
    error::{Cause, Class, Hint},
    host::runner::RunnerError,
    keyring::KeyringError,
    spec::{Kind, Layer, Packages, SCHEMA, Stacked},
};

/// What the layer of the packages is called that are asked for beside those of image and profiles.
pub(super) const INCLUDE: &str = "--include";

impl Order {
    /// Returns what is stacked: the image, the profiles, and where packages are asked for beside theirs, a last layer
    /// of these alone, so that what is below is shared with machines that do not have them.
    ///
    /// An image without profiles has them with its own, as debootstrap and mmdebstrap do: it is a tree, which shares
    /// nothing, and one run of dpkg configures both.
    #[must_use]
    pub fn stack(&self) -> Vec<Stacked> {
        let mut files = self.spec.files.clone();
        if !self.include.is_empty() && files.len() > 1 {
            let install: BTreeSet<_> = self.include.iter().cloned().collect();
            let packages = Packages { install: install.into_iter().collect(), ..Packages::default() };
            let layer = Layer { schema: SCHEMA, name: INCLUDE.to_owned(), packages, ..Layer::default() };
            files.push(Stacked {
                kind: Kind::Include,
                name: INCLUDE.to_owned(),
                origin: INCLUDE.to_owned(),
                digest: Sha256::of(self.include.join("\n").as_bytes()),
                layer,
            });
        }
        files
    }
}

/// What is wrong with an order.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// The image is not for this architecture.
    #[error("image `{image}` is for {}, not for {architecture}", known.join(" and "))]
    Architecture {
        /// The image.
        image: String,
        /// What was asked for.
        architecture: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The image has no such pocket.
    #[error("image `{image}` has no pocket `{pocket}`; it has {}", known.join(", "))]
    Pocket {
        /// The image.
        image: String,
        /// What was asked for.
        pocket: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The program ships no such keyring.
    #[error("there is no keyring `{name}` in this program")]
    Keyring {
        /// The name in the image file.
        name: String,
    },
    /// A keyring cannot be read.
    #[error("a keyring cannot be used")]
    Certificates {
        /// Why.
        #[source]
        source: KeyringError,
    },
    /// This host does not run programs of the architecture.
    #[error("this host does not run programs of {architecture}, which maintainer scripts are to be run with")]
    Foreign {
        /// What was asked for.
        architecture: String,
        /// What running one met with.
        #[source]
        source: RunnerError,
    },
    /// The key of a foreign archive cannot be read.
    #[error("the key of source `{name}` ({path}) cannot be used")]
    Key {
        /// The source.
        name: String,
        /// The file that it is from, or the file that has it in its text.
        path: String,
        /// Why.
        #[source]
        source: KeyringError,
    },
    /// A signer is not a fingerprint.
    #[error("pocket `{pocket}`: `{signer}` is not a fingerprint")]
    Signer {
        /// The pocket.
        pocket: String,
        /// What the image file says.
        signer: String,
    },
}

impl Cause for OrderError {
    fn class(&self) -> Class {
        match self {
            Self::Architecture { .. } => Class::Unavailable,
            Self::Pocket { .. } => Class::Usage,
            Self::Foreign { .. } => Class::Host,
            _ => Class::File,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Key { path, source, .. } => source.conversion(path),
            Self::Certificates { source } => source.hints(),
            Self::Foreign { .. } => vec![Hint::run(
                "install the emulator, here or on the host of this container",
                "apt install qemu-user-static binfmt-support",
            )],
            _ => Vec::new(),
        }
    }
}
