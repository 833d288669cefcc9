//! Machines as they are kept on disk: one folder each, whole or being made.
//!
//! ```text
//! <state>/machines/
//!   agents/
//!     machine.json    the record of a whole machine; its absence means half made or half removed
//!     journal.json    what a verb has begun with it: undone or completed by the next command if the verb died
//!     holder          a note of the process that holds the lock
//!     failed          why the last recovery of it failed
//!     …               the backend's own files
//! ```
//!
//! The folder itself is locked (flock) by whoever changes the machine, so that a dead holder holds nothing.

mod claim;
mod error;
mod holder;
mod under_way;

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Declared, Definition,
    journal::{Intent, Partial},
    snapshot::schedule::Schedule,
};
use crate::{layer::kept::Id, name::MachineName};

pub use claim::Claim;
pub use error::Error;
use error::failed;
use holder::{HOLDER, Note, flock};
pub use holder::{Hold, Holder};
pub use under_way::{Doing, UnderWay};

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

/// The machines whose record cannot be read, and why.
pub type Unreadable = Vec<(MachineName, Error)>;

/// The record's file.
const RECORD: &str = "machine.json";
/// The intent's file.
const JOURNAL: &str = "journal.json";
/// Why the last recovery of it failed.
const FAILED: &str = "failed";
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
    wait: Duration,
}

impl Records {
    /// Names the folder of records below a state directory; it is made with the first machine.
    #[must_use]
    pub fn new(state: &Path) -> Self {
        Self { folder: state.join("machines"), state: state.to_owned(), wait: Duration::ZERO }
    }

    /// Sets how long a verb waits for another process that holds its machine.
    #[must_use]
    pub const fn waiting(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Returns how long a verb waits for another process that holds its machine.
    #[must_use]
    pub const fn wait(&self) -> Duration {
        self.wait
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
                if let Some(abandoned) = self.lock(name, holder, Hold::Exclusive)? {
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
                    claim.note(holder, Hold::Exclusive);
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
        let locked = flock(&lock).unwrap_or(false);
        Ok(locked.then_some((path, lock)))
    }

    /// Removes folders that were never named: their makers are dead.
    fn sweep(&self) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_name().to_string_lossy().starts_with(NEW)
                && let Ok(lock) = File::open(&path)
                && flock(&lock).unwrap_or(false)
            {
                let _ = fs::remove_dir(&path);
            }
        }
    }

    /// Locks a machine's directory, and notes this process beside the lock; none where it vanished.
    fn lock(&self, name: &MachineName, holder: &str, hold: Hold) -> Result<Option<Claim>, Error> {
        let folder = self.folder(name);
        let lock = match File::open(&folder) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&folder, "opening the folder")(error)),
        };
        let take = || flock(&lock).map_err(failed(&folder, "locking the folder"));
        let mut locked = take()?;
        // a program that was just started by one that was killed holds its lock for a moment
        for _ in 0..100 {
            if locked || !Note::read(&folder).is_of_the_dead() {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
            locked = take()?;
        }
        if !locked {
            return Err(self.busy(name));
        }
        let same = match (lock.metadata(), fs::metadata(&folder)) {
            (Ok(held), Ok(now)) => (held.dev(), held.ino()) == (now.dev(), now.ino()),
            _ => false,
        };
        if !same {
            return Ok(None);
        }
        let claim = Claim { folder, name: name.clone(), _lock: lock };
        claim.note(holder, hold);
        Ok(Some(claim))
    }

    /// Finds the process that holds a machine; none where it has been released.
    #[must_use]
    pub fn holder(&self, name: &MachineName) -> Option<Holder> {
        holder::find(&self.folder(name))
    }

    /// Reads what was begun with a machine, also while its writer lives.
    #[must_use]
    pub fn intent(&self, name: &MachineName) -> Option<Intent> {
        read_intent(&self.folder(name)).ok().flatten()
    }

    /// Claims a whole machine to change it.
    ///
    /// # Errors
    /// As [`Self::claim_as`].
    pub fn claim(&self, name: &MachineName, holder: &str) -> Result<(Claim, Record), Error> {
        self.claim_as(name, holder, Hold::Exclusive)
    }

    /// Claims a whole machine, and notes what other processes may do about that.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Half`], [`Error::Busy`], [`Error::Damaged`]; [`Error::Unfinished`] where an earlier
    /// verb left something that could not be ended.
    pub fn claim_as(&self, name: &MachineName, holder: &str, hold: Hold) -> Result<(Claim, Record), Error> {
        self.read(name)?;
        let Some(claim) = self.lock(name, holder, hold)? else { return Err(self.missing(name)) };
        let record = self.read(name)?;
        if let Some(intent) = claim.intent()? {
            return Err(Error::Unfinished { name: name.clone(), verb: intent.verb().to_owned() });
        }
        Ok((claim, record))
    }

    /// Claims a machine with which a verb has begun something whose process is dead; none where there is nothing to end
    /// or another process holds it.
    ///
    /// # Errors
    /// Where it cannot be locked.
    pub fn claim_unfinished(&self, name: &MachineName) -> Result<Option<Claim>, Error> {
        if !self.folder(name).exists() || is_settled(&self.folder(name)) {
            return Ok(None);
        }
        let holder = format!("process {} (sandbox repair)", std::process::id());
        match self.lock(name, &holder, Hold::Exclusive) {
            Ok(claim) => Ok(claim.filter(|claim| !is_settled(&claim.folder))),
            Err(Error::Busy { .. }) => Ok(None),
            Err(error) => Err(error),
        }
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
        let (records, mut problems) = self.list_readable()?;
        if problems.is_empty() { Ok(records) } else { Err(problems.swap_remove(0).1) }
    }

    /// Lists the whole machines by name, and those whose record cannot be read.
    ///
    /// # Errors
    /// Where the directory cannot be read.
    pub fn list_readable(&self) -> Result<(Vec<Record>, Unreadable), Error> {
        let (mut records, mut problems) = (Vec::new(), Vec::new());
        for name in self.names()? {
            match read_json(&self.folder(&name).join(RECORD)) {
                Ok(record) => records.extend(record),
                Err(error) => problems.push((name, error)),
            }
        }
        Ok((records, problems))
    }

    /// Names every machine with which a verb has begun something whose process is dead.
    ///
    /// # Errors
    /// Where the directory cannot be read.
    pub fn unfinished(&self) -> Result<Vec<MachineName>, Error> {
        self.sweep();
        let mut names = self.names()?;
        names.retain(|name| {
            let folder = self.folder(name);
            !is_settled(&folder) && is_abandoned(&folder)
        });
        Ok(names)
    }

    /// Notes why the recovery of a machine failed, so that verbs on other machines leave it alone for a while.
    pub fn note_failure(&self, name: &MachineName, why: &str) {
        let folder = self.folder(name);
        if folder.exists() {
            let _ = fs::write(folder.join(FAILED), format!("{why}\n"));
        }
    }

    /// Tells whether the recovery of a machine failed within a time before now, in seconds since 1970.
    #[must_use]
    pub fn failed_since(&self, name: &MachineName, now: i64, seconds: i64) -> bool {
        let found = fs::metadata(self.folder(name).join(FAILED));
        found.is_ok_and(|found| (0..seconds).contains(&now.saturating_sub(found.mtime())))
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
        let folder = self.folder(name);
        if folder.exists() && !is_abandoned(&folder) {
            return self.busy(name);
        }
        if folder.exists() {
            let intent = read_intent(&folder).ok().flatten();
            let verb = intent.as_ref().map_or("create", Intent::verb).to_owned();
            return Error::Half {
                name: name.clone(),
                removed: matches!(intent, Some(Intent::Remove(_))),
                verb,
            };
        }
        let known = self.names().unwrap_or_default();
        let nearest = known
            .iter()
            .filter(|known| self.folder(known).join(RECORD).exists())
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

/// Tells whether no process that lives holds a directory's lock.
fn is_abandoned(folder: &Path) -> bool {
    let free = File::open(folder).and_then(|lock| flock(&lock)).unwrap_or(false);
    free || Note::read(folder).is_of_the_dead()
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
mod tests;
