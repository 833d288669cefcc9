//! What a verb has begun with a machine, written down before its first step: an intent.
//!
//! An intent is data. It stands in the machine's folder, synced, before anything is done, and goes when all is done.
//! Whoever finds one whose writer is dead can tell from it alone what is to be undone or completed. How that is done
//! is in [`super::settle`]; it must be possible to do it again.

use std::path::PathBuf;

use super::{
    Definition,
    record::Record,
    snapshot::{Restoring, Taking},
};
use crate::name::MachineName;

/// What a verb has begun.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "intent", rename_all = "kebab-case")]
pub enum Intent {
    /// A machine is made where none was: undone, unless its record is there.
    Create(Partial),
    /// A container of Proxmox VE is made of it: undone. The machine itself stays as it is.
    Deliver(Box<Definition>),
    /// A machine is taken away: completed, unless its record still is there.
    Remove(Partial),
    /// A machine becomes another one: another name, another backend, other settings. Completed.
    Change(Box<Change>),
    /// A snapshot is taken: undone, unless it has its name.
    Snapshot(Taking),
    /// A snapshot is put in the machine's place: completed, once the copies are whole.
    Restore(Restoring),
    /// Snapshots are taken away: completed.
    Forget {
        /// Their folders.
        folders: Vec<PathBuf>,
    },
    /// The machine stands still while it is copied: it is let go on.
    Freeze {
        /// Its cgroup.
        cgroup: PathBuf,
    },
}

/// How an unfinished verb ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// Everything is as before it began.
    Undone,
    /// Everything is as it wanted.
    Completed,
}

/// An unfinished verb that was ended, or would be.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Settled {
    /// Whose.
    pub name: MachineName,
    /// The verb: `rename`.
    pub verb: String,
    /// How it ended.
    pub ending: Ending,
}

/// What must be taken away of a machine that is not whole.
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
    /// The folders of its snapshots, which go with it.
    #[serde(default)]
    pub snapshots: Vec<PathBuf>,
    /// The verb, where it is another than the intent's own: `fork`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verb: Option<String>,
}

/// A machine as it was and as it shall be.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Change {
    /// The verb: `rename`, `move`, `set`.
    pub verb: String,
    /// What it was.
    pub from: Record,
    /// What it shall be.
    pub to: Record,
    /// What goes to another place, beside the machine's folder.
    pub moves: Vec<Moved>,
    /// It failed, and is on its way back: `to` is what it was before.
    #[serde(default)]
    pub failed: bool,
}

/// A folder that goes to another place.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Moved {
    /// Where it is.
    pub from: PathBuf,
    /// Where it shall be; nothing is there.
    pub to: PathBuf,
    /// The folder's number: only a folder of this number is ours.
    pub inode: u64,
    /// The number of its copy, where the new place is on another file system.
    #[serde(default)]
    pub copy: Option<u64>,
}

impl Intent {
    /// Gives the verb that wrote it.
    #[must_use]
    pub fn verb(&self) -> &str {
        match self {
            Self::Create(partial) => partial.verb.as_deref().unwrap_or("create"),
            Self::Remove(partial) => partial.verb.as_deref().unwrap_or("remove"),
            Self::Deliver(_) => "export",
            Self::Change(change) => &change.verb,
            Self::Snapshot(_) => "snapshot create",
            Self::Restore(_) => "snapshot restore",
            Self::Forget { .. } => "snapshot remove",
            Self::Freeze { .. } => "copy",
        }
    }

    /// Tells how it ends; `whole` says whether the machine has a record.
    #[must_use]
    pub fn ending(&self, whole: bool) -> Ending {
        let undone = match self {
            Self::Create(_) => !whole,
            Self::Remove(_) => whole,
            Self::Change(change) => change.failed,
            Self::Snapshot(taking) => !taking.has_its_name(),
            Self::Restore(restoring) => !restoring.ready,
            Self::Forget { .. } => false,
            Self::Freeze { .. } | Self::Deliver(_) => true,
        };
        if undone { Ending::Undone } else { Ending::Completed }
    }

    /// Gives the definition of the machine that it is about, where the machine may have no record.
    #[must_use]
    pub fn definition(&self) -> Option<&Definition> {
        match self {
            Self::Create(partial) | Self::Remove(partial) => Some(&partial.definition),
            _ => None,
        }
    }
}

impl Change {
    /// Gives the way back.
    #[must_use]
    pub fn back(self) -> Self {
        let back = |moved: Moved| Moved {
            from: moved.to,
            to: moved.from,
            inode: moved.copy.unwrap_or(moved.inode),
            copy: moved.copy.map(|_| moved.inode),
        };
        Self {
            verb: self.verb,
            from: self.to,
            to: self.from,
            moves: self.moves.into_iter().rev().map(back).collect(),
            failed: !self.failed,
        }
    }
}
