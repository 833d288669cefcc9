//! Tells a script that fails from a disk that is full: the script's own words seldom do.

use std::{error::Error, path::Path};

use super::ConfigureError;
use crate::host::runner::RunnerError;

/// Below so many bytes a file system is called full.
const LEFT: u64 = 256 << 10;

/// What programs say of it (strerror(3), in the locale that scripts are given).
const SAID: &str = "No space left on device";

/// Gives an error that says so where a program failed and the tree's file system is full.
pub fn blamed(problem: ConfigureError, tree: &Path) -> ConfigureError {
    let by_a_program = matches!(problem, ConfigureError::Script { .. } | ConfigureError::Dpkg { .. });
    if by_a_program && ran_out(&problem, tree) {
        return ConfigureError::Full { path: tree.to_owned(), source: Box::new(problem) };
    }
    problem
}

/// Tells whether something failed because the tree's file system is full: a program said so, or it is.
pub fn ran_out(problem: &(dyn Error + 'static), tree: &Path) -> bool {
    let mut next = Some(problem);
    let mut causes = std::iter::from_fn(|| {
        let cause = next?;
        next = cause.source();
        Some(cause)
    });
    let said = causes.any(|cause| {
        let boxed = || cause.downcast_ref::<Box<RunnerError>>().map(|source| &**source);
        let ran = cause.downcast_ref::<RunnerError>().or_else(boxed);
        matches!(ran, Some(RunnerError::Failed { tail, .. }) if tail.contains(SAID))
    });
    said || is_full(tree)
}

/// Tells whether a file system has no blocks or no inodes left. Some have no count of inodes.
fn is_full(tree: &Path) -> bool {
    rustix::fs::statvfs(tree).is_ok_and(|found| {
        found.f_bavail.saturating_mul(found.f_frsize) < LEFT || (found.f_files > 0 && found.f_favail == 0)
    })
}
