//! Limits of one folder's bytes, where the file system has them: subvolumes of btrfs, and project quotas of ext4 and xfs.
//!
//! A project is a number that a folder gives to all that is made in it. Nobody in a user namespace can change it.
//!
//! **Source**: quotactl(2), `quotactl_fd(2)` (Linux 5.14); ioctl_xfs_fsgetxattr(2); mkfs.ext4(8), `-O project`; mount(8),
//! `prjquota`; btrfs-qgroup(8).
#![allow(unsafe_code, reason = "ioctl(2) and quotactl_fd(2) have no safe form")]

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd as _},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat};

use super::clonable;
use crate::digest::Sha256;

/// Our projects are numbered from here; those of /etc/projid are small ones.
const FIRST: u32 = 0x5b00_0000;
/// How many there are.
const COUNT: u32 = 0x0100_0000;

const GET_ATTRIBUTES: libc::c_ulong = 0x801c_581f;
const SET_ATTRIBUTES: libc::c_ulong = 0x401c_5820;
const INHERIT: u32 = 0x200;

const PROJECT: u32 = 2;
const GET_QUOTA: u32 = 0x0080_0007;
const SET_QUOTA: u32 = 0x0080_0008;
const GET_STATE: u32 = 0x5808;
const ENFORCED: u16 = 1 << 5;
const BYTES_ARE_SET: u32 = 1;

/// `struct fsxattr`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Attributes {
    flags: u32,
    extent: u32,
    extents: u32,
    project: u32,
    shared_extent: u32,
    reserved: [u8; 8],
}

/// `struct if_dqblk`; limits are in units of 1024 bytes.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Quota {
    hard: u64,
    soft: u64,
    used: u64,
    hard_files: u64,
    soft_files: u64,
    files: u64,
    time: u64,
    time_files: u64,
    valid: u32,
}

/// `struct fs_quota_statv`, of which the first fields are looked at.
#[repr(C, align(8))]
struct State {
    version: i8,
    pad: u8,
    flags: u16,
    rest: [u8; 252],
}

/// How a folder's file system limits it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// The folder is a subvolume of btrfs.
    Subvolume,
    /// The file system has project quotas, and enforces them.
    Project,
}

/// Tells how a folder's bytes can be limited; none where its file system cannot.
#[must_use]
pub fn means(folder: &Path) -> Option<Means> {
    if clonable::is_subvolume(folder) {
        return Some(Means::Subvolume);
    }
    let folder = open(folder).ok()?;
    (attributes(&folder).is_ok() && is_enforced(&folder)).then_some(Means::Project)
}

/// As [`means`], also for a tree that is not there yet: on btrfs it will be a subvolume, elsewhere it has what the
/// directory above it has.
#[must_use]
pub fn means_of_new(tree: &Path) -> Option<Means> {
    let there = tree.ancestors().find(|path| path.exists())?;
    if there != tree && clonable::is_btrfs(there) { Some(Means::Subvolume) } else { means(there) }
}

/// Limits the bytes of a folder and all that is in it; none takes the limit back.
///
/// # Errors
/// What the kernel says; `Unsupported` where there are no means.
pub fn limit(folder: &Path, bytes: Option<u64>) -> io::Result<()> {
    match means(folder) {
        Some(Means::Subvolume) => clonable::limit_subvolume(folder, bytes),
        Some(Means::Project) => limit_project(folder, bytes),
        None if bytes.is_none() => Ok(()),
        None => Err(io::ErrorKind::Unsupported.into()),
    }
}

fn limit_project(path: &Path, bytes: Option<u64>) -> io::Result<()> {
    let folder = open(path)?;
    let is = attributes(&folder)?;
    let own = is.flags & INHERIT != 0 && is_ours(is.project);
    if bytes.is_none() && !own {
        return Ok(());
    }
    let project = if own { is.project } else { free(&folder, path)? };
    let hard = bytes.map_or(0, |bytes| bytes.div_ceil(1024));
    let mut quota = Quota { hard, soft: hard, valid: BYTES_ARE_SET, ..Quota::default() };
    call(&folder, SET_QUOTA, project, (&raw mut quota).cast())?;
    if bytes.is_some() {
        give(&folder, project)?;
    }
    Ok(())
}

const fn is_ours(project: u32) -> bool {
    project >= FIRST && project - FIRST < COUNT
}

/// Finds a number that nobody has: the first that is tried is the path's own.
fn free(folder: &File, path: &Path) -> io::Result<u32> {
    let digest = Sha256::of(path.as_os_str().as_bytes()).to_string();
    let first = u32::from_str_radix(&digest[..6], 16).unwrap_or(0);
    for at in 0..64 {
        let project = FIRST + (first + at) % COUNT;
        let mut quota = Quota::default();
        match call(folder, GET_QUOTA, project, (&raw mut quota).cast()) {
            // nothing is counted for it
            Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENOENT)) => {
                return Ok(project);
            }
            other => other?,
        }
        if quota.used == 0 && quota.hard == 0 && quota.files == 0 {
            return Ok(project);
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

/// Gives a folder and all that is in it a project; what is made meanwhile takes it over from its folder.
fn give(folder: &File, project: u32) -> io::Result<()> {
    let is = attributes(folder)?;
    if is.project != project || is.flags & INHERIT == 0 {
        set_attributes(folder, Attributes { flags: is.flags | INHERIT, project, ..is })?;
    }
    let entries: Vec<_> = Dir::read_from(folder)?.filter_map(Result::ok).collect();
    for entry in entries {
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOATIME;
        let kind = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => FileType::from_raw_mode(found.st_mode),
            Err(rustix::io::Errno::NOENT) => continue,
            Err(errno) => return Err(errno.into()),
        };
        let opened = match kind {
            FileType::Directory => openat(folder, name, flags | OFlags::DIRECTORY, Mode::empty()),
            FileType::RegularFile => openat(folder, name, flags, Mode::empty()),
            // links and devices have no bytes to speak of
            _ => continue,
        };
        let file = match opened {
            Ok(file) => File::from(file),
            // it went, or was swapped for a link
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        if kind == FileType::Directory {
            give(&file, project)?;
        } else {
            let is = attributes(&file)?;
            if is.project != project {
                set_attributes(&file, Attributes { project, ..is })?;
            }
        }
    }
    Ok(())
}

fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(CWD, path, flags, Mode::empty())?.into())
}

fn attributes(file: &File) -> io::Result<Attributes> {
    let mut attributes = Attributes::default();
    // SAFETY: the kernel writes one such structure.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), GET_ATTRIBUTES, &raw mut attributes) };
    if done == 0 { Ok(attributes) } else { Err(io::Error::last_os_error()) }
}

fn set_attributes(file: &File, attributes: Attributes) -> io::Result<()> {
    // SAFETY: the kernel reads one such structure.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), SET_ATTRIBUTES, &raw const attributes) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn is_enforced(folder: &File) -> bool {
    let mut state = State { version: 1, pad: 0, flags: 0, rest: [0; 252] };
    call(folder, GET_STATE, 0, (&raw mut state).cast()).is_ok() && state.flags & ENFORCED != 0
}

fn call(folder: impl AsFd, command: u32, project: u32, argument: *mut libc::c_void) -> io::Result<()> {
    let command = (command << 8) | PROJECT;
    let folder = folder.as_fd().as_raw_fd();
    // SAFETY: the argument is what the command takes, and lives in the caller's frame.
    let done = unsafe { libc::syscall(libc::SYS_quotactl_fd, folder, command, project, argument) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
