//! Why a machine is not exported.

use std::{io, path::PathBuf};

use crate::{
    error::{Cause, Class, Hint},
    host::{live, space},
    layer::{
        kept::LayerError,
        scan::{Finding, ScanError},
    },
    name::MachineName,
    output::OutputError,
};

/// Why a machine is not exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It runs.
    #[error("it runs")]
    Running {
        /// Its name.
        name: MachineName,
    },
    /// The file or folder is there already.
    #[error("{path} is there already", path = path.display())]
    Taken {
        /// Which.
        path: PathBuf,
    },
    /// Another process writes it.
    #[error("{path} is being written by another process", path = path.display())]
    Busy {
        /// Which.
        path: PathBuf,
    },
    /// There are logins in the tree.
    #[error("{}", ScanError::Found { found: found.clone() })]
    Logins {
        /// Which.
        found: Vec<Finding>,
        /// The machine.
        name: MachineName,
    },
    /// Something in the tree cannot be read.
    #[error("/{path} cannot be read", path = path.display())]
    Read {
        /// The path in the tree.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The form has no place for something.
    #[error("/{path} has a name that means in an OCI image that something is removed", path = path.display())]
    Whiteout {
        /// The path in the tree.
        path: PathBuf,
    },
    /// What is made cannot be written.
    #[error("{path} cannot be written", path = path.display())]
    Write {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The program of the host that writes the format fails, or is missing.
    #[error("the image cannot be written")]
    Image {
        /// Why.
        #[source]
        source: OutputError,
    },
    /// A layer that the machine was made of cannot be read.
    #[error("a layer that it was made of cannot be read")]
    Layer {
        /// Why.
        source: LayerError,
    },
}

impl Cause for ExportError {
    fn class(&self) -> Class {
        match self {
            Self::Running { .. } | Self::Taken { .. } | Self::Busy { .. } | Self::Whiteout { .. } => {
                Class::Unavailable
            }
            Self::Logins { .. } => Class::Untrusted,
            Self::Layer { .. } => Class::State,
            Self::Read { source, .. } => live::class_of(source, Class::Host),
            Self::Image { source } => source.class(),
            Self::Write { .. } => Class::Host,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Running { name } => vec![
                Hint::run("shut it down for as long as it takes", format!("sandbox export {name} --stop")),
                Hint::run("take it as it is, as after a crash", format!("sandbox export {name} --live")),
            ],
            Self::Logins { name, .. } => vec![
                Hint::Note(
                    "whoever gets the file can use them; log out in the machine, or remove them".to_owned(),
                ),
                Hint::run("have them in the file", format!("sandbox export {name} --allow-credentials")),
            ],
            Self::Write { source, .. } => space::hint(source).into_iter().collect(),
            Self::Image { source } => source.hints(),
            Self::Whiteout { .. } => {
                vec![Hint::Note("the form `tar.zst` has a place for it".to_owned())]
            }
            _ => Vec::new(),
        }
    }
}
