//! Why a wall could not be put up or taken down.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    error::{Cause, Class, Hint},
    host::lock::RUN,
};

/// Why the packet filter did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tool is not there.
    #[error("`nft` cannot be run")]
    Tool {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The packet filter refused.
    #[error("`nft` ended with {status}: {stderr}")]
    Refused {
        /// How it ended.
        status: String,
        /// The first lines of what it said.
        stderr: String,
    },
    /// Another change holds the lock's file, or it cannot be made.
    #[error("{} cannot be locked", .path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// What should be in the table cannot be stored.
    #[error("{} cannot be written", .path.display())]
    Store {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel does not list the host's routes.
    #[error("the host's routes cannot be read")]
    Routes {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The process that keeps the walls does not start or answer.
    #[error("the process that keeps the walls does not answer")]
    Keeper {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The process that forwards questions for names cannot listen, or ended.
    #[error("questions for names on the link {link} cannot be forwarded")]
    Forwarder {
        /// The interface.
        link: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Another process undoes each change.
    #[error("another process changes the table `inet sandbox` again and again")]
    Contested,
    /// The host passes no packets on and cannot be made to.
    #[error("IPv4 forwarding is off and cannot be turned on")]
    Forwarding {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Says that a lock of the host could not be taken.
    pub(super) fn lock(name: &str) -> impl FnOnce(io::Error) -> Self {
        let path = Path::new(RUN).join(name);
        move |source| Self::Lock { path, source }
    }
}

impl Cause for Error {
    fn class(&self) -> Class {
        Class::Host
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Tool { .. } => vec![Hint::run("install the packet filter's tool", "apt install nftables")],
            Self::Refused { .. } => {
                vec![Hint::Note("a wall needs root and nf_tables in the kernel".into())]
            }
            Self::Forwarding { .. } => {
                vec![Hint::run("turn forwarding on", "sysctl -w net.ipv4.ip_forward=1")]
            }
            Self::Keeper { .. } => {
                vec![Hint::run("see what became of it", "systemctl status sandbox-walls.service")]
            }
            Self::Contested => vec![Hint::run("see which process does", "nft monitor")],
            Self::Lock { .. } | Self::Store { .. } | Self::Routes { .. } | Self::Forwarder { .. } => {
                Vec::new()
            }
        }
    }
}
