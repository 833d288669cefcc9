//! Why LXC could not do what was asked.

use std::{io, path::PathBuf};

use super::idmap;
use crate::{
    error::{Cause, Class, Hint},
    machine::{direct::DirectError, mounts::MountError, network, nspawn},
};

/// Why the LXC backend failed.
#[derive(Debug, thiserror::Error)]
pub enum LxcError {
    /// The host has no LXC.
    #[error("LXC is not installed")]
    Absent,
    /// The host's LXC is too old.
    #[error("LXC {version} is older than 5.0, which brought mounts with shifted ids")]
    Old {
        /// Its version.
        version: String,
    },
    /// The user's root has no ids to give.
    #[error("root has no free range of {} ids in /etc/subuid and /etc/subgid", idmap::SIZE)]
    NoIds,
    /// What is asked for cannot be had with this backend.
    #[error("the backend `lxc` has no {what}: {why}")]
    Refused {
        /// What was asked for.
        what: String,
        /// Why not.
        why: &'static str,
    },
    /// A container of that name is there that we did not make.
    #[error("{path} is there already, and `sandbox` did not make it", path = path.display())]
    Foreign {
        /// Its configuration.
        path: PathBuf,
    },
    /// LXC runs the container, but not from our configuration.
    #[error("LXC says that it is {state}, and it was not started from the configuration of `sandbox`")]
    Running {
        /// LXC's word.
        state: String,
    },
    /// A program of LXC's failed.
    #[error("`{command}` failed: {said}")]
    Tool {
        /// Its argv, joined.
        command: String,
        /// The end of what it wrote.
        said: String,
    },
    /// The container did not start.
    #[error("it did not start; the end of {log}:\n{tail}", log = log.display())]
    Ended {
        /// The log.
        log: PathBuf,
        /// Its end, and that of what lxc-start wrote.
        tail: String,
    },
    /// It was not there in time.
    #[error("it had no first process after {seconds} s; the end of {log}:\n{tail}", log = log.display())]
    Slow {
        /// The deadline.
        seconds: u64,
        /// The log.
        log: PathBuf,
        /// Its end.
        tail: String,
    },
    /// It is still there after it was stopped by force.
    #[error("LXC still says `{state}` after it was stopped by force")]
    Stuck {
        /// LXC's word.
        state: String,
    },
    /// A file cannot be read, written or removed.
    #[error("{path}: {doing} failed", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The wall was not put up or taken down.
    #[error("the machine's firewall rules could not be changed")]
    Wall(#[source] network::Error),
    /// The link or the note of what runs cannot be had.
    #[error("the machine's link or run could not be looked after")]
    Link(#[source] DirectError),
    /// A directory of the host cannot be mounted in it.
    #[error(transparent)]
    Mount(MountError),
    /// networkd would take the link's address away.
    #[error("systemd-networkd could not be told to leave the machine's link alone")]
    Networkd(#[source] nspawn::Error),
}

impl Cause for LxcError {
    fn class(&self) -> Class {
        match self {
            Self::Refused { .. } => Class::Usage,
            Self::Foreign { .. } | Self::Running { .. } | Self::Ended { .. } | Self::Slow { .. } => {
                Class::Unavailable
            }
            Self::Wall(source) => source.class(),
            Self::Link(source) => source.class(),
            Self::Networkd(source) => source.class(),
            Self::Mount(source) => source.class(),
            _ => Class::Host,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Absent => vec![Hint::run("install it", "apt-get install lxc")],
            Self::Old { .. } => {
                vec![Hint::Note("the backend `nspawn` needs no LXC: --backend nspawn".into())]
            }
            Self::NoIds => vec![Hint::run("give root ids for machines", idmap::COMMAND)],
            Self::Refused { .. } => {
                vec![Hint::Note("the backends nspawn and direct have it: --backend nspawn".into())]
            }
            Self::Foreign { path } => {
                let name = path.parent().and_then(|folder| folder.file_name()).unwrap_or_default();
                vec![Hint::run("look at it", format!("lxc-info -n {}", name.to_string_lossy()))]
            }
            Self::Wall(source) => source.hints(),
            Self::Link(source) => source.hints(),
            Self::Networkd(source) => source.hints(),
            Self::Mount(source) => source.hints(),
            _ => Vec::new(),
        }
    }
}

/// Names what the file system refused.
pub(super) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> LxcError {
    let path = path.into();
    move |source| LxcError::Io { path, doing, source }
}
