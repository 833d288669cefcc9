//! A whole tree copied, as cheaply as its file system can: a snapshot of a subvolume, shared extents, bytes.
//!
//! In two passes where somebody is at work in it: all of it first, while it changes, then what was changed since, once
//! it is at rest. Only the second pass has to be waited for.

mod copier;

use std::{
    collections::BTreeSet,
    fs::File,
    io,
    path::{Path, PathBuf},
};

use copier::Copier;
use rustix::fs::{AtFlags, FileType, syncfs, unlinkat};

use super::walk::{Change, Seen, Walk};
use crate::host::{
    clonable,
    live::vanished,
    root::{Links, Root},
};

/// A tree that is being copied.
#[derive(Debug)]
pub struct Copying {
    from: PathBuf,
    to: PathBuf,
    /// What the first pass saw, and the places in it of what vanished before it was copied.
    before: Option<(Walk, Vec<usize>)>,
    /// It is a subvolume, the copy is to be on its file system, and no other subvolume is in it.
    subvolume: bool,
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
        let gone = Copier::new(&walk, from, to, true)?.copy(&all(&walk))?;
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
        let target = Root::open(to, Links::Never).map_err(|error| (to.clone(), error))?;
        for path in removed {
            take_away(&target, path).map_err(|error| (to.join(path), error))?;
        }
        for seen in made.iter().filter_map(|place| now.get(*place)) {
            make_room(&target, seen).map_err(|error| (to.join(seen.path), error))?;
        }
        Copier::new(&now, from, to, false)?.copy(&made).map(drop)
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
        Copier::new(&walk, from, to, false)?.copy(&all(&walk)).map(drop)
    }
}

fn above(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// Tells whether a tree is a subvolume that has no other in it: those would be empty in a snapshot of it.
fn is_one_subvolume(tree: &Path, walk: &Walk) -> bool {
    clonable::is_subvolume(tree) && !walk.has_subvolumes()
}

fn all(walk: &Walk) -> Vec<usize> {
    (0..walk.count()).collect()
}

/// Tells whether files of a copy can share extents with those of a tree, by trying.
fn shares(from: &Path, to: &Path) -> bool {
    clonable::shares_extents(to)
        && tempfile::tempfile_in(from).is_ok_and(|probe| clonable::shares_with(&probe, to))
}

/// Tells what is to be removed from a copy and the places of what is to be made in it; folders of what is made or
/// removed are made too, since their times change with it.
fn differences<'a>(before: &'a Walk, gone: &[usize], now: &'a Walk) -> (Vec<&'a Path>, Vec<usize>) {
    let mut removed = Vec::new();
    let gone = gone.iter().filter_map(|place| before.get(*place));
    let mut paths: BTreeSet<&Path> = gone.map(|seen| seen.path).collect();
    for change in now.since(before) {
        match change {
            Change::Made(seen) => drop(paths.insert(seen.path)),
            Change::Removed(path) => {
                removed.push(path);
                paths.insert(path);
            }
        }
    }
    let folders: Vec<&Path> = paths.iter().filter_map(|path| path.parent()).collect();
    paths.extend(folders);
    let mut made: Vec<usize> = paths.iter().filter_map(|path| now.find(path)).collect();
    made.sort_unstable();
    (removed, made)
}

/// Makes room for what a path becomes: a folder that stays one stays.
fn make_room(target: &Root, seen: Seen<'_>) -> io::Result<()> {
    if seen.path.as_os_str().is_empty() {
        return Ok(());
    }
    match target.kind(seen.path)? {
        None => Ok(()),
        Some(FileType::Directory) if seen.facts.kind() == FileType::Directory => Ok(()),
        Some(_) => take_away(target, seen.path),
    }
}

fn take_away(target: &Root, path: &Path) -> io::Result<()> {
    match target.kind(path) {
        Ok(None) => Ok(()),
        Err(error) if vanished(&error) => Ok(()),
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
        let of = |seen: Seen<'_>| {
            let at = tree.join(seen.path);
            let found = fs::symlink_metadata(&at).unwrap();
            let bytes = if found.is_file() { fs::read(&at).unwrap() } else { Vec::new() };
            let says = fs::read_link(&at).unwrap_or_default();
            let links = if found.is_dir() { 0 } else { found.nlink() };
            let time = (found.mtime(), found.mtime_nsec());
            format!("{:o} {} {} {links} {time:?} {says:?} {bytes:?}", found.mode(), found.uid(), found.gid())
        };
        walk.seen().map(|seen| (seen.path.to_owned(), of(seen))).collect()
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

    /// Has two names exchange what they stand for.
    fn exchange(one: &Path, other: &Path) {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
    }

    #[test]
    fn a_folder_swapped_for_a_link_between_the_walk_and_the_copy_leads_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        let host = folder.path().join("host");
        fs::create_dir_all(host.join("etc")).unwrap();
        fs::write(host.join("etc/shadow"), "secret").unwrap();
        fs::create_dir_all(from.join("x/etc")).unwrap();
        fs::write(from.join("x/etc/shadow"), "gggggg").unwrap();
        fs::write(from.join("file"), "gggggg").unwrap();
        std::os::unix::fs::symlink(&host, from.join("y")).unwrap();
        std::os::unix::fs::symlink(host.join("etc/shadow"), from.join("z")).unwrap();
        sleep(Duration::from_millis(40));
        let walk = Walk::of_live(&from).unwrap();
        exchange(&from.join("x"), &from.join("y"));
        exchange(&from.join("file"), &from.join("z"));
        fs::create_dir(&to).unwrap();
        let gone = Copier::new(&walk, &from, &to, true).unwrap().copy(&all(&walk)).unwrap();
        let gone_paths: Vec<_> = gone.iter().map(|at| walk.get(*at).unwrap().path.to_owned()).collect();
        for path in ["x/etc/shadow", "file", "y", "z"] {
            assert!(gone_paths.contains(&PathBuf::from(path)), "{path} of {gone_paths:?}");
        }
        assert!(!to.join("x/etc/shadow").exists() && !to.join("file").exists());
        // the second pass, in which nothing changes, takes what is there then
        let (from_again, to_again) = (from.clone(), to.clone());
        Copying { from: from_again, to: to_again, before: Some((walk, gone)), subvolume: false }
            .finish()
            .unwrap();
        assert_eq!(facts(&from), facts(&to));
        assert_eq!(fs::read_link(to.join("x")).unwrap(), host);
        assert_eq!(fs::read(to.join("y/etc/shadow")).unwrap(), b"gggggg");
    }

    #[test]
    fn a_tree_at_rest_in_which_something_is_swapped_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("x")).unwrap();
        fs::write(from.join("x/file"), "g").unwrap();
        fs::write(from.join("x/other"), "other").unwrap();
        let walk = Walk::of(&from, "").unwrap();
        exchange(&from.join("x/file"), &from.join("x/other"));
        fs::create_dir(&to).unwrap();
        let (path, error) = Copier::new(&walk, &from, &to, false).unwrap().copy(&all(&walk)).unwrap_err();
        assert!(path.starts_with("x") && vanished(&error), "{path:?} {error}");
    }

    #[test]
    fn a_pipe_in_a_files_place_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir(&from).unwrap();
        fs::write(from.join("file"), "g").unwrap();
        nix::unistd::mkfifo(&from.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let walk = Walk::of_live(&from).unwrap();
        exchange(&from.join("file"), &from.join("pipe"));
        fs::create_dir(&to).unwrap();
        let gone = Copier::new(&walk, &from, &to, true).unwrap().copy(&all(&walk)).unwrap();
        assert_eq!(gone.len(), 2);
        assert!(fs::read_dir(&to).unwrap().all(|entry| entry.unwrap().metadata().unwrap().len() == 0));
    }

    #[test]
    fn folders_and_links_that_change_places_all_the_time_do_not_fail_the_copy() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("x/etc")).unwrap();
        fs::write(from.join("x/etc/passwd"), "of the guest").unwrap();
        std::os::unix::fs::symlink("/", from.join("y")).unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    exchange(&from.join("x"), &from.join("y"));
                }
            });
            let begun: Vec<_> =
                (0..20).map(|round| Copying::begin(&from, &to.with_extension(round.to_string()))).collect();
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            begun
        })
        .into_iter()
        .for_each(|begun| {
            let copying = begun.unwrap();
            let to = copying.to.clone();
            copying.finish().unwrap();
            assert_eq!(facts(&from), facts(&to));
        });
    }

    #[test]
    fn a_tree_that_is_too_deep_is_refused_as_untrusted() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("from");
        fs::create_dir(&from).unwrap();
        let top = rustix::fs::OFlags::PATH;
        let mut at = rustix::fs::openat(rustix::fs::CWD, &from, top, rustix::fs::Mode::empty()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, "d", rustix::fs::Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, "d", top, rustix::fs::Mode::empty()).unwrap();
        }
        for (_, error) in [
            copy(&from, &folder.path().join("to")).unwrap_err(),
            Copying::begin(&from, &folder.path().join("to")).unwrap_err(),
        ] {
            assert!(crate::host::live::is_excess(&error), "{error}");
        }
        crate::host::root::remove_tree(&from).unwrap();
    }
}
