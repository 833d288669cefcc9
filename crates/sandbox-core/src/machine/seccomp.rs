//! The filter on a guest's system calls that every machine has, beside what nspawn and liblxc filter themselves.
//!
//! Network namespaces and nftables hold only some families of sockets: a socket of `AF_VSOCK` speaks to the
//! hypervisor, one of `AF_ALG`, `AF_RDS` or `AF_TIPC` to code of the host's kernel that no container needs. So the
//! families that containers use are listed and all others get `EAFNOSUPPORT`, by each way into the kernel that there
//! is: the native calls, those of 32-bit programs, those of x32, and io_uring, whose requests no filter sees.
//! `socketcall` of 32-bit x86 is refused whole, because its arguments are in memory that a filter cannot read.
//!
//! A profile allows by name what is refused whole: `system-calls = ["io_uring_setup"]`, `["socketcall"]`.
//!
//! ```text
//!              one table of families and calls
//!               /                        \
//!   Filter: BPF for the kernel      policy(): text for liblxc
//!   nspawn (before its exec),       lxc.seccomp.profile
//!   direct, sessions from outside;
//!   the first program in a container of LXC's
//! ```
//!
//! **Source**: seccomp(2); socket(2); socketcall(2); `include/linux/socket.h`; `Documentation/userspace-api/
//! seccomp_filter.rst` of Linux 6.12. The kernel takes an `int` as the family, so that only the low word of the
//! argument counts.

mod policy;
mod program;
mod stub;

use std::fs;

use super::Limits;
pub(in crate::machine) use policy::policy;
pub use program::Filter;
pub(in crate::machine) use stub::stub;

/// The families that containers use: local, IPv4, IPv6, netlink, packet.
const FAMILIES: [u32; 5] = [
    libc::AF_UNIX as u32,
    libc::AF_INET as u32,
    libc::AF_INET6 as u32,
    libc::AF_NETLINK as u32,
    libc::AF_PACKET as u32,
];

/// SMC as a protocol of IPv4 and IPv6, which is another way to the family (Linux 6.11, `include/uapi/linux/in.h`).
const IPPROTO_SMC: u32 = 256;

/// The calls of io_uring, which have the same numbers on all processors, and the name that allows them.
const IO_URING: [&str; 3] = ["io_uring_setup", "io_uring_enter", "io_uring_register"];
const IO_URING_FIRST: u32 = 425;

/// The call of 32-bit x86 that makes every other call about sockets.
const SOCKETCALL: &str = "socketcall";

/// Whether processes of machines may leave core dumps. A new machine's may not (`sandbox set --core-dumps`): they have
/// the memory of agents, with its tokens, and fill the disk.
///
/// A `core_pattern` that begins with `|` names a program of the host, which the kernel runs as the host's root for a
/// crash in any machine, with the guest's memory as its input. The kernel passes over that program for a process whose
/// limit is 1 byte, and for no other value, so that the limit is set and kept there. A dump into a file is as small as
/// that, and is not written.
///
/// **Source**: core(5), "Piping core dumps to a program"; `fs/coredump.c` of Linux 6.12, `cprm.limit == 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Dumps {
    /// They may: the kernel writes a file in the machine.
    Allowed,
    /// They may not.
    Refused,
}

impl Dumps {
    /// Returns what this host's `core_pattern` calls for.
    #[must_use]
    pub fn of_host() -> Self {
        let pattern = fs::read("/proc/sys/kernel/core_pattern").unwrap_or_default();
        if pattern.starts_with(b"|") { Self::Refused } else { Self::Allowed }
    }

    /// Returns what this host's `core_pattern` and a machine's limits call for.
    #[must_use]
    pub fn of(limits: &Limits) -> Self {
        if limits.no_core_dumps { Self::Refused } else { Self::of_host() }
    }

    /// Returns what counts for a process that joins a machine: as its first process, or this host's `core_pattern`.
    #[must_use]
    pub fn of_machine(leader: i32) -> Self {
        let limits = fs::read_to_string(format!("/proc/{leader}/limits")).unwrap_or_default();
        let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size"));
        // the hard limit, which is the second
        match core.and_then(|core| core.split_whitespace().nth(1)) {
            Some("1") => Self::Refused,
            _ => Self::of_host(),
        }
    }
}

/// What a profile has allowed by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Allowed {
    io_uring: bool,
    socketcall: bool,
}

impl Allowed {
    fn of<S: AsRef<str>>(calls: &[S]) -> Self {
        let has = |wanted: &[&str]| calls.iter().any(|call| wanted.contains(&call.as_ref()));
        Self { io_uring: has(&IO_URING), socketcall: has(&[SOCKETCALL]) }
    }
}

/// Returns those calls of a definition that this filter has, for a backend that starts a machine by a command.
#[must_use]
pub fn allowed(calls: &[String]) -> Vec<&str> {
    let known = |call: &&str| *call == SOCKETCALL || IO_URING.contains(call);
    calls.iter().map(String::as_str).filter(known).collect()
}
