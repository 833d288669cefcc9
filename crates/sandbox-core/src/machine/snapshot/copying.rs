//! A machine copied, as it is at one moment: its tree and its work.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Consistency, SnapshotError, place};
use crate::{
    Result,
    error::Context as _,
    host::clonable,
    layer::kept::whole::{self, Copying},
    machine::{
        frozen,
        guest::GuestState,
        identity,
        journal::Intent,
        life::{Built, LifeError, Machines, Plan},
        provision::Provision,
        record::{self, Claim, Hold, Record},
        rename, volume,
    },
    name::MachineName,
    report::Event,
};

/// A folder and the place for its copy.
pub(super) type Pair = (PathBuf, PathBuf);

/// How a copy was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// What it is worth.
    pub consistency: Consistency,
    /// For how long the machine stood still.
    pub frozen: Duration,
}

/// What a machine is copied for, where it is to be another machine.
#[derive(Clone, Debug)]
pub struct Copy {
    /// `clone` or `fork`.
    pub verb: &'static str,
    /// The new machine's name.
    pub name: MachineName,
    /// A snapshot of the machine that is copied instead of what it is now.
    pub snapshot: Option<String>,
    /// How long it may take to boot; none leaves it stopped.
    pub boot: Option<Duration>,
    /// This program.
    pub program: PathBuf,
    /// Seconds since 1970.
    pub now: i64,
    /// Who does it.
    pub holder: String,
}

impl Machines<'_> {
    /// Makes another machine of a machine, stopped or running: all of it but its logins, its caches and what makes it
    /// itself.
    ///
    /// # Errors
    /// Where the name is taken, or anything fails; then there is nothing of the new machine.
    pub fn copy(&self, from: &MachineName, copy: &Copy) -> Result<(Copied, Option<GuestState>)> {
        let subject = || format!("machine `{from}`");
        let (claim, record) = self.claim_as(from, &copy.holder, Hold::Interruptible, copy.verb)?;
        let snapshot = match &copy.snapshot {
            Some(name) => Some(self.find_snapshot(&record, name).during(copy.verb, subject())?),
            None => None,
        };
        let of = snapshot.as_ref().map_or(&record, |snapshot| &snapshot.record).clone();
        let mut definition = record.definition.clone();
        let backend = self.backend(definition.backend).during(copy.verb, subject())?;
        definition.name = copy.name.clone();
        definition.tree = backend.tree(&copy.name);
        definition.volumes = rename::volumes_of(self.records.state(), &copy.name, &definition.volumes);
        definition.program.clone_from(&copy.program);
        // that there is a second one is no reason to have it with each boot of the host
        definition.chosen = definition.chosen.of_copy();
        let work = volume::work(&definition.volumes);
        if let Some(taken) = work.iter().find(|work| work.source().exists()) {
            if self.records.read(&copy.name).is_ok() {
                let name = copy.name.clone();
                return Err(record::Error::Taken { name }).during(copy.verb, subject());
            }
            let left = SnapshotError::Left { name: copy.name.clone(), path: taken.source().to_owned() };
            return Err(left).during(copy.verb, subject());
        }
        let plan = Plan {
            declared: record.declared.clone(),
            image: of.image.clone(),
            profiles: of.profiles.clone(),
            now: copy.now,
            boot: copy.boot,
            holder: copy.holder.clone(),
            verb: Some(copy.verb.to_owned()),
            delivery: None,
            provision: Provision::default(),
            definition,
        };
        let mut copied = Copied { consistency: Consistency::Clean, frozen: Duration::ZERO };
        let state = self.create(&plan, |tree| {
            let new = &plan.definition;
            let (source, volumes) = match &snapshot {
                Some(snapshot) => (snapshot.tree(), snapshot.volumes_folder()),
                None => (record.definition.tree.clone(), self.records.volumes(from)),
            };
            // the copy takes the empty folder's place
            let empty = if clonable::is_subvolume(tree) {
                clonable::remove_subvolume(tree)
            } else {
                fs::remove_dir(tree)
            };
            empty.map_err(place::failed(tree, "removing the empty folder")).during(copy.verb, subject())?;
            let mut pairs = vec![(source, tree.to_owned())];
            for work in volume::work(&new.volumes) {
                let source = volumes.join(work.name());
                if source.exists() {
                    make_above(work.source()).during(copy.verb, subject())?;
                    pairs.push((source, work.source().to_owned()));
                }
            }
            let made = match &snapshot {
                Some(snapshot) => self
                    .copy_at_rest(&pairs)
                    .during(copy.verb, subject())
                    .map(|()| Copied { consistency: snapshot.consistency, frozen: Duration::ZERO }),
                None => self.copy_now(&claim, &record, &pairs, &|cgroup| Intent::Freeze { cgroup }),
            };
            // the source's intent goes with the copy, made or not, and so does its lock: it may be stopped while the
            // new machine boots
            let ended = claim.end().during(copy.verb, subject());
            drop(claim);
            copied = made?;
            ended?;
            identity::renew(tree, &of.definition.name, new).during(copy.verb, subject())?;
            Ok(Built { packages: of.packages, layers: of.layers.clone() })
        })?;
        Ok((copied, state))
    }

    /// Copies folders of a claimed machine as they are at one moment. Where it runs it stands still meanwhile, and
    /// `intent` is what its journal says then.
    pub(super) fn copy_now(
        &self,
        claim: &Claim,
        record: &Record,
        pairs: &[Pair],
        intent: &dyn Fn(PathBuf) -> Intent,
    ) -> Result<Copied> {
        let name = &record.definition.name;
        let subject = || format!("machine `{name}`");
        let backend = self.backend(record.definition.backend).during("copy", subject())?;
        let Some(leader) = backend.leader(name)? else {
            self.copy_at_rest(pairs).during("copy", subject())?;
            if backend.leader(name)?.is_some() {
                // somebody started it under us
                let running = SnapshotError::Running { name: name.clone(), verb: "stop" };
                return Err(running).during("copy", subject());
            }
            return Ok(Copied { consistency: Consistency::Clean, frozen: Duration::ZERO });
        };
        let Some(cgroup) = frozen::cgroup(&leader) else {
            let path = PathBuf::from(format!("/proc/{}/cgroup", leader.pid));
            return Err(LifeError::Moving { path, name: name.to_string() }).during("copy", subject());
        };
        let failed = |(path, source)| LifeError::Io { path, doing: "copying the machine", source };
        let first: Result<Vec<_>, _> = pairs.iter().map(|(from, to)| Copying::begin(from, to)).collect();
        let first = first.map_err(failed).during("copy", subject())?;
        whole::sync(&record.definition.tree).map_err(failed).during("copy", subject())?;
        claim.begin(&intent(cgroup.clone())).during("copy", subject())?;
        let still = frozen::freeze(&cgroup, name.as_str()).during("copy", subject())?;
        let second = first.into_iter().try_for_each(Copying::finish);
        let frozen = still.thaw().during("let go on", subject())?;
        second.map_err(failed).during("copy", subject())?;
        self.sync(pairs).during("copy", subject())?;
        let text = format!("machine `{name}` stood still for {} ms", frozen.as_millis());
        self.reporter.report(Event::Notice { text });
        Ok(Copied { consistency: Consistency::CrashConsistent, frozen })
    }

    /// Copies folders in which nobody is at work.
    pub(super) fn copy_at_rest(&self, pairs: &[Pair]) -> Result<(), LifeError> {
        let failed = |(path, source)| LifeError::Io { path, doing: "copying the machine", source };
        pairs.iter().try_for_each(|(from, to)| whole::copy(from, to).map_err(failed))
    }

    fn sync(&self, pairs: &[Pair]) -> Result<(), LifeError> {
        let failed = |(path, source)| LifeError::Io { path, doing: "writing the copy to disk", source };
        pairs.iter().try_for_each(|(_, to)| whole::sync(to).map_err(failed))
    }
}

/// Makes the folder that a copy stands in.
pub(super) fn make_above(path: &Path) -> Result<(), SnapshotError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let above = path.parent().unwrap_or(Path::new("/"));
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(above);
    made.map_err(place::failed(above, "making the folder"))
}
