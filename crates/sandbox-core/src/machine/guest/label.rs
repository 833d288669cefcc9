//! The AppArmor profile that confines a machine, taken over by what is run in it.
//!
//! Joining namespaces leaves one's own confinement as it is, which on the host is none: without this a command in a
//! container of LXC's would have more rights than the container's own first process.
//!
//! **Source**: apparmor(7), `/proc/self/attr/apparmor/exec`; lxc-attach does the same.

use std::{
    ffi::{CStr, CString},
    fs,
    os::fd::OwnedFd,
};

use rustix::fs::{CWD, Mode, OFlags, openat};

/// What the kernel is told before the payload is executed.
#[derive(Debug)]
pub(super) struct Label {
    /// The host's /proc: the guest's may say anything.
    pub(super) proc: OwnedFd,
    /// The file below it.
    pub(super) file: &'static CStr,
    /// `exec` and the label.
    pub(super) text: CString,
}

impl Label {
    /// Reads the label of a machine's first process; none where it is no other than ours.
    pub(super) fn of(pid: i32) -> Option<Self> {
        let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled").ok()?;
        if enabled.trim() != "Y" {
            return None;
        }
        let read = |of: &str, file: &str| fs::read_to_string(format!("/proc/{of}/attr/{file}")).ok();
        let (current, file) = match read("self", "apparmor/current") {
            Some(_) => ("apparmor/current", c"self/attr/apparmor/exec"),
            None => ("current", c"self/attr/exec"),
        };
        let label = other(&read("self", current)?, &read(&pid.to_string(), current)?)?;
        let text = CString::new(format!("exec {label}")).ok()?;
        let proc = openat(CWD, "/proc", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
        Some(Self { proc, file, text })
    }
}

/// Gives the label of theirs where it confines and is not ours.
fn other(ours: &str, theirs: &str) -> Option<String> {
    let label = |text: &str| {
        let text = text.trim_end_matches(['\n', '\0']);
        // the mode stands behind: `name (enforce)`
        text.rsplit_once(" (").map_or(text, |(label, _)| label).to_owned()
    };
    let (ours, theirs) = (label(ours), label(theirs));
    (theirs != "unconfined" && theirs != ours && !theirs.is_empty()).then_some(theirs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_confinement_is_taken_over() {
        let of_lxc = "lxc-a_</var/lib/lxc>//&:lxc-a_<-var-lib-lxc>:unconfined (enforce)\n";
        assert_eq!(
            other("unconfined\n", of_lxc).unwrap(),
            "lxc-a_</var/lib/lxc>//&:lxc-a_<-var-lib-lxc>:unconfined"
        );
        assert_eq!(other("unconfined\n", "unconfined\n"), None);
        assert_eq!(other("docker-default (enforce)", "docker-default (enforce)"), None);
    }
}
