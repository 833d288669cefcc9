//! The git directory of a writable tree of the host: read-only in the machine.
//!
//! git on the host runs what a repository's hooks and configuration name (`core.fsmonitor`, `core.sshCommand`,
//! `diff.external`, filters): a guest that can write there has the host's user run its programs. Read-only are the
//! `.git` at the top of the tree, a directory with its hooks, configuration, `modules` of submodules and `worktrees`, or
//! the file of a worktree or a submodule; and the directory that such a file names, where that is in the tree.
//!
//! **Invariant**: the top of a mount cannot be replaced by a guest, nor can a name in it that something is mounted on.
//! What is in a directory below the top a guest can move away, so that nothing is gained by a mount there.
//!
//! **Source**: gitrepository-layout(5); git-config(1), `safe.directory`.

use std::{
    fs::File,
    io::Read as _,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2},
    io::Errno,
};

use crate::machine::HostFolder;

/// The name that git looks for.
const GIT: &str = ".git";

/// The most bytes of a file that names a git directory.
const LIMIT: u64 = 8 << 10;

/// Something in a tree that is to be read-only.
pub struct Guarded {
    /// Its path from the top of the tree.
    pub path: PathBuf,
    /// It is a file; otherwise a directory.
    pub is_file: bool,
    pub(super) fd: OwnedFd,
}

/// Finds what is to be read-only of a tree whose top is open. A guest may be changing the tree: no link is followed.
pub fn guarded(top: &OwnedFd, folder: &HostFolder) -> Vec<Guarded> {
    if folder.read_only || folder.writable_git {
        return Vec::new();
    }
    let Some(git) = open(top, Path::new(GIT)) else { return Vec::new() };
    let named = if git.is_file { named(&git.fd, &folder.source) } else { None };
    let named = named.and_then(|path| open(top, &path)).filter(|named| !named.is_file);
    std::iter::once(git).chain(named).collect()
}

/// Returns whether a tree is itself a git directory: a bare repository.
#[must_use]
pub fn is_bare(top: &OwnedFd) -> bool {
    ["HEAD", "objects", "refs"].iter().all(|name| open(top, Path::new(name)).is_some())
}

fn open(top: &OwnedFd, path: &Path) -> Option<Guarded> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let fd = openat2(top, path, flags, Mode::empty(), within).ok()?;
    let is_file = match FileType::from_raw_mode(fstat(&fd).ok()?.st_mode) {
        FileType::Directory => false,
        FileType::RegularFile => true,
        // a link is not followed, and what it leads to is not known
        _ => return None,
    };
    Some(Guarded { path: path.to_owned(), is_file, fd })
}

/// Reads which directory a `.git` file names, where that is in the tree.
fn named(file: &OwnedFd, source: &Path) -> Option<PathBuf> {
    let mut text = Vec::new();
    let opened = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
    opened.take(LIMIT).read_to_end(&mut text).ok()?;
    let text = text.strip_prefix(b"gitdir:")?.trim_ascii();
    let path = Path::new(std::ffi::OsStr::from_bytes(text));
    let path = if path.is_absolute() { path.strip_prefix(source).ok()? } else { path };
    let mut inside = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => inside.push(name),
            Component::CurDir => {}
            // it leads out, where no guest can write
            _ => return None,
        }
    }
    (!inside.as_os_str().is_empty()).then_some(inside)
}

/// Returns a handle of the same file, for a second owner.
pub(super) fn again(fd: &OwnedFd) -> Result<OwnedFd, Errno> {
    fd.try_clone().map_err(|_| Errno::MFILE)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn found(top: &Path, change: impl FnOnce(&mut HostFolder)) -> Vec<String> {
        let mut folder = HostFolder {
            source: top.to_owned(),
            path: "/mnt".into(),
            read_only: false,
            writable_git: false,
            identity: None,
            owners: None,
        };
        change(&mut folder);
        let top = OwnedFd::from(File::open(top).unwrap());
        let words = |one: Guarded| format!("{}{}", one.path.display(), if one.is_file { "" } else { "/" });
        guarded(&top, &folder).into_iter().map(words).collect()
    }

    #[test]
    fn what_the_host_runs_is_found_however_git_has_it() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path();
        assert!(found(path, |_| {}).is_empty(), "there is no repository");
        fs::create_dir_all(path.join(".git/hooks")).unwrap();
        assert_eq!(found(path, |_| {}), [".git/"]);
        assert!(found(path, |folder| folder.writable_git = true).is_empty());
        assert!(found(path, |folder| folder.read_only = true).is_empty(), "nothing in it is writable");
        fs::remove_dir_all(path.join(".git")).unwrap();
        fs::create_dir_all(path.join(".bare/worktrees")).unwrap();
        let absolute = format!("gitdir: {}/.bare/worktrees", path.display());
        for (text, expected) in [
            ("gitdir: ./.bare\n", &[".git", ".bare/"][..]),
            (&absolute, &[".git", ".bare/worktrees/"]),
            ("gitdir: ../elsewhere/.git/worktrees/x\n", &[".git"]),
            ("gitdir: /elsewhere\n", &[".git"]),
            ("gitdir: .\n", &[".git"]),
            ("no git\n", &[".git"]),
        ] {
            fs::write(path.join(".git"), text).unwrap();
            assert_eq!(found(path, |_| {}), expected, "{text}");
        }
        fs::remove_file(path.join(".git")).unwrap();
        symlink(".bare", path.join(".git")).unwrap();
        assert!(found(path, |_| {}).is_empty(), "a link is not followed");
    }

    #[test]
    fn a_bare_repository_is_recognized() {
        let top = tempfile::tempdir().unwrap();
        let is_bare = || is_bare(&OwnedFd::from(File::open(top.path()).unwrap()));
        assert!(!is_bare());
        fs::create_dir_all(top.path().join("objects")).unwrap();
        fs::create_dir_all(top.path().join("refs")).unwrap();
        fs::write(top.path().join("HEAD"), "ref: refs/heads/main\n").unwrap();
        assert!(is_bare());
    }
}
