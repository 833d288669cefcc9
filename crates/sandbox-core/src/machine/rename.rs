//! A machine gets another name: its record, tree, volumes, snapshots, configuration and host name.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    journal::{Change, Moved},
    life::Machines,
    record::{self, Record},
    snapshot::{self, SnapshotError},
    volume,
};
use crate::{Result, error::Context as _, host::clonable, name::MachineName};

impl Machines<'_> {
    /// Gives a stopped machine another name.
    ///
    /// # Errors
    /// Where it runs, the name is taken, or something of that name is there that is not ours; then it has the old one.
    pub fn rename(&self, name: &MachineName, new: &MachineName, holder: &str) -> Result<()> {
        let subject = || format!("machine `{name}`");
        let (mut claim, from) = self.claim(name, holder, "rename")?;
        let backend = self.backend(from.definition.backend).during("rename", subject())?;
        if name == new || self.records.folder(new).exists() {
            return Err(record::Error::Taken { name: new.clone() }).during("rename", subject());
        }
        if backend.leader(name)?.is_some() {
            let running = SnapshotError::Running { name: name.clone(), verb: "rename" };
            return Err(running).during("rename", subject());
        }
        let to = self.renamed(&from, new, backend.tree(new));
        let moves = self.moves(&from, &to).during("rename", subject())?;
        let change = Change { verb: "rename".to_owned(), from, to, moves, failed: false };
        self.change(&mut claim, change)
    }

    fn renamed(&self, from: &Record, new: &MachineName, tree: PathBuf) -> Record {
        let mut to = from.clone();
        let (old, definition) = (&from.definition.name, &mut to.definition);
        definition.name = new.clone();
        definition.tree = tree;
        let (volumes, new_volumes) = (self.records.volumes(old), self.records.volumes(new));
        for volume in &mut definition.volumes {
            if let Ok(rest) = volume.source.strip_prefix(&volumes) {
                volume.source = new_volumes.join(rest);
            }
        }
        to
    }

    /// Lists what a change of name or of backend takes to another place: the tree, the volumes, the snapshots; but for
    /// what goes with the machine's folder.
    ///
    /// # Errors
    /// [`record::Error::Foreign`] where something is in such a place.
    pub fn moves(&self, from: &Record, to: &Record) -> Result<Vec<Moved>, record::Error> {
        let (old, new) = (&from.definition, &to.definition);
        let folders = [self.records.folder(&old.name), self.records.folder(&new.name)];
        let mut pairs = vec![(old.tree.clone(), new.tree.clone())];
        pairs.push((self.records.volumes(&old.name), self.records.volumes(&new.name)));
        let state = self.records.state();
        let snapshots = [old, new].map(|one| snapshot::folders(state, &one.name, &one.tree));
        let [old_snapshots, new_snapshots] = snapshots;
        for (at, folder) in old_snapshots.into_iter().enumerate() {
            let other = new_snapshots.get(at).unwrap_or(&new_snapshots[0]);
            pairs.push((folder, other.clone()));
        }
        let mut moves = Vec::new();
        for (from, to) in pairs {
            let along = match (from.strip_prefix(&folders[0]), to.strip_prefix(&folders[1])) {
                (Ok(old), Ok(new)) => old == new,
                _ => false,
            };
            if along || from == to {
                continue;
            }
            let Ok(inode) = clonable::identity(&from) else { continue };
            if fs::symlink_metadata(&to).is_ok() {
                return Err(record::Error::Foreign { path: to });
            }
            // what goes with the folder first has another path by then
            let from = match from.strip_prefix(&folders[0]) {
                Ok(rest) => folders[1].join(rest),
                Err(_) => from,
            };
            moves.push(Moved { from, to, inode, copy: None });
        }
        Ok(moves)
    }
}

/// Gives volumes the folders that a machine of another name has for them.
#[must_use]
pub(super) fn volumes_of(
    state: &Path,
    name: &MachineName,
    volumes: &[volume::Mounted],
) -> Vec<volume::Mounted> {
    let folder = volume::folder(state, name);
    let of = |volume: &volume::Mounted| volume::Mounted {
        source: folder.join(volume.source.file_name().unwrap_or_default()),
        ..volume.clone()
    };
    volumes.iter().map(of).collect()
}
