//! Snapshots as they stand on disk.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use crate::{
    error::{Cause, Class, Hint},
    host::live,
    machine::{
        Definition,
        life::{LifeError, remove_whole},
        record::Record,
    },
    name::MachineName,
};

/// What its description is called.
const DESCRIPTION: &str = "snapshot.json";

/// How a snapshot was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Consistency {
    /// Of a stopped machine.
    Clean,
    /// Of a running one, which stood still: as after a power cut.
    CrashConsistent,
}

impl Consistency {
    /// Gives the word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::CrashConsistent => "crash-consistent",
        }
    }
}

/// What is known of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Snapshot {
    /// The format: 1.
    pub version: u32,
    /// Its name.
    pub name: String,
    /// When it was taken, in seconds since 1970.
    pub created: i64,
    /// How it was taken.
    pub consistency: Consistency,
    /// It was taken by the schedule, which may remove it again.
    #[serde(default)]
    pub scheduled: bool,
    /// For how many milliseconds the machine stood still.
    #[serde(default)]
    pub frozen_ms: u64,
    /// The machine as it was.
    pub record: Record,
    /// The paths in the guest of the volumes that are in it.
    #[serde(default)]
    pub volumes: Vec<PathBuf>,
    /// Where it stands.
    #[serde(skip)]
    pub folder: PathBuf,
}

impl Snapshot {
    /// Gives its tree.
    #[must_use]
    pub fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }

    /// Gives the folder of its volumes.
    #[must_use]
    pub fn volumes_folder(&self) -> PathBuf {
        self.folder.join("volumes")
    }
}

/// What can be wrong with snapshots.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The name is taken.
    #[error("there is a snapshot `{snapshot}` of it already")]
    Taken {
        /// The snapshot.
        snapshot: String,
    },
    /// An earlier machine of the new name left its work.
    #[error("an earlier machine `{name}` left {path}", path = path.display())]
    Left {
        /// The name.
        name: MachineName,
        /// The volume.
        path: PathBuf,
    },
    /// None of that name.
    #[error("there is no snapshot `{snapshot}` of it")]
    Missing {
        /// The snapshot.
        snapshot: String,
        /// The machine.
        name: MachineName,
        /// One whose name is near.
        nearest: Option<String>,
    },
    /// Its description cannot be understood.
    #[error("{path} is damaged", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The machine runs.
    #[error("it runs")]
    Running {
        /// The machine.
        name: MachineName,
        /// The verb that cannot be.
        verb: &'static str,
    },
    /// The retention cannot be read.
    #[error("`{text}` says not what is kept: a number and one of l h d w m y each, such as `6h, 7d, 4w`")]
    Keep {
        /// What was given.
        text: String,
    },
    /// The interval cannot be read.
    #[error("`{text}` is no interval: a number and one of m h d w, at least 1m")]
    Interval {
        /// What was given.
        text: String,
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

impl Cause for SnapshotError {
    fn class(&self) -> Class {
        match self {
            Self::Taken { .. } | Self::Left { .. } | Self::Missing { .. } | Self::Running { .. } => {
                Class::Unavailable
            }
            Self::Damaged { .. } => Class::State,
            Self::Keep { .. } | Self::Interval { .. } => Class::Usage,
            Self::Io { source, .. } => live::class_of(source, Class::Host),
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Missing { nearest: Some(nearest), .. } => {
                vec![Hint::Note(format!("did you mean `{nearest}`?"))]
            }
            Self::Missing { name, .. } => {
                vec![Hint::run("see which there are", format!("sandbox snapshot list {name}"))]
            }
            Self::Running { verb, .. } => {
                vec![Hint::Note(format!(
                    "`--restart` of `sandbox {verb}` stops it, and starts it afterwards"
                ))]
            }
            _ => Vec::new(),
        }
    }
}

pub(super) fn failed(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> SnapshotError {
    let path = path.to_owned();
    move |source| SnapshotError::Io { path, doing, source }
}

/// Gives the folders in which a machine's snapshots may stand: below the state directory, and beside its tree.
#[must_use]
pub fn folders(state: &Path, name: &MachineName, tree: &Path) -> Vec<PathBuf> {
    let mut folders = vec![state.join("snapshots").join(name)];
    if let Some(above) = tree.parent().filter(|_| !tree.starts_with(state)) {
        folders.push(above.join(".#sandbox-snapshots").join(name));
    }
    folders
}

/// Gives the folder for a new snapshot: the first on the tree's file system; it is made.
pub(super) fn folder(state: &Path, definition: &Definition) -> Result<PathBuf, SnapshotError> {
    let folders = folders(state, &definition.name, &definition.tree);
    let make = |folder: &Path| {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(failed(folder, "making the folder"))
    };
    for folder in &folders {
        make(folder)?;
        if same_file_system(folder, &definition.tree) {
            return Ok(folder.clone());
        }
        tidy(folder);
    }
    let folder = folders[0].clone();
    make(&folder)?;
    Ok(folder)
}

/// Tells whether two folders are on one file system; the subvolumes of one btrfs are, though their numbers differ.
fn same_file_system(one: &Path, other: &Path) -> bool {
    use crate::host::clonable::{is_btrfs, shares_with};
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(a), Ok(b)) if a.dev() == b.dev() => true,
        _ if is_btrfs(one) && is_btrfs(other) => {
            tempfile::tempfile_in(other).is_ok_and(|probe| shares_with(&probe, one))
        }
        _ => false,
    }
}

/// Removes a machine's folder of snapshots, and that of all, where they are empty.
pub(super) fn tidy(folder: &Path) {
    for folder in folder.ancestors().take(2) {
        let _ = fs::remove_dir(folder);
    }
}

/// Reads a snapshot; none where the folder has no description.
pub(super) fn read(folder: &Path) -> Result<Option<Snapshot>, SnapshotError> {
    let path = folder.join(DESCRIPTION);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(&path, "reading the file")(error)),
    };
    let read: Snapshot =
        serde_json::from_slice(&bytes).map_err(|source| SnapshotError::Damaged { path, source })?;
    Ok(Some(Snapshot { folder: folder.to_owned(), ..read }))
}

/// Writes a snapshot's description.
pub(super) fn describe(snapshot: &Snapshot, folder: &Path) -> Result<(), SnapshotError> {
    let path = folder.join(DESCRIPTION);
    let write = || {
        let mut text = serde_json::to_vec_pretty(snapshot)?;
        text.push(b'\n');
        let mut file = fs::File::create(&path)?;
        io::Write::write_all(&mut file, &text)?;
        file.sync_all()
    };
    write().map_err(failed(&path, "writing the file"))
}

/// Lists a machine's snapshots, the oldest first.
///
/// # Errors
/// [`SnapshotError::Damaged`], [`SnapshotError::Io`].
pub fn list(state: &Path, name: &MachineName, tree: &Path) -> Result<Vec<Snapshot>, SnapshotError> {
    let mut all = Vec::new();
    for folder in folders(state, name, tree) {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(&folder, "reading the folder")(error)),
        };
        for entry in entries.flatten() {
            if !entry.file_name().to_string_lossy().starts_with('.') {
                all.extend(read(&entry.path())?);
            }
        }
    }
    all.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
    Ok(all)
}

/// Removes a snapshot's folder, first moved aside so that nobody takes it for a whole one. May be repeated.
///
/// # Errors
/// [`LifeError::Io`].
pub fn remove(folder: &Path) -> Result<(), LifeError> {
    let aside = aside(folder, "removing");
    let _ = fs::rename(folder, &aside);
    for folder in [folder, aside.as_path()] {
        remove_whole(&folder.join("tree"))?;
        remove_whole(folder)?;
    }
    if let Some(above) = folder.parent() {
        tidy(above);
    }
    Ok(())
}

/// Removes all snapshots of a folder, whole or not.
///
/// # Errors
/// [`LifeError::Io`].
pub fn remove_all(folder: &Path) -> Result<(), LifeError> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        remove_whole(&entry.path().join("tree"))?;
    }
    remove_whole(folder)?;
    if let Some(above) = folder.parent() {
        let _ = fs::remove_dir(above);
    }
    Ok(())
}

/// Names a place beside a snapshot that no snapshot has.
pub(super) fn aside(folder: &Path, what: &str) -> PathBuf {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let name = name.trim_start_matches('.');
    folder.with_file_name(format!(".{name}.{what}"))
}
