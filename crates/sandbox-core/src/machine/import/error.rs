//! Why nothing is imported.

use std::{io, path::PathBuf};

use crate::{
    error::{Cause, Class, Hint},
    host::space,
    machine::export::NotCarried,
    tarfile::read::TarError,
};

/// Why nothing is imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It cannot be read.
    #[error("{path} cannot be read", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is of no form that is known.
    #[error("{path} is {what}", path = path.display())]
    Form {
        /// The file or folder.
        path: PathBuf,
        /// What it is instead.
        what: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// The tar file makes no sense.
    #[error("{path} is damaged", path = path.display())]
    Tar {
        /// The file.
        path: PathBuf,
        /// Why.
        source: TarError,
    },
    /// A path leads out of the tree.
    #[error("it has the path `{path}`, which leads out of the tree")]
    Escape {
        /// As it stands there.
        path: String,
    },
    /// A path names nothing that can be removed or made.
    #[error("it has `{path}`, {what}")]
    Strange {
        /// As it stands there.
        path: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A device of the host's kernel.
    #[error("it has the device `{path}`, which no machine needs in its tree")]
    Device {
        /// As it stands there.
        path: String,
    },
    /// It is larger than was allowed.
    #[error("it unpacks to more than {limit}")]
    Large {
        /// The most that it may, in words.
        limit: String,
    },
    /// The tree cannot be written.
    #[error("/{path} cannot be written into the tree")]
    Write {
        /// The path.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// There is no system in it.
    #[error("it has no init: neither /sbin/init nor systemd is in it, so no machine can boot of it")]
    NoInit,
    /// It is for another processor.
    #[error("it is for another processor: {found}; this one is {own}")]
    Processor {
        /// What it is for.
        found: String,
        /// What runs here.
        own: &'static str,
    },
    /// A blob of an image is not what its name says.
    #[error("the blob {digest} is not what its digest says")]
    Digest {
        /// The digest, as it was asked for.
        digest: String,
    },
    /// An image makes no sense.
    #[error("{file} of the image is wrong: {what}")]
    Image {
        /// Which file.
        file: String,
        /// What is wrong.
        what: String,
    },
    /// What `sandbox` wrote about the machine makes no sense.
    #[error("what it says of the machine makes no sense")]
    Carried {
        /// Why.
        source: NotCarried,
    },
}

impl Cause for ImportError {
    fn class(&self) -> Class {
        match self {
            Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => Class::Usage,
            // a link in the place of a blob
            Self::Read { source, .. } if matches!(source.raw_os_error(), Some(libc::ELOOP | libc::EXDEV)) => {
                Class::of_path(source)
            }
            Self::Read { .. } => Class::Host,
            Self::Write { source, .. } => Class::of_path(source),
            Self::Form { .. } | Self::NoInit | Self::Processor { .. } => Class::File,
            Self::Large { .. } => Class::Unavailable,
            Self::Tar { .. }
            | Self::Escape { .. }
            | Self::Strange { .. }
            | Self::Device { .. }
            | Self::Digest { .. }
            | Self::Image { .. }
            | Self::Carried { .. } => Class::Untrusted,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        let note = |text: &str| vec![Hint::Note(text.to_owned())];
        match self {
            Self::Form { hint, .. } if !hint.is_empty() => note(hint),
            Self::NoInit => vec![
                Hint::Note(
                    "images of containers have a program, not a system: put `RUN apt-get install -y systemd-sysv dbus` \
                     into the Dockerfile and export it anew"
                        .to_owned(),
                ),
                Hint::run("build a machine of the same distribution instead", "sandbox create NAME --release trixie"),
            ],
            Self::Device { .. } => vec![Hint::Note("`--devices skip` leaves devices out".to_owned())],
            Self::Large { .. } => vec![Hint::Note("`--max-size 500G` allows more".to_owned())],
            Self::Write { source, .. } => space::hint(source).into_iter().collect(),
            _ => Vec::new(),
        }
    }
}
