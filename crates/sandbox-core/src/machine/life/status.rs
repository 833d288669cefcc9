//! Machines as they are seen from outside.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, thread};

use super::Machines;
use crate::{
    Result,
    error::{Cause as _, Class, Context as _, sentence},
    host::parallel::parallel,
    machine::{
        Backend, Declared, HostFolder, Kind, Leader, Limits, Network, ServedPort, State, disk, frozen,
        guest::{self, GuestState},
        network::{self, Wall},
        proxmox::{place::Place, resident::Resident},
        record::{Doing, Error as RecordError, Record, UnderWay},
        volume,
    },
    name::MachineName,
    report::Event,
};

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
    pub addresses: Vec<IpAddr>,
    /// Units that failed.
    pub failed_units: Vec<String>,
    /// What it may reach.
    pub network: Network,
    /// What became of its wall, for one that runs here and has a link; none where the packet filter cannot be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall: Option<Wall>,
    /// Its tree.
    pub tree: PathBuf,
    /// How many packages were installed when it was made.
    pub packages: usize,
    /// Its folders that outlive the tree.
    pub volumes: Vec<volume::Mounted>,
    /// Directories of the host that are mounted at each start.
    pub mounts: Vec<HostFolder>,
    /// What it may use at most.
    pub limits: Limits,
    /// Whether it is protected from being removed.
    pub protected: bool,
    /// Whether it is removed when it stops.
    pub ephemeral: bool,
    /// The ports that its profiles serve.
    pub ports: Vec<ServedPort>,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// Which container it is, for one of Proxmox VE.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// The process that makes or removes it: `process 12 (sandbox create)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
}

impl Status {
    /// Counts what the machine takes on disk here, its volumes with it; none where its tree is elsewhere or cannot be
    /// read. This walks the whole tree.
    #[must_use]
    pub fn disk(&self) -> Option<u64> {
        if self.place.is_some() {
            return None;
        }
        // a volume that was never mounted is not there
        let volumes = self.volumes.iter().filter_map(|volume| disk::used(&volume.source).ok());
        Some(disk::used(&self.tree).ok()? + volumes.sum::<u64>())
    }
}

impl Machines<'_> {
    /// Shows one machine.
    ///
    /// # Errors
    /// Where it is not there or cannot be asked.
    pub fn status(&self, name: &MachineName) -> Result<Status> {
        match self.records.read(name) {
            Err(RecordError::Busy { doing: Doing::Making | Doing::Removing, .. }) => {
                if let Some(found) = self.records.under_way(name) {
                    return Ok(under_way(found));
                }
            }
            read => return self.look(read.during("show", format!("machine `{name}`"))?),
        }
        // it is whole by now, or gone, or has not been begun
        self.look(self.records.read(name).during("show", format!("machine `{name}`"))?)
    }

    /// Reads the records of all machines. One that cannot be read is warned of and left out: it is no reason to do
    /// nothing with the others. Also returns the class of what was wrong with those.
    ///
    /// # Errors
    /// Where their directory cannot be read.
    pub fn readable(&self, verb: &'static str) -> Result<(Vec<Record>, Option<Class>)> {
        let (records, problems) = self.records.list_readable().during(verb, "the machines")?;
        for (name, error) in &problems {
            let text = format!("machine `{name}` is left out: {}", sentence(error));
            self.reporter.report(Event::Warning { text });
        }
        Ok((records, problems.iter().map(|(_, error)| error.class()).max()))
    }

    /// Finds the first processes of those machines that run. Where a backend cannot answer for all, it is asked for
    /// each; one that it cannot answer for is warned of.
    fn leaders(&self, backend: &dyn Backend, names: &[MachineName]) -> BTreeMap<MachineName, Leader> {
        backend.leaders(names).unwrap_or_else(|_| {
            let mut found = BTreeMap::new();
            for name in names {
                match backend.leader(name) {
                    Ok(leader) => found.extend(leader.map(|leader| (name.clone(), leader))),
                    Err(error) => {
                        self.reporter.report(Event::Warning { text: error.sentence() });
                    }
                }
            }
            found
        })
    }

    /// Shows every machine, by name; one whose record cannot be read is warned of, and the class of that is returned.
    ///
    /// # Errors
    /// Where their directory cannot be read.
    pub fn list(&self) -> Result<(Vec<Status>, Option<Class>)> {
        let (records, worst) = self.readable("list")?;
        let mut leaders = BTreeMap::new();
        for backend in &self.backends {
            // those that are elsewhere have no process here
            let here = records.iter().filter(|record| record.definition.place.is_none());
            let of_it = here.filter(|record| record.definition.backend == backend.kind());
            let names: Vec<_> = of_it.map(|record| record.definition.name.clone()).collect();
            if !names.is_empty() {
                leaders.extend(self.leaders(*backend, &names));
            }
        }
        let leader_of = |record: &Record| leaders.get(&record.definition.name).cloned();
        // each that runs is asked in it, which is milliseconds of waiting
        let mut all = thread::scope(|scope| {
            let leaders: Vec<_> = leaders.values().cloned().collect();
            let addresses = scope.spawn(move || guest::addresses_of(&leaders));
            let running = records.iter().filter(|record| leader_of(record).is_some());
            let names = linked(running);
            let walls = scope.spawn(move || network::walls_at_a_glance(&names).unwrap_or_default());
            let mut all = parallel(&records, ASKERS, |record| seen(record.clone(), leader_of(record)));
            let mut addresses = addresses.join().unwrap_or_default();
            let walls = walls.join().unwrap_or_default();
            for status in &mut all {
                status.wall = walls.get(&status.name).copied();
                let found = status.leader.and_then(|pid| addresses.remove(&pid));
                status.addresses.extend(found.unwrap_or_default());
            }
            all
        });
        let known: Vec<_> = all.iter().map(|status| status.name.clone()).collect();
        let found = self.records.all_under_way().during("list", "the machines")?;
        all.extend(found.into_iter().filter(|it| !known.contains(&it.definition.name)).map(under_way));
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok((all, worst))
    }

    fn look(&self, record: Record) -> Result<Status> {
        let name = &record.definition.name;
        if record.definition.place.is_some() {
            return Ok(seen(record, None));
        }
        let backend = self.backend(record.definition.backend).during("show", format!("machine `{name}`"))?;
        let leader = backend.leader(name)?;
        let addresses = leader.as_ref().and_then(|leader| guest::addresses(leader).ok());
        let names = linked(leader.iter().map(|_| &record));
        let wall = network::walls(&names).ok().and_then(|mut walls| walls.remove(name));
        let seen = seen(record, leader);
        Ok(Status { addresses: addresses.unwrap_or_default(), wall, ..seen })
    }
}

/// Names those machines that have a link.
fn linked<'a>(records: impl Iterator<Item = &'a Record>) -> Vec<MachineName> {
    let linked = records.filter(|record| network::has_link(record.definition.network));
    linked.map(|record| record.definition.name.clone()).collect()
}

/// How many machines that run are asked at once.
const ASKERS: usize = 8;

/// Looks at a machine whose first process is known. The addresses of one that is here are not looked for.
fn seen(record: Record, leader: Option<Leader>) -> Status {
    if record.definition.place.is_some() {
        return seen_elsewhere(record);
    }
    // one that stands still answers nobody, and holds whoever goes in
    let still = leader.as_ref().is_some_and(frozen::stands_still);
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
    Status { leader: leader.map(|leader| leader.pid), failed_units, ..recorded(record, state, Vec::new()) }
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
    recorded(record, state, addresses)
}

/// Shows a machine that a process is making or removing, of which there is no record.
fn under_way(found: UnderWay) -> Status {
    let UnderWay { definition, removing, holder } = found;
    let state = if removing { State::Removing } else { State::Creating };
    let record = Record {
        version: 1,
        definition,
        image: String::new(),
        profiles: Vec::new(),
        packages: 0,
        layers: Vec::new(),
        declared: Declared::default(),
        created: 0,
        schedule: None,
    };
    Status { holder: Some(holder), ..recorded(record, state, Vec::new()) }
}

/// Shows what its record says of a machine, beside what was seen of it.
fn recorded(record: Record, state: State, addresses: Vec<IpAddr>) -> Status {
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
        wall: None,
        tree: definition.tree,
        packages: record.packages,
        volumes: definition.volumes,
        protected: definition.chosen.protected,
        ephemeral: definition.chosen.ephemeral,
        mounts: definition.chosen.mounts,
        limits: definition.chosen.limits,
        ports: record.declared.ports,
        created: record.created,
        place: definition.place,
        holder: None,
    }
}
