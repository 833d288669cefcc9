//! What a tree has whose packages are configured, as far as it matters to those that come on top.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::{Path, PathBuf},
};

use super::{UnpackError, database, merge::merged};
use crate::host::root::{LISTS, Root};

/// Paths of a tree that have an owner. All are as they lie below the tree with /usr merged.
#[derive(Debug, Default)]
pub struct Below {
    /// Those of packages.
    pub owned: HashSet<PathBuf>,
    /// Those of profiles, by which one.
    pub reserved: HashMap<PathBuf, String>,
    /// dpkg has unpacked packages since `owned` was read.
    pub stale: bool,
}

impl Below {
    /// Reads what dpkg has noted in a tree.
    ///
    /// **Source**: dpkg(1) FILES, `info/package.list`.
    pub fn read(root: &Root) -> Result<Self, UnpackError> {
        let info = Path::new(database::INFO);
        let mut owned = HashSet::new();
        for name in root.list(info).map_err(UnpackError::tree(info))? {
            if name.extension().is_some_and(|end| end == "list") {
                let path = info.join(name);
                let listed = root.read_up_to(&path, LISTS).map_err(UnpackError::tree(&path))?;
                owned.extend(String::from_utf8_lossy(&listed).lines().map(merged));
            }
        }
        Ok(Self { owned, ..Self::default() })
    }

    /// Makes the error of a package that has a path of a profile's.
    pub fn taken(&self, path: &Path, package: &str) -> Option<UnpackError> {
        let profile = self.reserved.get(path)?.clone();
        let path = format!("/{}", path.display());
        Some(UnpackError::Reserved { package: package.to_owned(), path, profile })
    }
}

/// Lists the paths that dpkg would put elsewhere, or give another owner: those of diversions and overrides.
///
/// **Source**: dpkg-divert(1), dpkg-statoverride(1); the formats of dpkg's lib/dpkg/db-fsys-divert.c and
/// db-fsys-override.c.
pub fn special(root: &Root) -> Result<HashSet<PathBuf>, UnpackError> {
    let read = |name: &str| {
        let path = Path::new("var/lib/dpkg").join(name);
        match root.read_up_to(&path, LISTS) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(problem) if problem.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(problem) => Err(UnpackError::tree(&path)(problem)),
        }
    };
    let diversions = read("diversions")?;
    let overrides = read("statoverride")?;
    let diverted = diversions.lines().enumerate().filter(|(at, _)| at % 3 != 2).map(|(_, line)| line);
    let overridden = overrides.lines().filter_map(|line| line.splitn(4, ' ').nth(3));
    Ok(diverted.chain(overridden).map(merged).collect())
}
