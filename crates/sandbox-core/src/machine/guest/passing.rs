//! Files that are handed over a socket.
//!
//! **Source**: unix(7), SCM_RIGHTS; cmsg(3).

#![allow(unsafe_code, reason = "between fork and exec nothing may allocate, and the safe forms do")]

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
    ptr,
};

/// Space for one control message with one file, aligned as the kernel wants it.
#[repr(C, align(8))]
struct Control([u8; 24]);

/// Makes a message of one part, with room for one file. Both must outlive it.
fn message(part: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    // SAFETY: a structure of numbers and pointers, which may all be zero.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control.0).cast();
    message.msg_controllen = control.0.len();
    message
}

/// Sends one file over a socket.
///
/// # Safety
/// Only numbers of open files: it may stand between fork and exec.
pub unsafe fn send(socket: RawFd, fd: RawFd) -> bool {
    // SAFETY: every pointer is to this frame; the control buffer has room for one number.
    unsafe {
        let mut byte = 0_u8;
        let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
        let mut control = Control([0; 24]);
        let message = message(&mut part, &mut control);
        let head = libc::CMSG_FIRSTHDR(&raw const message);
        (*head).cmsg_level = libc::SOL_SOCKET;
        (*head).cmsg_type = libc::SCM_RIGHTS;
        (*head).cmsg_len = libc::CMSG_LEN(4) as usize;
        ptr::write_unaligned(libc::CMSG_DATA(head).cast::<libc::c_int>(), fd);
        libc::sendmsg(socket, &raw const message, 0) == 1
    }
}

/// Receives one file over a socket.
///
/// # Errors
/// Where none comes.
pub fn receive(socket: &OwnedFd) -> io::Result<OwnedFd> {
    // SAFETY: every pointer is to this frame; a number that comes is a new file of this process.
    unsafe {
        let mut byte = 0_u8;
        let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
        let mut control = Control([0; 24]);
        let mut message = message(&mut part, &mut control);
        if libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) != 1 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let head = libc::CMSG_FIRSTHDR(&raw const message);
        if head.is_null() || (*head).cmsg_type != libc::SCM_RIGHTS {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(OwnedFd::from_raw_fd(ptr::read_unaligned(libc::CMSG_DATA(head).cast::<libc::c_int>())))
    }
}
