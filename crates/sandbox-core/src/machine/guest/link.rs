//! A machine's end of its link, raised from outside.
//!
//! **Source**: netdevice(7), `SIOCSIFFLAGS`.

#![allow(unsafe_code, reason = "ioctl(2) has no safe form")]

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, AsRawFd as _},
};

use nix::sched::{CloneFlags, setns};
use rustix::net::{AddressFamily, SocketType, socket};

use super::apart::apart;
use crate::machine::Leader;

/// Brings a link of a machine up, as the machine itself will.
///
/// # Errors
/// Where the machine is gone, has no network of its own or no such link.
pub fn raise(leader: &Leader, link: &'static str) -> io::Result<()> {
    let namespace = File::open(format!("/proc/{}/ns/net", leader.pid))?;
    let own = std::fs::read_link("/proc/self/ns/net")?;
    if own == std::fs::read_link(format!("/proc/{}/ns/net", leader.pid))? {
        return Err(io::ErrorKind::Unsupported.into());
    }
    apart(|| {
        setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)?;
        up(link)
    })
}

fn up(link: &str) -> io::Result<()> {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    // SAFETY: the structure is plain memory, for which zeroes are a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if link.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(link.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    call(&socket, libc::SIOCGIFFLAGS, &mut request)?;
    // SAFETY: the kernel has filled in the flags.
    unsafe { request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short };
    call(&socket, libc::SIOCSIFFLAGS, &mut request)
}

fn call(socket: &std::os::fd::OwnedFd, request: libc::c_ulong, argument: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: the requests take one such structure, which lives for as long as the call.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), request, std::ptr::from_mut(argument)) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_link_of_the_hosts_own_is_touched() {
        let leader = Leader::new(std::process::id().cast_signed());
        assert_eq!(raise(&leader, "lo").unwrap_err().kind(), io::ErrorKind::Unsupported);
        assert_eq!(up("a-name-that-is-far-too-long").unwrap_err().kind(), io::ErrorKind::InvalidInput);
        up("no-such").unwrap_err();
    }
}
