//! Files and links of the tree, and who owns them.

use std::{ffi::OsStr, io, path::Path};

use super::PartError;
use crate::{
    host::root::{Meta, Root},
    spec::TreeFile,
};

pub(super) fn failed(path: &Path) -> impl FnOnce(io::Error) -> PartError + use<> {
    let path = path.to_owned();
    move |source| PartError::Write { path, source }
}

pub(super) fn folder_of(root: &Root, path: &Path, epoch: i64) -> Result<(), PartError> {
    match path.parent() {
        Some(folder) => root.make_folders(folder, Meta::of_root(0o755, epoch)).map_err(failed(path)),
        None => Ok(()),
    }
}

pub(super) fn write(root: &Root, file: &TreeFile, epoch: i64) -> Result<(), PartError> {
    let mode = u32::from_str_radix(&file.mode, 8).unwrap_or(0o644);
    let (uid, gid) = owner(root, &file.owner, &file.path)?;
    folder_of(root, &file.path, epoch)?;
    // TOML's multi-line strings are easier to read with a line feed at the top
    let text = file.content.strip_prefix('\n').unwrap_or(&file.content);
    root.write(&file.path, text.as_bytes(), Meta { mode, uid, gid, mtime: epoch }).map_err(failed(&file.path))
}

pub(super) fn make_link(root: &Root, path: &Path, target: &str, epoch: i64) -> Result<(), PartError> {
    folder_of(root, path, epoch)?;
    root.link(path, OsStr::new(target), epoch).map_err(failed(path))
}

/// Finds a user's numbers in the tree's passwd file.
pub(super) fn owner(root: &Root, name: &str, path: &Path) -> Result<(u32, u32), PartError> {
    if name == "root" {
        return Ok((0, 0));
    }
    let passwd = root.read(Path::new("etc/passwd")).map_err(failed(Path::new("/etc/passwd")))?;
    let passwd = String::from_utf8_lossy(&passwd).into_owned();
    let found = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.len() > 3 && fields[0] == name)
            .then(|| Some((fields[2].parse().ok()?, fields[3].parse().ok()?)))?
    });
    found.ok_or_else(|| PartError::Owner { owner: name.to_owned(), path: path.to_owned() })
}
