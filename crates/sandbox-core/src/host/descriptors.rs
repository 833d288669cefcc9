//! The descriptors that a program is started with.

#![allow(unsafe_code, reason = "close_range(2) has no safe form")]

/// The most descriptors that are looked at where the kernel cannot be told of all at once.
const MOST: i32 = 65_536;

/// Sees to it that no program that is started from here on inherits a descriptor beside the three first.
///
/// They stay open in this process: a shell may have passed one by name (`--keyring <(…)`). Only system calls
/// are made, so that it may stand between fork and exec.
///
/// **Source**: close_range(2), `CLOSE_RANGE_CLOEXEC`, since Linux 5.11.
pub fn keep_private() {
    // SAFETY: the calls set a flag of descriptors, whoever has them, and touch no memory.
    unsafe {
        if libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) != 0 {
            for descriptor in 3..MOST {
                libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_that_was_open_to_all_is_no_more() {
        let (ours, _other) = std::io::pipe().unwrap();
        let flags = || rustix::io::fcntl_getfd(&ours).unwrap();
        rustix::io::fcntl_setfd(&ours, rustix::io::FdFlags::empty()).unwrap();
        assert!(flags().is_empty());
        keep_private();
        assert_eq!(flags(), rustix::io::FdFlags::CLOEXEC);
    }
}
