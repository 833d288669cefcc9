//! A machine's life: made, started, stopped, removed, and undone where its maker died.

mod ending;
mod error;
mod status;
mod trees;

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use super::{
    Backend, Declared, Definition, Kind, Leader, environment,
    guest::{self, GuestState},
    holding::Wait,
    journal::{Intent, Partial},
    limits,
    managers::Manager,
    mounts, network,
    provision::Provision,
    proxmox::{Delivery, Goods, place::Place},
    record::{self, Claim, Doing, Record, Records},
    settle::Unsettled,
    volume,
};
use crate::{
    Error, Result,
    error::Context as _,
    host::{
        clonable,
        root::{Links, Root},
    },
    layer::kept::Id,
    name::MachineName,
    report::{Event, Phase, Reporter, Unit},
};

use ending::wait_for_end;
pub use error::LifeError;
pub use status::Status;
use trees::missing;
pub(super) use trees::{beside, make_folder, move_into_place, remove_tree, remove_whole, tell};

/// How long a machine may take to shut down before it is stopped by force, where nobody says otherwise.
pub const STOP_DEADLINE: Duration = Duration::from_secs(60);

/// How long a booted machine may take to get an address before that is worth a warning.
const ADDRESS_DEADLINE: Duration = Duration::from_secs(10);

/// What a new machine is.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What its backend is told; the tree is the backend's place for it.
    pub definition: Definition,
    /// What its profiles say that they serve, and how to see that they work.
    pub declared: Declared,
    /// The image's name.
    pub image: String,
    /// The profiles' names, in order.
    pub profiles: Vec<String>,
    /// Seconds since 1970.
    pub now: i64,
    /// How long it may take to boot; none leaves it stopped.
    pub boot: Option<Duration>,
    /// Who makes it, for whoever wants the same name: `process 12 (create)`.
    pub holder: String,
    /// The verb, where it is another than `create`.
    pub verb: Option<String>,
    /// Which container it becomes, for one of Proxmox VE.
    pub delivery: Option<Delivery>,
    /// What it is given of the host before it first starts.
    pub provision: Provision,
}

/// What a machine's tree was built of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Built {
    /// How many packages it has.
    pub packages: usize,
    /// The layers that it was made of, the image's first; none where it was built in place.
    pub layers: Vec<Id>,
}

/// What becomes of the volumes of a machine that is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volumes {
    /// They go with it.
    Removed,
    /// They stay, and the next machine of the name has them.
    Kept,
}

/// The machines of a host: their records and the backends that run them.
pub struct Machines<'a> {
    /// Where they are written down.
    pub records: Records,
    /// What can run them.
    pub backends: Vec<&'a dyn Backend>,
    /// Who listens.
    pub reporter: &'a dyn Reporter,
}

impl Machines<'_> {
    /// Gives the backend of a kind.
    ///
    /// # Errors
    /// Where it is not at hand.
    pub fn backend(&self, kind: Kind) -> Result<&dyn Backend, LifeError> {
        let found = self.backends.iter().find(|backend| backend.kind() == kind);
        found.copied().ok_or(LifeError::Backend { kind })
    }

    /// Checks that no machine has a name, before its maker is asked anything. [`Machines::create`] checks it again.
    ///
    /// # Errors
    /// Where the name is taken.
    pub fn check_free(&self, name: &MachineName) -> Result<()> {
        match self.records.read(name) {
            Ok(_) => {
                Err(record::Error::Taken { name: name.clone() }).during("create", format!("machine `{name}`"))
            }
            // one that cannot be read is reported where it is claimed
            Err(_) => Ok(()),
        }
    }

    /// Makes a machine: its tree by `build`, its configuration, its first boot. It is there whole, or not
    /// at all: an error undoes all, and what a killed maker left the next command undoes.
    ///
    /// # Errors
    /// Where the name is taken, or any part fails.
    pub fn create(
        &self,
        plan: &Plan,
        build: impl FnOnce(&Path) -> Result<Built>,
    ) -> Result<Option<GuestState>> {
        let name = &plan.definition.name;
        let subject = || format!("machine `{name}`");
        let backend = self.backend(plan.definition.backend).during("create", subject())?;
        plan.definition.needs.check().during("create", subject())?;
        backend.admit(&plan.definition)?;
        let goods = plan.delivery.as_ref().map(|delivery| delivery.admit(&plan.definition)).transpose();
        let goods = goods.during("create", subject())?;
        let claim = self
            .claim_name(name, &plan.holder, |claim| {
                self.settle(claim).map(drop).map_err(|error| left(name, error))
            })
            .map_err(|error| error.during("create", subject()))?;
        let made = self.make(plan, (backend, goods), &claim, build);
        if made.is_err() {
            // the first error is the one to show; what cannot be undone now is undone by the next command
            let _ = self.settle(claim);
        }
        made
    }

    fn make(
        &self,
        plan: &Plan,
        (backend, goods): (&dyn Backend, Option<Goods>),
        claim: &Claim,
        build: impl FnOnce(&Path) -> Result<Built>,
    ) -> Result<Option<GuestState>> {
        let definition = &plan.definition;
        let subject = || format!("machine `{}`", definition.name);
        let tree = &definition.tree;
        if fs::symlink_metadata(tree).is_ok() {
            return Err(record::Error::Foreign { path: tree.clone() }).during("create", subject());
        }
        let building = beside(tree, "building");
        let mut partial = Partial {
            definition: definition.clone(),
            building: building.clone(),
            inode: None,
            volumes: missing(&definition.volumes),
            snapshots: Vec::new(),
            verb: plan.verb.clone(),
        };
        let begin =
            |partial: &Partial| claim.begin(&Intent::Create(partial.clone())).during("create", subject());
        begin(&partial)?;
        let inode = make_folder(&building).during("create", subject())?;
        partial.inode = Some(inode);
        begin(&partial)?;

        let Built { packages, layers } = build(&building)?;
        // a clone may have put another subvolume in the folder's place
        partial.inode = clonable::identity(&building).ok();
        begin(&partial)?;
        self.furnish(plan, &mut partial)?;
        // hooks of the first start read it there
        begin(&partial)?;
        let definition = &partial.definition.clone();
        let mut record = Record {
            version: 1,
            definition: definition.clone(),
            image: plan.image.clone(),
            profiles: plan.profiles.clone(),
            packages,
            layers,
            declared: plan.declared.clone(),
            created: plan.now,
            schedule: None,
        };
        if let Some(goods) = goods {
            let begun = Instant::now();
            self.settle_elsewhere(goods, &mut record, (claim, &mut partial))?;
            let words = record.definition.place.as_ref().map(Place::words).unwrap_or_default();
            self.finished(Phase::Define, begun, format!("machine `{}` is {words}", definition.name));
            // the node has it now
            remove_tree(&building, &beside(tree, "removing")).during("create", subject())?;
            claim.commit(&record).during("create", subject())?;
            return Ok(None);
        }
        move_into_place(&building, tree).during("create", subject())?;

        let begun = Instant::now();
        backend.define(definition)?;
        self.finished(
            Phase::Define,
            begun,
            format!("{} machine `{}`", word(definition.backend), definition.name),
        );
        let state = match plan.boot {
            Some(deadline) => {
                Some(self.boot(backend, definition, deadline, plan.verb.as_deref().unwrap_or("create"))?)
            }
            None => None,
        };
        claim.commit(&record).during("create", subject())?;
        Ok(state)
    }

    /// Makes the volumes of a built tree, and gives it what it has of the host.
    fn furnish(&self, plan: &Plan, partial: &mut Partial) -> Result<()> {
        let subject = || format!("machine `{}`", plan.definition.name);
        let building = &partial.building;
        // what the build brought is as it should be
        let brought =
            |volume: &&volume::Mounted| partial.volumes.contains(&volume.source) && volume.source.exists();
        let volumes = plan.definition.volumes.iter().filter(|volume| !brought(volume));
        let volumes: Vec<_> = volumes.cloned().collect();
        volume::make(building, &volumes).during("create", subject())?;
        let here = Definition { tree: building.clone(), ..plan.definition.clone() };
        let mounts = self.provision(&here, &plan.provision).during("create", subject())?;
        partial.definition.chosen.mounts.extend(mounts);
        let environment = &plan.definition.chosen.environment;
        if !environment.is_empty() {
            environment::write(building, environment).during("create", subject())?;
        }
        tell(building, &partial.definition).during("create", subject())
    }

    fn boot(
        &self,
        backend: &dyn Backend,
        definition: &Definition,
        deadline: Duration,
        verb: &str,
    ) -> Result<GuestState> {
        let begun = Instant::now();
        self.reporter.report(Event::Started { phase: Phase::Boot, unit: Unit::Steps, total: 0 });
        if definition.chosen.limits.disk.is_some() {
            // a tree that came by a copy, a move or a restore has none yet
            limits::disk(definition).during("start", format!("machine `{}`", definition.name))?;
        }
        let name = &definition.name;
        // asked before the backend is, whose own error would be that of a unit
        mounts::prepare(definition).during("start", format!("machine `{name}`"))?;
        let outlook = network::Outlook::new(definition);
        backend.start(definition, deadline, self.reporter)?;
        let subject = || format!("machine `{name}`");
        let Some(leader) = backend.leader(name)? else {
            return Err(LifeError::Stopped { name: name.clone() }).during("start", subject());
        };
        backend.booted(definition, deadline.saturating_sub(begun.elapsed()));
        let left = deadline.saturating_sub(begun.elapsed());
        let state = guest::wait_ready(&leader, left, self.reporter).during("start", subject())?;
        match &state {
            GuestState::Running | GuestState::Degraded { .. } => {}
            other => {
                let slow = LifeError::Slow {
                    state: other.to_string(),
                    seconds: deadline.as_secs(),
                    name: name.clone(),
                    verb: verb.to_owned(),
                };
                return Err(slow).during("start", subject());
            }
        }
        let has_address = self.wait_for_address(definition, &leader);
        if let Some(outlook) = outlook {
            outlook.report(has_address.then_some(&leader), self.reporter);
        }
        self.finished(Phase::Boot, begun, format!("machine `{name}` is {state}"));
        Ok(state)
    }

    /// Waits until a machine with a link has an address: what is run in it next wants to use it. Returns whether it has one.
    fn wait_for_address(&self, definition: &Definition, leader: &Leader) -> bool {
        let begun = Instant::now();
        while network::has_link(definition.network)
            && guest::addresses(leader).is_ok_and(|addresses| addresses.is_empty())
        {
            if begun.elapsed() > ADDRESS_DEADLINE {
                let name = &definition.name;
                let inside = Root::open(&definition.tree, Links::InTree).ok().map(|tree| Manager::of(&tree));
                let advice = inside.and_then(|manager| manager.advice(name.as_str()));
                let text = format!(
                    "machine `{name}` has no address after {} s; {}",
                    ADDRESS_DEADLINE.as_secs(),
                    advice.as_deref().unwrap_or("check the host's side:  sandbox doctor")
                );
                self.reporter.report(Event::Warning { text });
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
        true
    }

    /// Starts a machine and waits until its systemd says running or degraded. One that is shutting down is
    /// waited for first.
    ///
    /// # Errors
    /// Where it runs already or does not come up.
    pub fn start(&self, name: &MachineName, deadline: Duration, holder: &str) -> Result<GuestState> {
        let subject = || format!("machine `{name}`");
        let (claim, mut record) = self.claim(name, holder, "start")?;
        let backend = self.backend(record.definition.backend).during("start", subject())?;
        wait_for_end(backend, name, deadline)?;
        record.definition.needs.check().during("start", subject())?;
        if mounts::complete(&mut record, self.reporter).during("start", subject())? {
            claim.update(&record).during("start", subject())?;
        }
        self.boot(backend, &record.definition, deadline, "start")
    }

    /// Starts a machine whose guest rebooted, where its backend does not, and waits for its first process alone.
    ///
    /// Whoever has it is waited for; after that it must be `wanted` still.
    ///
    /// # Errors
    /// Where somebody has started it, or it does not start.
    pub fn start_again(
        &self,
        name: &MachineName,
        deadline: Duration,
        holder: &str,
        wanted: impl FnOnce() -> bool,
    ) -> Result<()> {
        let subject = || format!("machine `{name}`");
        let begun = Instant::now();
        let (_claim, record) = loop {
            match self.records.claim(name, holder) {
                Err(record::Error::Busy { .. }) if begun.elapsed() < deadline => {
                    thread::sleep(Duration::from_millis(20));
                }
                claimed => break claimed.during("start", subject())?,
            }
        };
        if !wanted() {
            return Ok(());
        }
        let backend = self.backend(record.definition.backend).during("start", subject())?;
        wait_for_end(backend, name, deadline)?;
        backend.start(&record.definition, deadline, self.reporter)
    }

    /// Shuts a machine down for something that is to be done with it then; one that does not run is left unchanged.
    ///
    /// # Errors
    /// Where it is still there, or is ephemeral: nothing can be done with it after a stop ([`Self::end`] removes it).
    pub fn stop(&self, name: &MachineName, deadline: Duration, holder: &str) -> Result<()> {
        let subject = || format!("machine `{name}`");
        if self.records.read(name).is_ok_and(|record| record.definition.chosen.ephemeral) {
            return Err(LifeError::Ephemeral { name: name.clone() }).during("stop", subject());
        }
        let (_claim, record) = self.take_over(name, holder, "stop")?;
        let backend = self.backend(record.definition.backend).during("stop", subject())?;
        backend.stop(&record.definition, deadline, self.reporter)
    }

    /// Removes a machine with all it has; its volumes may be left, for a later machine of the name.
    ///
    /// # Errors
    /// Where something is left; the next command goes on with it.
    pub fn remove(&self, name: &MachineName, volumes: Volumes, holder: &str) -> Result<()> {
        // before what holds it is interrupted, and again when nothing can change it
        self.refuse_protected(name, "remove")?;
        let (claim, record) = self.take_over(name, holder, "remove")?;
        self.refuse_protected(name, "remove")?;
        self.remove_claimed(claim, &record, volumes)
    }

    /// Removes a machine that is claimed.
    pub(super) fn remove_claimed(&self, claim: Claim, record: &Record, volumes: Volumes) -> Result<()> {
        let subject = || format!("machine `{}`", record.definition.name);
        let partial = self.partial(record, volumes);
        claim.uncommit(&partial).during("remove", subject())?;
        self.take_away(claim, &partial).map_err(|error| error.during("remove", subject()))
    }

    /// Refuses a verb that would destroy a protected machine. One whose record cannot be read is the verb's to refuse.
    ///
    /// # Errors
    /// [`LifeError::Protected`].
    pub fn refuse_protected(&self, name: &MachineName, verb: &'static str) -> Result<()> {
        match self.records.read(name) {
            Ok(record) if record.definition.chosen.protected => {
                Err(LifeError::Protected { name: name.clone() }).during(verb, format!("machine `{name}`"))
            }
            _ => Ok(()),
        }
    }

    /// Removes what is left of a machine whose removal or creation has not ended.
    ///
    /// # Errors
    /// Where something is left, or the process that makes or removes it lives.
    pub fn remove_rest(&self, name: &MachineName) -> Result<()> {
        let subject = || format!("machine `{name}`");
        let mut wait = Wait::new(self, name, "remove");
        loop {
            if let Some(claim) = self.records.claim_unfinished(name).during("remove", subject())? {
                return self.settle(claim).map(drop).map_err(|error| error.during("remove", subject()));
            }
            match self.records.read(name) {
                Err(record::Error::Missing { .. }) => return Ok(()),
                // another process has it: it may be a whole one by then
                Err(busy @ record::Error::Busy { doing, .. }) => {
                    if doing == Doing::Making || wait.is_over() {
                        return Err(busy).during("remove", subject());
                    }
                    wait.note(&busy);
                }
                Ok(_) => return Err(record::Error::Taken { name: name.clone() }).during("remove", subject()),
                Err(_) => {}
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Reads what a machine's profiles declared.
    ///
    /// # Errors
    /// Where it is not there.
    pub fn declared(&self, name: &MachineName) -> Result<Declared> {
        Ok(self.records.read(name).during("show", format!("machine `{name}`"))?.declared)
    }

    fn finished(&self, phase: Phase, begun: Instant, summary: String) {
        self.reporter.report(Event::Finished { phase, elapsed: begun.elapsed(), summary });
    }
}

/// Says of what an earlier machine left that it cannot be removed.
fn left(name: &MachineName, error: Unsettled) -> Unsettled {
    match error {
        Unsettled::Other(source) => {
            let left = LifeError::Left { name: name.clone(), source: Box::new(source) };
            Unsettled::Other(Error::new("create", format!("machine `{name}`"), left))
        }
        record => record,
    }
}

/// Gives a backend's word.
#[must_use]
pub const fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Nspawn => "nspawn",
        Kind::Lxc => "lxc",
        Kind::Direct => "direct",
        Kind::Proxmox => "proxmox",
    }
}
