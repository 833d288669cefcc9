//! Why a machine does not become a container of Proxmox VE.

use std::{io, path::PathBuf};

use super::config::Unfit;
use crate::{
    error::{Cause, Class, Hint},
    host::runner::RunnerError,
};

/// Why a machine does not become a container of Proxmox VE.
#[derive(Debug, thiserror::Error)]
pub enum ProxmoxError {
    /// This is no node.
    #[error("this host is no node of Proxmox VE: there is no /etc/pve")]
    NoNode,
    /// It is nothing that a container can be.
    #[error("{0}")]
    Unfit(#[from] Unfit),
    /// The filter is off.
    #[error("the packet filter of this cluster is off, so that no wall would stand around the container")]
    FilterOff,
    /// A program of Proxmox did not do it.
    #[error("Proxmox did not do it")]
    Program {
        /// What it said.
        source: RunnerError,
    },
    /// A program of Proxmox said what is not understood.
    #[error("`{command}` said `{said}`, which is not understood")]
    Said {
        /// The program.
        command: &'static str,
        /// What it said.
        said: String,
    },
    /// A file cannot be written.
    #[error("{path} cannot be written", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Cause for ProxmoxError {
    fn class(&self) -> Class {
        match self {
            Self::Unfit(_) => Class::Unavailable,
            _ => Class::Host,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::NoNode => {
                vec![Hint::run("write a template, and upload that", "sandbox export NAME --format proxmox")]
            }
            Self::FilterOff => vec![
                Hint::Note("Datacenter, Firewall, Options, Firewall: Yes".to_owned()),
                Hint::run(
                    "have it reach whatever the node's network reaches",
                    "sandbox set NAME --network open",
                ),
            ],
            _ => Vec::new(),
        }
    }
}
