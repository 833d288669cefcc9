//! A machine that is a container of a node.

use std::net::IpAddr;

use super::{
    cluster::{self, Cluster, Snapshotting},
    config::{self, CHOSEN},
    error::ProxmoxError,
    place::Place,
};
use crate::{
    error::Hint,
    machine::{Autostart, Definition, Limits, State},
};

/// Whose a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The machine's.
    Ours,
    /// Somebody else's.
    Another,
    /// There is none of that number.
    Nobody,
}

/// Tells whose a container is: the machine's has its mark in the description.
///
/// # Errors
/// Where it cannot be asked.
pub(super) fn whose(cluster: &dyn Cluster, id: u32, mark: &str) -> Result<Whose, ProxmoxError> {
    Ok(match cluster.config(id)? {
        None => Whose::Nobody,
        Some(found) if found.description.contains(mark) => Whose::Ours,
        Some(_) => Whose::Another,
    })
}

/// A machine that is a container of a node, seen to be there and to be the machine's.
pub struct Resident {
    cluster: Box<dyn Cluster>,
    id: u32,
}

impl Resident {
    /// Finds a machine's container.
    ///
    /// # Errors
    /// Where the cluster cannot be asked, [`ProxmoxError::Gone`], [`ProxmoxError::Stranger`].
    pub fn find(definition: &Definition) -> Result<Self, ProxmoxError> {
        let place = definition.place.as_ref().ok_or(ProxmoxError::Nowhere)?;
        let Place { reach, node, id: Some(id), mark, .. } = place else { return Err(ProxmoxError::Nowhere) };
        let cluster = cluster::open(reach, Some(node))?;
        match whose(&*cluster, *id, mark)? {
            Whose::Ours => Ok(Self { cluster, id: *id }),
            Whose::Another => Err(ProxmoxError::Stranger { id: *id, mark: mark.clone() }),
            Whose::Nobody => Err(ProxmoxError::Gone { id: *id }),
        }
    }

    /// Tells whether it runs: what is in it cannot be seen from here.
    ///
    /// # Errors
    /// Where it cannot be asked.
    pub fn state(&self) -> Result<State, ProxmoxError> {
        Ok(if self.cluster.runs(self.id)? { State::Running } else { State::Stopped })
    }

    /// Gives its addresses, none where they cannot be had.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.cluster.addresses(self.id).unwrap_or_default()
    }

    /// Starts it.
    ///
    /// # Errors
    /// Where Proxmox does not.
    pub fn start(&self) -> Result<(), ProxmoxError> {
        self.cluster.start(self.id)
    }

    /// Shuts it down where it runs, by force after so many seconds.
    ///
    /// # Errors
    /// Where it still runs.
    pub fn stop(&self, seconds: u64) -> Result<(), ProxmoxError> {
        if self.cluster.runs(self.id)? { self.cluster.shut_down(self.id, seconds) } else { Ok(()) }
    }

    /// Makes what its user chose count.
    ///
    /// # Errors
    /// Where Proxmox does not.
    pub fn choose(&self, limits: &Limits, autostart: Option<Autostart>) -> Result<(), ProxmoxError> {
        let values = config::chosen(limits, autostart);
        let there = self.cluster.config(self.id)?.ok_or(ProxmoxError::Gone { id: self.id })?.values;
        let changed: Vec<(&str, &str)> = values
            .iter()
            .filter(|(key, value)| there.get(*key) != Some(value))
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        let without: Vec<&str> =
            CHOSEN.into_iter().filter(|key| there.contains_key(*key) && !values.contains_key(*key)).collect();
        if changed.is_empty() && without.is_empty() {
            return Ok(());
        }
        self.cluster.set(self.id, &changed, &without)
    }

    /// Gives its snapshots, the oldest first, with the seconds since 1970 that they were taken at.
    ///
    /// # Errors
    /// Where it cannot be asked.
    pub fn snapshots(&self) -> Result<Vec<(String, i64)>, ProxmoxError> {
        let mut all = self.cluster.snapshots(self.id)?;
        all.sort_by(|a, b| a.1.cmp(&b.1).then_with(|| a.0.cmp(&b.0)));
        Ok(all)
    }

    /// Does something with a snapshot.
    ///
    /// # Errors
    /// Where the name is none that Proxmox takes, or Proxmox does not.
    pub fn snapshot(&self, name: &str, what: Snapshotting) -> Result<(), ProxmoxError> {
        if !is_snapshot(name) {
            return Err(ProxmoxError::Not {
                verb: format!("snapshot {name}"),
                why: "names of its snapshots are 2 to 40 letters, digits, `-` and `_`, a letter first",
                instead: Some(Hint::Note("another name, or none".to_owned())),
            });
        }
        self.cluster.snapshot(self.id, name, what)
    }
}

/// Tells whether Proxmox takes a snapshot's name.
///
/// **Source**: PVE/JSONSchema.pm, `pve-configid`; PVE/API2/LXC/Snapshot.pm, at most 40 letters.
fn is_snapshot(name: &str) -> bool {
    (2..=40).contains(&name.len())
        && name.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        && name != "current"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_snapshots_are_those_of_proxmox() {
        for name in ["ab", "before-upgrade", "s2026_1", &"a".repeat(40)] {
            assert!(is_snapshot(name), "{name}");
        }
        for name in ["", "a", "2026-11-21", "a.b", "current", "ä1", &"a".repeat(41)] {
            assert!(!is_snapshot(name), "{name}");
        }
    }
}
