//! Mounts that a machine which runs has beside those of its record: a guest that can write to one decides what is below it.
//!
//! One that was removed is among them until the machine ends: its root may have mounted it a second time, or have a file of
//! it open.
//!
//! **Shape**: `mounts.json` in the machine's directory: the machine's first process with the time it began, and the
//! mounts. It counts as long as that process runs.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    host::lock,
    machine::{
        HostFolder, Leader,
        life::LifeError,
        processes,
        record::{Record, Records},
    },
    name::MachineName,
};

const FILE: &str = "mounts.json";

/// The lock for looking at all mounts and adding one.
const LOCK: &str = "mounts.lock";

#[derive(Debug, Serialize, Deserialize)]
struct Transient {
    leader: i32,
    began: u64,
    mounts: Vec<HostFolder>,
}

/// The transient mounts of all machines; no other process changes them meanwhile.
#[derive(Debug)]
pub struct Mounts<'a> {
    records: &'a Records,
    _lock: fs::File,
}

impl<'a> Mounts<'a> {
    /// Waits for other processes that add or remove mounts.
    ///
    /// # Errors
    /// [`LifeError::Io`].
    pub fn hold(records: &'a Records) -> Result<Self, LifeError> {
        let lock =
            lock::take(LOCK).map_err(failed(&Path::new(lock::RUN).join(LOCK), "waiting for the lock"))?;
        Ok(Self { records, _lock: lock })
    }

    /// Adds the transient mounts of each machine to its permanent ones.
    pub fn complete(&self, records: &mut [Record]) {
        for record in records {
            let found = self.read(&record.definition.name);
            record.definition.chosen.mounts.extend(found.map(|found| found.mounts).unwrap_or_default());
        }
    }

    /// Adds a mount of a machine that runs.
    ///
    /// # Errors
    /// [`LifeError::Io`].
    pub fn add(&self, name: &MachineName, leader: &Leader, mount: &HostFolder) -> Result<(), LifeError> {
        let known = self.read(name).filter(|known| known.leader == leader.pid);
        let mut mounts = known.map(|known| known.mounts).unwrap_or_default();
        if mounts.contains(mount) {
            return Ok(());
        }
        mounts.push(mount.clone());
        let began = processes::began(leader.pid).ok_or_else(|| LifeError::Stopped { name: name.clone() })?;
        self.write(name, &Transient { leader: leader.pid, began, mounts })
    }

    /// Removes a mount that the machine has not seen.
    ///
    /// # Errors
    /// [`LifeError::Io`].
    pub fn remove(&self, name: &MachineName, mount: &HostFolder) -> Result<(), LifeError> {
        let Some(mut known) = self.read(name) else { return Ok(()) };
        known.mounts.retain(|known| known != mount);
        if known.mounts.is_empty() {
            let path = self.path(name);
            return fs::remove_file(&path).map_err(failed(&path, "removing the file"));
        }
        self.write(name, &known)
    }

    /// Reads those of a machine whose first process is still the one that has them.
    fn read(&self, name: &MachineName) -> Option<Transient> {
        let bytes = fs::read(self.path(name)).ok()?;
        let found: Transient = serde_json::from_slice(&bytes).ok()?;
        (processes::began(found.leader) == Some(found.began)).then_some(found)
    }

    fn path(&self, name: &MachineName) -> PathBuf {
        self.records.folder(name).join(FILE)
    }

    fn write(&self, name: &MachineName, all: &Transient) -> Result<(), LifeError> {
        let path = self.path(name);
        let write = || -> io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(self.records.folder(name))?;
            file.write_all(&serde_json::to_vec(all)?)?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(failed(&path, "writing the file"))
    }
}

fn failed(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> LifeError {
    let path = path.to_owned();
    move |source| LifeError::Io { path, doing, source }
}
