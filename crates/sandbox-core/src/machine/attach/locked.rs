//! Mounts whose flags, and whose mounts below, no guest can change.

#![allow(unsafe_code, reason = "fork(2) and what follows have no safe form")]

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{AsRawFd as _, OwnedFd, RawFd},
};

use rustix::io::Errno;

use super::last;
use crate::machine::guest;

/// A mount that is part of another one.
pub(super) struct Nested {
    /// The directory or file that it is on, from the outer mount's root.
    pub path: CString,
    /// The mount, attached nowhere.
    pub mount: RawFd,
    /// It is of a file; otherwise of a directory.
    pub is_file: bool,
}

/// Returns a copy of a mount, with the nested ones in it, that a guest's root cannot make more permissive.
///
/// A child attaches them in a mount namespace of its own, copies that into another that belongs to a user namespace
/// without capabilities, and sends a copy of the mount back; both namespaces end with the child. What is copied so has
/// its flags locked, and nested mounts are locked to the outer one.
///
/// **Source**: mount_namespaces(7), "Restrictions on mount namespaces"; `lock_mnt_tree` of the kernel.
pub(super) fn locked(tree: &OwnedFd, nested: &[Nested]) -> Result<OwnedFd, Errno> {
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
            let errno = unsafe { lock_in_child(tree.as_raw_fd(), nested, far.as_raw_fd()) };
            // SAFETY: ends this process without running anything of the parent's.
            unsafe { libc::_exit(errno) }
        }
        _ => {}
    }
    drop(far);
    let received = guest::receive_file(&near);
    let mut status = 0;
    // SAFETY: the child is this process's and is waited for once.
    while unsafe { libc::waitpid(child, &raw mut status, 0) } == -1 && last() == Errno::INTR {}
    match (received, libc::WEXITSTATUS(status)) {
        (Ok(fd), 0) => Ok(fd),
        (_, 0) => Err(Errno::IO),
        (_, errno) => Err(Errno::from_raw_os_error(errno)),
    }
}

/// A directory that every host has; what it hides is hidden in the child's namespace alone.
const PLACE: &CStr = c"/proc";

/// The child's part; returns 0 or the error's number.
///
/// # Safety
/// Called once, in a freshly forked child.
unsafe fn lock_in_child(tree: RawFd, nested: &[Nested], socket: RawFd) -> libc::c_int {
    let errno = || io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    // SAFETY: only system calls with strings that outlive them and numbers of open files.
    unsafe {
        let null = std::ptr::null::<libc::c_char>();
        if libc::unshare(libc::CLONE_NEWNS) != 0
            || libc::mount(null, c"/".as_ptr(), null, libc::MS_REC | libc::MS_PRIVATE, null.cast()) != 0
            || !attach(tree, libc::AT_FDCWD, PLACE, 0)
            || !assemble(nested)
            || libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) != 0
        {
            return errno();
        }
        let copy = libc::syscall(
            libc::SYS_open_tree,
            libc::AT_FDCWD,
            PLACE.as_ptr(),
            libc::OPEN_TREE_CLONE | (libc::O_CLOEXEC | libc::AT_RECURSIVE) as libc::c_uint,
        );
        if copy < 0 {
            return errno();
        }
        let Ok(copy) = libc::c_int::try_from(copy) else { return libc::EIO };
        if guest::send_file(socket, copy) { 0 } else { errno() }
    }
}

/// Attaches nested mounts below the outer one. A guest may be changing directories there: no link is followed, and
/// none leads out.
///
/// # Safety
/// As [`lock_in_child`].
unsafe fn assemble(nested: &[Nested]) -> bool {
    // SAFETY: only system calls with strings that outlive them and numbers of open files; all-zero is a value of the
    // structure, which has only numbers.
    unsafe {
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        let top = libc::open(PLACE.as_ptr(), flags);
        let mut how: libc::open_how = std::mem::zeroed();
        how.resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS;
        top >= 0
            && nested.iter().all(|Nested { path, mount, is_file }| {
                let flags = if *is_file { libc::O_PATH | libc::O_CLOEXEC } else { flags };
                how.flags = flags as u64;
                let size = size_of::<libc::open_how>();
                let target = libc::syscall(libc::SYS_openat2, top, path.as_ptr(), &raw const how, size);
                let Ok(target) = libc::c_int::try_from(target) else { return false };
                target >= 0 && attach(*mount, target, c"", libc::MOVE_MOUNT_T_EMPTY_PATH)
            })
    }
}

/// Attaches a mount.
///
/// # Safety
/// As [`lock_in_child`].
unsafe fn attach(mount: RawFd, at: RawFd, path: &CStr, flags: libc::c_uint) -> bool {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | flags;
    // SAFETY: a system call with strings that outlive it and numbers of open files.
    let done = unsafe { libc::syscall(libc::SYS_move_mount, mount, c"".as_ptr(), at, path.as_ptr(), flags) };
    done == 0
}
