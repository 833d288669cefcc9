//! This process into a machine's user and mount namespaces and its root.

#![allow(
    unsafe_code,
    reason = "setns(2) of a user namespace and setresuid(2) of one thread have no safe form"
)]

use std::{
    fs::{self, File},
    io,
    os::fd::AsRawFd as _,
    path::Path,
};

use nix::sched::{CloneFlags, setns};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::CopyError;
use crate::{
    host::root::{Links, Root},
    machine::{Leader, processes},
};

/// Makes this process one of a machine's: its root's powers and no more, its mounts, its root. It stays outside the
/// machine's process namespace, so that nobody in the machine can see or touch it.
///
/// The process must have one thread (setns(2), user namespaces).
///
/// # Errors
/// Where the leader is gone or a namespace cannot be joined.
pub fn enter(leader: &Leader, began: u64) -> Result<Root, CopyError> {
    let failed = |step| move |source: io::Error| CopyError::Enter { step, source };
    let gone = "opening the machine's first process";
    let pid = Pid::from_raw(leader.pid).ok_or_else(|| failed(gone)(io::ErrorKind::NotFound.into()))?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|errno| failed(gone)(errno.into()))?;
    if processes::began(leader.pid) != Some(began) {
        return Err(failed(gone)(io::ErrorKind::NotFound.into()));
    }
    let root = File::open(format!("/proc/{}/root", leader.pid)).map_err(failed("opening its root"))?;
    let namespace = |of: &str, name: &str| fs::read_link(format!("/proc/{of}/ns/{name}"));
    let mut flags = CloneFlags::empty();
    for (name, flag) in [("user", CloneFlags::CLONE_NEWUSER), ("mnt", CloneFlags::CLONE_NEWNS)] {
        let theirs = namespace(&leader.pid.to_string(), name).map_err(failed("reading its namespaces"))?;
        if namespace("self", name).map_err(failed("reading our namespaces"))? != theirs {
            flags |= flag;
        }
    }
    if !flags.is_empty() {
        setns(&pidfd, flags).map_err(|errno| failed("joining its namespaces")(errno.into()))?;
    }
    // SAFETY: plain system calls on a descriptor that is open and a string that is static.
    let moved = unsafe { libc::fchdir(root.as_raw_fd()) == 0 && libc::chroot(c".".as_ptr()) == 0 };
    if !moved {
        return Err(failed("entering its root")(io::Error::last_os_error()));
    }
    if flags.contains(CloneFlags::CLONE_NEWUSER) {
        // SAFETY: plain system calls; the process has one thread.
        let became = unsafe {
            libc::setgroups(0, std::ptr::null()) == 0
                && libc::setresgid(0, 0, 0) == 0
                && libc::setresuid(0, 0, 0) == 0
        };
        if !became {
            return Err(failed("becoming its root")(io::Error::last_os_error()));
        }
    }
    // SAFETY: a plain system call. What is made here has the permissions that it is given.
    unsafe { libc::umask(0) };
    Root::open(Path::new("/"), Links::InTree).map_err(failed("opening its root"))
}
