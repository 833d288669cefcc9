//! What dead verbs left, ended: undone or completed, as their intents say.

use std::{fs, io, path::Path, time::Duration};

use super::{
    environment, frozen, identity,
    journal::{Change, Ending, Intent, Moved, Partial, Settled},
    life::{LifeError, Machines, Volumes, beside, move_into_place, remove_tree},
    proxmox::remove_scratch,
    record::{self, Claim, Record},
    snapshot::{self, Restoring, Taking},
    volume,
};
use crate::{
    Error, Result,
    error::Context as _,
    host::{clonable, quota},
    layer::kept::whole,
    name::MachineName,
    report::Event,
};

/// How long a machine that nobody wants has to shut down.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why something is not ended.
pub(super) enum Unsettled {
    Record(record::Error),
    Other(Error),
}

impl From<record::Error> for Unsettled {
    fn from(error: record::Error) -> Self {
        Self::Record(error)
    }
}

impl From<Error> for Unsettled {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl Unsettled {
    /// Says what was being done.
    pub(super) fn during(self, verb: &'static str, subject: String) -> Error {
        match self {
            Self::Record(cause) => Error::new(verb, subject, cause),
            Self::Other(error) => error,
        }
    }
}

impl Machines<'_> {
    /// Ends what a verb began with a machine and died, and reports that. Where it cannot be ended, that is noted with
    /// the machine and warned of.
    ///
    /// # Errors
    /// Why it cannot be ended.
    pub fn recover(&self, name: &MachineName) -> Result<Option<Settled>> {
        let subject = || format!("machine `{name}`");
        let Some(claim) = self.records.claim_unfinished(name).during("clean up", subject())? else {
            return Ok(None);
        };
        let settled = self.settle(claim).map_err(|error| error.during("clean up", subject()));
        match &settled {
            Ok(Some(settled)) => self.reporter.report(Event::Notice { text: said(settled) }),
            Ok(None) => {}
            Err(error) => {
                self.records.note_failure(name, &error.sentence());
                let text = format!("{}; `sandbox repair {name}` tries again", error.sentence());
                self.reporter.report(Event::Warning { text });
            }
        }
        settled
    }

    /// Ends what verbs began that died, of one machine or of all, and says what it did; with `dry` only what it would.
    ///
    /// # Errors
    /// The first thing that cannot be ended, after the others were.
    pub fn repair(&self, name: Option<&MachineName>, dry: bool) -> Result<Vec<Settled>> {
        let mut all = Vec::new();
        let mut first = None;
        for name in self.unfinished(name)? {
            let subject = || format!("machine `{name}`");
            let Some(claim) = self.records.claim_unfinished(&name).during("repair", subject())? else {
                continue;
            };
            if dry {
                if let Some(intent) = claim.intent().during("repair", subject())? {
                    let ending = intent.ending(claim.is_whole());
                    all.push(Settled { name, verb: intent.verb().to_owned(), ending });
                }
                continue;
            }
            match self.settle(claim) {
                Ok(settled) => all.extend(settled),
                Err(error) => drop(first.get_or_insert(error.during("repair", subject()))),
            }
        }
        first.map_or(Ok(all), Err)
    }

    /// Lists what is unfinished; what was begun and has no intent yet comes first: it may hold a name that another
    /// needs.
    ///
    /// # Errors
    /// Where the records cannot be read.
    pub fn unfinished(&self, name: Option<&MachineName>) -> Result<Vec<MachineName>> {
        let mut names = self.records.unfinished().during("read", "the machines' records")?;
        names.retain(|found| name.is_none_or(|name| found == name));
        names.sort_by_key(|name| self.records.intent(name).is_some());
        Ok(names)
    }

    /// Ends what was begun with a claimed machine; none where it was nothing yet.
    pub(super) fn settle(&self, mut claim: Claim) -> Result<Option<Settled>, Unsettled> {
        let whole = claim.is_whole();
        let Some(intent) = claim.intent()? else {
            if whole {
                claim.end()?
            } else {
                claim.release()?
            }
            return Ok(None);
        };
        let mut settled = Settled {
            name: claim.name().clone(),
            verb: intent.verb().to_owned(),
            ending: intent.ending(whole),
        };
        let subject = format!("machine `{}`", claim.name());
        match intent {
            Intent::Create(_) | Intent::Remove(_) if whole => claim.end()?,
            Intent::Create(partial) | Intent::Remove(partial) => self.take_away(claim, &partial)?,
            Intent::Change(change) => settled.ending = self.complete(&mut claim, *change)?,
            Intent::Deliver(definition) => {
                self.backend(definition.backend)
                    .during("clean up", subject.clone())?
                    .undefine(&definition)?;
                let folder = self.records.folder(&settled.name);
                remove_scratch(&folder)
                    .map_err(|source| LifeError::Io { path: folder, doing: "removing a template", source })
                    .during("clean up", subject)?;
                self.thaw(&settled.name)?;
                claim.end()?;
            }
            Intent::Snapshot(taking) => {
                abandon(&taking).during("clean up", subject)?;
                claim.end()?;
            }
            Intent::Restore(restoring) => {
                put_in_place(&restoring).during("clean up", subject)?;
                if restoring.ready { claim.commit(&restoring.record)? } else { claim.end()? }
            }
            Intent::Forget { folders } => {
                folders.iter().try_for_each(|folder| snapshot::remove(folder)).during("clean up", subject)?;
                claim.end()?;
            }
            Intent::Freeze { cgroup } => {
                frozen::thaw(&cgroup).during("let go on", subject)?;
                claim.end()?;
            }
        }
        Ok(Some(settled))
    }

    /// Thaws a machine whose copy was made into another place, where it runs.
    fn thaw(&self, name: &MachineName) -> Result<()> {
        let (_, leader) = self.look_at(name)?;
        let cgroup = leader.and_then(|leader| frozen::cgroup(&leader));
        cgroup.map_or(Ok(()), |cgroup| frozen::thaw(&cgroup)).during("thaw", format!("machine `{name}`"))
    }

    /// Takes away all that belongs to a claimed name: the machine, its configuration, its tree, its folder.
    pub(super) fn take_away(&self, claim: Claim, partial: &Partial) -> Result<(), Unsettled> {
        let definition = &partial.definition;
        let subject = || format!("machine `{}`", definition.name);
        let backend = self.backend(definition.backend).during("remove", subject())?;
        backend.stop(definition, PATIENCE, self.reporter)?;
        backend.undefine(definition)?;
        for tree in [&partial.building, &definition.tree, &beside(&definition.tree, "removing")] {
            let ours = clonable::identity(tree).is_ok_and(|found| Some(found) == partial.inode);
            if ours && definition.chosen.limits.disk.is_some() {
                // a limit for a number that nobody has any more is no harm
                let _ = quota::limit(tree, None);
            }
            if ours || *tree != definition.tree {
                remove_tree(tree, &beside(&definition.tree, "removing")).during("remove", subject())?;
            }
        }
        for folder in &partial.snapshots {
            snapshot::remove_all(folder).during("remove", subject())?;
        }
        volume::remove(&partial.volumes)
            .map_err(|source| LifeError::Io {
                path: self.records.volumes(&definition.name),
                doing: "removing the volumes",
                source,
            })
            .during("remove", subject())?;
        claim.release()?;
        Ok(())
    }

    /// Makes a claimed machine what it shall be, or, where that fails, what it was before.
    ///
    /// Everything that can be known to fail is asked before; the machine does not run, unless nothing but its
    /// settings change.
    ///
    /// # Errors
    /// The first error; then the machine is as it was, or the next command makes it so.
    pub fn change(&self, claim: &mut Claim, change: Change) -> Result<()> {
        let subject = format!("machine `{}`", change.from.definition.name);
        claim.begin(&Intent::Change(Box::new(change.clone()))).during("change", subject.clone())?;
        let mut change = change;
        self.arrive(claim, &mut change).map_err(|error| {
            // the first error is the one to show; what cannot be undone now is undone by the next command
            let _ = self.roll_back(claim, change);
            error.during("change", subject)
        })
    }

    /// Makes a machine what it was before a change that failed.
    fn roll_back(&self, claim: &mut Claim, change: Change) -> Result<(), Unsettled> {
        let mut back = change.back();
        claim.begin(&Intent::Change(Box::new(back.clone())))?;
        self.arrive(claim, &mut back)
    }

    /// Completes a change whose verb has died. One that cannot be completed is undone, as it would have been by its verb.
    fn complete(&self, claim: &mut Claim, mut change: Change) -> Result<Ending, Unsettled> {
        let ending = if change.failed { Ending::Undone } else { Ending::Completed };
        match self.arrive(claim, &mut change) {
            Ok(()) => Ok(ending),
            Err(error) if change.failed => Err(error),
            Err(error) => self.roll_back(claim, change).map(|()| Ending::Undone).map_err(|_| error),
        }
    }

    /// Does what is left of a change; every step may have been done.
    fn arrive(&self, claim: &mut Claim, change: &mut Change) -> Result<(), Unsettled> {
        let (from, to) = (change.from.definition.name.clone(), change.to.definition.name.clone());
        if from == to {
            return self.go(claim, change);
        }
        if *claim.name() != to {
            claim.rename(&self.records, &to)?;
        }
        // no process takes the old name before this is done: a rollback needs it
        let reserved = self.records.claim_new::<record::Error>(&from, "a rename", Claim::release).ok();
        let gone = self.go(claim, change);
        if let Some(reserved) = reserved {
            let _ = reserved.release();
        }
        gone
    }

    /// Does what a change takes beside the claim of its name.
    fn go(&self, claim: &Claim, change: &mut Change) -> Result<(), Unsettled> {
        let (from, to) = (change.from.definition.clone(), change.to.definition.clone());
        let subject = || format!("machine `{}`", to.name);
        if from.name != to.name || from.backend != to.backend {
            self.backend(from.backend).during("change", subject())?.undefine(&from)?;
        }
        for at in 0..change.moves.len() {
            self.bring(claim, change, at)?;
        }
        match in_tree(change) {
            // the guest may change its tree all the time, and must not keep the machine from being stopped and removed
            Err(error) if change.failed => {
                let text = format!("{}: what was written into its tree is left there", error.sentence());
                self.reporter.report(Event::Warning { text });
            }
            written => written?,
        }
        self.backend(to.backend).during("change", subject())?.define(&to)?;
        self.apply(&from, &to)?;
        Ok(claim.commit(&change.to)?)
    }

    /// Brings one folder of a change to its place: by rename, or by a copy that is whole before it has the name.
    fn bring(&self, claim: &Claim, change: &mut Change, at: usize) -> Result<(), Unsettled> {
        let subject = format!("machine `{}`", change.to.definition.name);
        let Moved { from, to, inode, copy } = change.moves[at].clone();
        let is =
            |path: &Path, number: Option<u64>| number.is_some() && clonable::identity(path).ok() == number;
        if is(&to, Some(inode)) || is(&to, copy) {
            if is(&from, Some(inode)) {
                remove_tree(&from, &beside(&from, "removing")).during("change", subject)?;
            }
            return Ok(());
        }
        if !is(&from, Some(inode)) {
            return Err(LifeError::Lost { path: from }).during("change", subject)?;
        }
        let failed = |path: &Path, doing| {
            let path = path.to_owned();
            move |source| LifeError::Io { path, doing, source }
        };
        if let Some(above) = to.parent() {
            make_folders(above)
                .map_err(failed(above, "making the folder"))
                .during("change", subject.clone())?;
        }
        match move_into_place(&from, &to) {
            Err(LifeError::Io { source, .. }) if source.raw_os_error() == Some(libc::EXDEV) => {}
            moved => return Ok(moved.during("change", subject)?),
        }
        let building = beside(&to, "building");
        remove_tree(&building, &beside(&to, "removing")).during("change", subject.clone())?;
        whole::copy(&from, &building)
            .map_err(|(path, source)| LifeError::Io { path, doing: "copying the tree", source })
            .during("change", subject.clone())?;
        change.moves[at].copy = clonable::identity(&building).ok();
        claim.begin(&Intent::Change(Box::new(change.clone())))?;
        move_into_place(&building, &to).during("change", subject.clone())?;
        remove_tree(&from, &beside(&from, "removing")).during("change", subject)?;
        Ok(())
    }

    /// Says what must be taken away of a whole machine.
    pub(super) fn partial(&self, record: &Record, volumes: Volumes) -> Partial {
        let definition = &record.definition;
        let folders = snapshot::folders(self.records.state(), &definition.name, &definition.tree);
        Partial {
            building: beside(&definition.tree, "building"),
            definition: definition.clone(),
            inode: clonable::identity(&definition.tree).ok(),
            volumes: match volumes {
                Volumes::Kept => Vec::new(),
                Volumes::Removed => volume::present(&self.records.volumes(&definition.name)),
            },
            snapshots: folders.into_iter().filter(|folder| folder.exists()).collect(),
            verb: None,
        }
    }
}

/// Writes into a machine's tree what a change takes there. May be repeated.
fn in_tree(change: &Change) -> Result<()> {
    let (from, to) = (&change.from.definition, &change.to.definition);
    // what the user calls it
    let subject = || format!("machine `{}`", if change.failed { &to.name } else { &from.name });
    if from.name != to.name {
        identity::rename(&from.name, to).during("rename", subject())?;
    }
    if from.chosen.environment != to.chosen.environment {
        environment::write(&to.tree, &to.chosen.environment).during("change", subject())?;
    }
    Ok(())
}

/// Says what was done, in words.
#[must_use]
pub fn said(settled: &Settled) -> String {
    let Settled { name, verb, ending } = settled;
    match (ending, verb.as_str()) {
        (Ending::Undone, "create" | "clone" | "fork" | "import") => {
            format!("cleaned up the half-made machine `{name}` (`{verb}` had died)")
        }
        (Ending::Undone, _) => format!("undid a `{verb}` of machine `{name}` that had died"),
        (Ending::Completed, _) => format!("completed a `{verb}` of machine `{name}` that had died"),
    }
}

/// Takes away what a dead taker of a snapshot left, and lets the machine go on.
fn abandon(taking: &Taking) -> Result<(), LifeError> {
    if let Some(cgroup) = &taking.frozen {
        frozen::thaw(cgroup)?;
    }
    snapshot::remove(&taking.building)
}

/// Puts whole copies in their places, or takes away those that are not whole.
pub(super) fn put_in_place(restoring: &Restoring) -> Result<(), LifeError> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    for swap in &restoring.swaps {
        let there = clonable::identity(&swap.place).ok();
        if restoring.ready && swap.inode.is_some() && there != swap.inode {
            let flags = if there.is_some() { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
            renameat_with(CWD, &swap.copy, CWD, &swap.place, flags).map_err(|errno| LifeError::Io {
                path: swap.place.clone(),
                doing: "putting the snapshot in its place",
                source: errno.into(),
            })?;
        }
        remove_tree(&swap.copy, &beside(&swap.place, "removing"))?;
    }
    Ok(())
}

fn make_folders(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}
