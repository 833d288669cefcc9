//! The root, the namespaces and the rights of a process that parses what a guest wrote.

#![allow(unsafe_code, reason = "what must happen between fork and exec has no safe form")]

use std::{
    fs::{self, File},
    io,
    os::unix::{fs::symlink, process::CommandExt as _},
    path::Path,
    process::Command,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    sys::resource::{Resource, setrlimit},
};

use crate::machine::seccomp::{Dumps, Filter};

/// Where the new root is made: a directory that every system has. Only this process sees what becomes of it.
const TOP: &str = "/tmp";

/// A user and a group that own nothing.
const UNPRIVILEGED: u32 = 65_534;

/// How long the reader may compute, in seconds, and how much memory it may map.
const SECONDS: u64 = 600;
const MEMORY: u64 = 8 << 30;

/// Gives this process a root that has the host's programs, read-only, and room for copies; and no network, and for
/// what it starts no processes of others.
pub(super) fn enter(room: u64) -> io::Result<()> {
    let none: Option<&str> = None;
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWPID,
    )?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let options = format!("mode=755,nr_inodes=16384,size={}", room + (64 << 20));
    mount(Some("tmpfs"), TOP, Some("tmpfs"), flags, Some(options.as_str()))?;
    let top = Path::new(TOP);
    for name in ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
        programs(&Path::new("/").join(name), &top.join(name))?;
    }
    fs::create_dir(top.join("etc"))?;
    for file in ["ld.so.cache", "localtime"] {
        // a host that has none needs none
        let _ = fs::copy(Path::new("/etc").join(file), top.join("etc").join(file));
    }
    fs::create_dir(top.join("proc"))?;
    fs::create_dir(top.join("dev"))?;
    File::create(top.join("dev/null"))?;
    mount(Some("/dev/null"), &top.join("dev/null"), none, MsFlags::MS_BIND, none)?;
    std::env::set_current_dir(top)?;
    nix::unistd::pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    std::env::set_current_dir("/")
}

/// Shows a directory of programs below the new root, or the link that stands for it.
fn programs(from: &Path, to: &Path) -> io::Result<()> {
    let none: Option<&str> = None;
    let Ok(found) = fs::symlink_metadata(from) else { return Ok(()) };
    if found.is_symlink() {
        return symlink(fs::read_link(from)?, to);
    }
    fs::create_dir(to)?;
    mount(Some(from), to, none, MsFlags::MS_BIND, none)?;
    let flags =
        MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    Ok(mount(none, to, none, flags, none)?)
}

/// Has a command give up all rights before it is executed.
pub(super) fn before_exec(command: &mut Command, follow: bool) {
    let filter = Filter::new::<&str>(&[], Dumps::Refused);
    // SAFETY: this process has one thread, so that its child may do what any process may.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
            let none: Option<&str> = None;
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            // some versions of journalctl open files by their numbers; others do without
            let _ = mount(Some("proc"), "/proc", Some("proc"), flags, none);
            if !follow {
                setrlimit(Resource::RLIMIT_CPU, SECONDS, SECONDS)?;
            }
            setrlimit(Resource::RLIMIT_AS, MEMORY, MEMORY)?;
            setrlimit(Resource::RLIMIT_FSIZE, 0, 0)?;
            // before the ids, with which the right to it goes
            filter.install()?;
            no_rights()
        });
    }
}

/// Becomes the unprivileged user, for good.
fn no_rights() -> io::Result<()> {
    // SAFETY: plain system calls.
    unsafe {
        let done = libc::setgroups(0, std::ptr::null()) == 0
            && libc::setresgid(UNPRIVILEGED, UNPRIVILEGED, UNPRIVILEGED) == 0
            && libc::setresuid(UNPRIVILEGED, UNPRIVILEGED, UNPRIVILEGED) == 0
            && libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            // becoming another user cleared it
            && libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0;
        if done { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}
