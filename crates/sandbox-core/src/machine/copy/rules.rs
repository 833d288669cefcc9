//! What may come in a stream, and who owns it on the side that unpacks.

use std::path::Path;

use super::{CopyError, Trust, failed, is_carried};
use crate::{
    host::root::{Links, Meta, Root},
    machine::{guest::id, volume},
    tarfile::{OWNERS, read::Member},
};

/// What may come, and who owns it.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// How much this side trusts the stream.
    pub trust: Trust,
    /// Who is to own all of it.
    pub owner: Option<(u32, u32)>,
}

impl Rules {
    /// Makes the rules of a side; the owner is looked up in its own users.
    pub fn of(trust: Trust, root: &Root, owner: Option<&str>) -> Result<Self, CopyError> {
        let owner = owner.map(|owner| find(root, owner)).transpose()?;
        Ok(Self { trust, owner })
    }

    /// Returns owner, permissions and time of what a member becomes, and whether it has another owner than it had: the
    /// one of the directory that is copied into, where a machine has no number for its own.
    pub fn meta(self, member: &Member, into: (u32, u32)) -> (Meta, bool) {
        let limit = if self.trust == Trust::Host { OWNERS } else { u32::MAX };
        let number = |id: u64| u32::try_from(id).ok().filter(|id| *id < limit);
        let (own, fallback) = ((number(member.uid), number(member.gid)), self.fallback(into));
        let (uid, gid) = self.owner.unwrap_or((own.0.unwrap_or(fallback.0), own.1.unwrap_or(fallback.1)));
        let other = self.owner.is_none() && (own.0.is_none() || own.1.is_none());
        // a guest's program would run as another user on the host, or as an owner that it did not have
        let mask = if self.trust == Trust::Guest || other { 0o1777 } else { 0o7777 };
        (Meta { mode: member.mode & mask, uid, gid, mtime: member.mtime }, other)
    }

    const fn fallback(self, (uid, gid): (u32, u32)) -> (u32, u32) {
        match self.trust {
            Trust::Host => (if uid < OWNERS { uid } else { 0 }, if gid < OWNERS { gid } else { 0 }),
            // the numbers of `nobody`
            Trust::Guest => (65_534, 65_534),
        }
    }

    /// Reports whether this side keeps an extended attribute.
    pub fn keeps(self, attribute: &[u8]) -> bool {
        is_carried(attribute) && (self.trust == Trust::Host || attribute.starts_with(b"user."))
    }

    /// On the host no link is followed at all; in a guest's tree they lead where they lead in the guest.
    pub const fn links(self) -> Links {
        match self.trust {
            Trust::Host => Links::InTree,
            Trust::Guest => Links::Never,
        }
    }
}

/// Finds `USER`, `UID`, `USER:GROUP` or `UID:GID` among the users of a tree.
fn find(root: &Root, owner: &str) -> Result<(u32, u32), CopyError> {
    let missing = || CopyError::Owner { owner: owner.to_owned() };
    let (user, group) = owner.split_once(':').map_or((owner, None), |(user, group)| (user, Some(group)));
    let is_number = |text: &str| text.parse::<u32>().is_ok();
    let (uid, own_group) = match id(user) {
        Some(uid) => (uid, uid),
        None if is_number(user) => return Err(missing()),
        None => {
            let found = volume::owner(root, user).map_err(failed(Path::new("/etc/passwd"), "reading"))?;
            found.map(|(uid, gid, _)| (uid, gid)).ok_or_else(missing)?
        }
    };
    let gid = match group {
        None => own_group,
        Some(group) => match id(group) {
            Some(gid) => gid,
            None if is_number(group) => return Err(missing()),
            None => {
                let groups =
                    root.read(Path::new("etc/group")).map_err(failed(Path::new("/etc/group"), "reading"))?;
                let groups = String::from_utf8_lossy(&groups);
                let mut lines = groups.lines().map(|line| line.split(':').collect::<Vec<_>>());
                let found = lines.find(|fields| fields.len() > 2 && fields[0] == group);
                found.and_then(|fields| id(fields[2])).ok_or_else(missing)?
            }
        },
    };
    Ok((uid, gid))
}
