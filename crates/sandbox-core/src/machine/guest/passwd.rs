//! Users of the guest, read from its own files, which are never followed out of its tree.

use std::{io, os::fd::OwnedFd, path::Path};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use crate::host::{live, root::LIMIT};

/// A user of the guest.
///
/// **Source**: passwd(5), group(5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    /// Its name.
    pub name: String,
    /// Its number in the guest.
    pub uid: u32,
    /// Its own group's number.
    pub gid: u32,
    /// The numbers of its other groups.
    pub groups: Vec<u32>,
    /// Its home.
    pub home: String,
    /// Its login shell.
    pub shell: String,
}

/// Finds a user by name or number; none where the guest has no such user. A file system of the guest's may hold the reader
/// for good: only the carrier reads.
///
/// # Errors
/// Where the guest's files cannot be read.
pub(super) fn account(root: &OwnedFd, user: &str) -> io::Result<Option<Account>> {
    let read = |path: &str| -> io::Result<String> {
        let file: OwnedFd = match openat2(
            root,
            path,
            OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        ) {
            Ok(file) => file,
            Err(rustix::io::Errno::NOENT) => return Ok(String::new()),
            Err(errno) => return Err(errno.into()),
        };
        let bytes = live::read(file.into(), Path::new(path), LIMIT)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    Ok(find(&read("etc/passwd")?, &read("etc/group")?, user))
}

/// Reads a number of a user or group; the greatest is none.
///
/// **Source**: setresuid(2), setresgid(2), chown(2): -1 leaves an id unchanged, which here would be root's.
pub(in crate::machine) fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id != u32::MAX)
}

pub(super) fn find(passwd: &str, group: &str, user: &str) -> Option<Account> {
    let number: Option<u32> = user.parse().ok();
    let mut account = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, uid) = (fields.next()?, id(fields.nth(1)?)?);
        if name != user && Some(uid) != number {
            return None;
        }
        let gid = id(fields.next()?)?;
        let home = fields.nth(1)?.to_owned();
        let shell = fields.next().filter(|shell| !shell.is_empty()).unwrap_or("/bin/sh").to_owned();
        Some(Account { name: name.to_owned(), uid, gid, groups: Vec::new(), home, shell })
    })?;
    account.groups = group
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let gid = id(fields.nth(2)?)?;
            let member = fields.next()?.split(',').any(|member| member == account.name);
            (member || gid == account.gid).then_some(gid)
        })
        .collect();
    Some(account)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_name_and_number_with_its_groups() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nagent:x:1000:1000::/home/agent:\nbroken\n";
        let group = "root:x:0:\nsudo:x:27:agent\nagent:x:1000:\ndocker:x:109:other,agent\nx:x:5:agents\n";
        let agent = find(passwd, group, "agent").unwrap();
        assert_eq!(agent.groups, [27, 1000, 109]);
        assert_eq!((agent.uid, agent.shell.as_str(), agent.home.as_str()), (1000, "/bin/sh", "/home/agent"));
        assert_eq!(find(passwd, group, "1000"), Some(agent));
        assert_eq!(find(passwd, group, "nobody"), None);
        assert_eq!(find(passwd, group, "broken"), None);
    }

    #[test]
    fn the_number_that_changes_no_id_is_no_id() {
        let passwd = "a:x:4294967295:0::/:\nb:x:5:4294967295::/:\nc:x:6:6::/:\n";
        let group = "d:x:4294967295:c\ne:x:7:c\n";
        assert_eq!((find(passwd, group, "a"), find(passwd, group, "b")), (None, None));
        assert_eq!(find(passwd, group, "4294967295"), None);
        assert_eq!(find(passwd, group, "c").unwrap().groups, [7]);
    }
}
