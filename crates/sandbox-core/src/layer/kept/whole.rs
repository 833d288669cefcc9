//! A whole tree copied, as cheaply as its file system can: a snapshot of a subvolume, shared extents, bytes.
//!
//! In two passes where somebody is at work in it: all of it first, while it changes, then what was changed since, once
//! it is at rest. Only the second pass has to be waited for.

use std::{
    collections::BTreeSet,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Mutex,
};

use rustix::fs::{AtFlags, FileType, syncfs, unlinkat};

use super::{
    copy::{self, Bytes},
    pack,
    plan::Plan,
    walk::{Change, Seen, Walk},
};
use crate::host::{
    clonable,
    root::{Links, Root},
};

/// A tree that is being copied.
#[derive(Debug)]
pub struct Copying {
    from: PathBuf,
    to: PathBuf,
    before: Option<(Walk, Vec<PathBuf>)>,
    /// It is a subvolume, the copy is to be on its file system, and no other subvolume is in it.
    subvolume: bool,
}

/// Tells whether an error says that something has gone, or become something else, since it was seen.
pub fn has_gone(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::ESTALE | libc::ENXIO)
    ) || error.kind() == io::ErrorKind::UnexpectedEof
}

/// Copies a tree at rest to a place where nothing is, and has the copy on disk.
///
/// # Errors
/// What the file system says, with the path; what was copied until then stays.
pub fn copy(from: &Path, to: &Path) -> Result<(), (PathBuf, io::Error)> {
    Copying { from: from.to_owned(), to: to.to_owned(), before: None, subvolume: false }.finish()?;
    sync(to)
}

/// Has everything of a tree's file system on disk.
///
/// # Errors
/// What syncfs(2) says.
pub fn sync(tree: &Path) -> Result<(), (PathBuf, io::Error)> {
    let at = |error| (tree.to_owned(), error);
    let folder = File::open(tree).map_err(at)?;
    syncfs(&folder).map_err(|errno| at(errno.into()))
}

impl Copying {
    /// Copies a tree in which somebody is at work, for the first time. Where its file system can copy it at once,
    /// nothing is done yet.
    ///
    /// # Errors
    /// What the file system says, with the path.
    pub fn begin(from: &Path, to: &Path) -> Result<Self, (PathBuf, io::Error)> {
        let at = |error| (from.to_owned(), error);
        let copying = Self { from: from.to_owned(), to: to.to_owned(), before: None, subvolume: false };
        let walk = Walk::of_live(from).map_err(at)?;
        if is_one_subvolume(from, &walk) && clonable::is_btrfs(above(to)) {
            return Ok(Self { subvolume: true, ..copying });
        }
        clonable::make_tree(to).map_err(|error| (to.to_owned(), error))?;
        let mut gone = Vec::new();
        let entries = pack::entries_of_live(from, &walk.since(&Walk::default()), &mut gone).map_err(at)?;
        let passed = Mutex::new(gone);
        let layers = [entries];
        copy::make_over(&Plan::of(&layers), &[bytes(from, to).map_err(at)?], to, Some(&passed))?;
        let gone = passed.into_inner().unwrap_or_default();
        Ok(Self { before: Some((walk, gone)), ..copying })
    }

    /// Copies the tree, now at rest, or what was changed in it since the first pass.
    ///
    /// # Errors
    /// What the file system says, with the path.
    pub fn finish(self) -> Result<(), (PathBuf, io::Error)> {
        let (from, to) = (&self.from, &self.to);
        let at = |error| (from.clone(), error);
        let Some((before, gone)) = &self.before else {
            return self.at_once();
        };
        let now = Walk::of(from, "").map_err(at)?;
        let (removed, made) = differences(before, gone, &now);
        let target = Root::open(to, Links::Refused).map_err(|error| (to.clone(), error))?;
        for path in removed {
            take_away(&target, path).map_err(|error| (to.join(path), error))?;
        }
        for seen in &made {
            make_room(&target, seen).map_err(|error| (to.join(&seen.path), error))?;
        }
        let changes: Vec<_> = made.into_iter().map(Change::Made).collect();
        let layers = [pack::entries(from, &changes, None).map_err(at)?];
        copy::make_over(&Plan::of(&layers), &[bytes(from, to).map_err(at)?], to, None)
    }

    fn at_once(&self) -> Result<(), (PathBuf, io::Error)> {
        let (from, to) = (&self.from, &self.to);
        let at = |error| (from.clone(), error);
        // looked at before: nobody waits for that now
        if self.subvolume && clonable::snapshot(from, to).is_ok() {
            return Ok(());
        }
        let mut walk = None;
        if clonable::is_subvolume(from) && clonable::is_btrfs(above(to)) {
            let seen = Walk::of(from, "").map_err(at)?;
            if is_one_subvolume(from, &seen) && clonable::snapshot(from, to).is_ok() {
                return Ok(());
            }
            walk = Some(seen);
        }
        clonable::make_tree(to).map_err(|error| (to.clone(), error))?;
        let walk = match walk {
            Some(walk) => walk,
            None => Walk::of(from, "").map_err(at)?,
        };
        let layers = [pack::entries(from, &walk.since(&Walk::default()), None).map_err(at)?];
        copy::make(&Plan::of(&layers), &[bytes(from, to).map_err(at)?], to)
    }
}

fn above(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// Tells whether a tree is a subvolume that has no other in it: those would be empty in a snapshot of it.
fn is_one_subvolume(tree: &Path, walk: &Walk) -> bool {
    clonable::is_subvolume(tree) && !walk.has_subvolumes()
}

fn bytes(from: &Path, to: &Path) -> io::Result<Bytes> {
    let shared = clonable::shares_extents(to) && {
        let probe = tempfile::tempfile_in(from);
        probe.is_ok_and(|probe| clonable::shares_with(&probe, to))
    };
    Ok(Bytes::Tree { tree: File::open(from)?, shared })
}

/// Tells what is to be removed from a copy and what is to be made in it; folders of what is made or removed are made
/// too, since their times change with it.
fn differences<'a>(before: &'a Walk, gone: &'a [PathBuf], now: &'a Walk) -> (Vec<&'a Path>, Vec<&'a Seen>) {
    let mut removed = Vec::new();
    let mut paths: BTreeSet<&Path> = gone.iter().map(PathBuf::as_path).collect();
    for change in now.since(before) {
        match change {
            Change::Made(seen) => drop(paths.insert(&seen.path)),
            Change::Removed(path) => {
                removed.push(path);
                paths.insert(path);
            }
        }
    }
    let folders: Vec<&Path> = paths.iter().filter_map(|path| path.parent()).collect();
    paths.extend(folders);
    (removed, now.seen().iter().filter(|seen| paths.contains(&*seen.path)).collect())
}

/// Makes room for what a path becomes: a folder that stays one stays.
fn make_room(target: &Root, seen: &Seen) -> io::Result<()> {
    if seen.path.as_os_str().is_empty() {
        return Ok(());
    }
    let becomes = FileType::from_raw_mode(seen.stat.st_mode);
    match target.kind(&seen.path)? {
        None => Ok(()),
        Some(FileType::Directory) if becomes == FileType::Directory => Ok(()),
        Some(_) => take_away(target, &seen.path),
    }
}

fn take_away(target: &Root, path: &Path) -> io::Result<()> {
    match target.kind(path) {
        Ok(None) => Ok(()),
        Err(error) if has_gone(&error) => Ok(()),
        Err(error) => Err(error),
        Ok(Some(FileType::Directory)) => {
            target.empty(path)?;
            let (above, name) = target.parent(path)?;
            Ok(unlinkat(&above, &name, AtFlags::REMOVEDIR)?)
        }
        Ok(Some(_)) => target.remove(path),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt as _, thread::sleep, time::Duration};

    use super::*;

    /// What of a tree must be the same in its copy.
    fn facts(tree: &Path) -> BTreeMap<PathBuf, String> {
        let walk = Walk::of(tree, "").unwrap();
        let of = |seen: &Seen| {
            let at = tree.join(&seen.path);
            let found = fs::symlink_metadata(&at).unwrap();
            let bytes = if found.is_file() { fs::read(&at).unwrap() } else { Vec::new() };
            let says = fs::read_link(&at).unwrap_or_default();
            let links = if found.is_dir() { 0 } else { found.nlink() };
            let time = (found.mtime(), found.mtime_nsec());
            format!("{:o} {} {} {links} {time:?} {says:?} {bytes:?}", found.mode(), found.uid(), found.gid())
        };
        walk.seen().iter().map(|seen| (seen.path.clone(), of(seen))).collect()
    }

    #[test]
    fn a_copy_is_as_the_tree_is() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::write(from.join("a/b/large"), vec![7; 700_001]).unwrap();
        fs::write(from.join("a/small"), "small").unwrap();
        fs::hard_link(from.join("a/small"), from.join("also")).unwrap();
        std::os::unix::fs::symlink("/nowhere", from.join("link")).unwrap();
        fs::set_permissions(from.join("a"), std::os::unix::fs::PermissionsExt::from_mode(0o2751)).unwrap();
        copy(&from, &to).unwrap();
        assert_eq!(facts(&from), facts(&to));
        assert!(copy(&from, &to).is_err(), "what is there is not written over");
    }

    #[test]
    fn a_second_pass_brings_what_was_changed_since_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        for path in ["kept/deep", "gone/deep", "becomes-file"] {
            fs::create_dir_all(from.join(path)).unwrap();
        }
        for path in ["kept/deep/same", "kept/deep/changed", "gone/deep/x", "becomes-file/x", "becomes-folder"]
        {
            fs::write(from.join(path), path).unwrap();
        }
        fs::write(from.join("first"), "linked").unwrap();
        sleep(Duration::from_millis(40));
        let copying = Copying::begin(&from, &to).unwrap();
        sleep(Duration::from_millis(40));
        fs::write(from.join("kept/deep/changed"), "anew").unwrap();
        fs::remove_dir_all(from.join("gone")).unwrap();
        fs::remove_dir_all(from.join("becomes-file")).unwrap();
        std::os::unix::fs::symlink("kept", from.join("becomes-file")).unwrap();
        fs::remove_file(from.join("becomes-folder")).unwrap();
        fs::create_dir_all(from.join("becomes-folder/new")).unwrap();
        fs::write(from.join("becomes-folder/new/x"), "new").unwrap();
        fs::hard_link(from.join("first"), from.join("kept/second")).unwrap();
        assert_ne!(facts(&from), facts(&to));
        copying.finish().unwrap();
        assert_eq!(facts(&from), facts(&to));
    }

    #[test]
    fn a_tree_that_changes_all_the_time_is_copied() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir(&from).unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0_u32.. {
                    if stop.load(std::sync::atomic::Ordering::Relaxed) {
                        return;
                    }
                    let (old, new) =
                        (from.join(format!("d{}", round % 50)), from.join(format!("e{}", round % 50)));
                    let _ = fs::remove_dir_all(&old);
                    fs::create_dir_all(old.join("x")).unwrap();
                    fs::write(old.join("x/y"), vec![1; 9000]).unwrap();
                    let _ = fs::remove_dir_all(&new);
                    let _ = fs::rename(&old, &new);
                }
            });
            sleep(Duration::from_millis(50));
            let begun = Copying::begin(&from, &to);
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            begun
        })
        .unwrap()
        .finish()
        .unwrap();
        assert_eq!(facts(&from), facts(&to));
    }
}
