//! Machines as they are kept on disk: one folder each, whole or being made.
//!
//! ```text
//! <state>/machines/
//!   agents/
//!     machine.json    the record of a whole machine; its absence means half made or half removed
//!     partial.json    what must be undone if the maker dies
//!     holder          who holds the lock, in words
//!     …               the backend's own files
//! ```
//!
//! The folder itself is locked (flock) by whoever changes the machine, so that a dead holder holds nothing.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::fd::AsFd as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::FlockOperation;

use super::{Declared, Definition};
use crate::{
    error::{Cause, Class, Hint},
    layer::kept::Id,
    name::MachineName,
};

/// What is known of a whole machine.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Record {
    /// The record's format: 1.
    pub version: u32,
    /// What its backend was told.
    pub definition: Definition,
    /// The image it was built from.
    pub image: String,
    /// The profiles, in order.
    pub profiles: Vec<String>,
    /// How many packages were installed.
    pub packages: usize,
    /// The layers that its tree was made of, the image's first; none where it was built in place.
    #[serde(default)]
    pub layers: Vec<Id>,
    /// What its profiles declare.
    #[serde(default)]
    pub declared: Declared,
    /// When, in seconds since 1970.
    pub created: i64,
}

/// What must be undone if the maker dies.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Partial {
    /// What its backend was or will be told.
    pub definition: Definition,
    /// The tree while it is built, beside its final place.
    pub building: PathBuf,
    /// The number of the tree's folder, once it exists: only a folder of this number is ours to remove.
    pub inode: Option<u64>,
    /// Volumes that go with it: those that were there before a maker came do not.
    #[serde(default)]
    pub volumes: Vec<PathBuf>,
}

/// The folder of all machines.
#[derive(Clone, Debug)]
pub struct Records {
    folder: PathBuf,
    state: PathBuf,
}

/// A machine's folder, locked until this is dropped.
#[derive(Debug)]
pub struct Claim {
    folder: PathBuf,
    name: MachineName,
    _lock: File,
}

/// What can be wrong with records.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is taken.
    #[error("there is a machine `{name}` already")]
    Taken {
        /// The name.
        name: MachineName,
    },
    /// Something of that name is there that we did not make.
    #[error("{path} is there already, and `sandbox` did not make it", path = path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
    },
    /// No machine of that name.
    #[error("there is no machine `{name}`")]
    Missing {
        /// The name.
        name: MachineName,
        /// A name that is near.
        nearest: Option<String>,
    },
    /// Somebody else is changing it.
    #[error("machine `{name}` is being changed by {holder}")]
    Busy {
        /// The name.
        name: MachineName,
        /// Who, as they wrote it down.
        holder: String,
    },
    /// A record cannot be understood.
    #[error("{path} is damaged", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The file system refused.
    #[error("{path}: {doing} failed", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl Cause for Error {
    fn class(&self) -> Class {
        match self {
            Self::Taken { .. } | Self::Foreign { .. } | Self::Missing { .. } | Self::Busy { .. } => {
                Class::Unavailable
            }
            Self::Damaged { .. } => Class::State,
            Self::Io { .. } => Class::Host,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Taken { name } => vec![Hint::run("go into it", format!("sandbox shell {name}"))],
            Self::Missing { nearest: Some(nearest), .. } => {
                vec![Hint::Note(format!("did you mean `{nearest}`?"))]
            }
            Self::Missing { .. } => vec![Hint::run("see which there are", "sandbox list")],
            _ => Vec::new(),
        }
    }
}

fn failed(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { path, doing, source }
}

impl Records {
    /// Names the folder of records below a state directory; it is made with the first machine.
    #[must_use]
    pub fn new(state: &Path) -> Self {
        Self { folder: state.join("machines"), state: state.to_owned() }
    }

    /// Gives the folder of a machine's volumes.
    #[must_use]
    pub fn volumes(&self, name: &MachineName) -> PathBuf {
        super::volume::folder(&self.state, name)
    }

    /// Gives a machine's folder.
    #[must_use]
    pub fn folder(&self, name: &MachineName) -> PathBuf {
        self.folder.join(name)
    }

    /// Claims a name for a new machine.
    ///
    /// # Errors
    /// [`Error::Taken`] and [`Error::Busy`]; what a dead maker left is given to `undo` first.
    pub fn claim_new<E: From<Error>>(
        &self,
        name: &MachineName,
        holder: &str,
        mut undo: impl FnMut(Claim) -> Result<(), E>,
    ) -> Result<Claim, E> {
        use std::os::unix::fs::DirBuilderExt as _;
        fs::create_dir_all(&self.folder).map_err(failed(&self.folder, "making the folder"))?;
        let folder = self.folder(name);
        loop {
            match fs::DirBuilder::new().mode(0o700).create(&folder) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if folder.join("machine.json").exists() {
                        return Err(Error::Taken { name: name.clone() }.into());
                    }
                    if let Some(abandoned) = self.lock(name)? {
                        if abandoned.folder.join("machine.json").exists() {
                            return Err(Error::Taken { name: name.clone() }.into());
                        }
                        undo(abandoned)?;
                    }
                    continue;
                }
                Err(error) => return Err(failed(&folder, "making the folder")(error).into()),
            }
            if let Some(claim) = self.lock(name)? {
                claim.write("holder", holder.as_bytes())?;
                return Ok(claim);
            }
        }
    }

    /// Locks a machine's folder: none where it vanished.
    fn lock(&self, name: &MachineName) -> Result<Option<Claim>, Error> {
        let folder = self.folder(name);
        let lock = match File::open(&folder) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&folder, "opening the folder")(error)),
        };
        match rustix::fs::flock(lock.as_fd(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let holder = fs::read_to_string(folder.join("holder")).unwrap_or_default();
                let holder = if holder.is_empty() { "another process".to_owned() } else { holder };
                return Err(Error::Busy { name: name.clone(), holder });
            }
            Err(error) => return Err(failed(&folder, "locking the folder")(error.into())),
        }
        let same = match (lock.metadata(), fs::metadata(&folder)) {
            (Ok(held), Ok(now)) => (held.dev(), held.ino()) == (now.dev(), now.ino()),
            _ => false,
        };
        Ok(same.then(|| Claim { folder, name: name.clone(), _lock: lock }))
    }

    /// Claims a whole machine to change it.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Busy`], [`Error::Damaged`].
    pub fn claim(&self, name: &MachineName, holder: &str) -> Result<(Claim, Record), Error> {
        self.read(name)?;
        let Some(claim) = self.lock(name)? else { return Err(self.missing(name)) };
        let record = self.read(name)?;
        claim.write("holder", holder.as_bytes())?;
        Ok((claim, record))
    }

    /// Reads the record of a whole machine.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Damaged`].
    pub fn read(&self, name: &MachineName) -> Result<Record, Error> {
        read_json(&self.folder(name).join("machine.json"))?.ok_or_else(|| self.missing(name))
    }

    /// Reads the definition of a machine, also of one that is being made.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Damaged`].
    pub fn definition(&self, name: &MachineName) -> Result<Definition, Error> {
        let folder = self.folder(name);
        if let Some(record) = read_json::<Record>(&folder.join("machine.json"))? {
            return Ok(record.definition);
        }
        let partial: Option<Partial> = read_json(&folder.join("partial.json"))?;
        partial.map(|partial| partial.definition).ok_or_else(|| self.missing(name))
    }

    /// Lists the whole machines by name.
    ///
    /// # Errors
    /// Where a record cannot be read.
    pub fn list(&self) -> Result<Vec<Record>, Error> {
        let mut records = Vec::new();
        for name in self.names()? {
            if let Some(record) = read_json(&self.folder(&name).join("machine.json"))? {
                records.push(record);
            }
        }
        Ok(records)
    }

    /// Claims every half-made machine whose maker is dead.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn abandoned(&self) -> Result<Vec<Claim>, Error> {
        let mut claims = Vec::new();
        for name in self.names()? {
            if self.folder(&name).join("machine.json").exists() {
                continue;
            }
            if let Ok(Some(claim)) = self.lock(&name)
                && !claim.folder.join("machine.json").exists()
            {
                claims.push(claim);
            }
        }
        Ok(claims)
    }

    fn names(&self) -> Result<Vec<MachineName>, Error> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(&self.folder, "reading the folder")(error)),
        };
        let mut names: Vec<_> =
            entries.filter_map(|entry| MachineName::new(entry.ok()?.file_name().to_str()?).ok()).collect();
        names.sort();
        Ok(names)
    }

    fn missing(&self, name: &MachineName) -> Error {
        let known = self.names().unwrap_or_default();
        let nearest = known
            .iter()
            .map(|known| (strsim::damerau_levenshtein(known.as_str(), name.as_str()), known))
            .filter(|(distance, _)| *distance <= 2)
            .min()
            .map(|(_, known)| known.to_string());
        Error::Missing { name: name.clone(), nearest }
    }
}

impl Claim {
    /// Gives the machine's name.
    #[must_use]
    pub const fn name(&self) -> &MachineName {
        &self.name
    }

    /// Reads what must be undone, none where nothing was begun.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn partial(&self) -> Result<Option<Partial>, Error> {
        read_json(&self.folder.join("partial.json"))
    }

    /// Writes down what must be undone, before it is begun.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn begin(&self, partial: &Partial) -> Result<(), Error> {
        self.write_json("partial.json", partial)
    }

    /// Makes the machine a whole one.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn commit(&self, record: &Record) -> Result<(), Error> {
        self.write_json("machine.json", record)?;
        let _ = fs::remove_file(self.folder.join("partial.json"));
        let _ = fs::remove_file(self.folder.join("holder"));
        Ok(())
    }

    /// Makes a whole machine a half-removed one.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn uncommit(&self, partial: &Partial) -> Result<(), Error> {
        self.begin(partial)?;
        let path = self.folder.join("machine.json");
        fs::remove_file(&path).map_err(failed(&path, "removing the file"))?;
        self.sync()
    }

    /// Removes the machine's folder and gives the name free.
    ///
    /// # Errors
    /// Where something in it cannot be removed.
    pub fn release(self) -> Result<(), Error> {
        fs::remove_dir_all(&self.folder).map_err(failed(&self.folder, "removing the folder"))
    }

    fn write_json(&self, file: &str, value: &impl serde::Serialize) -> Result<(), Error> {
        let path = self.folder.join(file);
        let mut text = serde_json::to_vec_pretty(value).map_err(|source| Error::Damaged { path, source })?;
        text.push(b'\n');
        self.write(file, &text)
    }

    fn write(&self, file: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.folder.join(file);
        let write = || {
            let mut temporary = tempfile::NamedTempFile::new_in(&self.folder)?;
            temporary.write_all(bytes)?;
            temporary.as_file().sync_all()?;
            temporary.persist(&path)?;
            Ok(())
        };
        write().map_err(failed(&path, "writing the file"))?;
        self.sync()
    }

    fn sync(&self) -> Result<(), Error> {
        File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .map_err(failed(&self.folder, "syncing the folder"))
    }
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| Error::Damaged { path: path.to_owned(), source }),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(failed(path, "reading the file")(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Kind, Needs, Network};

    fn definition(name: &MachineName) -> Definition {
        Definition {
            name: name.clone(),
            backend: Kind::Direct,
            tree: "/t".into(),
            needs: Needs::default(),
            network: Network::Internet,
            exceptions: Vec::new(),
            volumes: Vec::new(),
            privileged: false,
            program: "/p".into(),
            chosen: crate::machine::Chosen::default(),
        }
    }

    fn record(name: &MachineName) -> Record {
        Record {
            version: 1,
            definition: definition(name),
            image: "trixie".to_owned(),
            profiles: Vec::new(),
            packages: 1,
            layers: Vec::new(),
            declared: Declared::default(),
            created: 0,
        }
    }

    fn no_undo(_: Claim) -> Result<(), Error> {
        panic!("nothing was to be undone")
    }

    #[test]
    fn a_record_of_before_there_were_layers_is_read() {
        let name = MachineName::new("a").unwrap();
        let mut value = serde_json::to_value(record(&name)).unwrap();
        value.as_object_mut().unwrap().shift_remove("layers").unwrap();
        assert_eq!(serde_json::from_value::<Record>(value).unwrap(), record(&name));
    }

    #[test]
    fn of_two_makers_one_wins_and_the_other_learns_who() {
        let state = tempfile::tempdir().unwrap();
        let records = Records::new(state.path());
        let name = MachineName::new("a").unwrap();
        let claim = records.claim_new(&name, "process 1 (create)", no_undo).unwrap();
        let error = records.claim_new(&name, "process 2", no_undo).unwrap_err();
        assert_eq!(error.to_string(), "machine `a` is being changed by process 1 (create)");
        assert!(records.list().unwrap().is_empty(), "a half-made machine is listed");
        claim.commit(&record(&name)).unwrap();
        drop(claim);
        let error = records.claim_new(&name, "process 2", no_undo).unwrap_err();
        assert!(matches!(error, Error::Taken { .. }));
        assert_eq!(records.list().unwrap(), [record(&name)]);
    }

    #[test]
    fn what_a_dead_maker_left_is_undone_by_the_next() {
        let state = tempfile::tempdir().unwrap();
        let records = Records::new(state.path());
        let name = MachineName::new("a").unwrap();
        let partial = Partial {
            definition: definition(&name),
            building: "/b".into(),
            inode: Some(7),
            volumes: Vec::new(),
        };
        records.claim_new(&name, "dead", no_undo).unwrap().begin(&partial).unwrap();
        assert_eq!(records.abandoned().unwrap().len(), 1);
        let mut undone = None;
        let claim = records
            .claim_new::<Error>(&name, "new", |claim| {
                undone = claim.partial()?;
                claim.release()
            })
            .unwrap();
        assert_eq!(undone, Some(partial));
        assert!(records.abandoned().unwrap().is_empty(), "a held claim was taken for abandoned");
        drop(claim);
    }

    #[test]
    fn a_damaged_record_is_named() {
        let state = tempfile::tempdir().unwrap();
        let records = Records::new(state.path());
        let name = MachineName::new("a").unwrap();
        fs::create_dir_all(records.folder(&name)).unwrap();
        fs::write(records.folder(&name).join("machine.json"), "{").unwrap();
        let error = records.read(&name).unwrap_err();
        assert!(error.to_string().ends_with("a/machine.json is damaged"), "{error}");
        assert_eq!(error.class(), Class::State);
    }
}
