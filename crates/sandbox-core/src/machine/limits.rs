//! What a machine may use at most, as the kernel is told it.
//!
//! **Source**: cgroups(7); the kernel's `Documentation/admin-guide/cgroup-v2.rst`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{Definition, Limits};
use crate::{
    error::{Cause, Class, Hint},
    host::quota::{self, Means},
};

/// The folder of the unified hierarchy.
const TOP: &str = "/sys/fs/cgroup";

/// The period of a share of processors, in microseconds; the kernel's own default.
const PERIOD: u64 = 100_000;

/// The kernel's own weight of a cgroup.
const UNWEIGHTED: u32 = 100;

/// The weight of a new machine: what the host itself runs has 100.
const WEIGHT: u32 = 50;

/// The tasks of a new machine.
const TASKS: u64 = 4096;

impl Limits {
    /// Returns those of a new machine: three quarters of the host's memory, [`TASKS`], less weight than what the host
    /// runs itself, no core dumps. What the host has no controller for is not limited.
    #[must_use]
    pub fn of_host() -> Self {
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Self::new_on(&controllers(), &meminfo)
    }

    fn new_on(controllers: &[String], meminfo: &str) -> Self {
        let has = |name: &str| controllers.iter().any(|known| known == name);
        Self {
            memory: total(meminfo).filter(|_| has("memory")).map(three_quarters),
            tasks: has("pids").then_some(TASKS),
            cpu_weight: has("cpu").then_some(WEIGHT),
            no_core_dumps: true,
            ..Self::default()
        }
    }
}

/// Reads the host's memory in bytes.
///
/// **Source**: proc_meminfo(5).
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Takes three quarters, in whole MiB.
const fn three_quarters(bytes: u64) -> u64 {
    (bytes / 4 * 3) & !((1 << 20) - 1)
}

/// Why a limit is not set.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// The kernel gives the unified hierarchy no such controller here.
    #[error("this host cannot limit {what}: its unified cgroup hierarchy has no controller `{controller}`")]
    Controller {
        /// What was to be limited.
        what: &'static str,
        /// The controller.
        controller: &'static str,
    },
    /// The tree's file system cannot limit one folder.
    #[error(
        "the file system of {tree} cannot limit one folder: that takes btrfs, or ext4 or xfs with project quotas",
        tree = tree.display()
    )]
    FileSystem {
        /// The tree.
        tree: PathBuf,
    },
    /// Its root is the host's, which project quotas do not count for.
    #[error("a privileged machine passes over the limits that the file system of {tree} has", tree = tree.display())]
    Privileged {
        /// The tree.
        tree: PathBuf,
    },
    /// The kernel refused.
    #[error("the limit {path} cannot be set", path = path.display())]
    Refused {
        /// The file or tree.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Cause for LimitError {
    fn class(&self) -> Class {
        Class::Host
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Controller { .. } => vec![
                Hint::Note("boot the host with cgroup v2 alone: systemd.unified_cgroup_hierarchy=1".into()),
                Hint::Note("--unenforced writes it down all the same, for a host that can".into()),
            ],
            Self::FileSystem { .. } => vec![Hint::Note(
                "project quotas are those of a file system that is mounted with `prjquota` (ext4: made with \
                 `-O quota,project`)"
                    .into(),
            )],
            Self::Privileged { .. } | Self::Refused { .. } => Vec::new(),
        }
    }
}

/// Tells whether this host can do what a definition's limits ask for, those aside that it had before.
///
/// # Errors
/// [`LimitError`] names the first that it cannot; `unenforced` lets those of controllers pass.
pub fn check(definition: &Definition, before: &Limits, unenforced: bool) -> Result<(), LimitError> {
    let wanted = definition.chosen.limits;
    let controllers = controllers();
    let lacks = |name: &str| !controllers.iter().any(|known| known == name);
    let asked = [
        (wanted.cpus.is_some() && wanted.cpus != before.cpus, "processors", "cpu"),
        (wanted.memory.is_some() && wanted.memory != before.memory, "memory", "memory"),
        (wanted.tasks.is_some() && wanted.tasks != before.tasks, "tasks", "pids"),
        (wanted.cpu_weight.is_some() && wanted.cpu_weight != before.cpu_weight, "processors", "cpu"),
    ];
    for (asked, what, controller) in asked {
        if asked && !unenforced && lacks(controller) {
            return Err(LimitError::Controller { what, controller });
        }
    }
    if wanted.disk.is_some() && wanted.disk != before.disk {
        let tree = definition.tree.clone();
        match quota::means_of_new(&tree) {
            None => return Err(LimitError::FileSystem { tree }),
            Some(Means::Project) if definition.privileged => return Err(LimitError::Privileged { tree }),
            Some(_) => {}
        }
    }
    Ok(())
}

/// Lists the controllers of this host's unified hierarchy.
#[must_use]
pub fn controllers() -> Vec<String> {
    let text = fs::read_to_string(Path::new(TOP).join("cgroup.controllers")).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

/// Limits a tree's bytes.
///
/// # Errors
/// Where the file system cannot.
pub fn disk(definition: &Definition) -> Result<(), LimitError> {
    let tree = &definition.tree;
    quota::limit(tree, definition.chosen.limits.disk)
        .map_err(|source| LimitError::Refused { path: tree.clone(), source })
}

/// Gives a cgroup's files and what they are to have; `max` is no limit, nor is a weight of 100.
#[must_use]
pub fn files(limits: &Limits) -> [(&'static str, &'static str, String); 4] {
    let max = |value: Option<u64>| value.map_or_else(|| "max".to_owned(), |value| value.to_string());
    let quota = limits.cpus.map(|cpus| u64::from(cpus) * PERIOD / 1000);
    [
        ("cpu", "cpu.max", format!("{} {PERIOD}", max(quota))),
        ("memory", "memory.max", max(limits.memory)),
        ("pids", "pids.max", max(limits.tasks)),
        ("cpu", "cpu.weight", limits.cpu_weight.unwrap_or(UNWEIGHTED).to_string()),
    ]
}

/// Sets limits on a cgroup at the top of a hierarchy, where no service manager does it.
///
/// Those whose controller is not there are passed over: [`check`] has refused them, or was told not to.
///
/// # Errors
/// Where the kernel refuses.
pub fn set(top: &Path, own: &Path, limits: &Limits) -> Result<(), LimitError> {
    for (controller, file, text) in files(limits) {
        let path = own.join(file);
        if !path.exists() {
            // a controller counts below a folder once it is switched on there
            let _ = fs::write(top.join("cgroup.subtree_control"), format!("+{controller}"));
        }
        if path.exists() {
            fs::write(&path, text).map_err(|source| LimitError::Refused { path, source })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_is_told_in_its_own_words() {
        let limits = Limits { cpus: Some(1500), memory: Some(1 << 30), ..Limits::default() };
        let files = files(&limits).map(|(_, file, text)| format!("{file}={text}"));
        assert_eq!(
            files,
            ["cpu.max=150000 100000", "memory.max=1073741824", "pids.max=max", "cpu.weight=100"]
        );
    }

    #[test]
    fn a_new_machine_is_limited_as_far_as_the_host_can() {
        let meminfo = "MemTotal:        8000000 kB\nMemFree: 1 kB\n";
        let all = ["cpu", "memory", "pids"].map(str::to_owned);
        let limits = Limits::new_on(&all, meminfo);
        assert_eq!(limits.memory, Some(5859 << 20), "three quarters, in whole MiB");
        assert_eq!((limits.tasks, limits.cpu_weight, limits.cpus), (Some(4096), Some(50), None));
        assert!(limits.no_core_dumps);
        let none = Limits { no_core_dumps: true, ..Limits::default() };
        assert_eq!(Limits::new_on(&[], meminfo), none);
        assert_eq!(Limits::new_on(&all[1..2], "x"), none);
    }

    #[test]
    fn limits_are_written_where_a_controller_is() {
        let top = tempfile::tempdir().unwrap();
        let own = top.path().join("m");
        fs::create_dir(&own).unwrap();
        fs::write(own.join("memory.max"), "max").unwrap();
        let limits = Limits { cpus: Some(500), memory: Some(4096), tasks: Some(7), ..Limits::default() };
        set(top.path(), &own, &limits).unwrap();
        assert_eq!(fs::read_to_string(own.join("memory.max")).unwrap(), "4096");
        assert!(!own.join("pids.max").exists(), "a file of no controller is not made");
    }
}
