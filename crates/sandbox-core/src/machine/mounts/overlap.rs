//! Which directories of the host a guest can write to, and so whose content it decides.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::{
    error::{Cause, Class, Hint},
    machine::{Definition, HostFolder, mounts::source::Resolved, record::Record},
    name::MachineName,
};

/// Why a source overlaps another one.
#[derive(Debug, thiserror::Error)]
pub enum OverlapError {
    /// A guest could put another directory in its place.
    #[error("{source_path} is in {above}, which machine `{owner}` can write to", source_path = path.display(), above = above.display())]
    Below {
        /// The source.
        path: PathBuf,
        /// What is above it.
        above: PathBuf,
        /// The machine that can write there.
        owner: MachineName,
    },
    /// A guest decides where the path leads that its user typed.
    #[error("{typed} leads through {above}, which machine `{owner}` can write to", typed = typed.display(), above = above.display())]
    Through {
        /// The path, as it was typed.
        typed: PathBuf,
        /// What is on its way.
        above: PathBuf,
        /// The machine that can write there.
        owner: MachineName,
    },
    /// A guest could put other directories in the place of another mount's source.
    #[error("{below} in it is mounted in machine `{owner}`", below = below.display())]
    Above {
        /// The other source.
        below: PathBuf,
        /// The machine that has it.
        owner: MachineName,
        /// Where that machine has it, for a mount; a tree or a volume has none.
        mounted: Option<PathBuf>,
    },
}

impl Cause for OverlapError {
    fn class(&self) -> Class {
        Class::Untrusted
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Above { owner, mounted: Some(path), .. } => vec![
                Hint::Note("mount it with --read-only".to_owned()),
                Hint::run("remove the other mount", format!("sandbox unmount {owner} {}", path.display())),
            ],
            Self::Above { .. } => vec![Hint::Note("mount it with --read-only".to_owned())],
            Self::Below { .. } | Self::Through { .. } => {
                vec![
                    Hint::Note(
                        "mount a directory that no machine can replace, or the one above it alone".to_owned(),
                    ),
                    Hint::Note("a mount that was removed counts until its machine ends".to_owned()),
                ]
            }
        }
    }
}

/// Checks that no guest decides where a path leads that a user typed.
///
/// # Errors
/// [`OverlapError::Below`].
pub fn check_path(resolved: &Resolved, records: &[Record]) -> Result<(), OverlapError> {
    for record in records {
        let definition = &record.definition;
        for above in writable(definition) {
            let inside = |place: &&PathBuf| {
                place.starts_with(above) || inode(above).is_some_and(|top| Above::of(place).is_in(top))
            };
            if resolved.looked_in.iter().any(|place| inside(&place)) {
                let (typed, owner) = (resolved.typed.clone(), definition.name.clone());
                return Err(OverlapError::Through { typed, above: above.clone(), owner });
            }
        }
    }
    Ok(())
}

/// Lists what a machine can write to: mounts, its tree and its volumes.
fn writable(definition: &Definition) -> impl Iterator<Item = &PathBuf> {
    let mounts = definition.chosen.mounts.iter().filter(|mount| !mount.read_only);
    mounts.map(|mount| &mount.source).chain(own(definition))
}

fn own(definition: &Definition) -> impl Iterator<Item = &PathBuf> {
    definition.volumes.iter().map(|volume| &volume.source).chain([&definition.tree])
}

/// Checks that no guest can replace the source of a mount, neither of this one nor, through it, of another.
///
/// Two mounts may have the same source: a guest cannot replace the top of what it has.
///
/// # Errors
/// [`OverlapError`].
pub fn check(new: &HostFolder, records: &[Record]) -> Result<(), OverlapError> {
    let above_new = Above::of(&new.source);
    for record in records {
        let definition = &record.definition;
        let owner = || definition.name.clone();
        let mounts = &definition.chosen.mounts;
        for above in writable(definition) {
            if above_new.has(above) {
                return Err(OverlapError::Below {
                    path: new.source.clone(),
                    above: above.clone(),
                    owner: owner(),
                });
            }
        }
        if new.read_only {
            continue;
        }
        let sources = mounts.iter().map(|mount| (&mount.source, Some(mount.path.clone())));
        for (below, mounted) in sources.chain(own(definition).map(|path| (path, None))) {
            if Above::of(below).has(&new.source) {
                return Err(OverlapError::Above { below: below.clone(), owner: owner(), mounted });
            }
        }
    }
    Ok(())
}

/// The directories above one, by path and by what they are: another path may lead there by a bind mount.
struct Above<'a> {
    path: &'a Path,
    inodes: Vec<(u64, u64)>,
}

impl<'a> Above<'a> {
    fn of(path: &'a Path) -> Self {
        Self { path, inodes: path.ancestors().skip(1).filter_map(inode).collect() }
    }

    /// Tells whether this directory, or one above it, is an inode.
    fn is_in(&self, top: (u64, u64)) -> bool {
        inode(self.path) == Some(top) || self.inodes.contains(&top)
    }

    fn has(&self, other: &Path) -> bool {
        let by_path = self.path != other && self.path.starts_with(other);
        by_path || inode(other).is_some_and(|inode| self.inodes.contains(&inode))
    }
}

fn inode(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::example;

    fn folder(source: &str, read_only: bool) -> HostFolder {
        HostFolder {
            source: source.into(),
            path: "/mnt".into(),
            read_only,
            writable_git: false,
            identity: None,
            owners: None,
        }
    }

    fn record(source: &str, read_only: bool) -> Record {
        let mut record = example::record("a");
        record.definition.chosen.mounts.push(folder(source, read_only));
        record
    }

    #[test]
    fn no_source_is_below_what_a_guest_can_write() {
        let writable = [record("/x/project", false)];
        for (source, read_only, fits) in [
            ("/x/project", false, true),
            ("/x/project", true, true),
            ("/x/project/sub/deep", true, false),
            ("/x/project/sub", false, false),
            ("/x/projects", false, true),
            ("/x", true, true),
            ("/x", false, false),
        ] {
            assert_eq!(check(&folder(source, read_only), &writable).is_ok(), fits, "{source} {read_only}");
        }
    }

    #[test]
    fn a_writable_mount_is_not_put_above_another_source() {
        let reader = [record("/x/project/sub", true)];
        assert!(check(&folder("/x/project", true), &reader).is_ok());
        let error = check(&folder("/x/project", false), &reader).unwrap_err();
        assert_eq!(error.class(), Class::Untrusted);
        assert!(error.to_string().contains("/x/project/sub"), "{error}");
        assert!(check(&folder("/x/project/sub/below", false), &reader).is_ok(), "no guest writes above it");
    }

    #[test]
    fn no_guest_decides_where_a_typed_path_leads() {
        let resolved = |looked_in: &[&str]| Resolved {
            typed: "/typed".into(),
            path: "/root".into(),
            looked_in: looked_in.iter().map(PathBuf::from).collect(),
        };
        let writable = [record("/x/project", false)];
        assert!(check_path(&resolved(&["/", "/x"]), &writable).is_ok());
        for place in ["/x/project", "/x/project/sub"] {
            assert!(check_path(&resolved(&["/", "/x", place, "/"]), &writable).is_err(), "{place}");
        }
        assert!(check_path(&resolved(&["/", "/x", "/x/project"]), &[record("/x/project", true)]).is_ok());
    }

    #[test]
    fn trees_of_machines_count_as_writable() {
        let records = [example::record("a")];
        let tree = records[0].definition.tree.to_str().unwrap().to_owned();
        assert!(check(&folder(&format!("{tree}/srv"), true), &records).is_err());
        assert!(check(&folder("/var/lib", false), &records).is_err());
    }

    #[test]
    fn another_path_to_the_same_directory_counts() {
        let top = tempfile::tempdir().unwrap();
        let below = top.path().join("a/b");
        fs::create_dir_all(&below).unwrap();
        let again = top.path().join("a/../a");
        assert!(Above::of(&below).has(&again), "by its inode");
        assert!(!Above::of(&below).has(&below));
    }
}
