//! What a file system can copy without copying: shared extents of files, and subvolumes of btrfs.
//!
//! **Source**: ioctl_ficlonerange(2); btrfs-ioctl(2), kernel headers `linux/btrfs.h`.
#![allow(unsafe_code, reason = "ioctl(2) has no safe form")]

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd as _},
        unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    },
    path::Path,
};

use rustix::fs::{CWD, Mode, OFlags, fstatfs, openat};

/// The unit in which extents are shared.
pub const BLOCK: u64 = 4096;

/// The number that the root folder of every subvolume has.
pub const SUBVOLUME_ROOT: u64 = 256;
const BTRFS_MAGIC: i128 = 0x9123_683e;

const CLONE_RANGE: libc::c_ulong = 0x4020_940d;
const SNAP_CREATE_V2: libc::c_ulong = 0x5000_9417;
const SUBVOL_CREATE_V2: libc::c_ulong = 0x5000_9418;
const SNAP_DESTROY: libc::c_ulong = 0x5000_940f;
const INO_LOOKUP: libc::c_ulong = 0xd000_9412;
const SUBVOL_SETFLAGS: libc::c_ulong = 0x4008_941a;
const QUOTA_CTL: libc::c_ulong = 0xc010_9428;
const QGROUP_LIMIT: libc::c_ulong = 0x8030_942b;
const READ_ONLY: u64 = 1 << 1;

#[repr(C)]
struct CloneRange {
    from: i64,
    offset: u64,
    length: u64,
    to_offset: u64,
}

/// `struct btrfs_ioctl_vol_args_v2`.
#[repr(C)]
struct VolumeV2 {
    fd: i64,
    transaction: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct Volume {
    fd: i64,
    name: [u8; 4088],
}

/// `struct btrfs_ioctl_ino_lookup_args`.
#[repr(C)]
struct Lookup {
    tree: u64,
    object: u64,
    name: [u8; 4080],
}

/// `struct btrfs_ioctl_quota_ctl_args`.
#[repr(C)]
struct Quota {
    command: u64,
    status: u64,
}

/// `struct btrfs_ioctl_qgroup_limit_args`.
#[repr(C)]
struct QuotaLimit {
    group: u64,
    flags: u64,
    referenced: u64,
    exclusive: u64,
    reserved: [u64; 2],
}

fn call<T>(fd: impl AsFd, request: libc::c_ulong, argument: &mut T) -> io::Result<()> {
    // SAFETY: the request's argument is a structure of the size that is part of the request's number, and it
    // lives for as long as the call.
    let status = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), request, std::ptr::from_mut(argument)) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Has a part of a file share its extents with a part of another: a copy that copies nothing.
///
/// # Errors
/// What ioctl(2) says: `EOPNOTSUPP`, `EXDEV`, `EINVAL` where this cannot be done.
pub fn share(from: impl AsFd, offset: u64, length: u64, to: impl AsFd, to_offset: u64) -> io::Result<()> {
    let from = i64::from(from.as_fd().as_raw_fd());
    call(to, CLONE_RANGE, &mut CloneRange { from, offset, length, to_offset })
}

/// Tells whether files of a folder can share extents, by trying.
#[must_use]
pub fn shares_extents(folder: &Path) -> bool {
    use io::Write as _;
    let made = || -> io::Result<File> {
        let mut from = tempfile::tempfile_in(folder)?;
        from.write_all(&[1; BLOCK as usize])?;
        Ok(from)
    };
    made().is_ok_and(|from| shares_with(&from, folder))
}

/// Tells whether files of a folder can share extents with one that has a block or none, by trying.
#[must_use]
pub fn shares_with(from: &File, folder: &Path) -> bool {
    let length = from.metadata().map_or(0, |found| found.len().min(BLOCK));
    tempfile::tempfile_in(folder).is_ok_and(|to| share(from, 0, length, &to, 0).is_ok())
}

/// Tells whether a folder is on btrfs.
#[must_use]
pub fn is_btrfs(folder: &Path) -> bool {
    let kind = open_folder(folder).and_then(|folder| Ok(fstatfs(&folder)?.f_type));
    kind.is_ok_and(|kind| i128::from(kind) == BTRFS_MAGIC)
}

/// Tells whether a folder is the root of a btrfs subvolume.
#[must_use]
pub fn is_subvolume(folder: &Path) -> bool {
    std::fs::symlink_metadata(folder).is_ok_and(|found| found.is_dir() && found.ino() == SUBVOLUME_ROOT)
        && is_btrfs(folder)
}

/// Makes a folder for a tree: a subvolume where the file system has such.
///
/// # Errors
/// What mkdir(2) says.
pub fn make_tree(path: &Path) -> io::Result<()> {
    let above = path.parent().unwrap_or(Path::new("/"));
    if is_btrfs(above) {
        let (folder, mut argument) = named(path)?;
        match call(&folder, SUBVOL_CREATE_V2, &mut argument) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {}
            made => return made,
        }
    }
    std::fs::create_dir(path)
}

/// Makes a snapshot of a subvolume.
///
/// # Errors
/// What ioctl(2) says.
pub fn snapshot(from: &Path, to: &Path) -> io::Result<()> {
    let from = open_folder(from)?;
    let (folder, mut argument) = named(to)?;
    argument.fd = i64::from(from.as_raw_fd());
    call(&folder, SNAP_CREATE_V2, &mut argument)
}

/// Tells whether an open folder is the root of a btrfs subvolume.
pub fn is_open_subvolume(folder: impl AsFd) -> bool {
    let of = |folder: std::os::fd::BorrowedFd<'_>| -> io::Result<bool> {
        let is_root = rustix::fs::fstat(folder)?.st_ino == SUBVOLUME_ROOT;
        Ok(is_root && i128::from(fstatfs(folder)?.f_type) == BTRFS_MAGIC)
    };
    of(folder.as_fd()).unwrap_or(false)
}

/// Removes a subvolume of an open folder at once, where no other is in it.
///
/// # Errors
/// What ioctl(2) says: `ENOTEMPTY` where another is in it.
pub fn remove_subvolume_in(folder: impl AsFd, name: &Path) -> io::Result<()> {
    call(folder, SNAP_DESTROY, &mut volume(&argument(name)?))
}

/// Has a subvolume be written again.
///
/// # Errors
/// What ioctl(2) says.
pub fn make_writable(folder: impl AsFd) -> io::Result<()> {
    call(folder, SUBVOL_SETFLAGS, &mut 0_u64)
}

/// Has nobody write a subvolume any more.
///
/// # Errors
/// What ioctl(2) says.
pub fn make_read_only(path: &Path) -> io::Result<()> {
    call(open_folder(path)?, SUBVOL_SETFLAGS, &mut READ_ONLY.clone())
}

/// Limits the bytes that a subvolume refers to; none takes the limit away.
///
/// # Errors
/// What ioctl(2) says.
pub fn limit_subvolume(path: &Path, bytes: Option<u64>) -> io::Result<()> {
    const ENABLE: u64 = 1;
    const REFERENCED: u64 = 1;
    const NO_LIMIT: u64 = u64::MAX;
    let folder = open_folder(path)?;
    if bytes.is_some() {
        call(&folder, QUOTA_CTL, &mut Quota { command: ENABLE, status: 0 })?;
    }
    let referenced = bytes.unwrap_or(NO_LIMIT);
    // group 0 is the subvolume's own
    let mut limit = QuotaLimit { group: 0, flags: REFERENCED, referenced, exclusive: 0, reserved: [0; 2] };
    call(&folder, QGROUP_LIMIT, &mut limit)
}

/// Removes a subvolume that has none in it, at once.
///
/// # Errors
/// What ioctl(2) says: `ENOTEMPTY` where another is in it.
pub fn remove_subvolume(path: &Path) -> io::Result<()> {
    let (folder, argument) = named(path)?;
    call(&folder, SNAP_DESTROY, &mut volume(&argument))
}

fn volume(argument: &VolumeV2) -> Volume {
    let mut volume = Volume { fd: 0, name: [0; 4088] };
    volume.name[..4040].copy_from_slice(&argument.name);
    volume
}

/// Gives a number that no other folder of the file system has: that of the subvolume whose root it is, since all
/// their roots have one inode number, else its inode number.
///
/// # Errors
/// What stat(2) says.
pub fn identity(folder: &Path) -> io::Result<u64> {
    let inode = std::fs::symlink_metadata(folder)?.ino();
    if inode != SUBVOLUME_ROOT || !is_btrfs(folder) {
        return Ok(inode);
    }
    let mut lookup = Lookup { tree: 0, object: SUBVOLUME_ROOT, name: [0; 4080] };
    call(open_folder(folder)?, INO_LOOKUP, &mut lookup)?;
    Ok(lookup.tree)
}

fn open_folder(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(CWD, path, flags, Mode::empty())?.into())
}

fn named(path: &Path) -> io::Result<(File, VolumeV2)> {
    Ok((open_folder(path.parent().unwrap_or(Path::new("/")))?, argument(path)?))
}

/// Names the last part of a path to the kernel.
fn argument(path: &Path) -> io::Result<VolumeV2> {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let mut argument = VolumeV2 { fd: 0, transaction: 0, flags: 0, unused: [0; 4], name: [0; 4040] };
    if name.is_empty() || name.len() >= argument.name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    argument.name[..name.len()].copy_from_slice(name);
    Ok(argument)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_structures_have_the_sizes_in_their_numbers() {
        assert_eq!(size_of::<CloneRange>(), 32);
        for size in [size_of::<VolumeV2>(), size_of::<Volume>(), size_of::<Lookup>()] {
            assert_eq!(size, 4096);
        }
    }

    #[test]
    fn a_tree_that_is_no_subvolume_is_known_by_its_inode() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        make_tree(&tree).unwrap();
        assert!(make_tree(&tree).is_err());
        let inode = std::fs::symlink_metadata(&tree).unwrap().ino();
        assert!(identity(&tree).unwrap() == inode || is_subvolume(&tree));
    }
}
