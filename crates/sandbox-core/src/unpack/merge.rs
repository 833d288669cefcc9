//! Moves the rest of the packages from where they were unpacked into the tree whose first batch is configured.
//!
//! **Source**: dpkg's `src/main/archives.c`: what is there and no package's is replaced; a folder stays as it is.

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

use super::{Halt, UnpackError};
use crate::host::root::{Root, target};

/// Names at a tree's top that are links into /usr where it is merged.
pub const MERGED: [&str; 7] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32", "libo32"];

/// What the packages say of their paths, as dpkg lists them.
pub struct Known<'a> {
    /// Paths of the first batch.
    pub first: Vec<&'a str>,
    /// Paths of the rest.
    pub rest: Vec<&'a str>,
    /// Configuration files of the rest.
    pub conffiles: HashSet<&'a str>,
}

/// Moves everything.
pub fn merge(root: &Root, rest: &Root, known: &Known<'_>) -> Result<(), Halt> {
    let special = special(root)?;
    if known.rest.iter().any(|path| special.contains(&merged(path))) {
        return Err(Halt::Entangled);
    }
    let owned: HashSet<PathBuf> = known.first.iter().map(|path| merged(path)).collect();
    let mut folders = vec![PathBuf::new()];
    while let Some(path) = folders.pop() {
        let failed = UnpackError::tree;
        let from = rest.at(&path, OFlags::RDONLY | OFlags::DIRECTORY, 0).map_err(failed(&path))?;
        let to = root.at(&path, OFlags::PATH | OFlags::DIRECTORY, 0).map_err(failed(&path))?;
        for name in rest.list(&path).map_err(failed(&path))? {
            let whole = path.join(&name);
            let taken = owned.contains(&whole)
                || whole.to_str().is_some_and(|text| known.conffiles.contains(format!("/{text}").as_str()));
            match entry((&from, &to), &name, taken, root, &whole).map_err(failed(&whole))? {
                Step::Moved => {}
                Step::Inside => folders.push(whole),
                Step::Entangled => return Err(Halt::Entangled),
            }
        }
    }
    Ok(())
}

/// What became of an entry.
enum Step {
    Moved,
    /// It is a folder on both sides: what is in it is to be moved.
    Inside,
    Entangled,
}

fn entry(
    (from, to): (&OwnedFd, &OwnedFd),
    name: &Path,
    taken: bool,
    root: &Root,
    whole: &Path,
) -> io::Result<Step> {
    let kind = |folder: &OwnedFd| match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(io::Error::from(errno)),
    };
    let rename = || renameat(from, name, to, name).map(|()| Step::Moved).map_err(io::Error::from);
    match (kind(from)?, kind(to)?) {
        (_, None) => rename(),
        (Some(FileType::Directory), Some(FileType::Directory)) => Ok(Step::Inside),
        // a link to a folder is one
        (Some(FileType::Directory), Some(FileType::Symlink)) => {
            let led = root.at(whole, OFlags::PATH | OFlags::DIRECTORY, 0);
            Ok(if led.is_ok() { Step::Inside } else { Step::Entangled })
        }
        (Some(FileType::Symlink), Some(FileType::Symlink))
            if target(from.as_fd(), name)? == target(to.as_fd(), name)? =>
        {
            unlinkat(from, name, AtFlags::empty())?;
            Ok(Step::Moved)
        }
        (Some(FileType::Directory), _) | (_, Some(FileType::Directory)) => Ok(Step::Entangled),
        _ if taken => Ok(Step::Entangled),
        _ => rename(),
    }
}

/// Lists the paths that dpkg would put elsewhere, or give another owner: those of diversions and overrides.
///
/// **Source**: dpkg-divert(1), dpkg-statoverride(1); the formats of dpkg's lib/dpkg/db-fsys-divert.c and
/// db-fsys-override.c.
fn special(root: &Root) -> Result<HashSet<PathBuf>, Halt> {
    let read = |name: &str| {
        let path = Path::new("var/lib/dpkg").join(name);
        match root.read(&path) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(problem) if problem.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(problem) => Err(UnpackError::tree(&path)(problem)),
        }
    };
    let diversions = read("diversions")?;
    let overrides = read("statoverride")?;
    let diverted = diversions.lines().enumerate().filter(|(at, _)| at % 3 != 2).map(|(_, line)| line);
    let overridden = overrides.lines().filter_map(|line| line.splitn(4, ' ').nth(3));
    Ok(diverted.chain(overridden).map(merged).collect())
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

    fn known<'a>(first: &[&'a str], rest: &[&'a str], conffiles: &[&'a str]) -> Known<'a> {
        Known { first: first.into(), rest: rest.into(), conffiles: conffiles.iter().copied().collect() }
    }

    fn run(tree: &Path, rest: &Path, known: &Known<'_>) -> Result<(), Halt> {
        let (tree, rest) = (Root::open(tree, Links::InTree), Root::open(rest, Links::Refused));
        merge(&tree.unwrap(), &rest.unwrap(), known)
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
        run(first.path(), rest.path(), &known(&["/lib/a"], &["/etc/made"], &[])).unwrap();
        let read = |path: &str| fs::read_to_string(first.path().join(path)).unwrap();
        assert_eq!([read("lib/a"), read("lib/b"), read("usr/new/deep/c")], ["a", "b", "c"]);
        assert_eq!([read("usr/share/doc/a/y"), read("etc/made")], ["y", "a package's"]);
    }

    #[test]
    fn what_dpkg_must_decide_is_entangled() {
        let entangled = |first: &[(&str, &str)], rest: &[(&str, &str)], known: &Known<'_>| {
            let (first, rest) = (tree(first), tree(rest));
            matches!(run(first.path(), rest.path(), known), Err(Halt::Entangled))
        };
        let both = ([("usr/bin/x", "1")], [("usr/bin/x", "2")]);
        assert!(entangled(&both.0, &both.1, &known(&["/bin/x"], &["/usr/bin/x"], &[])));
        assert!(!entangled(&both.0, &both.1, &known(&["/bin/y"], &["/usr/bin/x"], &[])));
        assert!(entangled(&[("etc/x", "1")], &[("etc/x", "2")], &known(&[], &["/etc/x"], &["/etc/x"])));
        assert!(entangled(&[("x/y", "")], &[("x", "")], &known(&[], &["/x"], &[])));
        assert!(entangled(&[("x", "")], &[("x/y", "")], &known(&[], &["/x", "/x/y"], &[])));
        let diverted = [("var/lib/dpkg/diversions", "/bin/v\n/bin/v.other\npackage\n")];
        assert!(entangled(&diverted, &[("usr/bin/v", "")], &known(&[], &["/usr/bin/v"], &[])));
        let overridden = [("var/lib/dpkg/statoverride", "root adm 0750 /usr/bin/s\n")];
        assert!(entangled(&overridden, &[("usr/bin/s", "")], &known(&[], &["/usr/bin/s"], &[])));
        assert!(!entangled(&overridden, &[("usr/bin/t", "")], &known(&[], &["/usr/bin/t"], &[])));
    }
}
