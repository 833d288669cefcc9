//! The way to the bus of a guest: from outside, by the guest's root, as nobody.
//!
//! A bus lets in whoever comes, and its systemd tells everybody its state. So no namespace has to be joined, and no
//! process made; for a guest in a user namespace it is nobody who comes, with no number.
//!
//! What may not happen is that a guest holds whoever walks in its tree, or leads them out of it. The walk is one that the
//! kernel makes from what it has in memory or not at all, and what it ends at is in a file system that asks nobody.
//!
//! **Source**: openat2(2), `RESOLVE_IN_ROOT` and `RESOLVE_CACHED`; unix(7).

use std::{
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::net::UnixStream,
    },
};

use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect as connect_socket, socket_with},
};

use crate::machine::Leader;

/// Where a bus listens.
///
/// **Source**: the D-Bus specification, "Well-known Message Bus Instances".
const SOCKET: &str = "run/dbus/system_bus_socket";

/// As whoever the kernel says that this is, without files to be passed.
///
/// **Source**: the D-Bus specification, "EXTERNAL": an identity that is empty.
pub(super) const GREETING: &[u8] = b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n";

/// Connects to it.
pub(super) fn connect(leader: &Leader) -> io::Result<UnixStream> {
    connect_in(&root_of(leader)?)
}

fn connect_in(root: &OwnedFd) -> io::Result<UnixStream> {
    let found = held_in(root, SOCKET)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let stream = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // a name is all that a connection takes; this one is of what is held
    let held = SocketAddrUnix::new(format!("/proc/self/fd/{}", found.as_raw_fd()))?;
    connect_socket(&stream, &held)?;
    Ok(UnixStream::from(stream))
}

/// Takes hold of a file of a guest's /run without being held by the guest: the link itself where it is one.
pub fn held_in(root: &OwnedFd, path: &str) -> io::Result<OwnedFd> {
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::CACHED;
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let found = openat2(root, path, flags, Mode::empty(), within)?;
    if asks_nobody(&found)? { Ok(found) } else { Err(io::ErrorKind::Unsupported.into()) }
}

/// Takes hold of a guest's root.
pub fn root_of(leader: &Leader) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::DIRECTORY;
    Ok(openat(CWD, format!("/proc/{}/root", leader.pid), flags, Mode::empty())?)
}

/// Tells whether what is held is in memory alone: whoever looks at it waits for no program and no disk.
fn asks_nobody(held: &OwnedFd) -> io::Result<bool> {
    Ok(fstatfs(held)?.filesystem_type() == TMPFS_MAGIC)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::{fs::symlink, net::UnixListener},
    };

    use super::*;

    fn held(path: &str) -> OwnedFd {
        openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    #[test]
    fn a_bus_is_found_in_the_guests_own_tree_alone() {
        let memory = tempfile::tempdir_in("/dev/shm").unwrap();
        let (guest, other) = (memory.path().join("guest"), memory.path().join("other"));
        for folder in ["run/dbus", "elsewhere/dbus"] {
            fs::create_dir_all(guest.join(folder)).unwrap();
        }
        fs::create_dir_all(other.join("dbus")).unwrap();
        let root = held(guest.to_str().unwrap());
        connect_in(&root).unwrap_err();

        let listener = UnixListener::bind(guest.join(SOCKET)).unwrap();
        connect_in(&root).unwrap();
        listener.accept().unwrap();
        fs::remove_file(guest.join(SOCKET)).unwrap();

        // a link out of the tree ends in the tree
        let _outside = UnixListener::bind(other.join("dbus/system_bus_socket")).unwrap();
        fs::remove_dir_all(guest.join("run")).unwrap();
        for to in [other.as_path(), "../other".as_ref()] {
            symlink(to, guest.join("run")).unwrap();
            connect_in(&root).unwrap_err();
            fs::remove_file(guest.join("run")).unwrap();
        }
        let _inside = UnixListener::bind(guest.join("elsewhere/dbus/system_bus_socket")).unwrap();
        symlink("/elsewhere", guest.join("run")).unwrap();
        connect_in(&root).unwrap();
    }

    #[test]
    fn what_may_have_to_ask_somebody_is_told_from_memory() {
        assert!(asks_nobody(&held("/dev/shm")).unwrap());
        assert!(!asks_nobody(&held("/proc/version")).unwrap());
    }
}
