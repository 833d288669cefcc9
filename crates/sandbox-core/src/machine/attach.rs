//! Folders of the host in a running machine, by its leader alone.
//!
//! A copy of the mount is made, its owners mapped to the machine's (the numbers are the same on both sides), and it
//! is moved into the machine's mount namespace. Before that it passes through a mount namespace of another user
//! namespace: what is copied there has its flags locked, so that not even the guest's root can make a read-only
//! mount writable again.
//!
//! **Source**: open_tree(2), mount_setattr(2), move_mount(2), mount_namespaces(7) ("Restrictions on mount
//! namespaces").

#![allow(unsafe_code, reason = "mount_setattr(2), fork(2) and what follows have no safe form")]

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    thread,
};

use nix::sched::{CloneFlags, setns, unshare};
use rustix::{
    fs::{Mode, OFlags, ResolveFlags, StatxFlags, open, openat2, statx},
    io::Errno,
    mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount},
    process::{Pid, PidfdFlags, pidfd_open},
};

use super::{HostFolder, Leader};
use crate::error::{Cause, Class, Hint};

/// Why a folder is not mounted.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The kernel refused a step.
    #[error("the kernel refused to {step} ({path})", path = path.display())]
    Refused {
        /// The step, as a verb phrase.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The folder's file system cannot be mounted with other owners.
    #[error("the file system of {path} cannot map owners", path = path.display())]
    Unmappable {
        /// The folder.
        path: PathBuf,
    },
    /// Something is mounted there.
    #[error("something is mounted on {path} already", path = path.display())]
    Taken {
        /// Where.
        path: PathBuf,
    },
    /// The thread that does the work came to an unexpected end.
    #[error("the thread that joined the machine's namespaces panicked")]
    Thread,
}

impl Cause for AttachError {
    fn class(&self) -> Class {
        match self {
            Self::Refused { .. } | Self::Unmappable { .. } => Class::Host,
            Self::Taken { .. } => Class::Unavailable,
            Self::Thread => Class::Bug,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Unmappable { .. } => {
                vec![Hint::Note("ext4, xfs, btrfs and tmpfs can, on Linux 5.12, 5.15 and 6.3".into())]
            }
            _ => Vec::new(),
        }
    }
}

fn refused(step: &'static str, path: &Path) -> impl FnOnce(Errno) -> AttachError {
    let path = path.to_owned();
    move |errno| AttachError::Refused { step, path, source: errno.into() }
}

/// The open doors of a machine.
struct Doors {
    pidfd: OwnedFd,
    root: OwnedFd,
    /// Its user namespace, where it is not ours.
    users: Option<File>,
}

impl Doors {
    fn open(leader: &Leader) -> Result<Self, AttachError> {
        let folder = PathBuf::from(format!("/proc/{}", leader.pid));
        let gone = |errno| refused("open the machine's first process", &folder)(errno);
        let pid = Pid::from_raw(leader.pid).ok_or(Errno::SRCH).map_err(gone)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(gone)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = open(folder.join("root"), flags, Mode::empty()).map_err(gone)?;
        let io = |source: io::Error| AttachError::Refused {
            step: "open the machine's user namespace",
            path: folder.clone(),
            source,
        };
        let theirs = folder.join("ns/user");
        let same = std::fs::read_link(&theirs).map_err(io)?
            == std::fs::read_link("/proc/self/ns/user").map_err(io)?;
        let users = if same { None } else { Some(File::open(&theirs).map_err(io)?) };
        Ok(Self { pidfd, root, users })
    }

    /// Joins the machine's mount namespace, this thread alone.
    fn enter(&self, path: &Path) -> Result<(), AttachError> {
        let joined = unshare(CloneFlags::CLONE_FS).and_then(|()| setns(&self.pidfd, CloneFlags::CLONE_NEWNS));
        joined.map_err(|errno| AttachError::Refused {
            step: "join the machine's mount namespace",
            path: path.to_owned(),
            source: errno.into(),
        })
    }

    /// Opens a folder of the guest; its links lead into the guest.
    fn folder(&self, path: &Path) -> Result<OwnedFd, AttachError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.root, path, flags, Mode::empty(), within)
            .map_err(refused("open the guest's folder", path))
    }
}

/// Mounts a folder of the host in a running machine.
///
/// # Errors
/// [`AttachError`]; then nothing is mounted.
pub fn attach(leader: &Leader, folder: &HostFolder) -> Result<(), AttachError> {
    let doors = Doors::open(leader)?;
    let mount = prepared(&doors, folder)?;
    let path = folder.path.clone();
    let inside = move || {
        doors.enter(&path)?;
        let target = doors.folder(&path)?;
        if is_mount(&target, OsStr::new(""), &path)? {
            return Err(AttachError::Taken { path });
        }
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(&mount, "", &target, "", flags).map_err(refused("attach the mount", &path))
    };
    thread::spawn(inside).join().map_err(|_| AttachError::Thread)?
}

/// What became of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detached {
    /// It is gone.
    Gone,
    /// There was none.
    Absent,
    /// It came with the machine's start: the kernel takes it away with the machine alone (mount_namespaces(7)).
    Locked,
}

/// Takes a mount out of a running machine.
///
/// # Errors
/// [`AttachError`].
pub fn detach(leader: &Leader, path: &Path) -> Result<Detached, AttachError> {
    let doors = Doors::open(leader)?;
    let path = path.to_owned();
    let inside = move || {
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(Detached::Absent);
        };
        doors.enter(&path)?;
        let above = match doors.folder(above) {
            Err(AttachError::Refused { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(Detached::Absent);
            }
            other => other?,
        };
        if !is_mount(&above, name, &path)? {
            return Ok(Detached::Absent);
        }
        // umount(2) takes a path alone, and this thread's working directory is its own
        rustix::process::fchdir(&above).map_err(refused("enter the guest's folder", &path))?;
        let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
        match unmount(Path::new(name), flags) {
            Ok(()) => Ok(Detached::Gone),
            Err(Errno::INVAL) => Ok(Detached::Locked),
            Err(errno) => Err(refused("take the mount away", &path)(errno)),
        }
    };
    thread::spawn(inside).join().map_err(|_| AttachError::Thread)?
}

/// Tells whether a name of a folder, or the folder itself, is the top of a mount.
///
/// **Source**: statx(2), `STATX_ATTR_MOUNT_ROOT`, since Linux 5.8.
fn is_mount(folder: &OwnedFd, name: &OsStr, path: &Path) -> Result<bool, AttachError> {
    let flags = rustix::fs::AtFlags::EMPTY_PATH | rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    match statx(folder, name, flags, StatxFlags::empty()) {
        Ok(found) => Ok(found.stx_attributes.contains(rustix::fs::StatxAttributes::MOUNT_ROOT)),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(refused("look at the guest's folder", path)(errno)),
    }
}

/// Makes a mount that stands nowhere yet, with the machine's owners and flags that the machine cannot change.
fn prepared(doors: &Doors, folder: &HostFolder) -> Result<OwnedFd, AttachError> {
    let source = &folder.source;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = open(source, flags, Mode::empty()).map_err(refused("open the folder", source))?;
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(&opened, "", flags).map_err(refused("copy the mount of", source))?;
    let mut attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    if folder.read_only {
        attributes |= libc::MOUNT_ATTR_RDONLY;
    }
    set(&tree, attributes, None).map_err(refused("set flags on the mount of", source))?;
    let Some(users) = &doors.users else { return Ok(tree) };
    match set(&tree, libc::MOUNT_ATTR_IDMAP, Some(users)) {
        Err(Errno::INVAL) => return Err(AttachError::Unmappable { path: source.clone() }),
        other => other.map_err(refused("map owners on the mount of", source))?,
    }
    locked(&tree).map_err(refused("lock the flags of the mount of", source))
}

/// Sets attributes of a mount that stands nowhere yet; with `users`, a user namespace, its owners are shifted to it.
///
/// **Source**: mount_setattr(2).
pub(super) fn set(tree: &OwnedFd, attributes: u64, users: Option<&File>) -> Result<(), Errno> {
    let wanted = libc::mount_attr {
        attr_set: attributes,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: users.map_or(0, |users| u64::try_from(users.as_raw_fd()).unwrap_or(0)),
    };
    // SAFETY: every pointer is to a value that outlives the call, and the size is the struct's.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const wanted,
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(last()) }
}

fn last() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Gives a copy of a mount whose flags nobody below the host can change.
///
/// A child attaches it in a mount namespace of its own, copies that into another that belongs to a user namespace
/// without powers, and hands a copy of the mount back; both namespaces go with the child.
fn locked(tree: &OwnedFd) -> Result<OwnedFd, Errno> {
    let (near, far) = rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: the child makes only system calls on memory of before the fork, and never returns.
    let child = unsafe { libc::fork() };
    match child {
        -1 => return Err(last()),
        0 => {
            // SAFETY: this is the single-threaded child of a fork.
            let errno = unsafe { lock_in_child(tree.as_raw_fd(), far.as_raw_fd()) };
            // SAFETY: ends this process without running anything of the parent's.
            unsafe { libc::_exit(errno) }
        }
        _ => {}
    }
    drop(far);
    let received = super::guest::receive_file(&near);
    let mut status = 0;
    // SAFETY: the child is ours and is waited for once.
    while unsafe { libc::waitpid(child, &raw mut status, 0) } == -1 && last() == Errno::INTR {}
    match (received, libc::WEXITSTATUS(status)) {
        (Ok(fd), 0) => Ok(fd),
        (_, 0) => Err(Errno::IO),
        (_, errno) => Err(Errno::from_raw_os_error(errno)),
    }
}

/// The child's part; gives 0 or the error's number.
///
/// # Safety
/// Called once, in a freshly forked child.
unsafe fn lock_in_child(tree: libc::c_int, socket: libc::c_int) -> libc::c_int {
    /// A folder that every host has; what it hides is hidden in this namespace alone.
    const PLACE: &std::ffi::CStr = c"/proc";
    let errno = || io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    // SAFETY: only system calls with static strings and numbers of open files.
    unsafe {
        let null = std::ptr::null::<libc::c_char>();
        if libc::unshare(libc::CLONE_NEWNS) != 0
            || libc::mount(null, c"/".as_ptr(), null, libc::MS_REC | libc::MS_PRIVATE, null.cast()) != 0
            || libc::syscall(
                libc::SYS_move_mount,
                tree,
                c"".as_ptr(),
                libc::AT_FDCWD,
                PLACE.as_ptr(),
                libc::MOVE_MOUNT_F_EMPTY_PATH,
            ) != 0
            || libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) != 0
        {
            return errno();
        }
        let copy = libc::syscall(
            libc::SYS_open_tree,
            libc::AT_FDCWD,
            PLACE.as_ptr(),
            libc::OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint,
        );
        if copy < 0 {
            return errno();
        }
        let Ok(copy) = libc::c_int::try_from(copy) else { return libc::EIO };
        if super::guest::send_file(socket, copy) { 0 } else { errno() }
    }
}
