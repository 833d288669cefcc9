//! Machines run by systemd-nspawn under systemd-machined.
//!
//! **Shape**: a settings file in `/etc/systemd/nspawn`, a drop-in of the unit `systemd-nspawn@NAME.service`
//! and a tree in `/var/lib/machines`; everything else is asked of systemd and machined over the system bus.

mod error;
mod files;
mod machined;
mod objects;
mod power;
pub mod settings;
pub mod unit;
mod uplink;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use futures_lite::future::block_on;

pub use self::error::Error;
use self::machined::Host;
pub(in crate::machine) use self::{
    settings::system_calls,
    uplink::{leave_alone, manage_again},
};
use super::{
    Backend, Definition, Foreign, HostLog, Kind, Leader, Restart,
    cgroup::MachineCgroup,
    guest, mounts, nesting,
    network::{self, Names},
    processes,
};
use crate::{
    Result,
    error::Context,
    name::MachineName,
    report::{Event, Phase, Reporter},
};

/// How long a guest's word that it has booted is waited for before it is asked: one that is slow may need help.
const TOLD: Duration = Duration::from_secs(10);

/// The backend.
#[derive(Clone, Debug)]
pub struct Nspawn {
    state: PathBuf,
}

impl Nspawn {
    /// Makes the backend. `state` is the state directory, which the units that call the program name.
    #[must_use]
    pub fn new(state: impl Into<PathBuf>) -> Self {
        Self { state: state.into() }
    }

    /// Tells whether the host has what this backend needs: a system bus and machined on it.
    ///
    /// # Errors
    /// What is missing, with a hint.
    pub fn probe(&self) -> Result<(), Error> {
        // A name that no machine can have: the answer shows that machined is there, and starts it.
        block_on(async { Host::connect().await?.machine("-").await.map(|_| ()) })
    }
}

/// Prepares a machine's start: its link's wall and networkd's file for the host's end, its tree, and the sources of its
/// mounts.
///
/// The machine's unit calls it on every start, so that what the host's resolvers are now counts, not what
/// they were when the machine was made.
///
/// # Errors
/// Where any of it fails: then the machine must not start.
pub fn prepare(definition: &Definition, reporter: &dyn Reporter) -> Result<()> {
    let prepared = || {
        if !network::has_link(definition.network) {
            return Ok(());
        }
        let names = Names::of_host();
        let definition = network::with_resolvers(definition, &names);
        let text = uplink::wanted(&names);
        let served = network::Served { dhcp: true, dns: uplink::serves_names(&text) };
        network::wall_up(&definition, served, reporter).map_err(Error::Wall)?;
        uplink::serve(&text)
    };
    prepared().during("prepare the network of machine", definition.name.to_string())?;
    // a file of an earlier version has nspawn itself follow the paths of mounts
    files::ensure(&files::settings(&definition.name), &settings::settings(definition))
        .during("prepare machine", definition.name.to_string())?;
    mounts::prepare(definition).during("prepare machine", definition.name.to_string())
}

/// Gives a machine that has begun what it lacks: mounts for containers in it, and its link a carrier.
///
/// networkd on the host answers DHCP only once the link has a carrier, which it has when both ends are up. Where the
/// guest's own networkd raised its end, its first question would come before there is somebody to answer, and the next
/// one seconds later.
///
/// `main` is the number of nspawn itself, where whoever calls knows it.
///
/// # Errors
/// Where the mounts cannot be made: containers in the guest would fail with messages that help nobody.
pub fn started(definition: &Definition, state: &Path, main: Option<i32>) -> Result<()> {
    let name = &definition.name;
    // the guest boots already, and to ask machined takes a while
    let near = main.and_then(|main| child_of(main, name));
    let Some(leader) = near.map_or_else(|| Nspawn::new(state).leader(name), |leader| Ok(Some(leader)))?
    else {
        return Ok(());
    };
    if network::has_link(definition.network) {
        network::harden(&network::interface(name), definition.network);
        // without it an address comes later
        let _ = guest::raise(&leader, network::GUEST_LINK);
        if uplink::serves_names(&uplink::present()) {
            drop(network::forward_names(definition, &Names::of_host()));
        }
    }
    if unit::nests(definition) {
        nesting::cure(leader.pid).during("prepare", format!("machine `{name}`"))?;
    }
    mounts::start(&leader, definition).during("start", format!("machine `{name}`"))
}

impl Backend for Nspawn {
    fn kind(&self) -> Kind {
        Kind::Nspawn
    }

    fn tree(&self, name: &MachineName) -> PathBuf {
        Path::new(files::TREES).join(name)
    }

    fn admit(&self, definition: &Definition) -> Result<()> {
        self.probe().during("define machine", definition.name.to_string())
    }

    fn define(&self, definition: &Definition) -> Result<()> {
        let name = &definition.name;
        block_on(async {
            // Asked first, so that a host that cannot run the machine gets no files of it.
            let host = Host::connect().await?;
            write(&host, definition, &self.state).await
        })
        .during("define machine", name.to_string())
    }

    fn start(&self, definition: &Definition, deadline: Duration, reporter: &dyn Reporter) -> Result<()> {
        let name = definition.name.to_string();
        reporter.report(Event::At { phase: Phase::Boot, subject: unit::name(&definition.name) });
        block_on(power::start(definition, &self.state, deadline)).during("start machine", name)
    }

    fn booted(&self, definition: &Definition, deadline: Duration) {
        let unit = unit::name(&definition.name);
        let until = Instant::now() + deadline.min(TOLD);
        // a host that cannot tell leaves the guest to be asked
        let _ = block_on(async { Host::connect().await?.booted(&unit, until).await });
    }

    fn stop(&self, definition: &Definition, deadline: Duration, reporter: &dyn Reporter) -> Result<()> {
        let restarts = definition.chosen.restart != Restart::No;
        block_on(power::stop(&definition.name, restarts, deadline, reporter))
            .during("stop machine", definition.name.to_string())
    }

    fn undefine(&self, definition: &Definition) -> Result<()> {
        block_on(undefine(&definition.name)).during("remove machine", definition.name.to_string())
    }

    fn apply(&self, definition: &Definition) -> Result<()> {
        let applied = async {
            let host = Host::connect().await?;
            write(&host, definition, &self.state).await?;
            let unit = unit::name(&definition.name);
            if host.status(&unit).await?.is_down() {
                return Ok(());
            }
            host.limit(&unit, &definition.chosen.limits).await
        };
        block_on(applied).during("change machine", definition.name.to_string())
    }

    fn autostart(&self, definition: &Definition, earlier: &[MachineName]) -> Result<()> {
        let name = &definition.name;
        let path = files::order(name);
        let changed = async {
            let host = Host::connect().await?;
            match definition.chosen.autostart {
                Some(autostart) => {
                    files::ensure(&path, &unit::order(definition, autostart, earlier, &self.state))?;
                    host.enable(&[&unit::name(name), machined::TARGET]).await?;
                }
                None => {
                    host.disable(&unit::name(name)).await?;
                    files::remove(&path)?;
                }
            }
            host.reload().await
        };
        block_on(changed).during("change the start of machine", name.to_string())
    }

    fn foreign(&self) -> Result<Vec<Foreign>> {
        block_on(foreign()).during("list", "the machines of machined")
    }

    fn adopt(&self, definition: &Definition) -> Result<()> {
        files::set_aside(&definition.name).during("adopt", definition.name.to_string())
    }

    fn host_log(&self, definition: &Definition) -> HostLog {
        HostLog::Unit(unit::name(&definition.name))
    }

    fn leader(&self, name: &MachineName) -> Result<Option<Leader>> {
        let machine = block_on(async { Host::connect().await?.machine(name.as_str()).await })
            .during("look up machine", name.to_string())?;
        Ok(machine.and_then(|found| of_ours(name, &found)))
    }

    fn leaders(&self, names: &[MachineName]) -> Result<BTreeMap<MachineName, Leader>> {
        let found = async {
            let host = Host::connect().await?;
            let wanted = |name: &str| names.iter().any(|known| known.as_str() == name);
            let mut all = BTreeMap::new();
            for (name, machine) in host.registered_of(wanted).await? {
                let Some(name) = names.iter().find(|known| known.as_str() == name) else { continue };
                if let Some(leader) = of_ours(name, &machine) {
                    all.insert(name.clone(), leader);
                }
            }
            Ok::<_, Error>(all)
        };
        block_on(found).during("look up", "the machines of machined")
    }
}

/// Gives a machine's first process, unless another than its unit holds its name, or machined has not noticed that it is
/// gone: its number may be another's by then.
fn of_ours(name: &MachineName, found: &machined::Registered) -> Option<Leader> {
    let pid = i32::try_from(found.leader).ok().filter(|pid| *pid > 0)?;
    if found.unit == unit::name(name) { in_unit(name, pid) } else { None }
}

/// Takes a process for a machine's first one where it is in the cgroup of the machine's unit.
fn in_unit(name: &MachineName, pid: i32) -> Option<Leader> {
    let cgroup = MachineCgroup::of_unit(&unit::name(name), pid)?;
    Some(Leader { cgroup: Some(cgroup), ..Leader::new(pid) })
}

/// Gives a machine's first process, the child of nspawn that is the first of a process namespace.
///
/// **Source**: proc_tid_children(5), which needs the child to stay, as it does here.
fn child_of(main: i32, name: &MachineName) -> Option<Leader> {
    let children = fs::read_to_string(format!("/proc/{main}/task/{main}/children")).ok()?;
    let is_first = |pid| matches!(processes::numbers(pid)[..], [_, .., 1]);
    let pid = children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(|pid| is_first(*pid))?;
    in_unit(name, pid)
}

/// Writes the machine's files where they are not so already, and has systemd read them.
async fn write(host: &Host, definition: &Definition, state: &Path) -> Result<(), Error> {
    let name = &definition.name;
    let settings = files::ensure(&files::settings(name), &settings::settings(definition))?;
    let drop_in = files::ensure(&files::drop_in(name), &unit::drop_in(definition, state))?;
    if settings || drop_in { host.reload().await } else { Ok(()) }
}

/// What somebody who is not root may ask for, where polkit lets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The machine's start.
    Start,
    /// Its orderly end.
    Stop,
    /// A signal to its first process, by number.
    Signal(i32),
}

/// Does what somebody who is not root asks for: systemd and machined decide, by polkit, which may ask for a password.
///
/// Only a machine of ours is started: its drop-in puts its wall up. Its record is root's, and neither read nor
/// locked: systemd itself keeps two jobs of one unit apart.
///
/// # Errors
/// Where the machine is none of ours or polkit does not allow it.
pub fn ask(name: &MachineName, wish: Wish, deadline: Duration, reporter: &dyn Reporter) -> Result<()> {
    let asked = async {
        if !files::drop_in(name).exists() {
            return Err(Error::Unknown { name: name.clone() });
        }
        let host = Host::connect().await?;
        match wish {
            Wish::Start => power::launch(&host, name, Instant::now() + deadline, deadline).await,
            Wish::Stop => {
                let unit = unit::name(name);
                host.stop(&unit).await?;
                let until = Instant::now() + deadline + power::LAST;
                reporter.report(Event::At { phase: Phase::Boot, subject: unit.clone() });
                match host.wait(until, async |host| power::is_gone(host, name).await).await? {
                    true => Ok(()),
                    false => Err(Error::Late { unit, state: "gone", waited: deadline + power::LAST }),
                }
            }
            Wish::Signal(signal) => host.kill_leader(name.as_str(), signal).await,
        }
    };
    block_on(asked).during("change machine", name.to_string())
}

/// Lists the machines and trees that machined has. Those of ours are among them.
async fn foreign() -> Result<Vec<Foreign>, Error> {
    let mut found = BTreeMap::new();
    for name in files::trees()? {
        let tree = Some(Path::new(files::TREES).join(&name));
        found.insert(name.clone(), Foreign { name, backend: Kind::Nspawn, running: false, tree });
    }
    // a host without machined has trees at most
    if let Ok(host) = Host::connect().await {
        for (name, class, _) in host.machines().await? {
            // the host itself is one of them
            if class != "container" || name.starts_with('.') {
                continue;
            }
            let fresh = Foreign { name: name.clone(), backend: Kind::Nspawn, running: true, tree: None };
            found.entry(name).or_insert(fresh).running = true;
        }
    }
    Ok(found.into_values().collect())
}

/// Has the host's systemd start a unit of ours with it.
pub(in crate::machine) fn host_unit(name: &str, path: &Path, text: &str) -> Result<(), Error> {
    block_on(async {
        let host = Host::connect().await?;
        let changed = files::ensure(path, text)?;
        host.enable(&[name]).await?;
        if changed { host.reload().await } else { Ok(()) }
    })
}

/// Takes a unit of ours away again; what runs below it goes on.
pub(in crate::machine) fn no_host_unit(name: &str, path: &Path) -> Result<(), Error> {
    block_on(async {
        let host = Host::connect().await?;
        host.disable(name).await?;
        files::remove(path)?;
        files::remove(&files::writing(path))?;
        host.reload().await
    })
}

/// Waits if the host itself is on its way up: a start by hand is at once.
///
/// # Errors
/// Where systemd cannot be asked.
pub fn delay_at_boot(delay: Duration) -> Result<()> {
    let booting = block_on(async { Host::connect().await?.is_booting().await });
    if booting.during("wait before", "the machine's start")? {
        std::thread::sleep(delay);
    }
    Ok(())
}

async fn undefine(name: &MachineName) -> Result<(), Error> {
    let host = Host::connect().await?;
    files::remove(&files::settings(name))?;
    files::remove(&files::writing(&files::settings(name)))?;
    files::remove_drop_ins(name)?;
    files::sweep(name)?;
    for path in files::remains(name, &network::interface(name)) {
        files::remove(&path)?;
    }
    // the folder of links goes with the last one
    let _ = std::fs::remove_dir(files::WANTS);
    network::wall_down(name).map_err(Error::Wall)?;
    if !network::stands().map_err(Error::Wall)? {
        uplink::withdraw(&host).await?;
    }
    host.reset(&unit::name(name)).await?;
    host.reload().await
}
