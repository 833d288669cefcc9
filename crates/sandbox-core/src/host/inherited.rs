//! Attributes of a process that it inherits from its caller, and that this program depends on.

#![allow(unsafe_code, reason = "signal(2) has no safe form")]

use std::path::Path;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// As many descriptors as a login gives.
const DESCRIPTORS: u64 = 1024;

/// Puts in order what the caller of the program may have changed: a child's end is reported, there are as many descriptors
/// as a login gives, and temporary files have a directory. To be called once, in a process of one thread.
///
/// **Source**: signal(7), "ignored signals are left ignored by execve"; wait(2), `SIGCHLD`; getrlimit(2).
pub fn settle() {
    // SAFETY: a plain system call.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < DESCRIPTORS
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS.min(hard), hard);
    }
    if !std::env::temp_dir().is_dir() {
        let _ = tempfile::env::override_temp_dir(Path::new("/tmp"));
    }
}
