//! The machine's files on the host: where they stand, written whole or not at all, and removed.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use rustix::mount::{UnmountFlags, unmount};

use super::{error::Error, unit};
use crate::name::MachineName;

/// Where machined looks for trees.
pub(super) const TREES: &str = "/var/lib/machines";

/// Where systemd keeps the links of machines that start with the host.
pub(super) const WANTS: &str = "/etc/systemd/system/machines.target.wants";

/// The settings file.
pub(super) fn settings(name: &MachineName) -> PathBuf {
    PathBuf::from(format!("/etc/systemd/nspawn/{name}.nspawn"))
}

/// The folder of the unit's drop-ins.
pub(super) fn drop_ins(name: &MachineName) -> PathBuf {
    PathBuf::from(format!("/etc/systemd/system/{}.d", unit::name(name)))
}

/// The drop-in.
pub(super) fn drop_in(name: &MachineName) -> PathBuf {
    drop_ins(name).join("50-sandbox.conf")
}

/// The drop-in that says when the machine starts with the host.
pub(super) fn order(name: &MachineName) -> PathBuf {
    drop_ins(name).join("60-sandbox-order.conf")
}

/// Gives a settings file that somebody else wrote a name that nspawn passes over.
pub(super) fn set_aside(name: &MachineName) -> Result<(), Error> {
    let path = settings(name);
    match fs::rename(&path, path.with_extension("nspawn.before-sandbox")) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::File { path, done: "set aside", source })
        }
        _ => Ok(()),
    }
}

/// Lists the names of trees that machined would start.
pub(super) fn trees() -> Result<Vec<String>, Error> {
    let failed = |source| Error::File { path: TREES.into(), done: "read", source };
    let entries = match fs::read_dir(TREES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    Ok(names)
}

/// What systemd, machined and networkd may leave of a machine that is gone.
pub(super) fn remains(name: &MachineName, link: &str) -> Vec<PathBuf> {
    [
        format!("{WANTS}/{}", unit::name(name)),
        format!("{TREES}/.#{name}.lck"),
        format!("/var/lib/systemd/network/dhcp-server-lease/{link}"),
        format!("/run/systemd/netif/dhcp-server-lease/{link}"),
    ]
    .into_iter()
    .map(PathBuf::from)
    .collect()
}

/// Removes what nspawn leaves where it was killed: folders below /run that are mount points, because of which it would
/// refuse to start again, and its lock of the tree. Only for a machine that is gone.
pub(super) fn sweep(name: &MachineName) -> Result<(), Error> {
    for folder in ["propagate", "unix-export"] {
        let path = PathBuf::from(format!("/run/systemd/nspawn/{folder}/{name}"));
        // The end of the loop is the kernel's answer that it is no mount point, or not there.
        while unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_ok() {}
        remove(&path)?;
    }
    // `image_path_lock` of systemd
    remove(&Path::new(TREES).join(format!(".#{name}.lck")))
}

/// Writes a file unless it has this text already, and tells whether it had to.
///
/// Only who has the machine's lock writes its files, so that one name does for what is being written, and what a killed
/// writer left is found again.
pub(super) fn ensure(path: &Path, text: &str) -> Result<bool, Error> {
    let new = writing(path);
    let _ = fs::remove_file(&new);
    if fs::read_to_string(path).is_ok_and(|present| present == text) {
        return Ok(false);
    }
    let ensured = || {
        fs::create_dir_all(path.parent().ok_or(io::ErrorKind::InvalidInput)?)?;
        let mut file = fs::File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        fs::File::open(path.parent().ok_or(io::ErrorKind::InvalidInput)?)?.sync_all()
    };
    let ensured = ensured();
    if ensured.is_err() {
        let _ = fs::remove_file(&new);
    }
    ensured.map(|()| true).map_err(|source| Error::File { path: path.to_owned(), done: "written", source })
}

/// Names a machine's file while it is written.
pub(super) fn writing(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.sandbox-new"))
}

/// Writes a file under a temporary name, syncs it and renames it into place.
pub(super) fn write(path: &Path, text: &str) -> Result<(), Error> {
    replace(path, text).map_err(|source| Error::File { path: path.to_owned(), done: "written", source })
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(folder)?;
    let mut file = tempfile::Builder::new().prefix(".sandbox-").tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    fs::File::open(folder)?.sync_all()
}

/// Removes the folder of the unit's drop-ins with what the user put there: it names a machine that is gone.
pub(super) fn remove_drop_ins(name: &MachineName) -> Result<(), Error> {
    let path = drop_ins(name);
    match fs::remove_dir_all(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::File { path, done: "removed", source })
        }
        _ => Ok(()),
    }
}

/// Removes a file or an empty folder; one that is not there is no error.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::File { path: path.to_owned(), done: "removed", source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/x.nspawn");
        write(&path, "one\n").unwrap();
        assert!(ensure(&path, "two\n").unwrap());
        assert!(!ensure(&path, "two\n").unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
    }

    #[test]
    fn removing_may_be_repeated_and_follows_no_link() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("kept"), folder.path().join("link"));
        fs::create_dir(&target).unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        remove(&link).unwrap();
        remove(&link).unwrap();
        assert!(target.is_dir() && !link.exists());
    }
}
