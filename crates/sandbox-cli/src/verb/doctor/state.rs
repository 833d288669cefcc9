//! Checks of the directory in which machines are: what its file system has to be able to do.

use std::{fs, path::Path};

use rustix::fs::{StatVfsMountFlags, statvfs};
use sandbox_core::{host::mountpoint, machine::attach};

use super::{Finding, Verdict, finding, with};

const CHECK: &str = "state directory";

/// Checks the file system of a directory, which need not exist yet.
pub fn directory(state: &Path) -> Finding {
    let exists = |path: &&Path| fs::symlink_metadata(path).is_ok();
    let existing = state.ancestors().find(exists).unwrap_or(Path::new("/"));
    let flags = statvfs(existing).map_or(StatVfsMountFlags::empty(), |found| found.f_flag);
    judge(state, existing, flags, attach::maps_owners(existing).ok())
}

/// Judges what was found; `maps` is none where it could not be tried.
fn judge(state: &Path, existing: &Path, flags: StatVfsMountFlags, maps: Option<bool>) -> Finding {
    let remount = |flag: &str| {
        let mount = mountpoint::mount_point_of(existing);
        format!("mount -o remount,{flag} {}", mount.display())
    };
    let bad = |text: &str| finding(CHECK, Verdict::Bad, format!("{} {text}", state.display()));
    if flags.contains(StatVfsMountFlags::NOEXEC) {
        return with(bad("is on a file system that is mounted `noexec`: no machine starts"), remount("exec"));
    }
    if flags.contains(StatVfsMountFlags::RDONLY) {
        return with(bad("is on a file system that is mounted read-only"), remount("rw"));
    }
    match maps {
        Some(false) => with(
            bad("is on a file system that cannot map owners, as overlayfs cannot: machines do not start"),
            "sandbox --state-dir DIR doctor",
        ),
        Some(true) => {
            finding(CHECK, Verdict::Good, format!("{}: programs run, owners are mapped", state.display()))
        }
        None => finding(
            CHECK,
            Verdict::Good,
            format!("{}: programs run; mapping owners was not tried", state.display()),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_that_no_machine_starts_on_is_bad() {
        let none = StatVfsMountFlags::empty();
        for (flags, maps, verdict, command) in [
            (StatVfsMountFlags::NOEXEC, Some(true), Verdict::Bad, Some("mount -o remount,exec /")),
            (StatVfsMountFlags::RDONLY, Some(true), Verdict::Bad, Some("mount -o remount,rw /")),
            (none, Some(false), Verdict::Bad, Some("sandbox --state-dir DIR doctor")),
            (none, Some(true), Verdict::Good, None),
            (none, None, Verdict::Good, None),
        ] {
            let found = judge(Path::new("/s"), Path::new("/"), flags, maps);
            assert_eq!((found.verdict, found.command.as_deref()), (verdict, command));
        }
    }
}
