//! Snapshots taken, found and removed.

use std::{
    fs::{self, File},
    path::Path,
};

use super::{
    Consistency, Snapshot, SnapshotError, Taking,
    copying::{Pair, make_above},
    place,
};
use crate::{
    Result,
    error::Context as _,
    machine::{
        journal::Intent,
        life::Machines,
        record::{Claim, Hold, Record},
        volume,
    },
    name::MachineName,
};

/// A snapshot that is wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its name; by the time where none is given.
    pub name: Option<MachineName>,
    /// The schedule wants it.
    pub scheduled: bool,
    /// Seconds since 1970.
    pub now: i64,
    /// Who takes it.
    pub holder: String,
}

impl Machines<'_> {
    /// Takes a snapshot of a machine, stopped or running.
    ///
    /// # Errors
    /// Where the name is taken, or anything fails; then there is nothing of it.
    pub fn take_snapshot(&self, name: &MachineName, wanted: &Wanted) -> Result<Snapshot> {
        let subject = || format!("machine `{name}`");
        let hold = if wanted.scheduled { Hold::Background } else { Hold::Interruptible };
        let (claim, record) = self.claim_as(name, &wanted.holder, hold, "snapshot")?;
        let snapshot = self.free_name(&record, wanted).during("snapshot", subject())?;
        let state = self.records.state();
        let folder = place::folder(state, &record.definition).during("snapshot", subject())?;
        let place = folder.join(&snapshot);
        let taking = Taking { building: place::aside(&place, "taking"), place, frozen: None };
        claim.begin(&Intent::Snapshot(taking.clone())).during("snapshot", subject())?;
        let taken = self.take(&claim, &record, &taking, (wanted, snapshot));
        match taken {
            Ok(snapshot) => {
                claim.end().during("snapshot", subject())?;
                Ok(snapshot)
            }
            Err(error) => {
                // the first error is the one to show; what cannot be undone now is undone by the next command
                let _ = self.settle(claim);
                Err(error)
            }
        }
    }

    fn take(
        &self,
        claim: &Claim,
        record: &Record,
        taking: &Taking,
        (wanted, name): (&Wanted, String),
    ) -> Result<Snapshot> {
        let subject = || format!("machine `{}`", record.definition.name);
        place::remove(&taking.building).during("snapshot", subject())?;
        make_above(&taking.building.join("tree")).during("snapshot", subject())?;
        let folder = taking.building.join("volumes");
        let mut pairs: Vec<Pair> = vec![(record.definition.tree.clone(), taking.building.join("tree"))];
        let mut volumes = Vec::new();
        for work in volume::work(&record.definition.volumes) {
            if work.source().exists() {
                let to = folder.join(work.name());
                make_above(&to).during("snapshot", subject())?;
                pairs.push((work.source().to_owned(), to));
                volumes.push(work.path().to_owned());
            }
        }
        let frozen = |cgroup| Intent::Snapshot(Taking { frozen: Some(cgroup), ..taking.clone() });
        let copied = self.copy_now(claim, record, &pairs, &frozen)?;
        let snapshot = Snapshot {
            version: 1,
            name,
            created: wanted.now,
            consistency: copied.consistency,
            scheduled: wanted.scheduled,
            frozen_ms: u64::try_from(copied.frozen.as_millis()).unwrap_or(u64::MAX),
            record: record.clone(),
            volumes,
            folder: taking.place.clone(),
        };
        place::describe(&snapshot, &taking.building).during("snapshot", subject())?;
        let named = || {
            File::open(&taking.building)?.sync_all()?;
            fs::rename(&taking.building, &taking.place)?;
            File::open(taking.place.parent().unwrap_or(Path::new("/")))?.sync_all()
        };
        named().map_err(place::failed(&taking.place, "naming the snapshot")).during("snapshot", subject())?;
        Ok(snapshot)
    }

    /// Picks a name that no snapshot of the machine has.
    fn free_name(&self, record: &Record, wanted: &Wanted) -> Result<String, SnapshotError> {
        let known = self.snapshots_of(record)?;
        let taken = |name: &str| known.iter().any(|known| known.name == name);
        if let Some(name) = &wanted.name {
            let snapshot = name.to_string();
            return if taken(&snapshot) { Err(SnapshotError::Taken { snapshot }) } else { Ok(snapshot) };
        }
        let name = by_time(wanted.now);
        let numbered = |number: u32| if number == 1 { name.clone() } else { format!("{name}-{number}") };
        Ok((1..).map(numbered).find(|name| !taken(name)).unwrap_or(name.clone()))
    }

    /// Lists a machine's snapshots, the oldest first.
    ///
    /// # Errors
    /// Where one cannot be read.
    pub fn snapshots(&self, name: &MachineName) -> Result<Vec<Snapshot>> {
        let subject = || format!("the snapshots of machine `{name}`");
        let record = self.records.read(name).during("list", subject())?;
        self.snapshots_of(&record).during("list", subject())
    }

    pub(super) fn snapshots_of(&self, record: &Record) -> Result<Vec<Snapshot>, SnapshotError> {
        let definition = &record.definition;
        place::list(self.records.state(), &definition.name, &definition.tree)
    }

    pub(super) fn find_snapshot(&self, record: &Record, wanted: &str) -> Result<Snapshot, SnapshotError> {
        let mut known = self.snapshots_of(record)?;
        if let Some(at) = known.iter().position(|known| known.name == wanted) {
            return Ok(known.swap_remove(at));
        }
        let nearest = known
            .iter()
            .map(|known| (strsim::damerau_levenshtein(&known.name, wanted), known))
            .filter(|(distance, _)| *distance <= 2)
            .min_by_key(|(distance, _)| *distance)
            .map(|(_, known)| known.name.clone());
        let (snapshot, name) = (wanted.to_owned(), record.definition.name.clone());
        Err(SnapshotError::Missing { snapshot, name, nearest })
    }

    /// Removes snapshots.
    ///
    /// # Errors
    /// Where one is not there, or something is left; the next command goes on with it.
    pub fn remove_snapshots(
        &self,
        name: &MachineName,
        snapshots: &[String],
        holder: &str,
        hold: Hold,
    ) -> Result<()> {
        let subject = || format!("machine `{name}`");
        let (claim, record) = self.claim_as(name, holder, hold, "remove snapshots of")?;
        let mut folders = Vec::new();
        for snapshot in snapshots {
            folders
                .push(self.find_snapshot(&record, snapshot).during("remove snapshots of", subject())?.folder);
        }
        claim.begin(&Intent::Forget { folders }).during("remove snapshots of", subject())?;
        self.settle(claim).map(drop).map_err(|error| error.during("remove snapshots of", subject()))
    }
}

/// Names a snapshot by its time, in UTC: `2026-11-21-141500`.
fn by_time(now: i64) -> String {
    let time = jiff::Timestamp::from_second(now).unwrap_or_default();
    time.strftime("%Y-%m-%d-%H%M%S").to_string()
}

impl Snapshot {
    /// Tells whether a stopped machine was copied.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.consistency == Consistency::Clean
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_by_time_is_a_name_and_sorts_by_time() {
        assert_eq!(by_time(1_795_270_500), "2026-11-21-141500");
        MachineName::new(&by_time(1_795_270_500)).unwrap();
        assert!(by_time(9) < by_time(1_795_270_500));
    }
}
