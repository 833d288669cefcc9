//! Moves a batch of packages from where it was unpacked into the tree whose earlier batches are configured.
//!
//! **Source**: dpkg's `src/main/archives.c`: what is there and no package's is replaced; a folder stays as it is;
//! and `src/main/configure.c` for configuration files, under `--force-confold`.

use std::{
    collections::HashSet,
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType, OFlags, renameat, statat, unlinkat},
    io::Errno,
};

use super::{
    Halt, UnpackError,
    below::{Below, special},
};
use crate::host::root::{LISTS, Root, target};

/// Names at a tree's top that are links into /usr where it is merged.
pub const MERGED: [&str; 7] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32", "libo32"];

/// What the packages of a batch say of their paths, as dpkg lists them.
pub struct Known<'a> {
    /// All paths, each with its package.
    pub paths: Vec<(&'a str, &'a str)>,
    /// Configuration files.
    pub conffiles: HashSet<&'a str>,
}

/// Moves everything; where the packages share paths with what is there, nothing.
pub fn merge(root: &Root, beside: &Root, below: &Below, known: &Known<'_>) -> Result<(), Halt> {
    let special = special(root)?;
    if known.paths.iter().any(|(path, _)| special.contains(&merged(path))) {
        return Err(Halt::Entangled);
    }
    for Folder { path, moves } in look(root, beside, below, known)? {
        let failed = UnpackError::tree;
        let from = beside.at(&path, OFlags::RDONLY | OFlags::DIRECTORY, 0).map_err(failed(&path))?;
        let to = root.at(&path, OFlags::PATH | OFlags::DIRECTORY, 0).map_err(failed(&path))?;
        for (name, step) in moves {
            let done = match step {
                Step::Move => renameat(&from, &name, &to, &name),
                Step::Drop => unlinkat(&from, &name, AtFlags::empty()),
                Step::Beside => {
                    let mut other = name.clone().into_os_string();
                    other.push(".dpkg-dist");
                    renameat(&from, &name, &to, Path::new(&other))
                }
            };
            done.map_err(|errno| failed(&path.join(&name))(errno.into()))?;
        }
    }
    Ok(())
}

/// What is to be moved of a folder that is on both sides.
struct Folder {
    path: PathBuf,
    moves: Vec<(PathBuf, Step)>,
}

/// What becomes of an entry.
#[derive(Clone, Copy)]
enum Step {
    Move,
    /// It is there already.
    Drop,
    /// It is a configuration file, and the one that is there stays.
    Beside,
}

/// Sees what is to be moved, and that all of it can be.
fn look(root: &Root, beside: &Root, below: &Below, known: &Known<'_>) -> Result<Vec<Folder>, Halt> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(path) = folders.pop() {
        let failed = UnpackError::tree;
        let from = beside.at(&path, OFlags::RDONLY | OFlags::DIRECTORY, 0).map_err(failed(&path))?;
        let to = root.at(&path, OFlags::PATH | OFlags::DIRECTORY, 0).map_err(failed(&path))?;
        let mut moves = Vec::new();
        for name in beside.list(&path).map_err(failed(&path))? {
            let whole = path.join(&name);
            match entry((&from, &to), &name, root, &whole).map_err(failed(&whole))? {
                Meeting::New => moves.push((name, Step::Move)),
                Meeting::Same => moves.push((name, Step::Drop)),
                Meeting::Folders => folders.push(whole),
                Meeting::Clash => return Err(Halt::Entangled),
                Meeting::Replaces => moves.push((name, replacing(root, beside, &whole, below, known)?)),
            }
        }
        found.push(Folder { path, moves });
    }
    Ok(found)
}

/// Says what becomes of a file where there is another.
fn replacing(
    root: &Root,
    beside: &Root,
    whole: &Path,
    below: &Below,
    known: &Known<'_>,
) -> Result<Step, Halt> {
    if below.owned.contains(whole) {
        return Err(Halt::Entangled);
    }
    if whole.to_str().is_some_and(|text| known.conffiles.contains(format!("/{text}").as_str())) {
        let read = |root: &Root| root.read_up_to(whole, LISTS);
        let same = matches!((read(root), read(beside)), (Ok(there), Ok(new)) if there == new);
        return Ok(if same { Step::Drop } else { Step::Beside });
    }
    let package = || known.paths.iter().find(|(path, _)| merged(path) == whole).map_or("", |(_, name)| name);
    below.taken(whole, package()).map_or(Ok(Step::Move), |problem| Err(Halt::Failed(problem)))
}

/// What an entry meets in the tree.
enum Meeting {
    New,
    /// A link that leads to the same.
    Same,
    Folders,
    /// A folder that is none on the other side.
    Clash,
    /// Something else of its name.
    Replaces,
}

fn entry((from, to): (&OwnedFd, &OwnedFd), name: &Path, root: &Root, whole: &Path) -> io::Result<Meeting> {
    let kind = |folder: &OwnedFd| match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(io::Error::from(errno)),
    };
    Ok(match (kind(from)?, kind(to)?) {
        (_, None) => Meeting::New,
        (Some(FileType::Directory), Some(FileType::Directory)) => Meeting::Folders,
        // a link to a folder is one
        (Some(FileType::Directory), Some(FileType::Symlink)) => {
            let led = root.at(whole, OFlags::PATH | OFlags::DIRECTORY, 0);
            if led.is_ok() { Meeting::Folders } else { Meeting::Clash }
        }
        (Some(FileType::Symlink), Some(FileType::Symlink))
            if target(from.as_fd(), name)? == target(to.as_fd(), name)? =>
        {
            Meeting::Same
        }
        (Some(FileType::Directory), _) | (_, Some(FileType::Directory)) => Meeting::Clash,
        _ => Meeting::Replaces,
    })
}

/// Gives a listed path as it is below the tree, with /usr merged.
pub fn merged(listed: &str) -> PathBuf {
    let path = listed.trim_start_matches('/');
    let top = path.split('/').next().unwrap_or_default();
    if MERGED.contains(&top) && path != top { Path::new("usr").join(path) } else { PathBuf::from(path) }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;
    use crate::host::root::Links;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn below(owned: &[&str], reserved: &[&str]) -> Below {
        Below {
            owned: owned.iter().map(|path| merged(path)).collect(),
            reserved: reserved.iter().map(|path| (merged(path), "p".to_owned())).collect(),
            stale: false,
        }
    }

    fn known<'a>(paths: &[&'a str], conffiles: &[&'a str]) -> Known<'a> {
        Known {
            paths: paths.iter().map(|path| (*path, "package")).collect(),
            conffiles: conffiles.iter().copied().collect(),
        }
    }

    fn run(tree: &Path, beside: &Path, below: &Below, known: &Known<'_>) -> Result<(), Halt> {
        let (tree, beside) = (Root::open(tree, Links::InTree), Root::open(beside, Links::Refused));
        merge(&tree.unwrap(), &beside.unwrap(), below, known)
    }

    #[test]
    fn new_paths_move_and_folders_are_one() {
        let first = tree(&[("usr/lib/a", "a"), ("usr/share/doc/a/x", "x"), ("etc/made", "by a script")]);
        symlink("usr/lib", first.path().join("lib")).unwrap();
        symlink("a", first.path().join("usr/share/doc/b")).unwrap();
        let rest = tree(&[
            ("usr/lib/b", "b"),
            ("usr/new/deep/c", "c"),
            ("usr/share/doc/b/y", "y"),
            ("etc/made", "a package's"),
        ]);
        symlink("usr/lib", rest.path().join("lib")).unwrap();
        run(first.path(), rest.path(), &below(&["/lib/a"], &[]), &known(&["/etc/made"], &[])).unwrap();
        let read = |path: &str| fs::read_to_string(first.path().join(path)).unwrap();
        assert_eq!([read("lib/a"), read("lib/b"), read("usr/new/deep/c")], ["a", "b", "c"]);
        assert_eq!([read("usr/share/doc/a/y"), read("etc/made")], ["y", "a package's"]);
    }

    #[test]
    fn what_dpkg_must_decide_is_entangled_and_nothing_is_moved() {
        let entangled = |first: &[(&str, &str)], rest: &[(&str, &str)], owned: &[&str], path: &str| {
            let (first, rest) = (tree(first), tree(rest));
            fs::write(rest.path().join("a-first-one"), "").unwrap();
            let halted = run(first.path(), rest.path(), &below(owned, &[]), &known(&[path], &[]));
            assert_eq!(first.path().join("a-first-one").exists(), halted.is_ok());
            matches!(halted, Err(Halt::Entangled))
        };
        let both = ([("usr/bin/x", "1")], [("usr/bin/x", "2")]);
        assert!(entangled(&both.0, &both.1, &["/bin/x"], "/usr/bin/x"));
        assert!(!entangled(&both.0, &both.1, &["/bin/y"], "/usr/bin/x"));
        assert!(entangled(&[("x/y", "")], &[("x", "")], &[], "/x"));
        assert!(entangled(&[("x", "")], &[("x/y", "")], &[], "/x/y"));
        let diverted = [("var/lib/dpkg/diversions", "/bin/v\n/bin/v.other\npackage\n")];
        assert!(entangled(&diverted, &[("usr/bin/v", "")], &[], "/usr/bin/v"));
        let overridden = [("var/lib/dpkg/statoverride", "root adm 0750 /usr/bin/s\n")];
        assert!(entangled(&overridden, &[("usr/bin/s", "")], &[], "/usr/bin/s"));
        assert!(!entangled(&overridden, &[("usr/bin/t", "")], &[], "/usr/bin/t"));
    }

    #[test]
    fn a_configuration_file_that_is_there_stays() {
        let (first, rest) = (tree(&[("etc/x", "a profile's")]), tree(&[("etc/x", "a package's")]));
        run(first.path(), rest.path(), &below(&[], &["/etc/x"]), &known(&["/etc/x"], &["/etc/x"])).unwrap();
        let read = |path: &str| fs::read_to_string(first.path().join(path)).unwrap();
        assert_eq!([read("etc/x"), read("etc/x.dpkg-dist")], ["a profile's", "a package's"]);
    }

    #[test]
    fn another_file_where_a_profile_has_put_one_is_refused_by_name() {
        let (first, rest) = (tree(&[("usr/bin/x", "1")]), tree(&[("usr/bin/x", "2")]));
        let halted = run(first.path(), rest.path(), &below(&[], &["/usr/bin/x"]), &known(&["/bin/x"], &[]))
            .unwrap_err();
        let Halt::Failed(problem) = halted else { panic!("{halted:?}") };
        let said = "package `package` has `/usr/bin/x`, where profile `p` has put a file of its own";
        assert_eq!(problem.to_string(), said);
    }
}
