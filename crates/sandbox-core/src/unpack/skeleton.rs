//! What must be in a tree before its first package.

use std::{ffi::OsStr, os::fd::AsFd as _, path::Path};

use rustix::fs::FileType;

use super::UnpackError;
use crate::{
    deb::archive::Deb,
    host::root::{Meta, Root, target},
    lock::LockedPackage,
};

/// Makes the folders of merged /usr, and the links to them where the suite's base-files brings none.
///
/// bookworm's base-files (and jammy's) ships real folders `/bin`, `/lib`, `/sbin`: there the links go first,
/// so that every package's files land in /usr. trixie's and noble's ships the links itself.
///
/// **Source**: Debian bug 978636, LP 2054925.
pub fn make(root: &Root, brings: bool, architecture: &str, epoch: i64) -> Result<(), UnpackError> {
    let meta = Meta::of_root(0o755, epoch);
    let mut names = vec!["bin", "sbin", "lib"];
    match architecture {
        "amd64" => names.extend(["lib32", "lib64", "libx32"]),
        "i386" => names.extend(["lib64", "libx32"]),
        _ => {}
    }
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
pub fn brings_links(package: &LockedPackage, deb: &Deb<'_>) -> Result<bool, UnpackError> {
    let failed = |source| UnpackError::Data { package: package.name.clone(), source };
    let malformed = |source| UnpackError::Malformed { package: package.name.clone(), source };
    let mut archive = tar::Archive::new(deb.data().map_err(malformed)?);
    for entry in archive.entries().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.path_bytes().as_ref() == b"./bin" && entry.header().entry_type().is_symlink() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes in a second tree the links to folders that the first one has at its top, so that what is unpacked
/// there lies where it lies in the first.
pub fn repeat(root: &Root, second: &Root, epoch: i64) -> Result<(), UnpackError> {
    let meta = Meta::of_root(0o755, epoch);
    let top = Path::new("");
    for name in root.list(top).map_err(UnpackError::tree(top))? {
        let failed = || UnpackError::tree(&name);
        if root.kind(&name).map_err(failed())? == Some(FileType::Symlink) {
            let (folder, last) = root.parent(&name).map_err(failed())?;
            let to = target(folder.as_fd(), &last).map_err(failed())?;
            second.make_folders(&to, meta).map_err(failed())?;
            second.link(&name, to.as_os_str(), epoch).map_err(failed())?;
        }
    }
    Ok(())
}
