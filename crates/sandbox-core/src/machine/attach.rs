//! Folders of the host in a running machine, by its leader alone.
//!
//! The directory is opened without following a link and compared with its record. A copy of its mount is made, its
//! owners mapped ([`owners`]), and it is moved into the machine's mount namespace. Before that it passes through a
//! mount namespace of another user namespace: what is copied there has its flags locked, so that not even the guest's
//! root can make a read-only mount writable again, and mounts below it are locked to it.
//!
//! **Source**: open_tree(2), mount_setattr(2), move_mount(2), mount_namespaces(7) ("Restrictions on mount
//! namespaces").

#![allow(unsafe_code, reason = "mount_setattr(2) has no safe form")]

pub mod git;
mod locked;

use std::{
    ffi::{CString, OsStr},
    fs::File,
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
    thread,
};

use nix::sched::{CloneFlags, setns, unshare};
use rustix::{
    fs::{AtFlags, Gid, Mode, OFlags, ResolveFlags, Uid, chownat, mkdirat, open, openat2},
    io::Errno,
    mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount},
    process::{Pid, PidfdFlags, pidfd_open},
};

use self::locked::{Nested, locked};
use super::{
    HostFolder, Leader,
    mounts::{
        owners::{self, Owners},
        source::{self, Commands, Source, SourceError},
    },
};
use crate::{
    error::{Cause, Class, Hint},
    host::mountpoint,
};

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
    /// The directory is not the one that was recorded, or cannot be opened.
    #[error(transparent)]
    Source(#[from] SourceError),
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
            Self::Source(source) => source.class(),
            Self::Refused { .. } | Self::Unmappable { .. } => Class::Host,
            Self::Taken { .. } => Class::Unavailable,
            Self::Thread => Class::Bug,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Source(source) => source.hints(),
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

/// Mounts directories of the host in a running machine: the first one, and in it those that are below it.
///
/// Each must be the recorded one, where there is a record; `commands` are what its user can do where it is not. Volumes
/// of the machine that are below the first one stay visible.
///
/// # Errors
/// [`AttachError`]; then nothing is mounted.
pub fn attach(
    leader: &Leader,
    group: &[HostFolder],
    commands: &[Commands],
    volumes: &[PathBuf],
) -> Result<(), AttachError> {
    let Some(first) = group.first() else { return Ok(()) };
    let doors = Doors::open(leader)?;
    let volumes: Vec<_> = volumes.iter().filter(|path| path.starts_with(&first.path)).cloned().collect();
    let mount = prepared(&doors, leader, group, commands, &volumes)?;
    let path = first.path.clone();
    let inside = move || {
        doors.enter(&path)?;
        let target = doors.folder(&path)?;
        if is_mount(&target, OsStr::new(""), &path)? {
            return Err(AttachError::Taken { path });
        }
        let hidden = volumes.iter().filter_map(|path| Some((path, copied(&doors.folder(path).ok()?, path)?)));
        let hidden: Vec<_> = hidden.collect();
        let move_to = |mount: &OwnedFd, target: &OwnedFd, path: &Path| {
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
            move_mount(mount, "", target, "", flags).map_err(refused("attach the mount", path))
        };
        move_to(&mount, &target, &path)?;
        hidden.iter().try_for_each(|(path, volume)| move_to(volume, &doors.folder(path)?, path))
    };
    thread::spawn(inside).join().map_err(|_| AttachError::Thread)?
}

/// Returns a copy of a mount of the machine, none where the directory is not the top of one.
fn copied(folder: &OwnedFd, path: &Path) -> Option<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let is_mount = is_mount(folder, OsStr::new(""), path).unwrap_or(false);
    is_mount.then(|| open_tree(folder, "", flags).ok()).flatten()
}

/// What became of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detached {
    /// It is gone.
    Gone,
    /// There was none.
    Absent,
    /// It is part of a mount that came with the machine's start: the kernel takes it away with that one alone
    /// (mount_namespaces(7)).
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

/// Reports whether a name in a directory, or the directory itself, is the root of a mount; a missing path is not.
fn is_mount(folder: &OwnedFd, name: &OsStr, path: &Path) -> Result<bool, AttachError> {
    match mountpoint::is_root_of_mount(folder, name) {
        Ok(is_mount) => Ok(is_mount),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(refused("look at the guest's folder", path)(errno)),
    }
}

/// Makes a mount that is attached nowhere, with those that are below it, and with flags that the machine cannot change.
fn prepared(
    doors: &Doors,
    leader: &Leader,
    group: &[HostFolder],
    commands: &[Commands],
    volumes: &[PathBuf],
) -> Result<OwnedFd, AttachError> {
    let commands = commands.iter().chain(std::iter::repeat(const { &Commands::NONE }));
    let opened = group.iter().zip(commands).map(|(folder, commands)| {
        let source = source::reopen(&folder.source, folder.identity.as_ref(), commands)?;
        Ok((folder, detached(doors, leader, folder, &source)?, source))
    });
    let mut opened = opened.collect::<Result<Vec<_>, AttachError>>()?;
    let mut nested = Vec::new();
    let mut guarded = Vec::new();
    for (at, (folder, mount, source)) in opened.iter().enumerate() {
        if at > 0 {
            make_point(&opened[..at], &folder.path)?;
            nested.push(nested_in(&group[0], &folder.path, mount, false)?);
        }
        for git in git::guarded(&source.fd, folder) {
            let path = folder.path.join(&git.path);
            let only =
                HostFolder { read_only: true, source: folder.source.join(&git.path), ..(*folder).clone() };
            let fd = git::again(&git.fd).map_err(refused("open", &only.source))?;
            // its files are of the same users as those beside it
            let own = Source { fd, identity: source.identity.clone(), ..*source };
            let mount = detached(doors, leader, &only, &own)?;
            nested.push(nested_in(&group[0], &path, &mount, git.is_file)?);
            guarded.push(mount);
        }
    }
    volumes.iter().try_for_each(|path| make_point(&opened, path))?;
    if doors.users.is_none() && nested.is_empty() {
        // the guest's root is the host's, which no lock stops
        return Ok(opened.swap_remove(0).1);
    }
    locked(&opened[0].1, &nested).map_err(refused("lock the flags of the mount of", &group[0].source))
}

/// Names a mount that is part of an outer one by its path from there.
fn nested_in(outer: &HostFolder, path: &Path, mount: &OwnedFd, is_file: bool) -> Result<Nested, AttachError> {
    let relative = path.strip_prefix(&outer.path).unwrap_or(path);
    let name = CString::new(relative.as_os_str().as_bytes());
    let name = name.map_err(|_| refused("name the mount point", path)(Errno::INVAL))?;
    Ok(Nested { path: name, mount: mount.as_raw_fd(), is_file })
}

/// Makes a mount of a source that is attached nowhere, with the machine's owners.
fn detached(
    doors: &Doors,
    leader: &Leader,
    folder: &HostFolder,
    source: &Source,
) -> Result<OwnedFd, AttachError> {
    let path = &folder.source;
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(&source.fd, "", flags).map_err(refused("copy the mount of", path))?;
    let mut attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    if folder.read_only {
        attributes |= libc::MOUNT_ATTR_RDONLY;
    }
    set(&tree, attributes, None).map_err(refused("set flags on the mount of", path))?;
    let Some(users) = &doors.users else { return Ok(tree) };
    let mapped = match &folder.owners {
        Some(Owners::User(user)) => Some(namespace(leader, user, source).map_err(|source| {
            AttachError::Refused { step: "map owners on the mount of", path: path.clone(), source }
        })?),
        Some(Owners::Same) | None => None,
    };
    match set(&tree, libc::MOUNT_ATTR_IDMAP, Some(mapped.as_ref().unwrap_or(users))) {
        Err(Errno::INVAL) => Err(AttachError::Unmappable { path: path.clone() }),
        other => other.map(|()| tree).map_err(refused("map owners on the mount of", path)),
    }
}

/// Reports whether the file system of a directory maps owners, as machines in user namespaces need it, by trying.
///
/// # Errors
/// What the kernel says of the attempt: `EPERM` without root.
pub fn maps_owners(directory: &Path) -> io::Result<bool> {
    let ids = owners::extents("0 1073741824 65536")?;
    let users = owners::namespace(&ids, &ids)?;
    let opened = open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(&opened, "", flags)?;
    match set(&tree, libc::MOUNT_ATTR_IDMAP, Some(&users)) {
        Err(Errno::INVAL) => Ok(false),
        other => Ok(other.map(|()| true)?),
    }
}

/// Makes a user namespace in which a directory's owner is a user of the machine.
fn namespace(leader: &Leader, user: &owners::User, source: &Source) -> io::Result<File> {
    let ids = |file: &str| owners::extents(&std::fs::read_to_string(format!("/proc/{}/{file}", leader.pid))?);
    let users = owners::map(&ids("uid_map")?, Some((user.uid, source.uid)));
    let group = owners::group(source.uid, source.gid).map(|gid| (user.gid, gid));
    owners::namespace(&users, &owners::map(&ids("gid_map")?, group))
}

/// Makes the directory that a mount below others is on, in the source of the innermost of those.
fn make_point(above: &[(&HostFolder, OwnedFd, Source)], path: &Path) -> Result<(), AttachError> {
    let innermost = above.iter().rev().find(|(above, ..)| path.starts_with(&above.path));
    let Some((folder, _, source)) = innermost else { return Ok(()) };
    let relative = path.strip_prefix(&folder.path).unwrap_or(path);
    make_folders(source, relative).map_err(refused("make the mount point", path))
}

/// Makes directories of a source, for its owner, where they are missing.
///
/// A guest may be changing the source: every step is one name below an open directory.
fn make_folders(source: &Source, relative: &Path) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let mut above = source.fd.try_clone().map_err(|_| Errno::MFILE)?;
    for part in relative.components() {
        let open = || openat2(&above, part.as_os_str(), flags, Mode::empty(), within);
        let next = match open() {
            Err(Errno::NOENT) => {
                mkdirat(&above, part.as_os_str(), Mode::from_raw_mode(0o755))?;
                let made = open()?;
                let (uid, gid) = (Uid::from_raw(source.uid), Gid::from_raw(source.gid));
                chownat(&made, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
                made
            }
            other => other?,
        };
        above = next;
    }
    Ok(())
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
