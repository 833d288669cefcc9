//! Where an output is built, and how it gets its name.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::fs::{CWD, RenameFlags, StatVfsMountFlags, renameat_with, statvfs};

use super::OutputError;
use crate::host::{clonable, mountpoint, root, temporary};

/// Fewer bytes and inodes are enough for no tree of a distribution.
const LEAST_BYTES: u64 = 1 << 20;
const LEAST_INODES: u64 = 1000;

/// What a fresh ext file system has.
const LOST_AND_FOUND: &str = "lost+found";
/// The name of the working directory inside a target.
const INSIDE: &str = ".sandbox-partial";

/// Where an output is built before it is whole.
///
/// **Invariant**: the working directory is on the target's file system, so that the result gets its name by rename(2).
/// A target that cannot be renamed to, since it is a mount point or a subvolume, has the working directory inside, and
/// the tree's entries are moved up.
#[derive(Debug)]
pub struct Place {
    target: PathBuf,
    work: PathBuf,
    is_inside: bool,
}

impl Place {
    /// Plans a tree at an absolute path that is missing or an empty directory.
    ///
    /// # Errors
    /// [`OutputError::Taken`], and what the file system says.
    pub fn for_directory(target: &Path) -> Result<Self, OutputError> {
        let target = named(target)?;
        match fs::symlink_metadata(&target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::beside(target)),
            Err(error) => return Err(OutputError::io(&target, "read")(error)),
            Ok(found) if !found.is_dir() => {
                return Err(OutputError::Taken { path: target, is_directory: false });
            }
            Ok(_) => {}
        }
        let read = OutputError::io(&target, "read");
        let (mut is_inside, mut entries) = (false, fs::read_dir(&target).map_err(&read)?);
        while let Some(entry) = entries.next().transpose().map_err(&read)? {
            if entry.file_name() != LOST_AND_FOUND && entry.file_name() != INSIDE {
                return Err(OutputError::Taken { path: target, is_directory: true });
            }
            is_inside = true;
        }
        if is_inside || mountpoint::is_mount_point(&target).map_err(read)? || clonable::is_subvolume(&target)
        {
            return Ok(Self { work: target.join(INSIDE), target, is_inside: true });
        }
        Ok(Self::beside(target))
    }

    /// Plans a file at an absolute path where nothing is.
    ///
    /// # Errors
    /// [`OutputError::Taken`], and what the file system says.
    pub fn for_file(target: &Path) -> Result<Self, OutputError> {
        let target = named(target)?;
        match fs::symlink_metadata(&target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::beside(target)),
            Err(error) => Err(OutputError::io(&target, "read")(error)),
            Ok(_) => Err(OutputError::Taken { path: target, is_directory: false }),
        }
    }

    /// Plans a tree that is written to a stream, in a directory for temporary files.
    #[must_use]
    pub fn for_stream(directory: &Path, process: u32) -> Self {
        Self::beside(directory.join(format!("sandbox-{process}")))
    }

    /// One working directory a target, so that the next run finds what a killed one left.
    fn beside(target: PathBuf) -> Self {
        Self { work: temporary::beside(&target, "sandbox-partial"), target, is_inside: false }
    }

    /// Returns the target as an absolute path.
    #[must_use]
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Returns the working directory.
    #[must_use]
    pub fn work(&self) -> &Path {
        &self.work
    }

    /// Returns the directory that the working directory is in.
    fn above(&self) -> &Path {
        self.work.parent().unwrap_or(Path::new("/"))
    }

    /// Checks that a tree can be built here: programs run on the file system, which can be written, has inodes and
    /// space for the smallest tree.
    ///
    /// # Errors
    /// [`OutputError::NoExec`], [`OutputError::ReadOnly`], [`OutputError::Inodes`], [`OutputError::Space`].
    pub fn check(&self, is_file: bool) -> Result<(), OutputError> {
        let exists = |path: &&Path| fs::symlink_metadata(path).is_ok();
        let directory = self.above().ancestors().find(exists).unwrap_or(Path::new("/"));
        let path = directory.to_owned();
        let found = statvfs(directory).map_err(|errno| OutputError::io(directory, "read")(errno.into()))?;
        let mount = || mountpoint::mount_point_of(directory);
        if found.f_flag.contains(StatVfsMountFlags::RDONLY) {
            return Err(OutputError::ReadOnly { mount: mount() });
        }
        programs_run(directory, is_file)?;
        // some file systems have no number of inodes
        if found.f_files > 0 && found.f_favail < LEAST_INODES {
            return Err(OutputError::Inodes { path, free: found.f_favail });
        }
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        if found.f_blocks > 0 && free < LEAST_BYTES {
            return Err(OutputError::Space { path, free: free >> 10 });
        }
        Ok(())
    }

    /// Creates the working directory, which only its owner may enter: programs that run as their owner are reachable
    /// by no other user while the tree is not whole. What a killed run left is removed.
    ///
    /// # Errors
    /// What the file system says.
    pub fn begin(&self) -> Result<(), OutputError> {
        self.remove()?;
        let created = fs::create_dir_all(self.above())
            .and_then(|()| fs::DirBuilder::new().mode(0o700).create(&self.work));
        created.map_err(OutputError::io(&self.work, "created"))
    }

    /// Removes the working directory; a missing one is no error.
    ///
    /// # Errors
    /// What the file system says.
    pub fn remove(&self) -> Result<(), OutputError> {
        root::clear_tree(&self.work).map_err(OutputError::io(&self.work, "removed"))
    }

    /// Moves a finished tree of the working directory to the target, and removes the working directory.
    ///
    /// # Errors
    /// [`OutputError::Move`]; then nothing of the tree is at the target.
    pub fn put(&self, tree: &Path) -> Result<(), OutputError> {
        let failed = |source| OutputError::Move { path: self.target.clone(), source };
        if self.is_inside {
            self.move_entries(tree).map_err(failed)?;
        } else {
            // an empty directory may be there: rename(2) replaces it
            fs::rename(tree, &self.target).map_err(failed)?;
        }
        File::open(self.above()).and_then(|directory| directory.sync_all()).map_err(failed)?;
        if !self.is_inside {
            self.remove()?;
        }
        Ok(())
    }

    /// Moves a tree's entries into the target, all or none, and gives the target the tree's owner, permissions and time.
    fn move_entries(&self, tree: &Path) -> io::Result<()> {
        let found = fs::symlink_metadata(tree)?;
        let names =
            fs::read_dir(tree)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
        for (at, name) in names.iter().enumerate() {
            let moved =
                renameat_with(CWD, tree.join(name), CWD, self.target.join(name), RenameFlags::NOREPLACE);
            if let Err(errno) = moved {
                for name in &names[..at] {
                    fs::rename(self.target.join(name), tree.join(name))?;
                }
                return Err(errno.into());
            }
        }
        root::remove_tree(&self.work)?;
        chown(&self.target, Some(found.uid()), Some(found.gid()))?;
        fs::set_permissions(&self.target, fs::Permissions::from_mode(found.mode() & 0o7777))?;
        File::open(&self.target)?.set_modified(time_of(&found))
    }
}

/// Checks that programs run in a directory; `is_file` where only a file is written there in the end.
///
/// # Errors
/// [`OutputError::NoExec`].
pub fn programs_run(directory: &Path, is_file: bool) -> Result<(), OutputError> {
    let found = statvfs(directory).map_err(|errno| OutputError::io(directory, "read")(errno.into()))?;
    if found.f_flag.contains(StatVfsMountFlags::NOEXEC) {
        return Err(OutputError::NoExec { mount: mountpoint::mount_point_of(directory), is_file });
    }
    Ok(())
}

fn time_of(found: &fs::Metadata) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(found.mtime()).unwrap_or(0))
}

fn named(target: &Path) -> Result<PathBuf, OutputError> {
    // a slash at the end would follow a link
    let path: PathBuf = target.components().collect();
    if path.file_name().is_none() || !path.is_absolute() {
        return Err(OutputError::Name { path });
    }
    Ok(path)
}
