//! A machine's folder in the hands of whoever changes it.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::PathBuf,
};

use super::{
    Error, FAILED, HOLDER, Hold, JOURNAL, Note, PARTIAL, RECORD, Record, Records, WRITING, error::failed,
    read_intent,
};
use crate::{
    machine::journal::{Intent, Partial},
    name::MachineName,
};

/// A machine's folder, locked until this is dropped.
#[derive(Debug)]
pub struct Claim {
    pub(super) folder: PathBuf,
    pub(super) name: MachineName,
    pub(super) _lock: File,
}

impl Claim {
    /// Gives the machine's name.
    #[must_use]
    pub const fn name(&self) -> &MachineName {
        &self.name
    }

    /// Tells whether the machine has a record.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.folder.join(RECORD).exists()
    }

    /// Reads what was begun, none where nothing was.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn intent(&self) -> Result<Option<Intent>, Error> {
        read_intent(&self.folder)
    }

    /// Writes down what is begun, before its first step; synced when this returns.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn begin(&self, intent: &Intent) -> Result<(), Error> {
        self.write_json(JOURNAL, intent)
    }

    /// Writes down that what was begun has ended.
    ///
    /// # Errors
    /// Where the intent cannot be removed.
    pub fn end(&self) -> Result<(), Error> {
        for file in [JOURNAL, PARTIAL] {
            let path = self.folder.join(file);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed(&path, "removing the file")(error));
                }
                _ => {}
            }
        }
        for file in [JOURNAL, RECORD] {
            let _ = fs::remove_file(self.folder.join(format!("{file}{WRITING}")));
        }
        for file in [HOLDER, FAILED] {
            let _ = fs::remove_file(self.folder.join(file));
        }
        self.sync()
    }

    /// Makes the machine a whole one with this record, and ends what was begun.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn commit(&self, record: &Record) -> Result<(), Error> {
        self.write_json(RECORD, record)?;
        self.end()
    }

    /// Writes a whole machine's record again, in one step; nothing is begun or ended by it.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn update(&self, record: &Record) -> Result<(), Error> {
        self.write_json(RECORD, record)
    }

    /// Makes a whole machine one that is being removed.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn uncommit(&self, partial: &Partial) -> Result<(), Error> {
        self.begin(&Intent::Remove(partial.clone()))?;
        let path = self.folder.join(RECORD);
        fs::remove_file(&path).map_err(failed(&path, "removing the file"))?;
        self.sync()
    }

    /// Gives the machine's folder another name, which nobody has; it stays locked.
    ///
    /// # Errors
    /// [`Error::Taken`].
    pub(in crate::machine) fn rename(&mut self, records: &Records, name: &MachineName) -> Result<(), Error> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        let folder = records.folder(name);
        match renameat_with(CWD, &self.folder, CWD, &folder, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST) => return Err(Error::Taken { name: name.clone() }),
            Err(errno) => return Err(failed(&folder, "renaming the folder")(errno.into())),
        }
        (self.folder, self.name) = (folder, name.clone());
        File::open(&records.folder)
            .and_then(|above| above.sync_all())
            .map_err(failed(&records.folder, "syncing the folder"))
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

    /// Notes this process beside the lock.
    pub(super) fn note(&self, holder: &str, hold: Hold) {
        Note::own(holder, hold).write(&self.folder);
    }

    /// Writes a file under a name that only the lock's holder writes: what a killed one left is written over.
    fn write(&self, file: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.folder.join(file);
        let new = self.folder.join(format!("{file}{WRITING}"));
        let write = || {
            let mut temporary = File::create(&new)?;
            temporary.write_all(bytes)?;
            temporary.sync_all()?;
            fs::rename(&new, &path)
        };
        write().map_err(|error| {
            let _ = fs::remove_file(&new);
            failed(&path, "writing the file")(error)
        })?;
        self.sync()
    }

    fn sync(&self) -> Result<(), Error> {
        File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .map_err(failed(&self.folder, "syncing the folder"))
    }
}
