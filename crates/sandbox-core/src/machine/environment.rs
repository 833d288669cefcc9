//! Variables that a user chose for a machine, where its shells, its logins and `exec` find them.

use std::{collections::BTreeMap, io, path::Path};

use crate::{
    error::{Cause, Class},
    host::root::{Links, Meta, Root},
    layer::parts::settings::{for_shells, for_units},
};

/// What is read after every profile's own.
const FILES: [&str; 2] = ["etc/environment.d/90-sandbox-set.conf", "etc/profile.d/90-sandbox-set.sh"];

/// Why they are not written.
#[derive(Debug, thiserror::Error)]
#[error("the machine's file {path} cannot be written")]
pub struct EnvironmentError {
    path: &'static str,
    source: io::Error,
}

impl Cause for EnvironmentError {
    fn class(&self) -> Class {
        Class::Host
    }
}

/// Writes the variables into a tree, or takes the files away where there are none.
///
/// The tree may be in use: `exec` and logins read the files each time.
///
/// # Errors
/// Where a file cannot be written.
pub fn write(tree: &Path, all: &BTreeMap<String, String>) -> Result<(), EnvironmentError> {
    let texts = [for_units(all), for_shells(all)];
    for (path, text) in FILES.into_iter().zip(texts) {
        let done = || {
            let root = Root::open(tree, Links::InTree)?;
            if all.is_empty() {
                return root.remove(Path::new(path));
            }
            root.make_folders(Path::new(path).parent().unwrap_or(Path::new("")), Meta::of_root(0o755, 0))?;
            root.write(Path::new(path), text.as_bytes(), Meta::of_root(0o644, 0))
        };
        done().map_err(|source| EnvironmentError { path, source })?;
    }
    Ok(())
}
