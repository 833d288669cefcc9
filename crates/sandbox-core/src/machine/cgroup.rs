//! The cgroup of a running machine, known by the name that the host gave it.
//!
//! A guest may move its first process to any cgroup that it makes, but only below the part that it was given. So what
//! the kernel says of that process is compared with the machine's own cgroup, and never taken for it.
//!
//! **Source**: cgroups(7), "Cgroups delegation"; proc_pid_cgroup(5); `Documentation/admin-guide/cgroup-v2.rst`.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where the unified hierarchy is mounted, also beside one of version 1.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// The child that systemd-nspawn gives to the guest; its own process is in another one.
const PAYLOAD: &str = "payload";

/// The cgroup that has every process of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineCgroup {
    /// Below the mount of the hierarchy, without a slash at either end.
    path: String,
    /// The part that the guest was given.
    delegated: String,
}

impl MachineCgroup {
    /// Finds the cgroup of a unit of the host that runs systemd-nspawn; none where the process is not in it.
    ///
    /// It is the first part of the process's path with the unit's name: the host made all that comes before it.
    pub(super) fn of_unit(unit: &str, pid: i32) -> Option<Self> {
        Self::of_unit_in(unit, &path_of(pid)?)
    }

    fn of_unit_in(unit: &str, process: &str) -> Option<Self> {
        let parts: Vec<_> = process.split('/').collect();
        let at = parts.iter().position(|part| *part == unit)?;
        Self::of_nspawn_in(&parts[..=at].join("/"), process)
    }

    /// Takes the cgroup in which systemd-nspawn was started; none where the process is not below it.
    pub(super) fn of_nspawn(path: &str, pid: i32) -> Option<Self> {
        Self::of_nspawn_in(path, &path_of(pid)?)
    }

    fn of_nspawn_in(path: &str, process: &str) -> Option<Self> {
        Self::new(path, &format!("{path}/{PAYLOAD}"), process)
    }

    /// Takes the cgroup that liblxc made for a container; none where the process is not in it.
    pub(super) fn of_container(path: &str, pid: i32) -> Option<Self> {
        Self::new(path, path, &path_of(pid)?)
    }

    fn new(path: &str, delegated: &str, process: &str) -> Option<Self> {
        let known = Self { path: path.to_owned(), delegated: delegated.to_owned() };
        let is_plain = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        (is_plain && is_below(delegated, process)).then_some(known)
    }

    /// Returns whether a process's path, as the kernel gives it, is in this cgroup or below it.
    pub(super) fn has(&self, process: &str) -> bool {
        is_below(&self.path, process)
    }

    /// Returns the directory of the whole, which has the machine's limits; none where the hierarchy is not mounted.
    #[must_use]
    pub fn directory(&self) -> Option<PathBuf> {
        directory(&self.path)
    }

    /// Returns the directory of the part that the guest was given: every process of the guest is in it or below it.
    #[must_use]
    pub fn delegated(&self) -> Option<PathBuf> {
        directory(&self.delegated)
    }
}

fn is_below(above: &str, path: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn directory(path: &str) -> Option<PathBuf> {
    MOUNTS.iter().map(|mount| Path::new(mount).join(path)).find(|path| path.join("cgroup.procs").exists())
}

/// Returns the path of a process's cgroup in the unified hierarchy, without a slash in front.
pub(super) fn path_of(pid: i32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("0::/")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: &str = "systemd-nspawn@a.service";

    #[test]
    fn the_unit_counts_whatever_cgroup_the_guest_puts_its_first_process_in() {
        let unit = format!("machine.slice/{UNIT}");
        for inner in ["init.scope", "z/y", &format!("x/{UNIT}/payload/init.scope"), "..x"] {
            let found = MachineCgroup::of_unit_in(UNIT, &format!("{unit}/payload/{inner}")).unwrap();
            assert_eq!(found.path, unit, "{inner}");
            assert_eq!(found.delegated, format!("{unit}/payload"), "{inner}");
        }
        for outside in [
            "",
            "init.scope",
            "machine.slice/systemd-nspawn@ab.service/payload",
            &format!("{unit}/supervisor"),
        ] {
            assert_eq!(MachineCgroup::of_unit_in(UNIT, outside), None, "{outside}");
        }
    }

    #[test]
    fn a_name_that_is_longer_is_another_machines() {
        let known = MachineCgroup::new("lxc.payload.a", "lxc.payload.a", "lxc.payload.a/z").unwrap();
        assert!(known.has("lxc.payload.a") && known.has("lxc.payload.a/init.scope"));
        assert!(!known.has("lxc.payload.ab") && !known.has(""));
        assert_eq!(MachineCgroup::new("lxc.payload.a", "lxc.payload.a", "lxc.payload.ab"), None);
        assert_eq!(MachineCgroup::new("", "", "x"), None);
        assert_eq!(MachineCgroup::new("a/../b", "a/../b", "a/../b"), None);
    }
}
