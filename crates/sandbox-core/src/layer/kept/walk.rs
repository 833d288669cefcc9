//! What a tree has at a moment, so that it can be told later what was changed.

use std::{
    cmp::Ordering,
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, openat, statat};

use crate::host::{clonable, root::entries};

/// The coarsest step in which a kernel tells the time of a change (a jiffy at 100 Hz), doubled.
const TICK: Duration = Duration::from_millis(20);

/// What is at a path.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The path, relative; that of the tree itself is empty.
    pub path: PathBuf,
    /// What the kernel says of it.
    pub stat: Stat,
}

/// A tree as it was, in the order of its paths' bytes.
#[derive(Clone, Debug, Default)]
pub struct Walk {
    seen: Vec<Seen>,
}

/// What became of a path.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// It is new or another than before.
    Made(&'a Seen),
    /// It is gone.
    Removed(&'a Path),
}

impl Change<'_> {
    /// Tells how many bytes a file has that is new or another.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Made(seen) if FileType::from_raw_mode(seen.stat.st_mode) == FileType::RegularFile => {
                seen.stat.st_size.cast_unsigned()
            }
            _ => 0,
        }
    }
}

impl Walk {
    /// Looks at a tree, but for one folder of it. Whatever is changed in it once this has returned has a later time
    /// than all that was seen.
    ///
    /// # Errors
    /// What stat(2) and getdents(2) say.
    pub fn of(tree: &Path, but: &str) -> io::Result<Self> {
        Self::of_all(tree, but, false)
    }

    /// Looks at a whole tree in which others are at work: what goes while it is looked at is not seen.
    ///
    /// # Errors
    /// What stat(2) and getdents(2) say otherwise.
    pub fn of_live(tree: &Path) -> io::Result<Self> {
        Self::of_all(tree, "", true)
    }

    /// Lists what is seen, in the order of the paths' bytes.
    #[must_use]
    pub fn seen(&self) -> &[Seen] {
        &self.seen
    }

    fn of_all(tree: &Path, but: &str, live: bool) -> io::Result<Self> {
        let begun = Instant::now();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let top = openat(CWD, tree, flags, Mode::empty())?;
        let mut seen = vec![Seen { path: PathBuf::new(), stat: statat(&top, ".", AtFlags::empty())? }];
        below(&top, Path::new(""), (but, live), &mut seen)?;
        seen.sort_unstable_by(|a, b| order(&a.path, &b.path));
        thread::sleep(TICK.saturating_sub(begun.elapsed()));
        Ok(Self { seen })
    }

    /// Tells whether folders in the tree look like subvolumes of their own, which no snapshot of it would have.
    pub fn has_subvolumes(&self) -> bool {
        let below = self.seen.iter().filter(|seen| !seen.path.as_os_str().is_empty());
        below.map(|seen| &seen.stat).any(|stat| {
            stat.st_ino == clonable::SUBVOLUME_ROOT
                && FileType::from_raw_mode(stat.st_mode) == FileType::Directory
        })
    }

    /// Lists the files that are new or other than at an earlier walk.
    pub fn files_since<'a>(&'a self, before: &'a Self) -> Vec<&'a Path> {
        let file = |change: Change<'a>| match change {
            Change::Made(seen) if FileType::from_raw_mode(seen.stat.st_mode) == FileType::RegularFile => {
                Some(seen.path.as_path())
            }
            _ => None,
        };
        self.since(before).into_iter().filter_map(file).collect()
    }

    /// Tells what became of this tree since an earlier walk.
    pub fn since<'a>(&'a self, before: &'a Self) -> Vec<Change<'a>> {
        let mut changes = Vec::new();
        let (mut then, mut now) = (before.seen.iter().peekable(), self.seen.iter().peekable());
        loop {
            let ordering = match (then.peek(), now.peek()) {
                (None, None) => return changes,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(old), Some(new)) => order(&old.path, &new.path),
            };
            match ordering {
                Ordering::Less => changes.extend(then.next().map(|old| Change::Removed(&old.path))),
                Ordering::Greater => changes.extend(now.next().map(Change::Made)),
                Ordering::Equal => {
                    let (Some(old), Some(new)) = (then.next(), now.next()) else { return changes };
                    if !same(&old.stat, &new.stat) {
                        changes.push(Change::Made(new));
                    }
                }
            }
        }
    }
}

/// The order of a layer's paths: that of their bytes, so that a folder comes before what is in it.
pub fn order(a: &Path, b: &Path) -> Ordering {
    a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes())
}

fn changed(stat: &Stat) -> i128 {
    i128::from(stat.st_ctime) * 1_000_000_000 + i128::from(stat.st_ctime_nsec)
}

fn same(a: &Stat, b: &Stat) -> bool {
    (a.st_ino, a.st_mode, a.st_size, changed(a)) == (b.st_ino, b.st_mode, b.st_size, changed(b))
}

fn below(folder: &OwnedFd, path: &Path, (but, live): (&str, bool), seen: &mut Vec<Seen>) -> io::Result<()> {
    let names = match entries(folder) {
        Err(error) if live && super::whole::has_gone(&error) => return Ok(()),
        names => names?,
    };
    for (name, _) in names {
        if name == Path::new(but) && path == Path::new("") {
            continue;
        }
        let stat = match statat(folder, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(rustix::io::Errno::NOENT) if live => continue,
            stat => stat?,
        };
        let path = path.join(&name);
        let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        seen.push(Seen { path: path.clone(), stat });
        if is_folder {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match openat(folder.as_fd(), &name, flags, Mode::empty()) {
                Err(errno) if live && super::whole::has_gone(&errno.into()) => {}
                inner => below(&inner?, &path, (but, live), seen)?,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn told(changes: &[Change<'_>]) -> Vec<String> {
        let word = |change: &Change<'_>| match change {
            Change::Made(seen) => format!("+{}", seen.path.display()),
            Change::Removed(path) => format!("-{}", path.display()),
        };
        changes.iter().map(word).collect()
    }

    #[test]
    fn what_was_changed_made_and_removed_is_told_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("d/e")).unwrap();
        fs::create_dir_all(at("beside/x")).unwrap();
        for name in ["d/kept", "d/gone", "d/e/rewritten", "moded", "owned", "linked"] {
            fs::write(at(name), name).unwrap();
        }
        let before = Walk::of(folder.path(), "beside").unwrap();
        assert_eq!(told(&before.since(&Walk::default())).len(), 9);
        let again = Walk::of(folder.path(), "beside").unwrap();
        assert_eq!(
            told(&again.since(&before)),
            Vec::<String>::new(),
            "what is just older than a walk is older"
        );
        fs::remove_file(at("d/gone")).unwrap();
        fs::write(at("d/e/rewritten"), "d/e/REWRITTEN").unwrap();
        fs::set_permissions(at("moded"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        fs::hard_link(at("linked"), at("d/e/other")).unwrap();
        let now = Walk::of(folder.path(), "beside").unwrap();
        let expected = ["+d", "+d/e", "+d/e/other", "+d/e/rewritten", "-d/gone", "+linked", "+moded"];
        assert_eq!(told(&now.since(&before)), expected);
    }
}
