//! The filter as a program of classic BPF, and its installation between fork and exec.

#![allow(unsafe_code, reason = "seccomp(2) takes a pointer to the program and has no safe form")]

use std::io;

use super::{Allowed, Dumps, FAMILIES, IO_URING, IO_URING_FIRST, IPPROTO_SMC};

/// The numbers of one way into the kernel.
///
/// **Source**: `include/uapi/linux/audit.h`; `arch/x86/entry/syscalls`, `arch/arm64/include/asm`, `arch/arm/tools` of
/// Linux 6.12.
#[derive(Clone, Copy, Debug)]
struct Way {
    /// What seccomp calls it.
    audit: u32,
    socket: u32,
    socketpair: u32,
    socketcall: Option<u32>,
    setrlimit: u32,
    prlimit64: u32,
}

/// x32 makes the calls of x86-64 with this bit in their numbers.
const X32: u32 = 0x4000_0000;

const X86_64: Way =
    Way { audit: 0xc000_003e, socket: 41, socketpair: 53, socketcall: None, setrlimit: 160, prlimit64: 302 };
const I386: Way = Way {
    audit: 0x4000_0003,
    socket: 359,
    socketpair: 360,
    socketcall: Some(102),
    setrlimit: 75,
    prlimit64: 340,
};
const AARCH64: Way = Way {
    audit: 0xc000_00b7,
    socket: 198,
    socketpair: 199,
    socketcall: None,
    setrlimit: 164,
    prlimit64: 261,
};
const ARM: Way =
    Way { audit: 0x4000_0028, socket: 281, socketpair: 288, socketcall: None, setrlimit: 75, prlimit64: 369 };

/// All ways; on a processor the others' are never seen.
const WAYS: [Way; 4] = [X86_64, AARCH64, I386, ARM];

/// Where the kernel puts what is asked for (seccomp(2), `struct seccomp_data`), and the low word of an argument.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const fn argument(index: u32) -> u32 {
    16 + 8 * index + if cfg!(target_endian = "big") { 4 } else { 0 }
}
const fn high_word(index: u32) -> u32 {
    argument(index) ^ 4
}

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const fn refuse(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno as u32
}

/// A filter that can be installed between fork and exec.
#[derive(Clone, Debug)]
pub struct Filter {
    program: Vec<libc::sock_filter>,
    keeps_cores: bool,
}

impl Filter {
    /// Returns the filter of a machine on this host, whose profiles allow some system calls by name.
    ///
    /// Where the host hands core dumps to a program, which runs as the host's root whatever crashed, the machine makes
    /// none: see [`Dumps`](super::Dumps).
    #[must_use]
    pub fn new<S: AsRef<str>>(allowed: &[S], dumps: Dumps) -> Self {
        let keeps_cores = dumps == Dumps::Refused;
        Self { program: program(Allowed::of(allowed), dumps), keeps_cores }
    }

    /// Returns the program as the kernel has it in memory.
    pub(super) fn steps(&self) -> Vec<u8> {
        let step = |step: &libc::sock_filter| {
            let mut bytes = step.code.to_ne_bytes().to_vec();
            bytes.extend([step.jt, step.jf]);
            bytes.extend(step.k.to_ne_bytes());
            bytes
        };
        self.program.iter().flat_map(step).collect()
    }

    /// Installs the filter for the calling thread and all that it executes.
    ///
    /// Two system calls and no allocation: it may be called between fork and exec. The caller must have CAP_SYS_ADMIN
    /// in its user namespace, because `no_new_privs`, which would be the other way, ends sudo in the guest.
    ///
    /// # Errors
    /// What seccomp(2) reports.
    pub fn install(&self) -> io::Result<()> {
        let program = libc::sock_fprog {
            len: u16::try_from(self.program.len()).unwrap_or(0),
            filter: self.program.as_ptr().cast_mut(),
        };
        let one = libc::rlimit { rlim_cur: 1, rlim_max: 1 };
        // SAFETY: a plain system call on a value of the stack.
        if self.keeps_cores && unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const one) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // without the flag a kernel before 5.16 slows all that the guest runs (spec_store_bypass)
        let flags = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
        // SAFETY: the kernel copies the program, which outlives the call.
        let done = unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
        };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;

const fn step(code: u32, k: u32, yes: u8, no: u8) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: yes, jf: no, k }
}

const fn load(from: u32) -> libc::sock_filter {
    step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, from, 0, 0)
}

const fn give(value: u32) -> libc::sock_filter {
    step(libc::BPF_RET | libc::BPF_K, value, 0, 0)
}

/// Passes over some steps unless the value is one.
const fn unless(value: u32, over: u8) -> libc::sock_filter {
    step(EQUAL, value, 0, over)
}

/// Writes the program. What is neither about sockets nor io_uring is decided by the architecture and the number
/// alone, which the kernel does once for each number and not at each call (Linux 5.11, `seccomp_cache_prepare`).
fn program(allowed: Allowed, dumps: Dumps) -> Vec<libc::sock_filter> {
    let mut all = vec![load(ARCH)];
    for way in WAYS {
        let block = of_way(way, allowed, dumps);
        let length = u8::try_from(block.len()).unwrap_or(u8::MAX);
        all.push(unless(way.audit, length));
        all.extend(block);
    }
    // no other way exists on these processors
    all.push(give(refuse(libc::ENOSYS)));
    all
}

fn of_way(way: Way, allowed: Allowed, dumps: Dumps) -> Vec<libc::sock_filter> {
    let mut all = vec![load(NUMBER)];
    if way.audit == X86_64.audit {
        all.push(step(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, !X32, 0, 0));
    }
    let mut whole: Vec<u32> = Vec::new();
    if !allowed.io_uring {
        whole.extend((IO_URING_FIRST..).take(IO_URING.len()));
    }
    if !allowed.socketcall {
        whole.extend(way.socketcall);
    }
    for number in whole {
        all.extend([unless(number, 1), give(refuse(libc::ENOSYS))]);
    }
    if dumps == Dumps::Refused {
        all.extend(limits(way));
    }
    let families = families();
    let over = u8::try_from(families.len()).unwrap_or(u8::MAX);
    // either call passes to the families, and every other one over them
    all.extend([step(EQUAL, way.socket, 1, 0), unless(way.socketpair, over)]);
    all.extend(families);
    all.push(give(ALLOW));
    all
}

/// Judges a call of socket(2) or socketpair(2), whose arguments are the same.
fn families() -> Vec<libc::sock_filter> {
    let mut all = vec![load(argument(2)), unless(IPPROTO_SMC, 1), give(refuse(libc::EPROTONOSUPPORT))];
    all.push(load(argument(0)));
    for family in FAMILIES {
        all.extend([unless(family, 1), give(ALLOW)]);
    }
    all.push(give(refuse(libc::EAFNOSUPPORT)));
    all
}

/// Answers a change of the limit of core dumps with a success that changes nothing: programs that forbid themselves
/// core dumps end where they cannot.
fn limits(way: Way) -> Vec<libc::sock_filter> {
    let unchanged = give(refuse(0));
    let mut all = vec![unless(way.setrlimit, 4), load(argument(0)), unless(libc::RLIMIT_CORE, 1), unchanged];
    all.push(give(ALLOW));
    all.extend([unless(way.prlimit64, 9), load(argument(1)), unless(libc::RLIMIT_CORE, 6)]);
    // without new limits it only asks
    all.extend([load(argument(2)), unless(0, 3), load(high_word(2)), unless(0, 1), give(ALLOW), unchanged]);
    all.push(give(ALLOW));
    all
}

#[cfg(test)]
mod tests;
