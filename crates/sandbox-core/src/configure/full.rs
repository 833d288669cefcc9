//! Tells a script that fails from a disk that is full: the script's own words seldom do.

use std::{error::Error, path::Path};

use super::ConfigureError;
use crate::host::{runner::RunnerError, space::Shortage};

/// What programs say of it (strerror(3), in the locale that scripts are given).
const SAID: &str = "No space left on device";

/// Gives an error that says so where a program failed and the tree's file system is full.
pub fn blamed(problem: ConfigureError, tree: &Path) -> ConfigureError {
    let by_a_program = matches!(problem, ConfigureError::Script { .. } | ConfigureError::Dpkg { .. });
    match ran_out(&problem, tree).filter(|_| by_a_program) {
        Some(shortage) => ConfigureError::Full { path: tree.to_owned(), shortage, source: Box::new(problem) },
        None => problem,
    }
}

/// Returns what the tree's file system lacks where something failed because of that: a program said so, or it is full.
pub fn ran_out(problem: &(dyn Error + 'static), tree: &Path) -> Option<Shortage> {
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
    Shortage::of(tree).or(said.then_some(Shortage::Bytes))
}
