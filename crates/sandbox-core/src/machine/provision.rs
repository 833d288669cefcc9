//! What a new machine is given of the host before it first starts: files, SSH keys, directories that are mounted.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    Definition, HostFolder,
    changes::WantedMount,
    copy::{self, CopyError, Side},
    life::Machines,
    mounts::{
        MountError,
        overlap::{self, OverlapError},
        source::{self, Commands, SourceError},
    },
    record::{self, Record},
    volume,
};
use crate::{
    Result,
    error::{Cause, Class, Context as _, Hint},
    host::root::{Links, Meta, Root},
    report::Event,
    spec::VolumeKind,
};

/// Where OpenSSH's server of the profile `ssh` looks for the keys of the user `agent`.
const KEYS: &str = "/etc/ssh/authorized_keys.d/agent";

/// All of it; the default is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provision {
    /// Directories of the host that are mounted at each start.
    pub mounts: Vec<WantedMount>,
    /// Files and trees of the host that are copied.
    pub copies: Vec<WantedCopy>,
    /// Public keys, a line each, of those who may log in as `agent`.
    pub ssh_keys: Vec<String>,
}

/// A file or tree of the host that is copied into a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedCopy {
    /// The file or tree, by its absolute path.
    pub source: PathBuf,
    /// Where the guest has it: into a directory that is there, else as this path.
    pub path: PathBuf,
    /// The user of the machine who owns all of it; none keeps the numbers.
    pub owner: Option<String>,
}

/// Why a new machine is not given something.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// A directory cannot be mounted.
    #[error("{path} cannot be mounted", path = path.display())]
    Mount {
        /// The directory of the host.
        path: PathBuf,
        /// Why.
        source: MountError,
    },
    /// A directory cannot be looked up.
    #[error("{path} cannot be mounted", path = path.display())]
    Source {
        /// The directory of the host.
        path: PathBuf,
        /// Why.
        source: SourceError,
    },
    /// A guest could replace a directory that is to be mounted.
    #[error("{path} cannot be mounted", path = path.display())]
    Overlap {
        /// The directory of the host.
        path: PathBuf,
        /// Why.
        source: OverlapError,
    },
    /// Two things are to be mounted at the same place.
    #[error("{path} is a volume of the machine, or has another mount", path = path.display())]
    Taken {
        /// Where the guest would have it.
        path: PathBuf,
    },
    /// The other machines' mounts cannot be read.
    #[error("the mounts of other machines cannot be read")]
    Records {
        /// Why.
        source: record::Error,
    },
    /// Something cannot be copied.
    #[error("{path} cannot be copied", path = path.display())]
    Copy {
        /// The file or tree of the host.
        path: PathBuf,
        /// Why.
        source: CopyError,
    },
    /// The machine has no such user.
    #[error("the machine has no user `{user}`")]
    User {
        /// The name.
        user: String,
    },
    /// A file of the machine cannot be read or written.
    #[error("{path} of the machine cannot be written", path = path.display())]
    Io {
        /// The path in the machine.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Cause for ProvisionError {
    fn class(&self) -> Class {
        match self {
            Self::Mount { source, .. } => source.class(),
            Self::Source { source, .. } => source.class(),
            Self::Overlap { source, .. } => source.class(),
            Self::Copy { source, .. } => source.class(),
            Self::Records { source } => source.class(),
            Self::Taken { .. } | Self::User { .. } => Class::Unavailable,
            Self::Io { source, .. } => Class::of_path(source),
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Mount { source, .. } => source.hints(),
            Self::Overlap { source, .. } => source.hints(),
            Self::Copy { source, .. } => source.hints(),
            _ => Vec::new(),
        }
    }
}

impl Machines<'_> {
    /// Checks before anything is made that a new machine can be given what is wanted.
    ///
    /// # Errors
    /// [`ProvisionError`] with the first that it cannot.
    pub fn check_provision(&self, definition: &Definition, provision: &Provision) -> Result<()> {
        let subject = || format!("machine `{}`", definition.name);
        if !provision.mounts.is_empty() {
            let records = self.mounted().during("create", subject())?;
            let mut paths: Vec<_> = definition.volumes.iter().map(|volume| &volume.path).collect();
            for wanted in &provision.mounts {
                if paths.contains(&&wanted.path) {
                    let path = wanted.path.clone();
                    return Err(ProvisionError::Taken { path }).during("create", subject());
                }
                paths.push(&wanted.path);
                resolved(wanted, &records).during("create", subject())?;
            }
        }
        for wanted in &provision.copies {
            let logins = definition.volumes.iter().filter(|volume| volume.kind == VolumeKind::Auth);
            let found = logins.map(|volume| &volume.path).find(|path| wanted.path.starts_with(path));
            let source = match (found, std::fs::symlink_metadata(&wanted.source)) {
                (Some(path), _) => CopyError::Auth { path: path.clone() },
                (None, Ok(_)) => continue,
                (None, Err(source)) => {
                    CopyError::Io { path: wanted.source.clone(), doing: "reading", source }
                }
            };
            let failed = ProvisionError::Copy { path: wanted.source.clone(), source };
            return Err(failed).during("create", subject());
        }
        Ok(())
    }

    /// Gives a machine that is being made what is wanted; `definition` has the tree where it is now. Returns the mounts.
    pub(super) fn provision(
        &self,
        definition: &Definition,
        provision: &Provision,
    ) -> Result<Vec<HostFolder>, ProvisionError> {
        let side = Side::Stopped { definition: Box::new(definition.clone()) };
        for wanted in &provision.copies {
            let failed = |source| ProvisionError::Copy { path: wanted.source.clone(), source };
            let owner = wanted.owner.as_deref().map(|owner| owner_of(definition, owner)).transpose()?;
            if let Some(parent) = wanted.path.parent() {
                copy::make_folder(&side, parent).map_err(failed)?;
            }
            let copied = copy::into(&side, &wanted.source, &wanted.path, owner).map_err(failed)?;
            for what in copied.left_out {
                self.reporter.report(Event::Warning { text: format!("left out: {what}") });
            }
        }
        if !provision.ssh_keys.is_empty() {
            add_keys(definition, &provision.ssh_keys)?;
        }
        let records = if provision.mounts.is_empty() { Vec::new() } else { self.mounted()? };
        let mut mounts = Vec::new();
        for wanted in &provision.mounts {
            let wanted = resolved(wanted, &records)?;
            let path = || wanted.source.clone();
            let mount = self
                .recognized(definition, &wanted)
                .map_err(|source| ProvisionError::Mount { path: path(), source })?;
            overlap::check(&mount, &records)
                .map_err(|source| ProvisionError::Overlap { path: path(), source })?;
            copy::make_folder(&side, &mount.path)
                .map_err(|source| ProvisionError::Copy { path: path(), source })?;
            mounts.push(mount);
        }
        // one below another is mounted after it
        mounts.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(mounts)
    }

    /// Lists the machines, whose mounts a new one must not overlap.
    fn mounted(&self) -> Result<Vec<Record>, ProvisionError> {
        self.records.list().map_err(|source| ProvisionError::Records { source })
    }
}

/// Follows the links to a directory, and checks that no guest could replace it.
fn resolved(wanted: &WantedMount, records: &[Record]) -> Result<WantedMount, ProvisionError> {
    let path = || wanted.source.clone();
    let found =
        source::resolve(&wanted.source).map_err(|source| ProvisionError::Source { path: path(), source })?;
    overlap::check_path(&found, records)
        .map_err(|source| ProvisionError::Overlap { path: path(), source })?;
    source::open(&found.path, &Commands::NONE)
        .map_err(|source| ProvisionError::Source { path: path(), source })?;
    Ok(WantedMount { source: found.path, ..wanted.clone() })
}

/// Returns an owner of the machine in numbers, which count in a volume as well.
fn owner_of(definition: &Definition, name: &str) -> Result<String, ProvisionError> {
    if name.starts_with(|letter: char| letter.is_ascii_digit()) || name.contains(':') {
        return Ok(name.to_owned());
    }
    let failed = |source| ProvisionError::Io { path: "/etc/passwd".into(), source };
    let tree = Root::open(&definition.tree, Links::InTree).map_err(failed)?;
    let found = volume::owner(&tree, name).map_err(failed)?;
    let (uid, gid, _) = found.ok_or_else(|| ProvisionError::User { user: name.to_owned() })?;
    Ok(format!("{uid}:{gid}"))
}

/// Adds public keys to those that the server of the machine takes; a volume of an earlier machine may have some.
fn add_keys(definition: &Definition, keys: &[String]) -> Result<(), ProvisionError> {
    let failed = |source| ProvisionError::Io { path: KEYS.into(), source };
    let path = Path::new(KEYS);
    let volume = definition.volumes.iter().find(|volume| path.starts_with(&volume.path));
    let (root, path) = match volume {
        Some(volume) => (&volume.source, path.strip_prefix(&volume.path).unwrap_or(path)),
        None => (&definition.tree, path),
    };
    let root = Root::open(root, Links::InTree).map_err(failed)?;
    let mut text = match root.read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(failed(error)),
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for key in keys {
        if !text.lines().any(|known| known.trim() == key) {
            text += key;
            text.push('\n');
        }
    }
    if let Some(folder) = path.parent() {
        root.make_folders(folder, Meta::of_root(0o755, 0)).map_err(failed)?;
    }
    root.write(path, text.as_bytes(), Meta::of_root(0o644, 0)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::machine::{example::definition, volume::Mounted};

    #[test]
    fn keys_are_added_to_those_of_an_earlier_machine_once() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let mut machine = definition("agents");
        machine.tree = place.path().join("tree");
        machine.volumes = Vec::new();
        fs::create_dir_all(&machine.tree).unwrap();
        add_keys(&machine, &["ssh-ed25519 A a".to_owned()]).unwrap();
        let in_tree = machine.tree.join(&KEYS[1..]);
        assert_eq!(fs::read_to_string(&in_tree).unwrap(), "ssh-ed25519 A a\n");
        let source = place.path().join("volume");
        fs::create_dir(&source).unwrap();
        fs::write(source.join("agent"), "ssh-ed25519 B b").unwrap();
        machine.volumes.push(Mounted {
            source: source.clone(),
            path: "/etc/ssh/authorized_keys.d".into(),
            kind: VolumeKind::Home,
            owner: "root".to_owned(),
            mode: "0755".to_owned(),
        });
        for _ in 0..2 {
            add_keys(&machine, &["ssh-ed25519 A a".to_owned(), "ssh-ed25519 B b".to_owned()]).unwrap();
        }
        assert_eq!(fs::read_to_string(source.join("agent")).unwrap(), "ssh-ed25519 B b\nssh-ed25519 A a\n");
    }

    #[test]
    fn an_owner_is_looked_up_in_the_tree() {
        let place = tempfile::tempdir().unwrap();
        let mut machine = definition("agents");
        machine.tree = place.path().to_owned();
        fs::create_dir(place.path().join("etc")).unwrap();
        fs::write(place.path().join("etc/passwd"), "agent:x:1000:1001::/home/agent:/bin/sh\n").unwrap();
        for (typed, found) in [("agent", "1000:1001"), ("root", "0:0"), ("33", "33"), ("1:2", "1:2")] {
            assert_eq!(owner_of(&machine, typed).unwrap(), found, "{typed}");
        }
        assert!(matches!(owner_of(&machine, "nobody"), Err(ProvisionError::User { .. })));
    }
}
