//! A machine's life: made, started, stopped, removed, and undone where its maker died.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use super::{
    Backend, Declared, Definition, Kind, Leader, ServedPort, State, frozen,
    guest::{self, GuestState},
    journal::{Intent, Partial},
    limits, network,
    proxmox::{Delivery, Goods, place::Place, resident::Resident},
    record::{self, Claim, Record, Records},
    settle::Unsettled,
    volume,
};
use crate::{
    Result,
    error::{Cause, Class, Context as _, Hint},
    host::{clonable, root},
    layer::kept::Id,
    name::MachineName,
    report::{Event, Phase, Reporter, Unit},
};

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
}

/// What a machine's tree was built of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Built {
    /// How many packages it has.
    pub packages: usize,
    /// The layers that it was made of, the image's first; none where it was built in place.
    pub layers: Vec<Id>,
}

/// What can go wrong with a tree or a boot, beyond the backend and the records.
#[derive(Debug, thiserror::Error)]
pub enum LifeError {
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
    /// It runs already.
    #[error("it runs already")]
    Running,
    /// It is where it shall go.
    #[error("it is a machine of the backend `{backend}` already")]
    There {
        /// The backend.
        backend: &'static str,
    },
    /// It does not run.
    #[error("it does not run")]
    Stopped {
        /// Its name.
        name: MachineName,
    },
    /// It did not come up in time.
    #[error("its systemd was still `{state}` after {seconds} s")]
    Slow {
        /// What the guest said last.
        state: String,
        /// The deadline.
        seconds: u64,
        /// Its name.
        name: MachineName,
    },
    /// Something that a verb was to move is gone.
    #[error("{path} is not there any more, or is another folder than it was", path = path.display())]
    Lost {
        /// Where it was.
        path: PathBuf,
    },
    /// It cannot be made to stand still.
    #[error("it cannot be made to stand still: {path} does not do it", path = path.display())]
    Moving {
        /// Its cgroup's file.
        path: PathBuf,
        /// Its name.
        name: String,
    },
    /// The backend of its record is not in this program.
    #[error("its backend `{kind:?}` is not at hand")]
    Backend {
        /// Which.
        kind: Kind,
    },
}

impl Cause for LifeError {
    fn class(&self) -> Class {
        match self {
            Self::Running | Self::There { .. } | Self::Stopped { .. } | Self::Slow { .. } => {
                Class::Unavailable
            }
            Self::Io { .. } | Self::Backend { .. } | Self::Moving { .. } => Class::Host,
            Self::Lost { .. } => Class::State,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Stopped { name } => vec![Hint::run("start it", format!("sandbox start {name}"))],
            Self::Slow { name, .. } => vec![Hint::run(
                "build it, leave it stopped, then look on",
                format!("sandbox create {name} --no-start && sandbox start {name}"),
            )],
            _ => Vec::new(),
        }
    }
}

/// What is seen of a machine from outside.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Status {
    /// Its name.
    pub name: MachineName,
    /// Where it is in its life.
    pub state: State,
    /// What runs it.
    pub backend: Kind,
    /// Its image.
    pub image: String,
    /// Its profiles, in order.
    pub profiles: Vec<String>,
    /// Its first process on the host.
    pub leader: Option<i32>,
    /// Its addresses, loopback and link-local ones left out.
    pub addresses: Vec<std::net::IpAddr>,
    /// Units that failed.
    pub failed_units: Vec<String>,
    /// What it may reach.
    pub network: super::Network,
    /// Its tree.
    pub tree: PathBuf,
    /// How many packages were installed when it was made.
    pub packages: usize,
    /// Its folders that outlive the tree.
    pub volumes: Vec<volume::Mounted>,
    /// The ports that its profiles serve.
    pub ports: Vec<ServedPort>,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// Which container it is, for one of Proxmox VE.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
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
            .records
            .claim_new(name, &plan.holder, |claim| self.settle(claim).map(drop))
            .map_err(|error: Unsettled| error.during("create", subject()))?;
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
        // what the build brought is as it should be
        let brought =
            |volume: &&volume::Mounted| partial.volumes.contains(&volume.source) && volume.source.exists();
        let volumes: Vec<_> = definition.volumes.iter().filter(|volume| !brought(volume)).cloned().collect();
        volume::make(&building, &volumes).during("create", subject())?;
        tell(&building, definition).during("create", subject())?;
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
            Some(deadline) => Some(self.boot(backend, definition, deadline)?),
            None => None,
        };
        claim.commit(&record).during("create", subject())?;
        Ok(state)
    }

    fn boot(&self, backend: &dyn Backend, definition: &Definition, deadline: Duration) -> Result<GuestState> {
        let begun = Instant::now();
        self.reporter.report(Event::Started { phase: Phase::Boot, unit: Unit::Steps, total: 0 });
        if definition.chosen.limits.disk.is_some() {
            // a tree that came by a copy, a move or a restore has none yet
            limits::disk(definition).during("start", format!("machine `{}`", definition.name))?;
        }
        backend.start(definition, deadline, self.reporter)?;
        let name = &definition.name;
        let left = deadline.saturating_sub(begun.elapsed());
        let subject = || format!("machine `{name}`");
        let Some(leader) = backend.leader(name)? else {
            return Err(LifeError::Stopped { name: name.clone() }).during("start", subject());
        };
        let state = guest::wait_ready(&leader, left, self.reporter).during("start", subject())?;
        match &state {
            GuestState::Running | GuestState::Degraded { .. } => {}
            other => {
                let slow = LifeError::Slow {
                    state: other.to_string(),
                    seconds: deadline.as_secs(),
                    name: name.clone(),
                };
                return Err(slow).during("start", subject());
            }
        }
        self.wait_for_address(definition, &leader);
        self.finished(Phase::Boot, begun, format!("machine `{name}` is {state}"));
        Ok(state)
    }

    /// Waits until a machine with a link has an address: what is run in it next wants to use it.
    fn wait_for_address(&self, definition: &Definition, leader: &Leader) {
        let begun = Instant::now();
        while network::has_link(definition.network)
            && guest::addresses(leader).is_ok_and(|addresses| addresses.is_empty())
        {
            if begun.elapsed() > ADDRESS_DEADLINE {
                let name = &definition.name;
                let text = format!(
                    "machine `{name}` has no address after {} s; `sandbox doctor` checks the host's side",
                    ADDRESS_DEADLINE.as_secs()
                );
                return self.reporter.report(Event::Warning { text });
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts a machine and waits until its systemd says running or degraded.
    ///
    /// # Errors
    /// Where it runs already or does not come up.
    pub fn start(&self, name: &MachineName, deadline: Duration, holder: &str) -> Result<GuestState> {
        let subject = || format!("machine `{name}`");
        let (_claim, record) = self.records.claim(name, holder).during("start", subject())?;
        let backend = self.backend(record.definition.backend).during("start", subject())?;
        if backend.leader(name)?.is_some() {
            return Err(LifeError::Running).during("start", subject());
        }
        record.definition.needs.check().during("start", subject())?;
        self.boot(backend, &record.definition, deadline)
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
        if backend.leader(name)?.is_some() {
            return Err(LifeError::Running).during("start", subject());
        }
        backend.start(&record.definition, deadline, self.reporter)
    }

    /// Shuts a machine down; one that does not run is left as it is.
    ///
    /// # Errors
    /// Where it is still there.
    pub fn stop(&self, name: &MachineName, deadline: Duration, holder: &str) -> Result<()> {
        let subject = || format!("machine `{name}`");
        let (_claim, record) = self.records.claim(name, holder).during("stop", subject())?;
        let backend = self.backend(record.definition.backend).during("stop", subject())?;
        backend.stop(&record.definition, deadline, self.reporter)
    }

    /// Removes a machine with all it has; its volumes may be left, for a later machine of the name.
    ///
    /// # Errors
    /// Where something is left; the next command goes on with it.
    pub fn remove(&self, name: &MachineName, volumes: Volumes, holder: &str) -> Result<()> {
        let subject = || format!("machine `{name}`");
        let (claim, record) = self.records.claim(name, holder).during("remove", subject())?;
        let partial = self.partial(&record, volumes);
        claim.uncommit(&partial).during("remove", subject())?;
        self.take_away(claim, &partial).map_err(|error| error.during("remove", subject()))
    }

    /// Reads what a machine's profiles declared.
    ///
    /// # Errors
    /// Where it is not there.
    pub fn declared(&self, name: &MachineName) -> Result<Declared> {
        Ok(self.records.read(name).during("show", format!("machine `{name}`"))?.declared)
    }

    /// Shows one machine.
    ///
    /// # Errors
    /// Where it is not there or cannot be asked.
    pub fn status(&self, name: &MachineName) -> Result<Status> {
        let record = self.records.read(name).during("show", format!("machine `{name}`"))?;
        self.look(record)
    }

    /// Shows every machine, by name.
    ///
    /// # Errors
    /// Where one cannot be asked.
    pub fn list(&self) -> Result<Vec<Status>> {
        let records = self.records.list().during("list", "the machines")?;
        let mut leaders = BTreeMap::new();
        for backend in &self.backends {
            // those that are elsewhere have no process here
            let here = records.iter().filter(|record| record.definition.place.is_none());
            let of_it = here.filter(|record| record.definition.backend == backend.kind());
            let names: Vec<_> = of_it.map(|record| record.definition.name.clone()).collect();
            if !names.is_empty() {
                leaders.extend(backend.leaders(&names)?);
            }
        }
        // each that runs is asked in it, which takes milliseconds of waiting
        let (stopped, running): (Vec<_>, Vec<_>) = records.into_iter().partition(|record| {
            let definition = &record.definition;
            !leaders.contains_key(&definition.name) && definition.place.is_none()
        });
        let mut all: Vec<_> = stopped.into_iter().map(|record| seen(record, None)).collect();
        thread::scope(|scope| {
            let share = running.len().div_ceil(ASKERS).max(1);
            let askers: Vec<_> = running
                .chunks(share)
                .map(|part| {
                    let leaders = &leaders;
                    let look = move |record: &Record| {
                        seen(record.clone(), leaders.get(&record.definition.name).copied())
                    };
                    scope.spawn(move || part.iter().map(look).collect::<Vec<_>>())
                })
                .collect();
            all.extend(askers.into_iter().flat_map(|asker| asker.join().unwrap_or_default()));
        });
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    fn look(&self, record: Record) -> Result<Status> {
        let name = &record.definition.name;
        if record.definition.place.is_some() {
            return Ok(seen(record, None));
        }
        let backend = self.backend(record.definition.backend).during("show", format!("machine `{name}`"))?;
        let leader = backend.leader(name)?;
        Ok(seen(record, leader))
    }

    fn finished(&self, phase: Phase, begun: Instant, summary: String) {
        self.reporter.report(Event::Finished { phase, elapsed: begun.elapsed(), summary });
    }
}

/// How many machines that run are asked at once.
const ASKERS: usize = 8;

/// Looks at a machine whose first process is known.
fn seen(record: Record, leader: Option<Leader>) -> Status {
    if record.definition.place.is_some() {
        return seen_elsewhere(record);
    }
    let definition = record.definition;
    // one that stands still answers nobody, and holds whoever goes in
    let still = leader.as_ref().is_some_and(|leader| frozen::stands_still(leader.pid));
    // a guest that cannot be asked (no bus yet, going down) is starting as far as anyone can tell
    let guest =
        leader.as_ref().filter(|_| !still).map(|leader| guest::state(leader).unwrap_or(GuestState::Starting));
    let (state, failed_units) = match guest {
        None if still => (State::Frozen, Vec::new()),
        None => (State::Stopped, Vec::new()),
        Some(GuestState::Running) => (State::Running, Vec::new()),
        Some(GuestState::Degraded { failed }) => (State::Degraded, failed),
        Some(GuestState::Stopping) => (State::Stopping, Vec::new()),
        Some(_) => (State::Starting, Vec::new()),
    };
    Status {
        addresses: leader.as_ref().and_then(|leader| guest::addresses(leader).ok()).unwrap_or_default(),
        leader: leader.map(|leader| leader.pid),
        name: definition.name,
        state,
        backend: definition.backend,
        image: record.image,
        profiles: record.profiles,
        failed_units,
        network: definition.network,
        tree: definition.tree,
        packages: record.packages,
        volumes: definition.volumes,
        ports: record.declared.ports,
        created: record.created,
        place: None,
    }
}

/// Looks at a machine that is a container of a node; one that cannot be asked is shown all the same.
fn seen_elsewhere(record: Record) -> Status {
    let found = Resident::find(&record.definition);
    let state = found.as_ref().map_err(|_| ()).and_then(|it| it.state().map_err(|_| ()));
    let state = state.unwrap_or(State::Unreachable);
    let addresses = match (&found, state) {
        (Ok(it), State::Running) => it.addresses(),
        _ => Vec::new(),
    };
    let definition = record.definition;
    Status {
        addresses,
        leader: None,
        name: definition.name,
        state,
        backend: definition.backend,
        image: record.image,
        profiles: record.profiles,
        failed_units: Vec::new(),
        network: definition.network,
        tree: definition.tree,
        packages: record.packages,
        volumes: definition.volumes,
        ports: record.declared.ports,
        created: record.created,
        place: definition.place,
    }
}

/// Writes down in a machine's tree what it is, for whoever works in it.
pub(super) fn tell(tree: &Path, definition: &Definition) -> Result<(), LifeError> {
    let path = Path::new("etc/sandbox/machine");
    let let_through = definition.exceptions.iter();
    let let_through: Vec<_> =
        let_through.map(|exception| format!("{}:{}", exception.address, exception.port)).collect();
    let text = format!(
        "# Written by sandbox when this machine was made; what is changed here changes nothing.\n\
         NAME={}\nNETWORK={}\nLET_THROUGH=\"{}\"\n",
        definition.name,
        definition.network.word(),
        let_through.join(" "),
    );
    let write = || {
        let root = root::Root::open(tree, root::Links::InTree)?;
        root.make_folders(Path::new("etc/sandbox"), root::Meta::of_root(0o755, 0))?;
        root.write(path, text.as_bytes(), root::Meta::of_root(0o644, 0))
    };
    write().map_err(|source| LifeError::Io { path: tree.join(path), doing: "writing the file", source })
}

/// Those volumes that are not there yet: an earlier machine of the name may have left some.
fn missing(volumes: &[volume::Mounted]) -> Vec<PathBuf> {
    let sources = volumes.iter().map(|volume| &volume.source);
    sources.filter(|source| fs::symlink_metadata(source).is_err()).cloned().collect()
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

/// Names a place beside a tree that machined does not take for an image (a leading dot).
pub(super) fn beside(tree: &Path, what: &str) -> PathBuf {
    let name = tree.file_name().unwrap_or_default().to_string_lossy();
    tree.with_file_name(format!(".#sandbox-{name}.{what}"))
}

pub(super) fn make_folder(path: &Path) -> Result<u64, LifeError> {
    let failed = |doing| {
        let path = path.to_owned();
        move |source| LifeError::Io { path, doing, source }
    };
    if let Some(parent) = path.parent() {
        let mut builder = fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(builder.recursive(true), 0o700);
        builder.create(parent).map_err(failed("making the folder above"))?;
    }
    clonable::make_tree(path).map_err(failed("making the folder"))?;
    clonable::identity(path).map_err(failed("looking at the folder"))
}

pub(super) fn move_into_place(from: &Path, to: &Path) -> Result<(), LifeError> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE).map_err(|errno| LifeError::Io {
        path: to.to_owned(),
        doing: "moving the tree into place",
        source: errno.into(),
    })
}

/// Removes a tree, first moved aside so that nothing takes it for a machine's while it goes.
pub(super) fn remove_tree(tree: &Path, aside: &Path) -> Result<(), LifeError> {
    // what a killed remover left
    if tree != aside {
        remove_whole(aside)?;
    }
    let at = if fs::rename(tree, aside).is_ok() { aside } else { tree };
    remove_whole(at)
}

/// Removes a tree where it is; one that is not there is well.
pub(super) fn remove_whole(tree: &Path) -> Result<(), LifeError> {
    // at once, where no other subvolume is in it
    if clonable::is_subvolume(tree) && clonable::remove_subvolume(tree).is_ok() {
        return Ok(());
    }
    match root::remove_tree(tree) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(LifeError::Io { path: tree.to_owned(), doing: "removing the tree", source: error })
        }
        _ => Ok(()),
    }
}
