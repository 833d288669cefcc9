//! The files of git repositories at a commit.

use super::fetched::Into;
use crate::{
    Result,
    error::{Cause, Class},
    layer::{Doors, Order},
    lock::{Lock, LockedPart},
    spec::Python,
};

/// Why the files of a repository cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PythonError {
    /// Not yet.
    #[error("not yet")]
    Not,
}

impl Cause for PythonError {
    fn class(&self) -> Class {
        Class::Bug
    }
}

pub(super) fn lock(
    _part: &Python,
    _order: &Order,
    _lock: &Lock,
    _doors: &Doors<'_>,
) -> std::result::Result<LockedPart, PythonError> {
    Err(PythonError::Not)
}

pub(super) fn put(_part: &Python, _to: Into<'_>) -> Result<()> {
    Ok(())
}

pub(super) fn facts(_part: &Python, _lock: &Lock) -> Vec<(&'static str, String)> {
    Vec::new()
}

pub(super) fn name(package: &str) -> &str {
    package.split('[').next().unwrap_or(package)
}
