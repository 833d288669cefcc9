//! Folders and files of the host in a container, mounted before its systemd runs.
//!
//! liblxc opens the sources of `lxc.mount.entry` as the guest's root, who may not enter our folders: trees and
//! volumes are 0-based, so that a folder that others may enter would lend them the guest's setuid programs. The host's
//! root makes the mounts instead, while the container waits for the end of its `start-host` hook.
//!
//! **Source**: open_tree(2), mount_setattr(2), move_mount(2); `__lxc_idmapped_mounts_child` of liblxc 6.0.

use std::{
    fs::File,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    thread,
};

use nix::sched::{CloneFlags, setns, unshare};
use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, open, openat2},
    io::Errno,
    mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree},
};

use super::{config, error::LxcError};
use crate::machine::{Definition, attach, direct::link, network, secret};

/// A folder or file of the host and where the guest has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    source: PathBuf,
    target: PathBuf,
    read_only: bool,
}

/// Lists what a machine has of the host, in order; `folder` is its own. What its user mounts is not here: that has
/// flags that the guest cannot change ([`crate::machine::attach`]).
pub(super) fn of(definition: &Definition, folder: &Path) -> Vec<Mount> {
    let mount = |source: &Path, target: &Path, read_only| Mount {
        source: source.to_owned(),
        target: target.strip_prefix("/").unwrap_or(target).to_owned(),
        read_only,
    };
    let told = network::has_link(definition.network)
        .then(|| mount(&folder.join("host0.network"), Path::new(link::IN_TREE), true));
    let volumes = definition.volumes.iter().map(|volume| mount(&volume.source, &volume.path, false));
    let init = config::HAS_STUB.then(|| mount(&folder.join(config::STUB), Path::new(config::INIT), true));
    let secrets = config::has_secrets(folder)
        .then(|| mount(&folder.join(secret::FOLDER), Path::new(config::SECRETS), true));
    told.into_iter().chain(init).chain(secrets).chain(volumes).collect()
}

/// Makes the mounts in the namespaces of a container's first process.
pub(super) fn attach(leader: i32, mounts: Vec<Mount>) -> Result<(), LxcError> {
    if mounts.is_empty() {
        return Ok(());
    }
    let joined = thread::spawn(move || inside(leader, &mounts)).join();
    joined.unwrap_or_else(|_| Err(refused("join the container", "/")(Errno::IO)))
}

fn refused(doing: &'static str, path: impl AsRef<Path>) -> impl FnOnce(Errno) -> LxcError {
    let path = path.as_ref().to_owned();
    move |errno| LxcError::Io { path, doing, source: errno.into() }
}

fn inside(leader: i32, mounts: &[Mount]) -> Result<(), LxcError> {
    let place = PathBuf::from(format!("/proc/{leader}"));
    let open_place = |name: &str| {
        let path = place.join(name);
        File::open(&path).map_err(super::error::io("opening a namespace", path))
    };
    let (users, space) = (open_place("ns/user")?, open_place("ns/mnt")?);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = open(place.join("root"), flags, Mode::empty()).map_err(refused("opening the root", &place))?;
    let copies = mounts.iter().map(|mount| copy(mount, &users)).collect::<Result<Vec<_>, _>>()?;
    let joined = unshare(CloneFlags::CLONE_FS).and_then(|()| setns(&space, CloneFlags::CLONE_NEWNS));
    joined.map_err(|errno| {
        refused("joining the container's mounts", &place)(Errno::from_raw_os_error(errno as i32))
    })?;
    for (mount, copy) in mounts.iter().zip(copies) {
        // a guest's links lead nowhere but into the guest
        let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let target = openat2(&root, &mount.target, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), within)
            .map_err(refused("opening the mount point", &mount.target))?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(&copy, "", &target, "", flags).map_err(refused("mounting on it", &mount.target))?;
    }
    Ok(())
}

/// Makes a mount that stands nowhere yet, its owners shifted to the container's.
fn copy(mount: &Mount, users: &File) -> Result<OwnedFd, LxcError> {
    let source = &mount.source;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    let tree = open_tree(CWD, source, flags).map_err(refused("copying the mount of it", source))?;
    let read_only = if mount.read_only { libc::MOUNT_ATTR_RDONLY } else { 0 };
    let set = attach::set(&tree, libc::MOUNT_ATTR_IDMAP | read_only, Some(users));
    set.map_err(refused("mapping its owners to the machine's", source))?;
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        machine::{Network, example::definition, volume::Mounted},
        spec::VolumeKind,
    };

    #[test]
    fn a_guest_is_told_its_addresses_and_has_its_folders() {
        let mut definition = definition("agents");
        definition.volumes = vec![Mounted {
            source: "/v/a".into(),
            path: "/srv/b".into(),
            kind: VolumeKind::Home,
            owner: "root".to_owned(),
            mode: "0755".to_owned(),
        }];
        let all = of(&definition, Path::new("/m"));
        let targets: Vec<_> = all.iter().map(|mount| mount.target.to_str().unwrap()).collect();
        let init = config::HAS_STUB.then_some("dev/.sandbox-init");
        let wanted: Vec<_> = [link::IN_TREE].into_iter().chain(init).chain(["srv/b"]).collect();
        assert_eq!(targets, wanted);
        assert!(all[0].read_only && !all[all.len() - 1].read_only);
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(secret::FOLDER)).unwrap();
        std::fs::write(folder.path().join(secret::FOLDER).join("KEY"), "x").unwrap();
        let secrets = Path::new("dev/.sandbox-credentials");
        assert!(
            of(&definition, folder.path()).iter().any(|mount| mount.target == secrets && mount.read_only)
        );
        definition.network = Network::None;
        assert_eq!(
            of(&definition, Path::new("/m")).len(),
            wanted.len() - 1,
            "who has no link is told nothing"
        );
    }
}
