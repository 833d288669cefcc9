//! What containers inside a machine need: one clean procfs and one clean sysfs within the kernel's sight.
//!
//! In a mount namespace owned by a user namespace the kernel makes a new proc or sysfs mount only where a
//! fully visible one stands already. systemd-nspawn masks parts of both, so `docker run`, bubblewrap and
//! rootless containers fail in the guest. A host process makes one of each for the leader's namespaces and
//! attaches them below a folder that only the host's root may enter: the guest can look in neither, and
//! none of the host's own values shows in them.
//!
//! **Source**: `mnt_already_visible` in the kernel's `fs/namespace.c`; systemd issues 27994 and 34226.

use std::{fs, io, os::fd::OwnedFd, thread};

use nix::sched::{CloneFlags, setns, unshare};
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, fstat, mkdirat, openat},
    io::Errno,
    mount::{
        FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, MoveMountFlags, fsconfig_create,
        fsconfig_reconfigure, fsconfig_set_flag, fsmount, fsopen, fspick, move_mount,
    },
    process::{Pid, PidfdFlags, pidfd_open},
};

use crate::error::{Cause, Class, Hint};

/// The folder in the guest, owned by the host's root, 0700.
const FOLDER: &str = "/run/.sandbox";

/// The file systems that stand in it, under their own names.
const FILE_SYSTEMS: [FileSystem; 2] =
    [FileSystem { kind: "proc", writable: false }, FileSystem { kind: "sysfs", writable: true }];

struct FileSystem {
    kind: &'static str,
    /// nspawn made the one superblock of the network namespace read-only, which `docker run --privileged`
    /// cannot undo; nspawn's own mounts of it keep their read-only flag.
    writable: bool,
}

/// What a cure did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cure {
    /// Both mounts are there now and were not before.
    Made,
    /// They were there already.
    Present,
    /// The machine has no user namespace of its own and needs none.
    Needless,
}

/// Why a machine could not be cured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such process.
    #[error("process {pid} is not a machine's leader")]
    Leader {
        /// The process id.
        pid: i32,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel refused a step.
    #[error("the kernel refused to {step}")]
    Refused {
        /// The step, as a verb phrase.
        step: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The guest put something else where the mounts go.
    #[error("{FOLDER} in the guest is not a folder of the host's root")]
    Occupied,
    /// The thread that does the work came to an unexpected end.
    #[error("the thread that joined the machine's namespaces panicked")]
    Thread,
}

impl Cause for Error {
    fn class(&self) -> Class {
        match self {
            Self::Leader { .. } => Class::Unavailable,
            Self::Refused { .. } => Class::Host,
            Self::Occupied => Class::Untrusted,
            Self::Thread => Class::Bug,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Refused { .. } => vec![Hint::Note("nesting needs root and Linux 5.10 or newer".into())],
            _ => Vec::new(),
        }
    }
}

/// Gives the machine whose first process is `leader` the two mounts. May be repeated.
///
/// It works in a thread with a working directory and root of its own, so the caller's stay as they are.
///
/// # Errors
/// Where the leader is gone, a namespace cannot be joined or a mount cannot be made.
pub fn cure(leader: i32) -> Result<Cure, Error> {
    let pid = Pid::from_raw(leader)
        .ok_or_else(|| Error::Leader { pid: leader, source: io::ErrorKind::InvalidInput.into() })?;
    // The pidfd first: a number that is taken over by another process later changes nothing.
    let pidfd = pidfd_open(pid, PidfdFlags::empty())
        .map_err(|source| Error::Leader { pid: leader, source: source.into() })?;
    if !has_user_namespace(leader).map_err(|source| Error::Leader { pid: leader, source })? {
        return Ok(Cure::Needless);
    }
    thread::spawn(move || inside(&pidfd)).join().map_err(|_| Error::Thread)?
}

fn has_user_namespace(leader: i32) -> io::Result<bool> {
    Ok(fs::read_link(format!("/proc/{leader}/ns/user"))? != fs::read_link("/proc/self/ns/user")?)
}

fn inside(pidfd: &OwnedFd) -> Result<Cure, Error> {
    join("leave the shared working directory", unshare(CloneFlags::CLONE_FS))?;
    let outer = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWPID;
    join("join the machine's network and process namespaces", setns(pidfd, outer))?;
    // Made while this thread is still in the host's mount namespace, or the rule above would refuse them.
    let mounts = FILE_SYSTEMS.iter().map(detached).collect::<Result<Vec<_>, _>>()?;
    join("join the machine's mount namespace", setns(pidfd, CloneFlags::CLONE_NEWNS))?;
    let folder = folder()?;
    let mut done = Cure::Present;
    for (file_system, mount) in FILE_SYSTEMS.iter().zip(mounts) {
        if attach(&folder, file_system.kind, &mount)? {
            done = Cure::Made;
        }
    }
    Ok(done)
}

fn join(step: &'static str, result: nix::Result<()>) -> Result<(), Error> {
    result.map_err(|errno| Error::Refused { step, source: errno.into() })
}

fn refused(step: &'static str) -> impl FnOnce(Errno) -> Error {
    move |errno| Error::Refused { step, source: errno.into() }
}

/// Makes a mount that stands nowhere yet.
fn detached(file_system: &FileSystem) -> Result<OwnedFd, Error> {
    let context =
        fsopen(file_system.kind, FsOpenFlags::FSOPEN_CLOEXEC).map_err(refused("open a file system"))?;
    fsconfig_create(&context).map_err(refused("create a file system"))?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .map_err(refused("make a detached mount"))?;
    if file_system.writable {
        let picked = fspick(&mount, "", FsPickFlags::FSPICK_EMPTY_PATH | FsPickFlags::FSPICK_CLOEXEC)
            .map_err(refused("pick the sysfs of the machine"))?;
        fsconfig_set_flag(&picked, "rw").map_err(refused("ask for a writable sysfs"))?;
        fsconfig_reconfigure(&picked).map_err(refused("make the sysfs of the machine writable"))?;
    }
    Ok(mount)
}

/// Opens the folder of the mounts, makes it where it is missing, and refuses one that the guest made.
fn folder() -> Result<OwnedFd, Error> {
    match mkdirat(CWD, FOLDER, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(refused("make a folder in the machine's /run")(errno)),
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::PATH | OFlags::CLOEXEC;
    let folder = openat(CWD, FOLDER, flags, Mode::empty()).map_err(|_| Error::Occupied)?;
    let stat = fstat(&folder).map_err(refused("look at the folder of the mounts"))?;
    // The guest's root is another user here: what it made has another owner.
    if stat.st_uid != 0 || stat.st_mode & 0o777 != 0o700 {
        return Err(Error::Occupied);
    }
    Ok(folder)
}

/// Attaches a mount under its name; tells whether it had to.
fn attach(folder: &OwnedFd, name: &str, mount: &OwnedFd) -> Result<bool, Error> {
    match mkdirat(folder, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(refused("make a mount point in the machine")(errno)),
    }
    let present = device(folder, name)? != fstat(folder).map_err(refused("look at the folder"))?.st_dev;
    if present {
        return Ok(false);
    }
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(mount, "", folder, name, flags).map_err(refused("attach a mount in the machine"))?;
    Ok(true)
}

fn device(folder: &OwnedFd, name: &str) -> Result<u64, Error> {
    rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
        .map(|stat| stat.st_dev)
        .map_err(refused("look at a mount point in the machine"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_in_our_own_user_namespace_needs_nothing() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(cure(own).unwrap(), Cure::Needless);
    }

    #[test]
    fn a_process_that_is_not_there_is_told_apart_from_a_refusal() {
        for pid in [0, i32::MAX] {
            assert!(matches!(cure(pid), Err(Error::Leader { .. })), "{pid}");
        }
    }
}
