//! Tells a script that fails from a disk that is full: the script's own words seldom do.

use std::path::Path;

use super::ConfigureError;
use crate::host::runner::RunnerError;

/// Below so many bytes a file system is called full.
const LEFT: u64 = 256 << 10;

/// What programs say of it (strerror(3), in the locale that scripts are given).
const SAID: &str = "No space left on device";

/// Gives an error that says so where a program failed and the tree's file system is full.
pub fn blamed(problem: ConfigureError, tree: &Path) -> ConfigureError {
    let failed = match &problem {
        ConfigureError::Script { source, .. } | ConfigureError::Dpkg { source, .. } => source,
        _ => return problem,
    };
    let said = matches!(&**failed, RunnerError::Failed { tail, .. } if tail.contains(SAID));
    if said || is_full(tree) {
        return ConfigureError::Full { path: tree.to_owned(), source: Box::new(problem) };
    }
    problem
}

/// Tells whether a file system has no blocks or no inodes left. Some have no count of inodes.
fn is_full(tree: &Path) -> bool {
    rustix::fs::statvfs(tree).is_ok_and(|found| {
        found.f_bavail.saturating_mul(found.f_frsize) < LEFT || (found.f_files > 0 && found.f_favail == 0)
    })
}
