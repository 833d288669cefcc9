use super::*;

/// Runs a program as the kernel does, on the words of `struct seccomp_data`.
fn judge(filter: &Filter, audit: u32, number: u32, arguments: [u64; 3]) -> u32 {
    let word = |at: u32| match at {
        NUMBER => number,
        ARCH => audit,
        _ => {
            let argument = arguments[usize::try_from((at - 16) / 8).unwrap()];
            let high = (at % 8 == 4) != cfg!(target_endian = "big");
            u32::try_from(if high { argument >> 32 } else { argument & 0xffff_ffff }).unwrap()
        }
    };
    let (mut at, mut value) = (0, 0);
    loop {
        let step = filter.program[at];
        at += 1;
        let code = u32::from(step.code);
        if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS {
            value = word(step.k);
        } else if code == libc::BPF_ALU | libc::BPF_AND | libc::BPF_K {
            value &= step.k;
        } else if code == EQUAL {
            at += usize::from(if value == step.k { step.jt } else { step.jf });
        } else {
            assert_eq!(code, libc::BPF_RET | libc::BPF_K);
            return step.k;
        }
    }
}

/// Each way with its bit: x32 is the third of x86.
const ALL: [(Way, u32); 5] = [(X86_64, 0), (X86_64, X32), (I386, 0), (AARCH64, 0), (ARM, 0)];

#[test]
fn only_the_families_of_containers_can_be_had_by_any_way() {
    let filter = Filter::new::<&str>(&[], Dumps::Allowed);
    for (way, bit) in ALL {
        for call in [way.socket, way.socketpair] {
            for family in 0..64 {
                let wanted = if FAMILIES.contains(&family) { ALLOW } else { refuse(libc::EAFNOSUPPORT) };
                let seen = judge(&filter, way.audit, call | bit, [family.into(), 1, 0]);
                assert_eq!(seen, wanted, "{way:?} {bit:x} {call} {family}");
            }
            // the kernel takes an int: what is above it hides nothing
            let hidden = judge(&filter, way.audit, call | bit, [0x1_0000_0028, 1, 0]);
            assert_eq!(hidden, refuse(libc::EAFNOSUPPORT), "{way:?}");
            let smc = judge(&filter, way.audit, call | bit, [2, 1, 0xf_0000_0100]);
            assert_eq!(smc, refuse(libc::EPROTONOSUPPORT), "{way:?}");
        }
    }
}

#[test]
fn what_cannot_be_filtered_is_refused_whole_unless_a_profile_names_it() {
    let (strict, open) = (
        Filter::new::<&str>(&[], Dumps::Allowed),
        Filter::new(&["io_uring_setup", "socketcall", "bpf"], Dumps::Allowed),
    );
    for (way, bit) in ALL {
        let mut calls = vec![425, 426, 427];
        calls.extend(way.socketcall);
        for call in calls {
            assert_eq!(
                judge(&strict, way.audit, call | bit, [1, 0, 0]),
                refuse(libc::ENOSYS),
                "{way:?} {call}"
            );
            assert_eq!(judge(&open, way.audit, call | bit, [1, 0, 0]), ALLOW, "{way:?} {call}");
        }
        // numbers beside them
        for call in [0, 1, way.socketpair + 1, way.socket - 1, 424, 428, 435] {
            assert_eq!(judge(&strict, way.audit, call | bit, [40, 0, 0]), ALLOW, "{way:?} {call}");
        }
        let vsock = judge(&open, way.audit, way.socket | bit, [40, 1, 0]);
        assert_eq!(vsock, refuse(libc::EAFNOSUPPORT), "what is named opens no more than itself");
    }
    assert_eq!(judge(&strict, 0xdead, 1, [0; 3]), refuse(libc::ENOSYS), "an unknown way");
}

#[test]
fn the_kernel_takes_it() {
    // in a child of its own: a filter cannot be taken off
    let filter = Filter::new::<&str>(&[], Dumps::Refused);
    // SAFETY: the child makes only system calls.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: as above; no_new_privs stands in for the capability, which a test may lack.
        unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            let installed = filter.install().is_ok();
            let refused = libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0) == -1
                && *libc::__errno_location() == libc::EAFNOSUPPORT;
            let ring = libc::syscall(libc::SYS_io_uring_setup, 1, 0) == -1
                && *libc::__errno_location() == libc::ENOSYS;
            let local = libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0) >= 0;
            let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            let mut seen = none;
            let quiet = libc::setrlimit(libc::RLIMIT_CORE, &raw const none) == 0
                && libc::getrlimit(libc::RLIMIT_CORE, &raw mut seen) == 0
                && seen.rlim_cur == 1
                && seen.rlim_max == 1;
            libc::_exit(i32::from(!(installed && refused && ring && local && quiet)));
        }
    }
    let mut status = -1;
    // SAFETY: the child is this test's.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(status, 0);
}

#[test]
fn the_limit_of_core_dumps_stays_where_the_host_has_a_handler() {
    let (kept, free) = (Filter::new::<&str>(&[], Dumps::Refused), Filter::new::<&str>(&[], Dumps::Allowed));
    for (way, bit) in ALL {
        for (call, arguments, kept_at) in [
            (way.setrlimit, [4, 0x1000, 0], true),
            (way.setrlimit, [7, 0x1000, 0], false),
            (way.prlimit64, [0, 4, 0x1000], true),
            (way.prlimit64, [0, 4, 0x1_0000_0000], true),
            (way.prlimit64, [0, 4, 0], false),
            (way.prlimit64, [0, 7, 0x1000], false),
        ] {
            let wanted = if kept_at { refuse(0) } else { ALLOW };
            assert_eq!(
                judge(&kept, way.audit, call | bit, arguments),
                wanted,
                "{way:?} {call} {arguments:x?}"
            );
            assert_eq!(judge(&free, way.audit, call | bit, arguments), ALLOW);
        }
        let vsock = judge(&kept, way.audit, way.socket | bit, [40, 1, 0]);
        assert_eq!(vsock, refuse(libc::EAFNOSUPPORT), "{way:?}");
    }
}
