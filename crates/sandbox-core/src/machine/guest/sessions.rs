//! The cgroup in a machine of the payloads that are started from outside.
//!
//! It is beside those of the guest's systemd: in `init.scope` they would all be ended together when one of them had taken
//! too much memory. It is below what the guest was given, so that the guest's logind and podman may take a payload from
//! there, and that the machine's limits count. A guest can make a cgroup of the same name, and freeze what comes in: one
//! counts only if the caller made it, which its owner shows, and the guest cannot write its files then.
//!
//! **Source**: systemd.scope(5), `OOMPolicy=`; cgroups(7), "Delegation containment"; lxc-attach(1) has `.lxc`.

use std::{io, os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat2, unlinkat},
    io::{Errno, write},
    process::geteuid,
};

/// Its name.
const SESSIONS: &str = ".sandbox";

/// How often a cgroup is made that the guest removes, as it may while it is empty.
const ATTEMPTS: u32 = 20;

/// A cgroup that a payload is in.
#[derive(Debug)]
pub(super) struct Joined {
    above: OwnedFd,
    name: String,
}

impl Joined {
    /// Removes it where it is this payload's alone and empty: what is left goes with the machine.
    pub(super) fn leave(self) {
        if self.name != SESSIONS {
            let _ = unlinkat(&self.above, &self.name, AtFlags::REMOVEDIR);
        }
    }
}

/// Moves a process to the cgroup of sessions below a directory of the hierarchy.
///
/// # Errors
/// Where the guest keeps every name, or the kernel refuses.
pub(super) fn join(delegated: &Path, pid: i32) -> io::Result<Joined> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let above = openat2(CWD, delegated, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)?;
    let own = format!("{SESSIONS}-{pid}");
    let mut last = Errno::PERM;
    for _ in 0..ATTEMPTS {
        for name in [SESSIONS, &own] {
            match join_named(&above, name, pid) {
                Ok(()) => return Ok(Joined { above, name: name.to_owned() }),
                Err(errno) => last = errno,
            }
        }
    }
    Err(last.into())
}

fn join_named(above: &OwnedFd, name: &str, pid: i32) -> rustix::io::Result<()> {
    match mkdirat(above, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let cgroup = openat2(above, name, flags, Mode::empty(), within)?;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let processes = openat2(&cgroup, "cgroup.procs", flags, Mode::empty(), within)?;
    for file in [&cgroup, &processes] {
        if fstat(file)?.st_uid != geteuid().as_raw() {
            return Err(Errno::PERM);
        }
    }
    write(&processes, pid.to_string().as_bytes()).map(drop)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{chown, symlink},
    };

    use super::*;

    /// A directory in place of the hierarchy, with the file that the kernel makes in each of its directories.
    fn cgroup(path: &Path) {
        fs::create_dir(path).unwrap();
        fs::write(path.join("cgroup.procs"), "").unwrap();
    }

    #[test]
    fn a_cgroup_that_the_guest_made_is_not_joined() {
        let top = tempfile::tempdir().unwrap();
        let (shared, own) = (top.path().join(SESSIONS), top.path().join(format!("{SESSIONS}-7")));
        cgroup(&shared);
        let joined = join(top.path(), 7).unwrap();
        assert_eq!(fs::read_to_string(shared.join("cgroup.procs")).unwrap(), "7");
        joined.leave();
        assert!(shared.exists(), "others may be in it");

        fs::remove_dir_all(&shared).unwrap();
        symlink("/tmp", &shared).unwrap();
        join(top.path(), 7).unwrap_err();
        fs::remove_file(&shared).unwrap();
        fs::remove_dir_all(&own).unwrap();

        if !geteuid().is_root() {
            return;
        }
        for (what, inner) in [("directory", ""), ("file", "cgroup.procs")] {
            let _ = fs::remove_dir_all(&shared);
            let _ = fs::remove_dir_all(&own);
            cgroup(&shared);
            cgroup(&own);
            chown(shared.join(inner), Some(65_534), None).unwrap();
            assert_eq!(join(top.path(), 7).unwrap().name, format!("{SESSIONS}-7"), "{what}");
            assert_eq!(fs::read_to_string(shared.join("cgroup.procs")).unwrap(), "", "{what}");
        }
    }
}
