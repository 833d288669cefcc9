//! Takes away what scripts leave that no two builds share, and what each machine must make for itself.
//!
//! **Source**: machine-id(5); mmdebstrap(1) "cleanup"; what two builds of one set differed in.

use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, unlinkat};

use super::{ConfigureError, tree};
use crate::host::root::{Meta, Root};

/// Files that go.
const FILES: &[&str] = &[
    "var/lib/dbus/machine-id",
    "var/cache/ldconfig/aux-cache",
    "var/log/alternatives.log",
    "var/log/bootstrap.log",
    "var/log/dpkg.log",
    "var/log/apt/eipp.log.xz",
    "var/log/apt/history.log",
    "var/log/apt/term.log",
    "var/cache/apt/pkgcache.bin",
    "var/cache/apt/srcpkgcache.bin",
    "var/cache/debconf/config.dat-old",
    "var/cache/debconf/passwords.dat-old",
    "var/cache/debconf/templates.dat-old",
    "var/lib/dpkg/available-old",
    "var/lib/dpkg/diversions-old",
    "var/lib/dpkg/status-old",
    "var/lib/dpkg/statoverride-old",
    "var/lib/systemd/random-seed",
    "var/lib/systemd/credential.secret",
    "etc/passwd-",
    "etc/group-",
    "etc/shadow-",
    "etc/gshadow-",
    "etc/subuid-",
    "etc/subgid-",
    "etc/.pwd.lock",
];

/// Folders whose contents go.
const FOLDERS: &[&str] = &["run/lock", "tmp", "var/tmp", "var/cache/apt/archives/partial"];

/// A unit that makes the SSH host keys that no image may have.
const HOST_KEYS: &str = "\
[Unit]
Description=Make this machine's SSH host keys
Before=ssh.service ssh.socket
ConditionFileIsExecutable=/usr/bin/ssh-keygen

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A
RemainAfterExit=yes

[Install]
WantedBy=multi-user.target
";

/// Normalises a tree.
pub fn all(root: &Root, epoch: i64) -> Result<(), ConfigureError> {
    for file in FILES {
        root.remove(Path::new(file)).map_err(tree(Path::new(file)))?;
    }
    for folder in FOLDERS {
        root.empty(Path::new(folder)).map_err(tree(Path::new(folder)))?;
    }
    run(root)?;
    host_keys(root, epoch)?;
    // empty, not missing: the first boot fills it (machine-id(5), "First Boot Semantics")
    let path = Path::new("etc/machine-id");
    root.write(path, b"", Meta::of_root(0o644, epoch)).map_err(tree(path))
}

/// Empties `/run` but for its folder of locks, which base-files ships.
fn run(root: &Root) -> Result<(), ConfigureError> {
    let folder = Path::new("run");
    for name in root.list(folder).map_err(tree(folder))? {
        let path = folder.join(&name);
        match root.kind(&path).map_err(tree(&path))? {
            Some(FileType::Directory) if name == Path::new("lock") => {}
            Some(FileType::Directory) => {
                root.empty(&path).map_err(tree(&path))?;
                let (above, name) = root.parent(&path).map_err(tree(&path))?;
                unlinkat(&above, &name, AtFlags::REMOVEDIR).map_err(|errno| tree(&path)(errno.into()))?;
            }
            _ => root.remove(&path).map_err(tree(&path))?,
        }
    }
    Ok(())
}

pub fn host_keys(root: &Root, epoch: i64) -> Result<(), ConfigureError> {
    let folder = Path::new("etc/ssh");
    let keys: Vec<PathBuf> = root
        .list(folder)
        .map_err(tree(folder))?
        .into_iter()
        .filter(|name| name.to_string_lossy().starts_with("ssh_host_"))
        .collect();
    if keys.is_empty() {
        return Ok(());
    }
    for key in keys {
        let key = folder.join(key);
        root.remove(&key).map_err(tree(&key))?;
    }
    let unit = Path::new("etc/systemd/system/sandbox-ssh-host-keys.service");
    let wants = Path::new("etc/systemd/system/multi-user.target.wants");
    root.make_folders(wants, Meta::of_root(0o755, epoch)).map_err(tree(wants))?;
    root.write(unit, HOST_KEYS.as_bytes(), Meta::of_root(0o644, epoch)).map_err(tree(unit))?;
    let link = wants.join("sandbox-ssh-host-keys.service");
    let target = "/etc/systemd/system/sandbox-ssh-host-keys.service";
    root.link(&link, target.as_ref(), epoch).map_err(tree(&link))
}
