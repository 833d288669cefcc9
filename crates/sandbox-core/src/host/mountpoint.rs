//! Mount points.

use std::{
    ffi::OsStr,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, StatxAttributes, StatxFlags, statx},
    io::Errno,
};

/// Reports whether a name in a directory, or with an empty name the directory itself, is the root of a mount.
///
/// # Errors
/// What statx(2) says.
///
/// **Source**: statx(2), `STATX_ATTR_MOUNT_ROOT`, since Linux 5.8.
pub fn is_root_of_mount(directory: impl AsFd, name: &OsStr) -> Result<bool, Errno> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    let found = statx(directory, name, flags, StatxFlags::empty())?;
    Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Reports whether a path is the root of a mount.
///
/// # Errors
/// What open(2) and statx(2) say.
pub fn is_mount_point(path: &Path) -> std::io::Result<bool> {
    Ok(is_root_of_mount(rustix::fs::CWD, path.as_os_str())?)
}

/// Returns the mount point that an existing path is below; `/` where none is found.
#[must_use]
pub fn mount_point_of(path: &Path) -> PathBuf {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let is_mount = |path: &&Path| is_mount_point(path).unwrap_or(false);
    path.ancestors().find(is_mount).unwrap_or(Path::new("/")).to_owned()
}
