//! A machine's secrets: files of the host's root beside its tree, given to the guest as systemd credentials.
//!
//! ```text
//! <state>/machines/NAME/secrets/KEY    the value, mode 0600, in a directory of mode 0700
//!
//! nspawn, direct:  --load-credential=KEY:<file>            systemd-nspawn reads the file at each start
//! lxc:             the directory, read-only, owners shifted, on /dev/.sandbox-credentials, and CREDENTIALS_DIRECTORY
//! ```
//!
//! They are in no tree, volume, layer, snapshot, copy of a machine or exported file, and go with the machine. In the guest
//! its root and what its root gives them to have them, from the next start on.
//!
//! **Source**: systemd-creds(1); systemd.exec(5), `LoadCredential=`; <https://systemd.io/CONTAINER_INTERFACE>,
//! `$CREDENTIALS_DIRECTORY`.

use std::{
    ffi::OsString,
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use super::life::Machines;
use crate::{
    Result,
    error::{Cause, Class, Context as _, Hint},
    name::MachineName,
};

/// The directory in a machine's own.
pub const FOLDER: &str = "secrets";

/// The most bytes of a value: systemd takes a mebibyte for all of a machine's.
pub const LIMIT: usize = 64 << 10;

/// The most bytes of all values of a machine.
const TOTAL: u64 = 768 << 10;

/// The longest key.
const KEY: usize = 64;

/// Why a secret is not set, listed or removed.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The key cannot be the name of a credential.
    #[error("`{key}` is no name of a secret: letters, digits, `_`, `-` and `.`, at most {KEY}, no `.` first")]
    Key {
        /// As given.
        key: String,
    },
    /// The value is empty.
    #[error("there is no value: it is read from standard input")]
    Empty,
    /// The value, or all of them, have too many bytes.
    #[error("{what} than {most} bytes")]
    Large {
        /// What is too large.
        what: &'static str,
        /// The most.
        most: u64,
    },
    /// There is no such secret.
    #[error("machine `{name}` has no secret `{key}`")]
    Missing {
        /// The machine.
        name: MachineName,
        /// The key.
        key: String,
    },
    /// The machine is a container of Proxmox VE, which has no place for it.
    #[error("it is a Proxmox VE container, which is given no credentials")]
    Elsewhere,
    /// The file system refused.
    #[error("{path}: {doing} failed", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl Cause for SecretError {
    fn class(&self) -> Class {
        match self {
            Self::Key { .. } | Self::Empty | Self::Large { .. } => Class::Usage,
            Self::Missing { .. } | Self::Elsewhere => Class::Unavailable,
            Self::Io { .. } => Class::Host,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Missing { name, .. } => {
                vec![Hint::run("see which there are", format!("sandbox secret list {name}"))]
            }
            Self::Empty => {
                vec![Hint::Note("have a program print it, and pipe that into this command".into())]
            }
            _ => Vec::new(),
        }
    }
}

fn failed(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> SecretError {
    let path = path.to_owned();
    move |source| SecretError::Io { path, doing, source }
}

fn check(key: &str) -> Result<(), SecretError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let sound = (1..=KEY).contains(&key.len()) && !key.starts_with('.') && key.bytes().all(plain);
    if sound { Ok(()) } else { Err(SecretError::Key { key: key.to_owned() }) }
}

/// Lists the secrets in a machine's own directory by key, with their files.
pub(super) fn of(machine: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(machine.join(FOLDER)).into_iter().flatten().flatten();
    let named = |entry: fs::DirEntry| {
        let key = entry.file_name().into_string().ok()?;
        check(&key).ok().map(|()| (key, entry.path()))
    };
    let mut all: Vec<_> = entries.filter_map(named).collect();
    all.sort();
    all
}

/// Returns the options by which systemd-nspawn gives the guest the secrets of a machine's own directory.
///
/// **Source**: systemd-nspawn(1), `--load-credential=`.
pub(super) fn options(machine: &Path) -> Vec<OsString> {
    let option = |(key, path): (String, PathBuf)| {
        let mut option = OsString::from(format!("--load-credential={key}:"));
        option.push(path);
        option
    };
    of(machine).into_iter().map(option).collect()
}

fn write(machine: &Path, key: &str, value: &[u8]) -> Result<(), SecretError> {
    check(key)?;
    if value.is_empty() {
        return Err(SecretError::Empty);
    }
    if value.len() > LIMIT {
        return Err(SecretError::Large { what: "the value has more", most: LIMIT as u64 });
    }
    let others = of(machine).into_iter().filter(|(other, _)| other != key);
    let others: u64 = others.filter_map(|(_, path)| Some(fs::metadata(path).ok()?.len())).sum();
    if others + value.len() as u64 > TOTAL {
        return Err(SecretError::Large { what: "the machine's secrets have more", most: TOTAL });
    }
    let folder = machine.join(FOLDER);
    match fs::DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(failed(&folder, "making the directory")(error));
        }
        _ => {}
    }
    let path = folder.join(key);
    let written = || {
        // beside the directory: what is half written is no secret
        let mut file =
            tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o600)).tempfile_in(machine)?;
        file.write_all(value)?;
        file.as_file().sync_all()?;
        file.persist(&path)?;
        fs::File::open(&folder)?.sync_all()
    };
    written().map_err(failed(&path, "writing the file"))
}

impl Machines<'_> {
    /// Gives a machine a secret, from its next start on; one of the key is replaced.
    ///
    /// # Errors
    /// [`SecretError`]; where there is no such machine, or it cannot be defined again.
    pub fn set_secret(&self, name: &MachineName, key: &str, value: &[u8], holder: &str) -> Result<()> {
        self.change_secrets(name, holder, |machine| write(machine, key, value))
    }

    /// Takes a secret from a machine, from its next start on.
    ///
    /// # Errors
    /// As [`Self::set_secret`].
    pub fn remove_secret(&self, name: &MachineName, key: &str, holder: &str) -> Result<()> {
        self.change_secrets(name, holder, |machine| {
            check(key)?;
            let path = machine.join(FOLDER).join(key);
            match fs::remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    Err(SecretError::Missing { name: name.clone(), key: key.to_owned() })
                }
                removed => removed.map_err(failed(&path, "removing the file")),
            }
        })
    }

    /// Lists the keys of a machine's secrets.
    ///
    /// # Errors
    /// Where there is no such machine.
    pub fn secrets(&self, name: &MachineName) -> Result<Vec<String>> {
        self.records.read(name).during("list the secrets of", format!("machine `{name}`"))?;
        Ok(of(&self.records.folder(name)).into_iter().map(|(key, _)| key).collect())
    }

    fn change_secrets(
        &self,
        name: &MachineName,
        holder: &str,
        change: impl FnOnce(&Path) -> Result<(), SecretError>,
    ) -> Result<()> {
        let subject = || format!("machine `{name}`");
        let (_claim, record) = self.claim(name, holder, "change the secrets of")?;
        if record.definition.place.is_some() {
            return Err(SecretError::Elsewhere).during("change the secrets of", subject());
        }
        change(&self.records.folder(name)).during("change the secrets of", subject())?;
        // what starts it names them
        let backend = self.backend(record.definition.backend).during("change the secrets of", subject())?;
        backend.define(&record.definition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_the_owners_alone_and_is_replaced_whole() {
        let machine = tempfile::tempdir().unwrap();
        write(machine.path(), "OPENAI_API_KEY", b"one").unwrap();
        write(machine.path(), "OPENAI_API_KEY", b"two").unwrap();
        write(machine.path(), "a.b-c", b"three").unwrap();
        let folder = machine.path().join(FOLDER);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&folder), mode(&folder.join("a.b-c"))), (0o700, 0o600));
        assert_eq!(fs::read(folder.join("OPENAI_API_KEY")).unwrap(), b"two");
        let keys: Vec<_> = of(machine.path()).into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["OPENAI_API_KEY", "a.b-c"]);
        let options = options(machine.path());
        let first = format!("--load-credential=OPENAI_API_KEY:{}", folder.join("OPENAI_API_KEY").display());
        assert_eq!(options[0], *first);
        assert_eq!(fs::read_dir(machine.path()).unwrap().count(), 1, "nothing half written is left");
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        let machine = tempfile::tempdir().unwrap();
        let long = "k".repeat(KEY + 1);
        for key in ["", "a/b", "..", ".a", "a b", "ä", "a:b", "a\n", "a%b", "$a", &long] {
            let error = write(machine.path(), key, b"x").unwrap_err();
            assert!(matches!(error, SecretError::Key { .. }), "{key}");
        }
        assert!(matches!(write(machine.path(), "k", b""), Err(SecretError::Empty)));
        let large = vec![0; LIMIT + 1];
        assert_eq!(write(machine.path(), "k", &large).unwrap_err().class(), Class::Usage);
        for at in 0..12 {
            write(machine.path(), &format!("k{at}"), &large[..LIMIT]).unwrap();
        }
        let error = write(machine.path(), "k12", &large[..LIMIT]).unwrap_err();
        assert!(error.to_string().starts_with("the machine's secrets have more than"), "{error}");
        write(machine.path(), "k0", b"smaller").unwrap();
        write(machine.path(), "k12", &large[..1000]).unwrap();
    }
}
