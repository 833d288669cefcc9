//! What a tree has at a moment, so that it can be told later what was changed.

use std::{
    cmp::Ordering,
    ffi::OsStr,
    io,
    os::unix::ffi::OsStrExt as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::fs::{FileType, Stat};

use crate::host::{
    clonable,
    live::{self, Directory, Identity, Walker},
};

/// The coarsest step in which a kernel tells the time of a change (a jiffy at 100 Hz), doubled.
const TICK: Duration = Duration::from_millis(20);

/// What the kernel says of a path, as far as it is needed: there may be millions.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    device: u64,
    inode: u64,
    /// A file's size, a device's number.
    size: u64,
    changed: i64,
    modified: i64,
    changed_nanoseconds: u32,
    modified_nanoseconds: u32,
    mode: u32,
    uid: u32,
    gid: u32,
    links: u32,
    /// Where its path is.
    at: u32,
    length: u16,
}

impl Facts {
    fn of(stat: &Stat, at: u32, length: u16) -> Self {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
        let nanoseconds = |of| u32::try_from(of).unwrap_or(0);
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: if is_device { stat.st_rdev } else { stat.st_size.cast_unsigned() },
            changed: stat.st_ctime,
            modified: stat.st_mtime,
            changed_nanoseconds: nanoseconds(stat.st_ctime_nsec),
            modified_nanoseconds: nanoseconds(stat.st_mtime_nsec),
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
            links: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
            at,
            length,
        }
    }

    /// Returns what it is.
    pub const fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    /// Returns which object it is.
    pub const fn identity(&self) -> Identity {
        Identity { device: self.device, inode: self.inode, kind: self.kind() }
    }

    /// Returns how large a file is; the number of a device.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Reports whether it has other names, by which it would be found again.
    pub fn has_others(&self) -> bool {
        self.links > 1 && self.kind() != FileType::Directory
    }

    /// Returns when it was written to: seconds since 1970 and nanoseconds.
    pub const fn modified(&self) -> (i64, u32) {
        (self.modified, self.modified_nanoseconds)
    }

    /// Returns the permission bits, the owner and the group.
    pub const fn owned(&self) -> (u32, u32, u32) {
        (self.mode & 0o7777, self.uid, self.gid)
    }

    fn is_unchanged_since(&self, before: &Self) -> bool {
        // a subvolume and a snapshot of it are different devices
        let facts = |of: &Self| (of.inode, of.mode, of.size, of.changed, of.changed_nanoseconds);
        facts(self) == facts(before)
    }
}

/// What is at a path.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The path, relative; that of the tree itself is empty.
    pub path: &'a Path,
    /// What the kernel says of it.
    pub facts: &'a Facts,
}

impl<'a> Seen<'a> {
    /// Returns the path of the directory that it is in.
    pub fn above(self) -> &'a Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// Returns its name there.
    pub fn name(self) -> &'a OsStr {
        self.path.file_name().unwrap_or_default()
    }
}

/// A tree as it was, in the order of its paths' bytes.
#[derive(Clone, Debug, Default)]
pub struct Walk {
    text: Vec<u8>,
    facts: Vec<Facts>,
}

/// What became of a path.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// It is new or another than before.
    Made(Seen<'a>),
    /// It is gone.
    Removed(&'a Path),
}

impl Change<'_> {
    /// Tells how many bytes a file has that is new or another.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Made(seen) if seen.facts.kind() == FileType::RegularFile => seen.facts.size(),
            _ => 0,
        }
    }
}

impl Walk {
    /// Looks at a tree, but for one folder of it. Whatever is changed in it once this has returned has a later time
    /// than all that was seen.
    ///
    /// # Errors
    /// What stat(2) and getdents(2) say; an excess of [`crate::host::live`].
    pub fn of(tree: &Path, but: &str) -> io::Result<Self> {
        Self::of_all(tree, but, false)
    }

    /// Looks at a whole tree in which others are at work: what goes while it is looked at is not seen.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn of_live(tree: &Path) -> io::Result<Self> {
        Self::of_all(tree, "", true)
    }

    /// Lists what is seen, in the order of the paths' bytes.
    pub fn seen(&self) -> impl ExactSizeIterator<Item = Seen<'_>> {
        self.facts.iter().map(|facts| self.seen_of(facts))
    }

    /// Returns what is seen at a place of the list.
    pub fn get(&self, at: usize) -> Option<Seen<'_>> {
        self.facts.get(at).map(|facts| self.seen_of(facts))
    }

    /// Returns how long the list is.
    pub const fn count(&self) -> usize {
        self.facts.len()
    }

    /// Finds a path in the list.
    pub fn find(&self, path: &Path) -> Option<usize> {
        self.facts.binary_search_by(|facts| order(self.seen_of(facts).path, path)).ok()
    }

    fn seen_of<'a>(&'a self, facts: &'a Facts) -> Seen<'a> {
        Seen { path: path(&self.text, facts), facts }
    }

    fn of_all(tree: &Path, but: &str, live: bool) -> io::Result<Self> {
        let begun = Instant::now();
        let top = Directory::top(tree)?;
        let mut walk = Self::default();
        walk.push(Path::new(""), &top.own()?);
        let but = Path::new(but);
        let mut walker = Walker::new(top, live, false)?;
        loop {
            let is_directory = match walker.advance() {
                Ok(None) => break,
                Ok(Some(found)) if found.path == but => false,
                Ok(Some(found)) => {
                    walk.push(found.path, &found.stat);
                    found.kind() == FileType::Directory
                }
                Err(failed) => return Err(live::named(failed)),
            };
            if is_directory {
                walker.enter().map_err(live::named)?;
            }
        }
        let Self { text, facts } = &mut walk;
        facts.sort_unstable_by(|a, b| order(path(text, a), path(text, b)));
        thread::sleep(TICK.saturating_sub(begun.elapsed()));
        Ok(walk)
    }

    fn push(&mut self, path: &Path, stat: &Stat) {
        // both are within the limits of the walker
        let at = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
        let bytes = path.as_os_str().as_bytes();
        self.text.extend_from_slice(bytes);
        self.facts.push(Facts::of(stat, at, u16::try_from(bytes.len()).unwrap_or(u16::MAX)));
    }

    /// Tells whether folders in the tree look like subvolumes of their own, which no snapshot of it would have.
    pub fn has_subvolumes(&self) -> bool {
        let mut below = self.seen().filter(|seen| !seen.path.as_os_str().is_empty());
        below.any(|seen| {
            seen.facts.inode == clonable::SUBVOLUME_ROOT && seen.facts.kind() == FileType::Directory
        })
    }

    /// Lists the files that are new or other than at an earlier walk.
    pub fn files_since<'a>(&'a self, before: &'a Self) -> Vec<&'a Path> {
        let file = |change: Change<'a>| match change {
            Change::Made(seen) if seen.facts.kind() == FileType::RegularFile => Some(seen.path),
            _ => None,
        };
        self.since(before).into_iter().filter_map(file).collect()
    }

    /// Tells what became of this tree since an earlier walk.
    pub fn since<'a>(&'a self, before: &'a Self) -> Vec<Change<'a>> {
        let mut changes = Vec::new();
        let (mut then, mut now) = (before.seen().peekable(), self.seen().peekable());
        loop {
            let ordering = match (then.peek(), now.peek()) {
                (None, None) => return changes,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(old), Some(new)) => order(old.path, new.path),
            };
            match ordering {
                Ordering::Less => changes.extend(then.next().map(|old| Change::Removed(old.path))),
                Ordering::Greater => changes.extend(now.next().map(Change::Made)),
                Ordering::Equal => {
                    let (Some(old), Some(new)) = (then.next(), now.next()) else { return changes };
                    if !new.facts.is_unchanged_since(old.facts) {
                        changes.push(Change::Made(new));
                    }
                }
            }
        }
    }
}

fn path<'a>(text: &'a [u8], facts: &Facts) -> &'a Path {
    let at = facts.at as usize;
    Path::new(OsStr::from_bytes(text.get(at..at + usize::from(facts.length)).unwrap_or_default()))
}

/// The order of a layer's paths: that of their bytes, so that a folder comes before what is in it.
pub fn order(a: &Path, b: &Path) -> Ordering {
    a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes())
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
