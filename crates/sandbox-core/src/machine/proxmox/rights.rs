//! What a token must be allowed, so that all of a container can be made, and unmade.
//!
//! **Source**: pve-container 9.1, `PVE/LXC.pm` (`check_ct_modify_config_perm`) and `PVE/API2/LXC*.pm`; pve-storage
//! 9.1, `PVE/API2/Storage/{Status,Content}.pm`; pve-firewall, `PVE/API2/Firewall/{Cluster,VM}.pm`.

use std::collections::{BTreeMap, BTreeSet};

use super::config::Container;

/// A privilege and the path that it is wanted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right<P> {
    /// `/vms/100`.
    pub path: P,
    /// `VM.Allocate`.
    pub privilege: &'static str,
}

/// Where a container goes, as far as rights on it matter.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Its number.
    pub id: u32,
    /// The storage of its template.
    pub storage: &'a str,
    /// Whether it has a wall.
    pub walled: bool,
}

/// Names what a token must be allowed to make a container, to start, show, change and keep it, and to undo all that.
#[must_use]
pub fn wanted(container: &Container, target: Target<'_>) -> BTreeSet<Right<String>> {
    let mut all = BTreeSet::new();
    let mut want = |path: &str, privileges: &[&'static str]| {
        all.extend(privileges.iter().map(|privilege| Right { path: path.to_owned(), privilege }));
    };
    let machine = format!("/vms/{}", target.id);
    want(
        &machine,
        &[
            "VM.Allocate",
            "VM.Audit",
            "VM.Config.Disk",
            "VM.Config.Network",
            "VM.Config.Options",
            "VM.PowerMgmt",
        ],
    );
    if container.limits.cpus.is_some() {
        want(&machine, &["VM.Config.CPU"]);
    }
    if container.limits.memory.is_some() {
        want(&machine, &["VM.Config.Memory"]);
    }
    // the last is what removing a template takes
    let template = format!("/storage/{}", target.storage);
    want(&template, &["Datastore.AllocateTemplate", "Datastore.AllocateSpace", "Datastore.Allocate"]);
    let disks = container.mounts.iter().map(|mount| &mount.place).chain([&container.rootfs]);
    for disk in disks {
        let storage = disk.split(':').next().unwrap_or_default();
        want(&format!("/storage/{storage}"), &["Datastore.AllocateSpace"]);
    }
    if let Some(link) = &container.link {
        want(&format!("/sdn/zones/localnetwork/{}", link.bridge), &["SDN.Use"]);
    }
    if target.walled {
        // to see whether the filter is on; nothing is changed there
        want("/", &["Sys.Audit"]);
    }
    all
}

/// Names what is wanted and not had, in words; `had` has the privileges of a path.
#[must_use]
pub fn lacking(wanted: &BTreeSet<Right<String>>, had: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let has = |right: &&Right<String>| {
        had.get(&right.path).is_some_and(|privileges| privileges.contains(right.privilege))
    };
    let lacks = wanted.iter().filter(|right| !has(right));
    lacks.map(|Right { path, privilege }| format!("{privilege} on {path}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::proxmox::config::tests::container;

    #[test]
    fn what_is_lacking_is_named_with_its_path() {
        let target = Target { id: 100, storage: "local", walled: true };
        let wanted = wanted(&container(), target);
        let mut had: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for Right { path, privilege } in &wanted {
            had.entry(path.clone()).or_default().insert((*privilege).to_owned());
        }
        assert!(lacking(&wanted, &had).is_empty());
        had.get_mut("/vms/100").unwrap().remove("VM.Config.CPU");
        had.remove("/sdn/zones/localnetwork/vmbr0");
        assert_eq!(
            lacking(&wanted, &had),
            ["SDN.Use on /sdn/zones/localnetwork/vmbr0", "VM.Config.CPU on /vms/100"]
        );
        assert_eq!(lacking(&wanted, &BTreeMap::new()).len(), wanted.len());
    }
}
