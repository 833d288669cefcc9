//! What must be in a tree before its first package.

use std::{ffi::OsStr, path::Path};

use super::{UnpackError, bytes, package::Package};
use crate::{
    deb::archive::Deb,
    host::root::{Meta, Root},
};

/// Makes the folders of merged /usr, and the links to them where the suite's base-files brings none.
///
/// bookworm's base-files (and jammy's) ships real folders `/bin`, `/lib`, `/sbin`: there the links go first,
/// so that every package's files land in /usr. trixie's and noble's ships the links itself.
///
/// **Source**: Debian bug 978636, LP 2054925.
pub fn make(
    root: &Root,
    packages: &[Package<'_>],
    architecture: &str,
    epoch: i64,
) -> Result<(), UnpackError> {
    let meta = Meta::of_root(0o755, epoch);
    let mut names = vec!["bin", "sbin", "lib"];
    match architecture {
        "amd64" => names.extend(["lib32", "lib64", "libx32"]),
        "i386" => names.extend(["lib64", "libx32"]),
        _ => {}
    }
    let brings = match packages.iter().find(|package| package.locked.name == "base-files") {
        Some(base_files) => brings_links(base_files)?,
        None => false,
    };
    // /lib64 must be a link before the first boot: nspawn makes a folder of it otherwise (systemd 33919)
    let folders = if brings { vec!["bin", "sbin", "lib", "lib64"] } else { names.clone() };
    for name in folders {
        let path = Path::new("usr").join(name);
        root.make_folders(&path, meta).map_err(UnpackError::tree(&path))?;
    }
    if !brings {
        for name in names {
            let target = format!("usr/{name}");
            root.link(Path::new(name), OsStr::new(&target), epoch)
                .map_err(UnpackError::tree(Path::new(name)))?;
        }
    }
    Ok(())
}

/// Tells whether a base-files package has `/bin` as a link.
fn brings_links(package: &Package<'_>) -> Result<bool, UnpackError> {
    let name = || package.locked.name.clone();
    let failed = |source| UnpackError::Data { package: name(), source };
    let malformed = |source| UnpackError::Malformed { package: name(), source };
    let bytes = bytes(package.locked, package.path)?;
    let mut archive = tar::Archive::new(Deb::read(&bytes).and_then(|deb| deb.data()).map_err(malformed)?);
    for entry in archive.entries().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.path_bytes().as_ref() == b"./bin" && entry.header().entry_type().is_symlink() {
            return Ok(true);
        }
    }
    Ok(false)
}
