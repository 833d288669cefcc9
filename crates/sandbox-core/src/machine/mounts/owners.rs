//! Whose the files of a mounted directory are, on both sides.
//!
//! By default the directory's owner is one user of the machine. Every other user of the machine has an id of its own on
//! disk, out of a range that no user and no process of any host has, so that a set-id file that the machine makes is
//! never one of the host's root, nor of any user of the host but the directory's owner.
//!
//! ```text
//! in the machine   0 … 999          1000 (agent)      1001 … 65535
//! on disk          FOREIGN+0 … 999  directory's owner FOREIGN+1001 … FOREIGN+65535
//! ```
//!
//! **Source**: mount_setattr(2), `MOUNT_ATTR_IDMAP`; user_namespaces(7), "User and group ID mappings";
//! `docs/UIDS-GIDS.md` of systemd 258, "Foreign UID range".

#![allow(unsafe_code, reason = "a user namespace is made by a child, and fork(2) has no safe form")]

use std::{
    fmt::Write as _,
    fs::{self, File},
    io,
    os::fd::AsRawFd as _,
};

/// The ids on disk that are no user's: systemd's range for trees that belong to no user of the host.
pub const FOREIGN: u32 = 0x7FFE_0000;

/// How many ids a machine has.
const IDS: u32 = 1 << 16;

/// Groups below are the system's: what a set-id file of `shadow`, `disk` or `docker` may do is root's to give.
const FIRST_GROUP: u32 = 1000;

/// Whose the files of a mounted directory are.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owners {
    /// Ids are the same numbers on both sides.
    Same,
    /// The directory's owner is this user of the machine.
    User(User),
}

/// A user of a machine.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct User {
    /// The name, as it was when the directory was mounted.
    pub name: String,
    /// The user's id in the machine.
    pub uid: u32,
    /// The id of the user's group in the machine.
    pub gid: u32,
}

impl User {
    /// Returns the machine's root.
    #[must_use]
    pub fn root() -> Self {
        Self { name: "root".to_owned(), uid: 0, gid: 0 }
    }
}

/// Ids of a user namespace: `count` of them from `inside` on are those from `outside` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    inside: u32,
    outside: u32,
    count: u32,
}

/// Reads the ids of a user namespace (`/proc/PID/uid_map`).
///
/// # Errors
/// Where a line is no extent.
pub fn extents(text: &str) -> io::Result<Vec<Extent>> {
    text.lines()
        .map(|line| {
            let mut numbers = line.split_whitespace().map(str::parse::<u32>);
            let mut next = || numbers.next().and_then(Result::ok).ok_or(io::ErrorKind::InvalidData);
            Ok(Extent { inside: next()?, outside: next()?, count: next()? })
        })
        .collect()
}

/// Returns the group on disk that is the user's, none where that would lend the machine a group of the system.
#[must_use]
pub const fn group(uid: u32, gid: u32) -> Option<u32> {
    if gid >= FIRST_GROUP || gid == uid { Some(gid) } else { None }
}

/// Maps ids on disk to those of the host that a machine's processes have.
///
/// `guest` are the machine's own ids; `pair` is one of them and the id on disk that it has.
#[must_use]
pub fn map(guest: &[Extent], pair: Option<(u32, u32)>) -> Vec<Extent> {
    let mut all = Vec::new();
    let (id, disk) = pair.unwrap_or((u32::MAX, u32::MAX));
    // the owner may have an id out of the range: the two change places
    let other = disk.checked_sub(FOREIGN).filter(|other| *other < IDS && *other != id);
    for extent in guest {
        let end = extent.inside.saturating_add(extent.count).min(IDS);
        let mut start = extent.inside;
        while start < end {
            let next =
                [Some(id), other].into_iter().flatten().filter(|cut| *cut >= start && *cut < end).min();
            let outside = |inside: u32| extent.outside + (inside - extent.inside);
            let stop = next.unwrap_or(end);
            if stop > start {
                all.push(Extent { inside: FOREIGN + start, outside: outside(start), count: stop - start });
            }
            if let Some(cut) = next {
                let inside = if cut == id { disk } else { FOREIGN + id };
                all.push(Extent { inside, outside: outside(cut), count: 1 });
            }
            start = stop.saturating_add(1);
        }
    }
    all
}

fn text(map: &[Extent]) -> String {
    let mut text = String::new();
    for Extent { inside, outside, count } in map {
        let _ = writeln!(text, "{inside} {outside} {count}");
    }
    text
}

/// Makes a user namespace with these ids, for a mount to be mapped to; no process is in it.
///
/// # Errors
/// What the kernel says.
pub fn namespace(users: &[Extent], groups: &[Extent]) -> io::Result<File> {
    let (ready, ready_in) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let (end, end_in) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // SAFETY: the child makes only system calls on numbers of open files, and never returns.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: this is the single-threaded child of a fork; it ends without running anything of the parent's.
        unsafe {
            libc::close(end_in.as_raw_fd());
            let mut byte = 0_u8;
            if libc::unshare(libc::CLONE_NEWUSER) == 0 {
                libc::write(ready_in.as_raw_fd(), (&raw const byte).cast(), 1);
                libc::read(end.as_raw_fd(), (&raw mut byte).cast(), 1);
            }
            libc::_exit(0)
        }
    }
    if child < 0 {
        return Err(io::Error::last_os_error());
    }
    drop(ready_in);
    let made = (|| {
        io::Read::read_exact(&mut File::from(ready), &mut [0])?;
        let of = |name: &str| format!("/proc/{child}/{name}");
        fs::write(of("uid_map"), text(users))?;
        fs::write(of("gid_map"), text(groups))?;
        File::open(of("ns/user"))
    })();
    drop(end_in);
    // SAFETY: the child is this process's and is waited for once.
    while unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) } == -1
        && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
    {}
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u32 = 1 << 30;

    fn guest() -> Vec<Extent> {
        extents(&format!("         0 {BASE:10}      65536\n")).unwrap()
    }

    /// Returns the id on disk of what an id of the machine makes, as the kernel finds it.
    fn disk(map: &[Extent], id: u32) -> Option<u32> {
        let host = BASE + id;
        let extent =
            map.iter().find(|extent| (extent.outside..extent.outside + extent.count).contains(&host))?;
        Some(extent.inside + (host - extent.outside))
    }

    #[test]
    fn the_owner_is_one_user_and_all_others_are_no_user_of_the_host() {
        let map = map(&guest(), Some((1000, 501)));
        assert_eq!(text(&map).lines().count(), 3);
        assert_eq!(disk(&map, 1000), Some(501));
        for id in [0, 1, 999, 1001, 65_535] {
            assert_eq!(disk(&map, id), Some(FOREIGN + id));
        }
        let without = super::map(&guest(), None);
        assert_eq!(disk(&without, 0), Some(FOREIGN));
    }

    #[test]
    fn no_id_of_the_machine_is_the_hosts_root_unless_the_directory_is_roots() {
        for (user, owner) in [(0, 1000), (1000, 1000), (65_535, 1), (0, FOREIGN), (7, FOREIGN + 9)] {
            let map = map(&guest(), Some((user, owner)));
            let mut all: Vec<_> = (0..IDS).map(|id| disk(&map, id).unwrap()).collect();
            assert_eq!(all[user as usize], owner);
            assert!(all.iter().all(|disk| *disk == owner || *disk >= FOREIGN));
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), IDS as usize, "two ids have one on disk");
        }
    }

    #[test]
    fn a_group_of_the_system_is_not_lent() {
        assert_eq!(group(1000, 1000), Some(1000));
        assert_eq!(group(1000, 100_000), Some(100_000));
        assert_eq!(group(0, 0), Some(0));
        assert_eq!(group(33, 33), Some(33));
        for gid in [0, 42, 999] {
            assert_eq!(group(1000, gid), None);
        }
    }

    #[test]
    fn what_is_no_map_is_refused() {
        assert!(extents("0 1").is_err() && extents("0 x 1").is_err());
        assert!(extents("").unwrap().is_empty());
    }
}
