//! Owners that packages name: dpkg takes a name before the number where the tree knows it.
//!
//! Packages are unpacked before any script runs, so that a name which an earlier script creates is unknown then. Its
//! files get their owner here, at the last moment at which dpkg would still unpack them: after the preinst scripts, and
//! before anything is configured.
//!
//! **Source**: dpkg's lib/dpkg/tarfn.c, `tar_entry_update_from_system`.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{
        AtFlags, FileType, Gid, Mode, OFlags, Uid, XattrFlags, chownat, fchmod, fchown, fgetxattr, fsetxattr,
        openat, statat,
    },
    io::Errno,
};

use super::{ConfigureError, tree};
use crate::{host::root::Root, tarfile::accounts::Accounts, unpack::Named};

const CAPABILITY: &str = "security.capability";

/// Gives files the owners whose names the tree knows by now, and leaves the others for later.
pub(super) fn resolve(root: &Root, named: &mut Vec<Named>) -> Result<(), ConfigureError> {
    if named.is_empty() {
        return Ok(());
    }
    let accounts = Accounts::read(root);
    let mut later = Vec::new();
    for one in std::mem::take(named) {
        let uid = one.user.as_ref().and_then(|name| accounts.user(name.as_bytes()));
        let gid = one.group.as_ref().and_then(|name| accounts.group(name.as_bytes()));
        if uid.is_some() || gid.is_some() {
            change(root, &one, uid, gid).map_err(tree(Path::new(&one.path)))?;
        }
        let rest = Named {
            user: one.user.filter(|_| uid.is_none()),
            group: one.group.filter(|_| gid.is_none()),
            owner: (uid.unwrap_or(one.owner.0), gid.unwrap_or(one.owner.1)),
            path: one.path,
        };
        if rest.user.is_some() || rest.group.is_some() {
            later.push(rest);
        }
    }
    *named = later;
    Ok(())
}

/// Changes the owner of what the package brought; what a script has changed or replaced since keeps its own.
fn change(root: &Root, one: &Named, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    let (folder, name) = match root.parent(Path::new(&one.path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let found = match statat(&folder, &name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    if (found.st_uid, found.st_gid) != one.owner {
        return Ok(());
    }
    let (owner, group) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    let kind = FileType::from_raw_mode(found.st_mode);
    if !matches!(kind, FileType::RegularFile | FileType::Directory) {
        return Ok(chownat(&folder, &name, owner, group, AtFlags::SYMLINK_NOFOLLOW)?);
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(&folder, &name, flags, Mode::empty())?;
    // a change of owner removes set-id bits and file capabilities
    let capability = capability(&file)?;
    fchown(&file, owner, group)?;
    fchmod(&file, Mode::from_raw_mode(found.st_mode & 0o7777))?;
    if let Some(value) = capability {
        fsetxattr(file.as_fd(), CAPABILITY, &value, XattrFlags::empty())?;
    }
    Ok(())
}

fn capability(file: &OwnedFd) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0; 64];
    match fgetxattr(file, CAPABILITY, value.as_mut_slice()) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}
