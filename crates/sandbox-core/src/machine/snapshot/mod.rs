//! Snapshots of a machine: its tree and its work, as they were at a moment.
//!
//! ```text
//! <state>/snapshots/            or, where trees are on another file system, .#sandbox-snapshots beside them
//!   agents/                     a machine's
//!     before-upgrade/           a whole snapshot
//!       snapshot.json           what it is
//!       tree/                   the tree; a subvolume where the file system has such
//!       volumes/home-agent-src  its volumes of kind `home`, named as they are in the machine's own folder
//!     .before-upgrade.taking    one that is being taken
//!     .before-upgrade.removing  one that is being removed
//! ```
//!
//! A snapshot gets its name by rename, when all of it is on disk.

mod copying;
mod diff;
mod place;
mod restore;
pub mod retention;
pub mod schedule;
mod take;
pub mod timer;

use std::path::PathBuf;

pub use copying::{Copied, Copy};
pub use diff::{Difference, What};

pub use place::{Consistency, Snapshot, SnapshotError, folders, list, remove, remove_all};
pub use take::Wanted;

use super::record::Record;

/// A snapshot that is being taken.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Taking {
    /// Its folder until it is whole.
    pub building: PathBuf,
    /// Its folder then.
    pub place: PathBuf,
    /// The machine's cgroup, where the machine stands still for it.
    #[serde(default)]
    pub frozen: Option<PathBuf>,
}

impl Taking {
    /// Tells whether it is whole.
    #[must_use]
    pub fn has_its_name(&self) -> bool {
        self.place.exists() && !self.building.exists()
    }
}

/// A snapshot that is put in a machine's place.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Restoring {
    /// What takes whose place.
    pub swaps: Vec<Swap>,
    /// All copies are whole and on disk: from here on it is completed.
    pub ready: bool,
    /// The machine's record then.
    pub record: Record,
}

/// A copy that takes a folder's place.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Swap {
    /// The folder.
    pub place: PathBuf,
    /// The copy beside it; afterwards what was in the place.
    pub copy: PathBuf,
    /// The copy's number, once it is whole.
    pub inode: Option<u64>,
}
