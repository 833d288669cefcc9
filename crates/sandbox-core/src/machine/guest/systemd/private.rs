//! The way to the private socket of a guest's systemd: as one of the guest's processes.
//!
//! systemd answers there whom the kernel names as one of the guest's processes and its root, so that a child joins the
//! guest's user, process and mount namespaces, connects, and hands the connection back.
//!
//! **Source**: setns(2), signal-safety(7); unix(7), `SO_PEERCRED`.

#![allow(unsafe_code, reason = "fork, setns and what must happen between them has no safe form")]

use std::{
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    time::{Duration, Instant},
};

use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, waitpid};

use crate::machine::{
    Leader,
    guest::{enter::Entry, passing, patience::readable},
};

/// Where systemd listens, whatever else is on the machine's bus.
const SOCKET: &[u8] = b"/run/systemd/private\0";

/// How long a child that was killed may take to go.
const LAST: Duration = Duration::from_millis(50);

/// As the guest's root, by number, without files to be passed.
pub(super) const GREETING: &[u8] = b"\0AUTH EXTERNAL 30\r\nBEGIN\r\n";

/// Connects to the socket.
pub(super) fn connect(leader: &Leader, patience: Duration) -> io::Result<UnixStream> {
    let entry = Entry::open(leader).map_err(io::Error::other)?;
    // a stream: it ends with the child, whatever the child does
    let (near, far) = UnixStream::pair()?;
    let near = OwnedFd::from(near);
    let until = Instant::now() + patience;
    // SAFETY: the child makes only system calls on memory that was prepared, and never returns.
    let child = match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        // SAFETY: this is the single-threaded child of a fork.
        0 => unsafe { connect_in(&entry, far.as_raw_fd()) },
        child => Pid::from_raw(child).ok_or(io::ErrorKind::NotFound)?,
    };
    drop(far);
    let received = readable(&near, until).and_then(|()| passing::receive(&near));
    let status = end_of(child, until);
    let stream = received.map_err(|error| match status {
        Some(status) if status != 0 => io::Error::from_raw_os_error(status),
        _ => error,
    })?;
    Ok(UnixStream::from(stream))
}

/// Gives a child's exit status; none where it had to be killed. What a guest mounts below the path may hold it for good, and
/// a guest may stop what it finds among its processes.
fn end_of(child: Pid, until: Instant) -> Option<i32> {
    let handle = pidfd_open(child, PidfdFlags::empty()).ok()?;
    let mut last = until;
    if readable(&handle, until).is_err() {
        let _ = kill_process(child, Signal::KILL);
        last = Instant::now() + LAST;
    }
    // one that the kernel itself holds is left to it
    readable(&handle, last).ok()?;
    waitpid(Some(child), WaitOptions::NOHANG).ok()??.1.exit_status()
}

/// The child: connects as the guest's root and hands the connection over; its exit status is the kernel's number of what
/// failed.
///
/// # Safety
/// Called once, in a freshly forked child.
unsafe fn connect_in(entry: &Entry, socket: libc::c_int) -> ! {
    let own = |failed: bool| {
        if failed {
            let errno = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
            // SAFETY: a plain system call; numbers of errors fit a status.
            unsafe { libc::_exit(errno & 0xff) }
        }
    };
    // SAFETY: only system calls, on memory of this frame and of `entry`, as after a fork of a threaded process there
    // must be. The address is as long as is said.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        let flags = entry.flags() & (libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWPID);
        own(flags != 0 && libc::setns(entry.pidfd().as_raw_fd(), flags) != 0);
        own(libc::fchdir(entry.root().as_raw_fd()) != 0 || libc::chroot(c".".as_ptr()) != 0);
        if flags & libc::CLONE_NEWUSER != 0 {
            own(libc::setresgid(0, 0, 0) != 0 || libc::setresuid(0, 0, 0) != 0);
        }
        // whoever has no number in the guest is nobody to its systemd
        let inner = libc::fork();
        own(inner < 0);
        if inner > 0 {
            libc::close(socket);
            let mut status = 0;
            libc::waitpid(inner, &raw mut status, 0);
            libc::_exit(libc::WEXITSTATUS(status))
        }
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        let stream =
            libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0);
        own(stream < 0);
        let mut address: libc::sockaddr_un = std::mem::zeroed();
        address.sun_family = libc::AF_UNIX as libc::sa_family_t;
        std::ptr::copy_nonoverlapping(SOCKET.as_ptr().cast(), address.sun_path.as_mut_ptr(), SOCKET.len());
        let length = std::mem::size_of::<libc::sockaddr_un>() as libc::socklen_t;
        own(libc::connect(stream, (&raw const address).cast(), length) != 0);
        own(!passing::send(socket, stream));
        libc::_exit(0)
    }
}
