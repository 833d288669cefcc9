//! A running machine's processes, found by its leader alone, whatever runs it.
//!
//! A machine has a cgroup of its own in the unified hierarchy, which its processes cannot leave. Which one a process
//! is in is read in /proc, so that it is known also where that hierarchy is mounted nowhere.
//!
//! **Source**: cgroups(7), proc_pid_cgroup(5), pidfd_send_signal(2).

use std::{fs, io, thread, time::Duration};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{
    Leader,
    cgroup::{MachineCgroup, path_of},
    signal::Signal,
};
use crate::error::{Cause, Class};

/// Who gets a signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Whom {
    /// The machine's first process.
    #[default]
    Leader,
    /// Every process of the machine.
    All,
}

/// Why processes could not be signalled.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The leader is gone, or in no cgroup of a machine's.
    #[error("its first process, {pid}, is gone")]
    Gone {
        /// The number.
        pid: i32,
    },
    /// The leader shares its cgroup with the host: nothing tells the machine's processes from others.
    #[error("its first process is in no cgroup of its own")]
    Shared,
    /// The kernel refused.
    #[error("process {pid} cannot be signalled")]
    Refused {
        /// The process.
        pid: i32,
        /// Why.
        source: io::Error,
    },
    /// New ones came faster than they could be killed.
    #[error("processes of it are still there")]
    Left,
}

impl Cause for ProcessError {
    fn class(&self) -> Class {
        match self {
            Self::Gone { .. } => Class::Unavailable,
            _ => Class::Host,
        }
    }
}

/// Lists the numbers of a machine's processes.
///
/// A process of ours that waits for what it runs in the machine is in the machine's cgroup and not in its process
/// namespace: it is none of them.
#[must_use]
pub fn list(leader: &Leader) -> Vec<i32> {
    let Some(own) = &leader.cgroup else { return Vec::new() };
    let depth = depth(leader.pid);
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| is_in(own, *pid))
        .filter(|pid| self::depth(*pid) >= depth)
        .collect()
}

fn is_in(cgroup: &MachineCgroup, pid: i32) -> bool {
    path_of(pid).is_some_and(|path| cgroup.has(&path))
}

/// Tells how many process namespaces deep a process is.
fn depth(pid: i32) -> usize {
    numbers(pid).len()
}

/// Gives a process's numbers, from this process namespace to its own (proc_pid_status(5), `NSpid`).
pub(super) fn numbers(pid: i32) -> Vec<i32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    numbers.split_whitespace().filter_map(|number| number.parse().ok()).collect()
}

/// Returns when a process began, in the kernel's ticks since boot, so that another one with its number is not taken for it.
///
/// **Source**: proc_pid_stat(5), field 22.
#[must_use]
pub fn began(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    field(&stat, 22)?.parse().ok()
}

/// Returns whether a process is gone, exits, or was killed and is about to.
///
/// The first process of a process namespace exits for as long as others of it are there.
#[must_use]
pub fn is_ending(pid: i32) -> bool {
    let text = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}"));
    match (text("stat"), text("status")) {
        (Ok(stat), Ok(status)) => exits(&stat) || is_killed(&status),
        _ => true,
    }
}

/// `PF_EXITING` of the kernel's `include/linux/sched.h`.
const EXITING: u32 = 0x4;

/// Returns whether a process has begun to exit, or has exited and was not waited for.
///
/// **Source**: proc_pid_stat(5), fields 3 and 9.
fn exits(stat: &str) -> bool {
    let flags = field(stat, 9).and_then(|flags| flags.parse::<u32>().ok());
    matches!(field(stat, 3), None | Some("Z" | "X" | "x")) || flags.is_none_or(|flags| flags & EXITING != 0)
}

/// Returns whether SIGKILL is pending for a process: what has other processors first does not see it at once.
///
/// **Source**: proc_pid_status(5), `SigPnd` and `ShdPnd`, masks in which signal 1 is the lowest bit.
fn is_killed(status: &str) -> bool {
    let masks =
        status.lines().filter_map(|line| line.strip_prefix("SigPnd:").or(line.strip_prefix("ShdPnd:")));
    let mut masks = masks.filter_map(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    masks.any(|mask| mask & (1 << (libc::SIGKILL - 1)) != 0)
}

/// Gives a field of a process's `stat` by its number in proc_pid_stat(5), from 3 on.
fn field(stat: &str, number: usize) -> Option<&str> {
    // the process's name, field 2, may have spaces and brackets
    stat.rsplit_once(')')?.1.split_whitespace().nth(number - 3)
}

/// Sends a signal.
///
/// # Errors
/// [`ProcessError`].
pub fn kill(leader: &Leader, signal: Signal, whom: Whom) -> Result<usize, ProcessError> {
    match whom {
        Whom::Leader => match send(leader.pid, signal, None)? {
            true => Ok(1),
            false => Err(ProcessError::Gone { pid: leader.pid }),
        },
        Whom::All => all(leader, signal),
    }
}

/// How often processes are looked for anew: those that one forks while others are killed.
const ROUNDS: u32 = 50;

fn all(leader: &Leader, signal: Signal) -> Result<usize, ProcessError> {
    let own = leader.cgroup.as_ref().ok_or(ProcessError::Shared)?;
    if is_in(own, std::process::id().cast_signed()) {
        return Err(ProcessError::Shared);
    }
    let mut count = 0;
    for _ in 0..ROUNDS {
        let found = list(leader);
        // the leader last: with it the machine goes, and with its process namespace all others
        for pid in found.iter().filter(|pid| **pid != leader.pid) {
            count += usize::from(send(*pid, signal, Some(own))?);
        }
        if found.contains(&leader.pid) {
            count += usize::from(send(leader.pid, signal, Some(own))?);
        }
        if signal != Signal::KILL || found.is_empty() {
            return Ok(count);
        }
        thread::sleep(Duration::from_millis(20));
    }
    Err(ProcessError::Left)
}

/// Sends a signal to one process by a handle of it; tells whether it was there, in a cgroup where one is named.
fn send(pid: i32, signal: Signal, cgroup: Option<&MachineCgroup>) -> Result<bool, ProcessError> {
    let refused = |source| ProcessError::Refused { pid, source };
    let Some(raw) = Pid::from_raw(pid) else { return Ok(false) };
    let handle = match pidfd_open(raw, PidfdFlags::empty()) {
        Ok(handle) => handle,
        Err(rustix::io::Errno::SRCH) => return Ok(false),
        Err(errno) => return Err(refused(errno.into())),
    };
    // looked at once it is held: the number may be another's by now
    if !cgroup.is_none_or(|cgroup| is_in(cgroup, pid)) {
        return Ok(false);
    }
    #[allow(unsafe_code, reason = "signals above 31 have no safe form")]
    // SAFETY: the handle is open, and no information is passed.
    let sent = unsafe {
        use std::os::fd::AsRawFd as _;
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            handle.as_raw_fd(),
            signal.number(),
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    match sent {
        0 => Ok(true),
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
            error => Err(refused(error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_exits_is_told_from_one_that_sleeps() {
        for (name, state, flags, ends) in [
            ("systemd", 'S', 0x0040_0100, false),
            ("a) Z 1 (b", 'R', 0x0040_0100, false),
            ("systemd", 'S', 0x0040_0104, true),
            ("systemd", 'Z', 0x0040_0104, true),
            ("systemd", 'X', 0, true),
        ] {
            let stat = format!("71 ({name}) {state} 1 71 71 0 -1 {flags} 0 0 0 0 1 2 3 4 20 0 1 0 8675 0 0");
            assert_eq!(exits(&stat), ends, "{stat}");
            assert_eq!(field(&stat, 22), Some("8675"));
        }
        for broken in ["", "71 (x", "71 (x) S 1 71", "71 (x) S 1 71 71 0 -1 many"] {
            assert!(exits(broken), "{broken}");
        }
    }

    #[test]
    fn a_process_that_was_killed_is_seen_before_it_exits() {
        let status = |own: &str, shared: &str| {
            format!(
                "Name:\tsystemd\nSigQ:\t0/9\nSigPnd:\t{own}\nShdPnd:\t{shared}\nSigBlk:\t0000000000000100\n"
            )
        };
        let (none, term, kill) = ("0000000000000000", "0000000000004000", "0000000000000100");
        for (own, shared, killed) in
            [(none, none, false), (none, term, false), (kill, none, true), (term, kill, true)]
        {
            assert_eq!(is_killed(&status(own, shared)), killed, "{own} {shared}");
        }
    }

    #[test]
    fn processes_of_this_host_are_looked_at() {
        assert!(!is_ending(std::process::id().cast_signed()) && began(1).is_some());
        assert!(is_ending(i32::MAX) && began(i32::MAX).is_none());
    }
}
