//! Machines as they are kept on disk: one folder each, whole or being made.
//!
//! ```text
//! <state>/machines/
//!   agents/
//!     machine.json    the record of a whole machine; its absence means half made or half removed
//!     journal.json    what a verb has begun with it: undone or completed by the next command if the verb died
//!     holder          who holds the lock, in words
//!     …               the backend's own files
//! ```
//!
//! The folder itself is locked (flock) by whoever changes the machine, so that a dead holder holds nothing.

mod claim;
mod error;

use std::{
    fs::{self, File},
    io,
    os::{
        fd::AsFd as _,
        unix::fs::{DirBuilderExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::fs::FlockOperation;

use super::{
    Declared, Definition,
    journal::{Intent, Partial},
    snapshot::schedule::Schedule,
};
use crate::{layer::kept::Id, name::MachineName};

pub use claim::Claim;
pub use error::Error;
use error::failed;

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
    /// When snapshots are taken by themselves, and which of them are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
}

/// The record's file.
const RECORD: &str = "machine.json";
/// The intent's file.
const JOURNAL: &str = "journal.json";
/// What versions of before wrote in its place: what a dead maker left, and nothing else.
const PARTIAL: &str = "partial.json";
/// How folders begin that have no name yet; no machine is named so.
const NEW: &str = ".new-";
/// How the names of files end that are being written.
const WRITING: &str = ".new";

/// The folder of all machines.
#[derive(Clone, Debug)]
pub struct Records {
    folder: PathBuf,
    state: PathBuf,
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

    /// Gives the state directory.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Gives a machine's folder.
    #[must_use]
    pub fn folder(&self, name: &MachineName) -> PathBuf {
        self.folder.join(name)
    }

    /// Claims a name for a new machine.
    ///
    /// Its folder is locked before it has its name: whoever finds it under the name and not locked knows that its
    /// maker is dead.
    ///
    /// # Errors
    /// [`Error::Taken`] and [`Error::Busy`]; what a dead maker left is given to `undo` first.
    pub fn claim_new<E: From<Error>>(
        &self,
        name: &MachineName,
        holder: &str,
        mut undo: impl FnMut(Claim) -> Result<(), E>,
    ) -> Result<Claim, E> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        fs::create_dir_all(&self.folder).map_err(failed(&self.folder, "making the folder"))?;
        let folder = self.folder(name);
        loop {
            if folder.join(RECORD).exists() {
                return Err(Error::Taken { name: name.clone() }.into());
            }
            if folder.exists() {
                if let Some(abandoned) = self.lock(name)? {
                    if abandoned.is_whole() {
                        return Err(Error::Taken { name: name.clone() }.into());
                    }
                    undo(abandoned)?;
                }
                continue;
            }
            let Some((new, lock)) = self.new_folder(name)? else { continue };
            match renameat_with(CWD, &new, CWD, &folder, RenameFlags::NOREPLACE) {
                Ok(()) => {
                    let claim = Claim { folder, name: name.clone(), _lock: lock };
                    claim.note(holder);
                    return Ok(claim);
                }
                // another was faster, or took this one for abandoned
                Err(rustix::io::Errno::EXIST | rustix::io::Errno::NOENT) => {
                    let _ = fs::remove_dir(&new);
                }
                Err(errno) => {
                    let _ = fs::remove_dir(&new);
                    return Err(failed(&folder, "naming the folder")(errno.into()).into());
                }
            }
        }
    }

    /// Makes a folder that has no name yet, and locks it; none where somebody took it for abandoned.
    fn new_folder(&self, name: &MachineName) -> Result<Option<(PathBuf, File)>, Error> {
        let path = self.folder.join(format!("{NEW}{}-{name}", std::process::id()));
        let mut builder = fs::DirBuilder::new();
        match builder.mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed(&path, "making the folder")(error));
            }
            _ => {}
        }
        let Ok(lock) = File::open(&path) else { return Ok(None) };
        let locked = rustix::fs::flock(lock.as_fd(), FlockOperation::NonBlockingLockExclusive).is_ok();
        Ok(locked.then_some((path, lock)))
    }

    /// Removes folders that were never named: their makers are dead.
    fn sweep(&self) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_name().to_string_lossy().starts_with(NEW)
                && let Ok(lock) = File::open(&path)
                && rustix::fs::flock(lock.as_fd(), FlockOperation::NonBlockingLockExclusive).is_ok()
            {
                let _ = fs::remove_dir(&path);
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
        let mut locked = rustix::fs::flock(lock.as_fd(), FlockOperation::NonBlockingLockExclusive);
        // a program that was just started by one that was killed holds its lock for a moment
        for _ in 0..100 {
            if locked != Err(rustix::io::Errno::WOULDBLOCK) || !holder_is_dead(&folder) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
            locked = rustix::fs::flock(lock.as_fd(), FlockOperation::NonBlockingLockExclusive);
        }
        match locked {
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
    /// [`Error::Missing`], [`Error::Busy`], [`Error::Damaged`]; [`Error::Unfinished`] where an earlier verb left
    /// something that could not be ended.
    pub fn claim(&self, name: &MachineName, holder: &str) -> Result<(Claim, Record), Error> {
        self.read(name)?;
        let Some(claim) = self.lock(name)? else { return Err(self.missing(name)) };
        let record = self.read(name)?;
        if let Some(intent) = claim.intent()? {
            return Err(Error::Unfinished { name: name.clone(), verb: intent.verb().to_owned() });
        }
        claim.note(holder);
        Ok((claim, record))
    }

    /// Reads the record of a whole machine.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Damaged`].
    pub fn read(&self, name: &MachineName) -> Result<Record, Error> {
        read_json(&self.folder(name).join(RECORD))?.ok_or_else(|| self.missing(name))
    }

    /// Reads the definition of a machine, also of one that is being made.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Damaged`].
    pub fn definition(&self, name: &MachineName) -> Result<Definition, Error> {
        let folder = self.folder(name);
        if let Some(record) = read_json::<Record>(&folder.join(RECORD))? {
            return Ok(record.definition);
        }
        let intent = read_intent(&folder)?;
        intent.and_then(|intent| intent.definition().cloned()).ok_or_else(|| self.missing(name))
    }

    /// Lists the whole machines by name.
    ///
    /// # Errors
    /// Where a record cannot be read.
    pub fn list(&self) -> Result<Vec<Record>, Error> {
        let mut records = Vec::new();
        for name in self.names()? {
            if let Some(record) = read_json(&self.folder(&name).join(RECORD))? {
                records.push(record);
            }
        }
        Ok(records)
    }

    /// Claims every machine with which a verb has begun something whose process is dead.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn unfinished(&self) -> Result<Vec<Claim>, Error> {
        self.sweep();
        let mut claims = Vec::new();
        for name in self.names()? {
            if is_settled(&self.folder(&name)) {
                continue;
            }
            if let Ok(Some(claim)) = self.lock(&name)
                && !is_settled(&claim.folder)
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

/// Tells whether a machine is whole and nothing was begun with it.
fn is_settled(folder: &Path) -> bool {
    let has = |file: &str| folder.join(file).exists();
    let writing = |file: &str| has(&format!("{file}{WRITING}"));
    has(RECORD) && !has(JOURNAL) && !has(PARTIAL) && !writing(JOURNAL) && !writing(RECORD)
}

/// Tells whether a folder's holder says that it is a process, and there is no such process.
fn holder_is_dead(folder: &Path) -> bool {
    let holder = fs::read_to_string(folder.join("holder")).unwrap_or_default();
    let number = holder.strip_prefix("process ").and_then(|rest| rest.split(' ').next());
    let number: Option<u32> = number.and_then(|number| number.parse().ok());
    number.is_some_and(|number| !Path::new("/proc").join(number.to_string()).exists())
}

fn read_intent(folder: &Path) -> Result<Option<Intent>, Error> {
    if let Some(intent) = read_json(&folder.join(JOURNAL))? {
        return Ok(Some(intent));
    }
    Ok(read_json::<Partial>(&folder.join(PARTIAL))?.map(Intent::Create))
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
    use crate::{
        error::{Cause as _, Class},
        machine::{Kind, example},
    };

    fn definition(name: &MachineName) -> Definition {
        Definition { backend: Kind::Direct, ..example::definition(name.as_str()) }
    }

    fn record(name: &MachineName) -> Record {
        Record { definition: definition(name), ..example::record(name.as_str()) }
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
        let own = format!("process {} (create)", std::process::id());
        let claim = records.claim_new(&name, &own, no_undo).unwrap();
        let error = records.claim_new(&name, "process 2", no_undo).unwrap_err();
        assert_eq!(error.to_string(), format!("machine `a` is being changed by {own}"));
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
            snapshots: Vec::new(),
            verb: None,
        };
        let intent = Intent::Create(partial);
        records.claim_new(&name, "dead", no_undo).unwrap().begin(&intent).unwrap();
        assert_eq!(records.unfinished().unwrap().len(), 1);
        let mut undone = None;
        let claim = records
            .claim_new::<Error>(&name, "new", |claim| {
                undone = claim.intent()?;
                claim.release()
            })
            .unwrap();
        assert_eq!(undone, Some(intent));
        assert!(records.unfinished().unwrap().is_empty(), "a held claim was taken for abandoned");
        drop(claim);
    }

    #[test]
    fn what_a_version_of_before_left_is_read() {
        let state = tempfile::tempdir().unwrap();
        let records = Records::new(state.path());
        let name = MachineName::new("a").unwrap();
        fs::create_dir_all(records.folder(&name)).unwrap();
        let value = serde_json::json!({"definition": definition(&name), "building": "/b", "inode": 7});
        fs::write(records.folder(&name).join(PARTIAL), value.to_string()).unwrap();
        let claim = records.unfinished().unwrap().pop().unwrap();
        let Some(Intent::Create(partial)) = claim.intent().unwrap() else { panic!("not read") };
        assert_eq!((partial.inode, partial.volumes), (Some(7), Vec::new()));
    }

    #[test]
    fn a_machine_with_something_begun_is_listed_and_not_changed() {
        let state = tempfile::tempdir().unwrap();
        let records = Records::new(state.path());
        let name = MachineName::new("a").unwrap();
        records.claim_new(&name, "one", no_undo).unwrap().commit(&record(&name)).unwrap();
        assert!(records.unfinished().unwrap().is_empty());
        let (claim, _) = records.claim(&name, "two").unwrap();
        claim.begin(&Intent::Forget { folders: Vec::new() }).unwrap();
        assert!(records.unfinished().unwrap().is_empty(), "its holder lives");
        drop(claim);
        assert_eq!(records.list().unwrap().len(), 1);
        let error = records.claim(&name, "three").unwrap_err();
        assert_eq!(error.to_string(), "an earlier `snapshot remove` of it is not ended");
        let claim = records.unfinished().unwrap().pop().unwrap();
        claim.end().unwrap();
        drop(claim);
        // a killed writer's file is no reason to refuse, and is swept
        fs::write(records.folder(&name).join("journal.json.new"), "{").unwrap();
        records.claim(&name, "four").unwrap();
        assert_eq!(records.unfinished().unwrap().len(), 1);
    }

    #[test]
    fn a_folder_that_was_never_named_is_swept_unless_its_maker_lives() {
        let state = tempfile::tempdir().unwrap();
        let records = Records::new(state.path());
        let name = MachineName::new("a").unwrap();
        fs::create_dir_all(&records.folder).unwrap();
        let (path, lock) = records.new_folder(&name).unwrap().unwrap();
        records.unfinished().unwrap();
        assert!(path.exists());
        drop(lock);
        records.unfinished().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_damaged_record_is_named() {
        let state = tempfile::tempdir().unwrap();
        let records = Records::new(state.path());
        let name = MachineName::new("a").unwrap();
        fs::create_dir_all(records.folder(&name)).unwrap();
        fs::write(records.folder(&name).join(RECORD), "{").unwrap();
        let error = records.read(&name).unwrap_err();
        assert!(error.to_string().ends_with("a/machine.json is damaged"), "{error}");
        assert_eq!(error.class(), Class::State);
    }
}
