//! The device nodes of a tree at rest, for whoever enters it by chroot(8) alone.
//!
//! Every backend mounts a /dev of its own over them. The set is that of debootstrap and mmdebstrap.

use std::{ffi::OsStr, os::fd::AsFd as _, path::Path};

use rustix::{fs::FileType, io::Errno};

use super::{ConfigureError, tree};
use crate::host::root::{Meta, Root, make_node};

/// Character devices: name, major and minor number, permissions.
const NODES: &[(&str, u32, u32, u32)] = &[
    ("console", 5, 1, 0o600),
    ("full", 1, 7, 0o666),
    ("null", 1, 3, 0o666),
    ("ptmx", 5, 2, 0o666),
    ("random", 1, 8, 0o666),
    ("tty", 5, 0, 0o666),
    ("urandom", 1, 9, 0o666),
    ("zero", 1, 5, 0o666),
];

const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// Makes the nodes. Where the kernel lets nobody make any (in a user namespace) the tree goes without.
pub fn make(root: &Root, epoch: i64) -> Result<(), ConfigureError> {
    let folder = Path::new("dev");
    for below in ["pts", "shm"] {
        let path = folder.join(below);
        root.make_folders(&path, Meta::of_root(0o755, epoch)).map_err(tree(&path))?;
    }
    for (name, target) in LINKS {
        let path = folder.join(name);
        root.link(&path, OsStr::new(target), epoch).map_err(tree(&path))?;
    }
    for (name, major, minor, mode) in NODES {
        let path = folder.join(name);
        root.remove(&path).map_err(tree(&path))?;
        let made = root.parent(&path).and_then(|(folder, name)| {
            let meta = Meta::of_root(*mode, epoch);
            make_node(folder.as_fd(), &name, FileType::CharacterDevice, (*major, *minor), meta)
        });
        match made {
            Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => return Ok(()),
            other => other.map_err(tree(&path))?,
        }
    }
    Ok(())
}
