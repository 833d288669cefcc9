//! The files of npm trees.

use super::fetched::Into;
use crate::{
    Result,
    error::{Cause, Class},
    layer::{Doors, Order},
    lock::LockedPart,
    spec::Npm,
};

/// Why the files of a repository cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// Not yet.
    #[error("not yet")]
    Not,
}

impl Cause for TreeError {
    fn class(&self) -> Class {
        Class::Bug
    }
}

pub(super) fn lock(
    _part: &Npm,
    _order: &Order,
    _doors: &Doors<'_>,
) -> std::result::Result<LockedPart, TreeError> {
    Err(TreeError::Not)
}

pub(super) fn put(_part: &Npm, _to: Into<'_>) -> Result<()> {
    Ok(())
}
