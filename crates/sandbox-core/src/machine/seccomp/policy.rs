//! The same filter as liblxc reads it, which installs it itself: its monitor's other children must not have it.

use std::fmt::Write as _;

use super::{Allowed, Dumps, FAMILIES, IO_URING, IPPROTO_SMC, SOCKETCALL};

/// What liblxc's own `common.seccomp` denies, which this one takes the place of.
const SHIPPED: &str = "2\ndenylist\nreject_force_umount\n[all]\n\
    kexec_load errno 1\nkexec_file_load errno 1\nopen_by_handle_at errno 1\n\
    init_module errno 1\nfinit_module errno 1\ndelete_module errno 1\n";

/// Writes the policy of a machine whose profiles allow some system calls by name.
///
/// **Source**: lxc.container.conf(5), "SECCOMP CONFIGURATION", version 2; `src/lxc/seccomp.c` of liblxc 5.0 and 6.0,
/// which applies a section `[all]` to every architecture of the processor. libseccomp compares whole words: what is
/// above the last family, and so whatever is above the low word, is one rule.
pub(in crate::machine) fn policy<S: AsRef<str>>(calls: &[S], dumps: Dumps) -> String {
    let allowed = Allowed::of(calls);
    let mut text = SHIPPED.to_owned();
    let last = FAMILIES.into_iter().max().unwrap_or(0);
    for call in ["socket", "socketpair"] {
        for family in (0..last).filter(|family| !FAMILIES.contains(family)) {
            let _ = writeln!(text, "{call} errno {} [0,{family},SCMP_CMP_EQ]", libc::EAFNOSUPPORT);
        }
        let _ = writeln!(text, "{call} errno {} [0,{last},SCMP_CMP_GT]", libc::EAFNOSUPPORT);
    }
    let _ = writeln!(
        text,
        "socket errno {} [2,0xffffffff,SCMP_CMP_MASKED_EQ,{IPPROTO_SMC}]",
        libc::EPROTONOSUPPORT
    );
    if dumps == Dumps::Refused {
        let core = libc::RLIMIT_CORE;
        let _ = writeln!(text, "setrlimit errno 0 [0,{core},SCMP_CMP_EQ]");
        let _ = writeln!(text, "prlimit64 errno 0 [1,{core},SCMP_CMP_EQ][2,0,SCMP_CMP_NE]");
    }
    if !allowed.io_uring {
        for call in IO_URING {
            let _ = writeln!(text, "{call} errno {}", libc::ENOSYS);
        }
    }
    if !allowed.socketcall {
        let _ = writeln!(text, "{SOCKETCALL} errno {}", libc::ENOSYS);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_is_decided_once() {
        let text = policy::<&str>(&[], Dumps::Allowed);
        for call in ["socket", "socketpair"] {
            let refused =
                |family: u32| text.matches(&format!("\n{call} errno 97 [0,{family},SCMP_CMP_EQ]\n")).count();
            for family in 0..17 {
                assert_eq!(refused(family), usize::from(!FAMILIES.contains(&family)), "{call} {family}");
            }
            assert!(text.contains(&format!("\n{call} errno 97 [0,17,SCMP_CMP_GT]\n")), "{text}");
        }
        assert!(text.contains("\nsocketcall errno 38\n") && text.contains("\nio_uring_setup errno 38\n"));
        let open = policy(&["io_uring_setup", "socketcall"], Dumps::Refused);
        assert!(!open.contains("socketcall") && !open.contains("io_uring"), "{open}");
        assert!(
            open.contains("\nsetrlimit errno 0 [0,4,SCMP_CMP_EQ]\n") && !text.contains("rlimit"),
            "{open}"
        );
    }
}
