//! What a running machine uses, by its leader alone.
//!
//! Where its cgroup's files are at hand they say it; what a controller would have to say and does not is summed up
//! over its processes. Its network's counters are those of its own end of the link.
//!
//! **Source**: `Documentation/admin-guide/cgroup-v2.rst`; proc_pid_io(5), proc_pid_statm(5), proc_pid_net(5).

use std::{fs, path::Path};

use super::{Leader, cgroup::MachineCgroup, processes};

/// Counters of a machine: what has no source is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Usage {
    /// Processor time since its start, in microseconds.
    pub cpu_usec: Option<u64>,
    /// Memory in bytes: of its cgroup, else what its processes have resident.
    pub memory: Option<u64>,
    /// The most memory it may have.
    pub memory_max: Option<u64>,
    /// Processes and threads.
    pub tasks: Option<u64>,
    /// Bytes read from devices.
    pub read: Option<u64>,
    /// Bytes written to devices.
    pub written: Option<u64>,
    /// Bytes that came over its link.
    pub received: Option<u64>,
    /// Bytes that went over its link.
    pub sent: Option<u64>,
}

/// Names of a machine's own end of its link.
const LINKS: [&str; 2] = ["host0", "eth0"];

/// How many of the ticks of proc_pid_stat(5) a second has, on every architecture of Debian's.
const TICKS: u64 = 100;

/// Looks at a machine.
#[must_use]
pub fn of(leader: &Leader) -> Usage {
    let mut usage = Usage::default();
    if let Some(directory) = leader.cgroup.as_ref().and_then(MachineCgroup::directory) {
        of_cgroup(&directory, &mut usage);
    }
    if [usage.cpu_usec, usage.memory, usage.tasks, usage.read].iter().any(Option::is_none) {
        of_processes(&processes::list(leader), &mut usage);
    }
    if let Some((received, sent)) = link(leader) {
        (usage.received, usage.sent) = (Some(received), Some(sent));
    }
    usage
}

fn number(folder: &Path, file: &str) -> Option<u64> {
    fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok()
}

fn of_cgroup(folder: &Path, usage: &mut Usage) {
    let stat = fs::read_to_string(folder.join("cpu.stat")).unwrap_or_default();
    usage.cpu_usec =
        stat.lines().find_map(|line| line.strip_prefix("usage_usec ")).and_then(|text| text.parse().ok());
    usage.memory = number(folder, "memory.current");
    usage.memory_max = number(folder, "memory.max");
    usage.tasks = number(folder, "pids.current");
    if let Ok(text) = fs::read_to_string(folder.join("io.stat")) {
        let sum = |key: &str| {
            let words =
                text.split_whitespace().filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok());
            words.sum()
        };
        (usage.read, usage.written) = (Some(sum("rbytes=")), Some(sum("wbytes=")));
    }
}

fn of_processes(all: &[i32], usage: &mut Usage) {
    let mut sum =
        Usage { memory: Some(0), tasks: Some(0), read: Some(0), written: Some(0), ..Usage::default() };
    let add = |to: &mut Option<u64>, more: Option<u64>| {
        *to = Some(to.unwrap_or(0) + more.unwrap_or(0));
    };
    let mut ticks = 0;
    for pid in all {
        let folder = Path::new("/proc").join(pid.to_string());
        let status = fs::read_to_string(folder.join("status")).unwrap_or_default();
        let field = |key: &str| -> Option<u64> {
            status.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
        };
        add(&mut sum.memory, field("VmRSS:").map(|kilobytes| kilobytes << 10));
        add(&mut sum.tasks, field("Threads:"));
        let io = fs::read_to_string(folder.join("io")).unwrap_or_default();
        let counter = |key: &str| -> Option<u64> {
            io.lines().find_map(|line| line.strip_prefix(key))?.trim().parse().ok()
        };
        add(&mut sum.read, counter("read_bytes:"));
        add(&mut sum.written, counter("write_bytes:"));
        let stat = fs::read_to_string(folder.join("stat")).unwrap_or_default();
        let times = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace());
        // utime and stime, proc_pid_stat(5)
        ticks += times.map_or(0, |times| {
            times.skip(11).take(2).filter_map(|text| text.parse::<u64>().ok()).sum::<u64>()
        });
    }
    usage.cpu_usec = usage.cpu_usec.or(Some(ticks * 1_000_000 / TICKS));
    usage.memory = usage.memory.or(sum.memory);
    usage.tasks = usage.tasks.or(sum.tasks);
    usage.read = usage.read.or(sum.read);
    usage.written = usage.written.or(sum.written);
}

fn link(leader: &Leader) -> Option<(u64, u64)> {
    let namespace = |of: &str| fs::read_link(format!("/proc/{of}/ns/net")).ok();
    // without a network of its own the counters would be the host's
    if namespace("self") == namespace(&leader.pid.to_string()) {
        return None;
    }
    let text = fs::read_to_string(format!("/proc/{}/net/dev", leader.pid)).ok()?;
    counters(&text)
}

fn counters(text: &str) -> Option<(u64, u64)> {
    text.lines().find_map(|line| {
        let (name, rest) = line.split_once(':')?;
        let numbers: Vec<u64> = rest.split_whitespace().filter_map(|text| text.parse().ok()).collect();
        LINKS.contains(&name.trim()).then(|| Some((*numbers.first()?, *numbers.get(8)?)))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroups_files_are_read_and_what_they_lack_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| fs::write(folder.path().join(file), text).unwrap();
        write("cpu.stat", "usage_usec 1234\nuser_usec 1000\n");
        write("memory.current", "4096\n");
        write("memory.max", "max\n");
        write("io.stat", "8:0 rbytes=10 wbytes=20 rios=1\n8:16 rbytes=1 wbytes=2 dbytes=9\n");
        let mut usage = Usage::default();
        of_cgroup(folder.path(), &mut usage);
        let expected = Usage {
            cpu_usec: Some(1234),
            memory: Some(4096),
            read: Some(11),
            written: Some(22),
            ..Usage::default()
        };
        assert_eq!(usage, expected);
    }

    #[test]
    fn the_links_own_counters_are_taken() {
        let text = "Inter-|   Receive   |  Transmit\n face |bytes packets\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n \
                    host0: 687 5 0 0 0 0 0 0 3434 40 0 0 0 0 0 0\ndocker0: 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9\n";
        assert_eq!(counters(text), Some((687, 3434)));
        assert_eq!(counters("lo: 1 2"), None);
    }

    #[test]
    fn processes_are_summed_up() {
        let mut usage = Usage { tasks: Some(7), ..Usage::default() };
        of_processes(&[i32::try_from(std::process::id()).unwrap(), i32::MAX], &mut usage);
        assert_eq!(usage.tasks, Some(7), "what the cgroup says counts");
        assert!(usage.memory.is_some_and(|bytes| bytes > 1 << 20), "{usage:?}");
    }
}
