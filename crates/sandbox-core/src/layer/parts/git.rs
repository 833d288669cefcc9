//! The files of git repositories at a commit.

use super::fetched::Into;
use crate::{
    Result,
    error::{Cause, Class},
    layer::Doors,
    lock::LockedPart,
    spec::Git,
};

/// Why the files of a repository cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// Not yet.
    #[error("not yet")]
    Not,
}

impl Cause for GitError {
    fn class(&self) -> Class {
        Class::Bug
    }
}

pub(super) fn lock(_part: &Git, _doors: &Doors<'_>) -> std::result::Result<LockedPart, GitError> {
    Err(GitError::Not)
}

pub(super) fn put(_part: &Git, _to: Into<'_>) -> Result<()> {
    Ok(())
}
