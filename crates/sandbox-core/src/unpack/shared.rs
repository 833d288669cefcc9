//! Which packages share paths, so that dpkg must unpack them: it knows what they may replace and divert.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use super::{
    UnpackError,
    merge::{MERGED, merged},
    package::{Package, inside},
};
use crate::deb::archive::Deb;

/// A path of a package, as it lies below the tree with /usr merged, and what it is there.
pub type Claim = (PathBuf, What);

/// What a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Folder,
    /// A symbolic link, which may stand for a folder.
    Link,
    /// Anything else.
    File,
}

/// Lists what a package's data archive has.
pub fn claims(package: &Package<'_>, deb: &Deb<'_>) -> Result<Vec<Claim>, UnpackError> {
    let name = || package.locked.name.clone();
    let failed = |source| UnpackError::Data { package: name(), source };
    let data = deb.data().map_err(|source| UnpackError::Malformed { package: name(), source })?;
    let mut claims = Vec::new();
    for entry in tar::Archive::new(data).entries().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // here too, because dpkg may be the one that unpacks it
        let raw = entry.path_bytes();
        let path = inside(&raw).map_err(|outside| outside.of(package.locked, &raw))?;
        let what = match entry.header().entry_type() {
            tar::EntryType::Directory => What::Folder,
            tar::EntryType::Symlink => What::Link,
            tar::EntryType::Char | tar::EntryType::Block => {
                return Err(UnpackError::Device { package: name(), path: format!("/{path}") });
            }
            _ => What::File,
        };
        claims.push((merged(&path), what));
    }
    Ok(claims)
}

/// Packages whose paths are their own, and those that dpkg must unpack after them.
pub type Split<'a, 'b> = (Vec<&'a Package<'b>>, Vec<&'a Package<'b>>);

/// Parts packages: of two that share a path the later one in the lock is dpkg's, as is one with a path that is
/// taken in the tree; a folder is shared by all who have it as one.
///
/// # Errors
/// [`UnpackError::Collision`] where one has a folder that another has as a file: dpkg would not take that either.
pub fn split<'a, 'b>(
    packages: &'a [(Package<'b>, Vec<Claim>)],
    is_taken: &dyn Fn(&Path, What) -> bool,
) -> Result<Split<'a, 'b>, UnpackError> {
    // the links of merged /usr are folders of all
    let at_top = |path: &Path| MERGED.iter().any(|name| path == Path::new(name));
    let mut taken: HashMap<PathBuf, What> =
        MERGED.iter().map(|name| (Path::new("usr").join(name), What::Folder)).collect();
    let (mut direct, mut deferred) = (Vec::new(), Vec::new());
    for (package, claims) in packages {
        let mut free = true;
        for (path, what) in claims.iter().filter(|(path, _)| !at_top(path)) {
            free &= !is_taken(path, *what);
            match (taken.get(path), what) {
                (None, _) | (Some(What::Folder), What::Folder) => {}
                (Some(What::Folder), What::File) | (Some(What::File), What::Folder) => {
                    let path = format!("/{}", path.display());
                    return Err(UnpackError::Collision { package: package.locked.name.clone(), path });
                }
                (Some(_), _) => free = false,
            }
        }
        if free {
            taken.extend(claims.iter().cloned());
            direct.push(package);
        } else {
            deferred.push(package);
        }
    }
    Ok((direct, deferred))
}
