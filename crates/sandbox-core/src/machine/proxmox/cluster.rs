//! What is asked of a cluster, by its programs or by its interface.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use super::{
    config::{Container, Read},
    error::ProxmoxError,
    firewall::Rule,
    pct::Node,
    place::Reach,
    rest::Rest,
    rights::Target,
};
use crate::{host::runner::Processes, machine::network::Subnet};

/// A node of a cluster. Numbers are containers'.
pub trait Cluster: Send + Sync {
    /// Gives the node's name.
    fn node(&self) -> &str;

    /// Gives a number that nobody has, or sees that the wanted one is such.
    ///
    /// # Errors
    /// [`ProxmoxError::Taken`].
    fn free(&self, wanted: Option<u32>) -> Result<u32, ProxmoxError>;

    /// Sees, before anything is made, that a container can be made.
    ///
    /// # Errors
    /// What cannot be had.
    fn check(&self, container: &Container, target: Target<'_>) -> Result<(), ProxmoxError>;

    /// Gives the networks that the node is on, beyond private ones.
    ///
    /// # Errors
    /// Where it cannot be asked.
    fn neighbours(&self) -> Result<Vec<Subnet>, ProxmoxError>;

    /// Gives the file that a template of a storage is written to; none where it has to be brought.
    ///
    /// # Errors
    /// Where there is no such storage, or it holds no templates.
    fn template(&self, storage: &str, name: &str) -> Result<Option<PathBuf>, ProxmoxError>;

    /// Brings a template to a storage, under its file's name.
    ///
    /// # Errors
    /// Where it is not taken.
    fn upload(&self, storage: &str, file: &Path) -> Result<(), ProxmoxError>;

    /// Removes a template; one that is not there is well.
    ///
    /// # Errors
    /// Where it is still there.
    fn remove_template(&self, volume: &str) -> Result<(), ProxmoxError>;

    /// Makes a container with its wall; it does not run. What it began is undone where it fails.
    ///
    /// # Errors
    /// Where Proxmox does not.
    fn create(
        &self,
        id: u32,
        template: &str,
        container: &Container,
        wall: Option<&[Rule]>,
    ) -> Result<(), ProxmoxError>;

    /// Removes what there is for a container that was never made: a wall with its mark.
    ///
    /// # Errors
    /// Where it is still there.
    fn forget(&self, _id: u32, _mark: &str) -> Result<(), ProxmoxError> {
        Ok(())
    }

    /// Reads a container's configuration; none where there is none.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn config(&self, id: u32) -> Result<Option<Read>, ProxmoxError>;

    /// Changes keys of a container, and takes others away.
    ///
    /// # Errors
    /// Where Proxmox does not.
    fn set(&self, id: u32, values: &[(&str, &str)], without: &[&str]) -> Result<(), ProxmoxError>;

    /// Removes a stopped container with its disks and its wall.
    ///
    /// # Errors
    /// Where something is left.
    fn destroy(&self, id: u32) -> Result<(), ProxmoxError>;

    /// Tells whether a container runs.
    ///
    /// # Errors
    /// Where it cannot be asked.
    fn runs(&self, id: u32) -> Result<bool, ProxmoxError>;

    /// Gives a running container's addresses, loopback and link-local ones left out.
    ///
    /// # Errors
    /// Where it cannot be asked.
    fn addresses(&self, id: u32) -> Result<Vec<IpAddr>, ProxmoxError>;

    /// Starts a container.
    ///
    /// # Errors
    /// Where Proxmox does not.
    fn start(&self, id: u32) -> Result<(), ProxmoxError>;

    /// Shuts a container down, by force after so many seconds.
    ///
    /// # Errors
    /// Where it still runs.
    fn shut_down(&self, id: u32, seconds: u64) -> Result<(), ProxmoxError>;

    /// Gives a container's snapshots, with the seconds since 1970 that they were taken at.
    ///
    /// # Errors
    /// Where it cannot be asked.
    fn snapshots(&self, id: u32) -> Result<Vec<(String, i64)>, ProxmoxError>;

    /// Does something with a snapshot of a container.
    ///
    /// # Errors
    /// Where Proxmox does not: its storage may have none.
    fn snapshot(&self, id: u32, name: &str, what: Snapshotting) -> Result<(), ProxmoxError>;
}

/// What is done with a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Snapshotting {
    /// It is taken.
    Take,
    /// The container becomes what it says.
    Restore,
    /// It is removed.
    Remove,
}

/// Opens the way to a node.
///
/// # Errors
/// Where this is none, or a token or a certificate cannot be read; [`ProxmoxError::Node`] where one has to be chosen.
pub fn open(reach: &Reach, node: Option<&str>) -> Result<Box<dyn Cluster>, ProxmoxError> {
    Ok(match reach {
        Reach::Programs { folder } => Box::new(Node::open(Box::new(Processes::new()), folder.as_deref())?),
        Reach::Interface(connection) => Box::new(Rest::open(connection, node)?),
    })
}
