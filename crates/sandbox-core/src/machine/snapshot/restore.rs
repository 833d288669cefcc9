//! A snapshot put in the machine's place.

use super::{Restoring, SnapshotError, Swap, place};
use crate::{
    Result,
    error::Context as _,
    host::clonable,
    machine::{
        identity,
        journal::Intent,
        life::{Machines, Volumes, beside},
        record::{Claim, Record},
        settle::put_in_place,
        volume,
    },
    name::MachineName,
};

impl Machines<'_> {
    /// Makes a stopped machine what a snapshot of it says; its volumes of kind `home` stay as they are where asked for.
    ///
    /// The name, the network, the logins and the caches stay the machine's own.
    ///
    /// # Errors
    /// Where it runs or there is no such snapshot, or anything fails: then it is as it was.
    pub fn restore(&self, name: &MachineName, snapshot: &str, volumes: Volumes, holder: &str) -> Result<()> {
        let subject = || format!("machine `{name}`");
        let (claim, record) = self.claim(name, holder, "restore")?;
        self.refuse_protected(name, "restore")?;
        let backend = self.backend(record.definition.backend).during("restore", subject())?;
        let snapshot = self.find_snapshot(&record, snapshot).during("restore", subject())?;
        if backend.leader(name)?.is_some() {
            let running = SnapshotError::Running { name: name.clone(), verb: "snapshot restore" };
            return Err(running).during("restore", subject());
        }
        let tree = &record.definition.tree;
        let mut pairs = vec![(snapshot.tree(), tree.clone())];
        for work in volume::work(&record.definition.volumes) {
            let from = snapshot.volumes_folder().join(work.name());
            if volumes == Volumes::Removed && from.exists() {
                pairs.push((from, work.source().to_owned()));
            }
        }
        let swap = |(_, place): &(_, std::path::PathBuf)| Swap {
            place: place.clone(),
            copy: beside(place, "restoring"),
            inode: None,
        };
        let mut restoring = Restoring {
            swaps: pairs.iter().map(swap).collect(),
            ready: false,
            record: Record {
                image: snapshot.record.image.clone(),
                profiles: snapshot.record.profiles.clone(),
                packages: snapshot.record.packages,
                layers: snapshot.record.layers.clone(),
                declared: snapshot.record.declared.clone(),
                ..record.clone()
            },
        };
        let begin = |claim: &Claim, restoring: &Restoring| {
            claim.begin(&Intent::Restore(restoring.clone())).during("restore", subject())
        };
        begin(&claim, &restoring)?;
        let copied = self.copies(&pairs, &mut restoring, &record, &snapshot.record);
        let ready = copied.and_then(|()| {
            restoring.ready = true;
            begin(&claim, &restoring)
        });
        if let Err(error) = ready {
            // the first error is the one to show; what cannot be undone now is undone by the next command
            let _ = self.settle(claim);
            return Err(error);
        }
        put_in_place(&restoring).during("restore", subject())?;
        claim.commit(&restoring.record).during("restore", subject())
    }

    fn copies(
        &self,
        pairs: &[(std::path::PathBuf, std::path::PathBuf)],
        restoring: &mut Restoring,
        record: &Record,
        then: &Record,
    ) -> Result<()> {
        let definition = &record.definition;
        let subject = || format!("machine `{}`", definition.name);
        for ((from, _), swap) in pairs.iter().zip(&mut restoring.swaps) {
            self.copy_at_rest(&[(from.clone(), swap.copy.clone())]).during("restore", subject())?;
            let number = clonable::identity(&swap.copy);
            let failed = place::failed(&swap.copy, "looking at the folder");
            swap.inode = Some(number.map_err(failed).during("restore", subject())?);
        }
        let mut here = definition.clone();
        if let Some(swap) = restoring.swaps.first() {
            here.tree.clone_from(&swap.copy);
        }
        identity::rename(&then.definition.name, &here).during("restore", subject())
    }
}
