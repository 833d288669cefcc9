//! What differs between a machine and a snapshot of it, or between two.

use std::{
    cmp::Ordering,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, FileType, Mode, OFlags, openat, readlinkat};

use super::{SnapshotError, place};
use crate::{
    Result,
    error::Context as _,
    layer::kept::Walk,
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
    let (old, new) = (Walk::of_live(before)?, Walk::of_live(after)?);
    let (mut old, mut new) = (old.seen().iter().peekable(), new.seen().iter().peekable());
    loop {
        let ordering = match (old.peek(), new.peek()) {
            (None, None) => return Ok(()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(one), Some(other)) => one.path.cmp_bytes(&other.path),
        };
        let found = match ordering {
            Ordering::Less => old.next().map(|seen| (What::Removed, &seen.path)),
            Ordering::Greater => new.next().map(|seen| (What::Added, &seen.path)),
            Ordering::Equal => match (old.next(), new.next()) {
                (Some(one), Some(other)) => {
                    let paths = (before.join(&one.path), after.join(&other.path));
                    differs(&one.stat, &other.stat, &paths)?.map(|what| (what, &other.path))
                }
                _ => None,
            },
        };
        if let Some((what, path)) = found {
            all.push(Difference { what, path: at.join(path) });
        }
    }
}

trait ByBytes {
    fn cmp_bytes(&self, other: &Self) -> Ordering;
}

impl ByBytes for PathBuf {
    fn cmp_bytes(&self, other: &Self) -> Ordering {
        use std::os::unix::ffi::OsStrExt as _;
        self.as_os_str().as_bytes().cmp(other.as_os_str().as_bytes())
    }
}

fn differs(
    one: &rustix::fs::Stat,
    other: &rustix::fs::Stat,
    (before, after): &(PathBuf, PathBuf),
) -> io::Result<Option<What>> {
    let kinds = [one, other].map(|stat| FileType::from_raw_mode(stat.st_mode));
    let same = kinds[0] == kinds[1]
        && match kinds[0] {
            FileType::RegularFile => {
                let time = |stat: &rustix::fs::Stat| (stat.st_mtime, stat.st_mtime_nsec);
                one.st_size == other.st_size && (time(one) == time(other) || same_bytes(before, after)?)
            }
            FileType::Symlink => readlinkat(CWD, before, Vec::new())? == readlinkat(CWD, after, Vec::new())?,
            FileType::Directory => true,
            _ => one.st_rdev == other.st_rdev,
        };
    let owned = |stat: &rustix::fs::Stat| (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid);
    Ok(match (same, owned(one) == owned(other)) {
        (false, _) => Some(What::Changed),
        (true, false) => Some(What::Attributes),
        (true, true) => None,
    })
}

fn same_bytes(before: &Path, after: &Path) -> io::Result<bool> {
    let open = |path: &Path| -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        Ok(openat(CWD, path, flags, Mode::empty())?.into())
    };
    let (mut one, mut other) = match (open(before), open(after)) {
        (Ok(one), Ok(other)) => (io::BufReader::new(one), io::BufReader::new(other)),
        _ => return Ok(false),
    };
    let (mut a, mut b) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let count = one.read(&mut a)?;
        if count == 0 {
            return Ok(other.read(&mut b)? == 0);
        }
        if other.read_exact(&mut b[..count]).is_err() || a[..count] != b[..count] {
            return Ok(false);
        }
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
