//! Where a container of Proxmox VE is, and how its cluster is reached.

use std::{fs, path::PathBuf};

use super::{error::ProxmoxError, token::Token};
use crate::host::api::{Api, Fingerprint, Trust};

/// By what an interface is known, and the token's file. The token itself is in no record.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Connection {
    /// `https://HOST:8006`.
    pub url: String,
    /// The file of the authorities that are trusted instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<PathBuf>,
    /// The one certificate that is trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
    /// The token's file.
    pub token: PathBuf,
}

/// How a cluster is reached.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// By its own programs: this host is one of its nodes.
    Programs {
        /// A folder with `etc` and `bin` in the place of the node's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        folder: Option<PathBuf>,
    },
    /// By its interface.
    Interface(Connection),
}

/// Where a container is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Place {
    /// How its cluster is reached.
    pub reach: Reach,
    /// The node.
    pub node: String,
    /// Its number; none where it has none yet.
    pub id: Option<u32>,
    /// What stands in its description, and in no other's: a container without it is somebody else's.
    pub mark: String,
    /// The template that was put there for it: `local:vztmpl/…`; none where it is gone, or not there yet.
    pub template: Option<String>,
}

impl Connection {
    /// Makes the client; gives whose token it has too. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ProxmoxError::Token`], or where a file cannot be read.
    pub fn open(&self) -> Result<(Api, String), ProxmoxError> {
        let Token { owner, secret } = Token::read(&self.token)?;
        let trust = match (&self.fingerprint, &self.authority) {
            (Some(fingerprint), _) => Trust::Pinned(*fingerprint),
            (None, Some(path)) => {
                let read = fs::read(path);
                Trust::Authorities(read.map_err(|source| ProxmoxError::Read { path: path.clone(), source })?)
            }
            (None, None) => Trust::System,
        };
        let url = format!("{}/api2/json", self.url.trim_end_matches('/'));
        Ok((Api::new(&url, &trust, secret)?, owner))
    }
}

impl Place {
    /// Says in words where it is: `container 100 on node pve`.
    #[must_use]
    pub fn words(&self) -> String {
        match self.id {
            Some(id) => format!("container {id} on node {}", self.node),
            None => format!("node {}", self.node),
        }
    }
}
