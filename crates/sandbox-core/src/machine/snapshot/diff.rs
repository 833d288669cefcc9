//! What differs between a machine and a snapshot of it, or between two.

use std::{
    cmp::Ordering,
    fs::File,
    io,
    path::{Path, PathBuf},
};

use rustix::fs::FileType;

use super::{SnapshotError, place};
use crate::{
    Result,
    error::Context as _,
    host::live::{Cursor, Directory, data, vanished},
    layer::kept::{Seen, Walk},
    machine::{life::Machines, record::Record, volume},
    name::MachineName,
};

/// What became of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// It is there since.
    Added,
    /// It is gone since.
    Removed,
    /// What it has or says is another.
    Changed,
    /// Its owner or permissions are others.
    Attributes,
}

/// A path that differs.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// What became of it.
    pub what: What,
    /// The path, as the guest has it.
    pub path: PathBuf,
}

/// A folder of two states, and where the guest has it.
type Place = (PathBuf, PathBuf, PathBuf);

impl Machines<'_> {
    /// Tells what differs between a snapshot of a machine and a later one, or what the machine is now: paths of its
    /// tree and of its volumes of kind `home`. Times alone make no difference.
    ///
    /// # Errors
    /// Where there is no such snapshot, or a tree cannot be read.
    pub fn differences(
        &self,
        name: &MachineName,
        before: &str,
        after: Option<&str>,
    ) -> Result<Vec<Difference>> {
        let subject = || format!("machine `{name}`");
        let record = self.records.read(name).during("compare", subject())?;
        let places = self.places(&record, before, after).during("compare", subject())?;
        let mut all = Vec::new();
        for (before, after, path) in &places {
            compare(before, after, path, &mut all)
                .map_err(place::failed(after, "comparing the tree"))
                .during("compare", subject())?;
        }
        Ok(all)
    }

    fn places(
        &self,
        record: &Record,
        before: &str,
        after: Option<&str>,
    ) -> Result<Vec<Place>, SnapshotError> {
        let before = self.find_snapshot(record, before)?;
        let after = after.map(|after| self.find_snapshot(record, after)).transpose()?;
        let definition = &record.definition;
        let tree = after.as_ref().map_or_else(|| definition.tree.clone(), super::Snapshot::tree);
        let mut places = vec![(before.tree(), tree, PathBuf::from("/"))];
        for work in volume::work(&definition.volumes) {
            let old = before.volumes_folder().join(work.name());
            let new = match &after {
                Some(after) => after.volumes_folder().join(work.name()),
                None => work.source().to_owned(),
            };
            if old.exists() && new.exists() {
                places.push((old, new, work.path().to_owned()));
            }
        }
        Ok(places)
    }
}

fn compare(before: &Path, after: &Path, at: &Path, all: &mut Vec<Difference>) -> io::Result<()> {
    let mut trees = (Cursor::new(Directory::top(before)?), Cursor::new(Directory::top(after)?));
    let (old, new) = (Walk::of_live(before)?, Walk::of_live(after)?);
    let (mut old, mut new) = (old.seen().peekable(), new.seen().peekable());
    loop {
        let ordering = match (old.peek(), new.peek()) {
            (None, None) => return Ok(()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(one), Some(other)) => by_bytes(one.path, other.path),
        };
        let found = match ordering {
            Ordering::Less => old.next().map(|seen| (What::Removed, seen.path)),
            Ordering::Greater => new.next().map(|seen| (What::Added, seen.path)),
            Ordering::Equal => match (old.next(), new.next()) {
                (Some(one), Some(other)) => differs(one, other, &mut trees)?.map(|what| (what, other.path)),
                _ => None,
            },
        };
        if let Some((what, path)) = found {
            all.push(Difference { what, path: at.join(path) });
        }
    }
}

fn by_bytes(one: &Path, other: &Path) -> Ordering {
    use std::os::unix::ffi::OsStrExt as _;
    one.as_os_str().as_bytes().cmp(other.as_os_str().as_bytes())
}

fn differs(one: Seen<'_>, other: Seen<'_>, trees: &mut (Cursor, Cursor)) -> io::Result<Option<What>> {
    let (a, b) = (one.facts, other.facts);
    let same = a.kind() == b.kind()
        && match a.kind() {
            FileType::RegularFile => {
                a.size() == b.size() && (a.modified() == b.modified() || same_bytes(one, other, trees)?)
            }
            FileType::Symlink => same_targets(one, other, trees)?,
            FileType::Directory => true,
            _ => a.size() == b.size(),
        };
    Ok(match (same, a.owned() == b.owned()) {
        (false, _) => Some(What::Changed),
        (true, false) => Some(What::Attributes),
        (true, true) => None,
    })
}

/// Gives what was read, or false where it vanished: a path that a running machine changes differs.
fn unless_gone(read: io::Result<bool>) -> io::Result<bool> {
    match read {
        Err(error) if vanished(&error) => Ok(false),
        read => read,
    }
}

fn same_targets(one: Seen<'_>, other: Seen<'_>, (before, after): &mut (Cursor, Cursor)) -> io::Result<bool> {
    let mut read = || -> io::Result<bool> {
        let target = before.go(one.above())?.link(one.name())?;
        Ok(target == after.go(other.above())?.link(other.name())?)
    };
    unless_gone(read())
}

fn same_bytes(one: Seen<'_>, other: Seen<'_>, (before, after): &mut (Cursor, Cursor)) -> io::Result<bool> {
    let mut open = || -> io::Result<bool> {
        let (a, _) = before.go(one.above())?.file(one.name(), one.facts.identity())?;
        let (b, _) = after.go(other.above())?.file(other.name(), other.facts.identity())?;
        same_contents(&a, &b, one.facts.size())
    };
    unless_gone(open())
}

/// Tells whether two files of one size have the same bytes. What is a hole of both is not read.
fn same_contents(one: &File, other: &File, size: u64) -> io::Result<bool> {
    use std::os::unix::fs::FileExt as _;
    let (mut a, mut b) = (vec![0; 128 << 10], vec![0; 128 << 10]);
    let mut at = 0;
    loop {
        let begin = |file| -> io::Result<u64> { Ok(data(file, at, size)?.map_or(size, |(begin, _)| begin)) };
        at = begin(one)?.min(begin(other)?);
        if at >= size {
            return Ok(true);
        }
        let count = usize::try_from(size - at).map_or(a.len(), |left| left.min(a.len()));
        one.read_exact_at(&mut a[..count], at)?;
        other.read_exact_at(&mut b[..count], at)?;
        if a[..count] != b[..count] {
            return Ok(false);
        }
        at += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_was_added_removed_and_changed_is_told_and_times_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let (before, after) = (folder.path().join("before"), folder.path().join("after"));
        for (tree, changed, link) in [(&before, "old", "x"), (&after, "new", "y")] {
            fs::create_dir_all(tree.join("etc/d")).unwrap();
            fs::write(tree.join("etc/same"), "same").unwrap();
            fs::write(tree.join("etc/changed"), changed).unwrap();
            fs::write(tree.join("etc/moded"), "").unwrap();
            std::os::unix::fs::symlink(link, tree.join("etc/link")).unwrap();
            // the kernel tells times in steps
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        fs::write(before.join("etc/gone"), "").unwrap();
        fs::write(after.join("etc/d/come"), "").unwrap();
        fs::set_permissions(after.join("etc/moded"), std::os::unix::fs::PermissionsExt::from_mode(0o4755))
            .unwrap();
        let mut all = Vec::new();
        compare(&before, &after, Path::new("/"), &mut all).unwrap();
        let all: Vec<_> = all.iter().map(|one| (one.what, one.path.to_str().unwrap())).collect();
        let expected = [
            (What::Changed, "/etc/changed"),
            (What::Added, "/etc/d/come"),
            (What::Removed, "/etc/gone"),
            (What::Changed, "/etc/link"),
            (What::Attributes, "/etc/moded"),
        ];
        assert_eq!(all, expected);
    }
}
