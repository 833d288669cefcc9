//! The directories of a machine's tree on which the backend mounts API file systems.
//!
//! systemd-nspawn opens some of them by path while it still has the host's root, and follows links: a guest that has
//! put one in the place of its `/dev` or `/run` has device nodes, links and files made in any directory of the host.
//! liblxc opens them in the tree alone; it is checked there too.
//!
//! **Source**: `copy_devnodes`, `dev_setup`, `make_run_host` of systemd-nspawn 252 and 257. Found by running 257.

use std::{
    io,
    path::{Path, PathBuf},
};

use rustix::fs::FileType;

use crate::{
    error::{Cause, Class, Hint},
    host::root::{Links, Root},
};

/// Those directories.
const DIRECTORIES: [&str; 4] = ["dev", "proc", "run", "sys"];

/// Why a tree is not started.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// One of them is something else.
    #[error("{path}, in the machine's tree, is not a directory: the host would follow a link there", path = path.display())]
    NotADirectory {
        /// Where, on the host.
        path: PathBuf,
    },
    /// The tree cannot be read.
    #[error("{path} cannot be examined", path = path.display())]
    Io {
        /// Where, on the host.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Cause for ApiError {
    fn class(&self) -> Class {
        match self {
            Self::NotADirectory { .. } => Class::Untrusted,
            Self::Io { .. } => Class::Host,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::NotADirectory { path } => {
                vec![Hint::run("remove it", format!("rm {}", super::word(path)))]
            }
            Self::Io { .. } => Vec::new(),
        }
    }
}

/// Checks that the directories of a stopped machine's tree are directories; one that is missing is made by the backend.
///
/// # Errors
/// [`ApiError`].
pub fn check(tree: &Path) -> Result<(), ApiError> {
    let failed = |path: &str| {
        let path = tree.join(path);
        move |source| ApiError::Io { path, source }
    };
    let root = Root::open(tree, Links::Never).map_err(failed(""))?;
    for name in DIRECTORIES {
        match root.kind(Path::new(name)).map_err(failed(name))? {
            None | Some(FileType::Directory) => {}
            Some(_) => return Err(ApiError::NotADirectory { path: tree.join(name) }),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn a_link_in_place_of_a_directory_is_refused() {
        for name in DIRECTORIES {
            let tree = tempfile::tempdir().unwrap();
            fs::create_dir(tree.path().join("dev")).unwrap();
            check(tree.path()).unwrap();
            let _ = fs::remove_dir(tree.path().join(name));
            symlink("/", tree.path().join(name)).unwrap();
            let error = check(tree.path()).unwrap_err();
            assert_eq!(error.class(), Class::Untrusted, "{error}");
            assert!(matches!(&error.hints()[..], [Hint::Run { command, .. }] if command.ends_with(name)));
        }
    }
}
