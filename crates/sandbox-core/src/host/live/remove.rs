//! A tree removed, however deep it is: with a bounded number of handles and each directory moved at most once.
//!
//! ```text
//! top/a/b/…/m/n/…        at the last level that is opened, `n` is moved to the top and removed from there later
//! top/.sandbox-rest-0    = n
//! ```
//!
//! A rename does not leave a subvolume of btrfs, but a whole subvolume may be moved; so one is moved to the top while
//! there are levels left for what is in it.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::fd::AsFd,
    path::Path,
};

use rustix::{
    fs::{AtFlags, CWD, FileType, RenameFlags, renameat_with, unlinkat},
    io::Errno,
};

use super::{
    Budget,
    directory::{Directory, Identity},
};
use crate::host::clonable;

/// How many levels are open at once.
const LEVELS: usize = 64;
/// From this level on a subvolume is moved to the top.
const SUBVOLUMES: usize = LEVELS / 2;

/// Removes a tree, links not followed and no other file system entered; subvolumes in it go too, whether they can be
/// written or not.
///
/// # Errors
/// `EXDEV` where something is mounted in it.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    empty(Directory::top(path)?)?;
    Ok(unlinkat(CWD, path, AtFlags::REMOVEDIR)?)
}

/// Removes a tree as [`remove_tree`] does; a missing one is no error.
///
/// # Errors
/// As [`remove_tree`].
pub fn clear_tree(path: &Path) -> io::Result<()> {
    match remove_tree(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

struct Level {
    directory: Directory,
    device: u64,
    /// Directories that are left; the last is under way.
    below: Vec<OsString>,
}

/// Removes all that is in a directory, not the directory.
///
/// # Errors
/// As [`remove_tree`].
pub fn empty(top: Directory) -> io::Result<()> {
    let mut rest = 0;
    let mut stack = vec![level(top)?];
    while let Some(last) = stack.last_mut() {
        let Some(name) = last.below.last().cloned() else {
            stack.pop();
            if let Some(above) = stack.last_mut()
                && let Some(name) = above.below.pop()
            {
                unlinkat(&above.directory, &name, AtFlags::REMOVEDIR)?;
            }
            continue;
        };
        let next = last.directory.child(&name)?;
        let is_subvolume = clonable::is_open_subvolume(&next);
        if is_subvolume && clonable::remove_subvolume_in(last.directory.as_fd(), Path::new(&name)).is_ok() {
            last.below.pop();
            continue;
        }
        if let Some(to) = moved_to(&stack, is_subvolume)
            && aside(&mut stack, to, &name, &mut rest)?
        {
            continue;
        }
        stack.push(level(next)?);
    }
    Ok(())
}

/// Tells to which level the directory that is to be entered is moved instead.
fn moved_to(stack: &[Level], is_subvolume: bool) -> Option<usize> {
    let depth = stack.len();
    if is_subvolume && depth > SUBVOLUMES {
        return Some(0);
    }
    if depth < LEVELS {
        return None;
    }
    let device = stack.last()?.device;
    let same = stack.iter().rev().take_while(|level| level.device == device).count();
    (same > 1).then_some(depth - same)
}

/// Moves the directory that is under way in the innermost level up to another; tells whether it could.
fn aside(stack: &mut [Level], to: usize, name: &OsStr, rest: &mut u64) -> io::Result<bool> {
    loop {
        let new = OsString::from(format!(".sandbox-rest-{rest}"));
        *rest += 1;
        let (Some(target), Some(last)) = (stack.get(to), stack.last()) else { return Ok(false) };
        match renameat_with(&last.directory, name, &target.directory, &new, RenameFlags::NOREPLACE) {
            Ok(()) => {
                if let Some(last) = stack.last_mut() {
                    last.below.pop();
                }
                if let Some(target) = stack.get_mut(to) {
                    // the last one is under way
                    let at = target.below.len().saturating_sub(1);
                    target.below.insert(at, new);
                }
                return Ok(true);
            }
            Err(Errno::EXIST) => {}
            // then it is entered where it is
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS) if stack.len() < LEVELS * 4 => return Ok(false),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Removes what is no directory, and lists the directories.
fn level(directory: Directory) -> io::Result<Level> {
    if clonable::is_open_subvolume(&directory) {
        // one that cannot be written would be in the way
        clonable::make_writable(&directory)?;
    }
    let device = Identity::from(&directory.own()?).device;
    let mut names = directory.names(&mut Budget::unlimited())?;
    let mut below = Vec::new();
    while let Some(name) = names.take() {
        match unlinkat(&directory, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR | Errno::PERM) if is_directory(&directory, &name)? => below.push(name),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(Level { directory, device, below })
}

fn is_directory(directory: &Directory, name: &OsStr) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(directory.stat(name)?.st_mode) == FileType::Directory)
}
