//! The two services that run machines, over the system bus: machined and systemd itself.
//!
//! Properties are read from the service each time, never from a cache. Waiting means asking for the state
//! until a deadline; a signal only makes the next question come sooner.

use std::{
    task::Poll,
    time::{Duration, Instant},
};

use futures_lite::{Stream, StreamExt, future};
use zbus::{
    Connection, OwnedObjectPath, Variant,
    connection::Builder,
    fdo::{Error as Standard, PropertiesProxy},
    proxy::CacheProperties,
};

use super::{
    error::Error,
    objects::{MACHINE, MachinesProxy, NetworksProxy, ServiceProxy, SystemdProxy, UnitProxy},
};
use crate::machine::Limits;

/// Where systemd's system bus listens, whatever the environment says.
pub(super) const BUS: &str = "/run/dbus/system_bus_socket";

/// What gives both ends of a machine's link their addresses.
pub(super) const NETWORKD: &str = "systemd-networkd.service";

/// What starts the host's machines; it starts with the host once it is enabled itself.
pub(super) const TARGET: &str = "machines.target";

const MACHINED: &str = "systemd-machined";
const SYSTEMD: &str = "systemd";
const NO_MACHINE: &str = "org.freedesktop.machine1.NoSuchMachine";
const SUBSCRIBED: &str = "org.freedesktop.systemd1.AlreadySubscribed";
const NO_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// How nspawn begins to hand on what its guest says: the first word of a systemd is that its boot is over.
const SAID: &str = "Container running: ";

/// How long a state is not asked for again unless a signal came.
const PERIOD: Duration = Duration::from_millis(200);

/// A machine as machined knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Registered {
    /// Its first process, in the host's numbers.
    pub(super) leader: u32,
    /// The unit that holds it.
    pub(super) unit: String,
}

/// A unit's state, as systemd last told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Status {
    /// systemd's word: `active`, `inactive`, `failed`, `activating`, `deactivating`.
    pub(super) active: String,
    /// A job of it is queued or runs.
    pub(super) busy: bool,
}

impl Status {
    /// Tells that it is on its way up or down.
    pub(super) fn is_moving(&self) -> bool {
        self.busy || matches!(self.active.as_str(), "activating" | "deactivating" | "reloading")
    }

    /// Tells that nothing of it runs and nothing is about to.
    pub(super) fn is_down(&self) -> bool {
        !self.busy && matches!(self.active.as_str(), "inactive" | "failed")
    }
}

/// Both services on one connection.
pub(super) struct Host {
    connection: Connection,
    machines: MachinesProxy<'static>,
    systemd: SystemdProxy<'static>,
}

impl Host {
    /// Connects to the system bus.
    pub(super) async fn connect() -> Result<Self, Error> {
        let bus = |source| Error::Bus { path: BUS, source };
        let address = format!("unix:path={BUS}");
        let connection = Builder::address(address.as_str()).build().await.map_err(bus)?;
        let machines = MachinesProxy::builder(&connection)
            .cache_properties(CacheProperties::No)
            .build()
            .await
            .map_err(bus)?;
        let systemd = SystemdProxy::builder(&connection)
            .cache_properties(CacheProperties::No)
            .build()
            .await
            .map_err(bus)?;
        Ok(Self { connection, machines, systemd })
    }

    /// Gives the machine of a name, none where machined has none.
    pub(super) async fn machine(&self, name: &str) -> Result<Option<Registered>, Error> {
        let path = match self.machines.get_machine(name).await {
            Ok(path) => path,
            Err(error) if is(&error, NO_MACHINE) => return Ok(None),
            Err(error) => return Err(classify(MACHINED, "look a machine up", error)),
        };
        self.registered(path).await
    }

    async fn registered(&self, path: OwnedObjectPath) -> Result<Option<Registered>, Error> {
        let found = async {
            let properties = PropertiesProxy::builder(&self.connection)
                .destination("org.freedesktop.machine1")
                .path(path)
                .cache_properties(CacheProperties::No)
                .build()
                .await?;
            // both in one answer: they are of one moment, and a host may have many machines
            let mut all = properties.get_all(MACHINE).await?;
            let mut taken = |name: &str| all.remove(name).ok_or(zbus::Error::InterfaceNotFound);
            zbus::Result::Ok(Registered {
                leader: taken("Leader")?.try_into()?,
                unit: taken("Unit")?.try_into()?,
            })
        };
        match found.await {
            Ok(registered) => Ok(Some(registered)),
            // It went between the two questions.
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(classify(MACHINED, "look at a machine", error)),
        }
    }

    /// Gives those machines whose name is wanted, all asked for at once.
    pub(super) async fn registered_of(
        &self,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<(String, Registered)>, Error> {
        let all = self.machines.list_machines().await;
        let all = all.map_err(|error| classify(MACHINED, "list the machines", error))?;
        let asked = all.into_iter().filter(|(name, ..)| wanted(name)).map(|(name, .., path)| async move {
            Ok(self.registered(path).await?.map(|found| (name, found)))
        });
        let found: Result<Vec<_>, Error> = together(asked).await.into_iter().collect();
        Ok(found?.into_iter().flatten().collect())
    }

    /// Sends a signal to the machine's first process; a machine that is gone is no error.
    pub(super) async fn kill_leader(&self, name: &str, signal: i32) -> Result<(), Error> {
        present(self.machines.kill_machine(name, "leader", signal).await, "signal a machine")
    }

    /// Ends the machine's processes; a machine that is gone is no error.
    pub(super) async fn terminate(&self, name: &str) -> Result<(), Error> {
        present(self.machines.terminate_machine(name).await, "terminate a machine")
    }

    /// Gives a unit's state. systemd loads it for that where it has to.
    pub(super) async fn status(&self, unit: &str) -> Result<Status, Error> {
        let asked = async {
            let unit = UnitProxy::builder(&self.connection)
                .path(object(unit))
                .cache_properties(CacheProperties::No)
                .build()
                .await?;
            let (active, job) = future::zip(unit.active_state(), unit.job()).await;
            zbus::Result::Ok(Status { active: active?, busy: job?.0 != 0 })
        };
        asked.await.map_err(|error| classify(SYSTEMD, "look at a unit", error))
    }

    /// Tells why a unit is down.
    pub(super) async fn failure(&self, unit: &str) -> Error {
        let asked = async {
            let service = ServiceProxy::builder(&self.connection)
                .path(self.systemd.load_unit(unit).await?)
                .cache_properties(CacheProperties::No)
                .build()
                .await?;
            zbus::Result::Ok((service.result().await?, service.exec_main_status().await?))
        };
        match asked.await {
            Ok((result, status)) => Error::Failed { unit: unit.to_owned(), result, status },
            Err(error) => classify(SYSTEMD, "look at a unit", error),
        }
    }

    /// Queues the unit's start. A job that is in the way is an error.
    pub(super) async fn start(&self, unit: &str) -> Result<(), Error> {
        let started = self.systemd.start_unit(unit, "fail").await;
        started.map(|_| ()).map_err(|error| classify(SYSTEMD, "start the machine's unit", error))
    }

    /// Queues the unit's stop, in place of any other job of it.
    pub(super) async fn stop(&self, unit: &str) -> Result<(), Error> {
        let stopped = self.systemd.stop_unit(unit, "replace").await;
        match stopped {
            Err(error) if is(&error, NO_UNIT) => Ok(()),
            other => other.map(|_| ()).map_err(|error| classify(SYSTEMD, "stop the machine's unit", error)),
        }
    }

    /// Kills every process of a unit, whatever it is doing; one that is not loaded is no error.
    pub(super) async fn kill(&self, unit: &str) -> Result<(), Error> {
        match self.systemd.kill_unit(unit, "all", libc::SIGKILL).await {
            Err(error) if is(&error, NO_UNIT) => Ok(()),
            other => other.map_err(|error| classify(SYSTEMD, "kill the machine's unit", error)),
        }
    }

    /// Forgets that a unit failed; one that is not loaded is no error.
    pub(super) async fn reset(&self, unit: &str) -> Result<(), Error> {
        match self.systemd.reset_failed_unit(unit).await {
            Err(error) if is(&error, NO_UNIT) => Ok(()),
            other => other.map_err(|error| classify(SYSTEMD, "reset the machine's unit", error)),
        }
    }

    /// Changes limits of a unit that runs, until it ends: files say it for later.
    pub(super) async fn limit(&self, unit: &str, limits: &Limits) -> Result<(), Error> {
        const NONE: u64 = u64::MAX;
        let quota = limits.cpus.map_or(NONE, |cpus| u64::from(cpus) * 1000);
        let properties = [
            ("CPUQuotaPerSecUSec", Variant::from(quota)),
            ("MemoryMax", Variant::from(limits.memory.unwrap_or(NONE))),
            ("CPUWeight", Variant::from(limits.cpu_weight.map_or(NONE, u64::from))),
            ("TasksMax", Variant::from(limits.tasks.unwrap_or(super::unit::TASKS))),
        ];
        let set = self.systemd.set_unit_properties(unit, true, &properties).await;
        set.map_err(|error| classify(SYSTEMD, "limit the machine's unit", error))
    }

    /// Has systemd start units as their files say.
    pub(super) async fn enable(&self, units: &[&str]) -> Result<(), Error> {
        let enabled = self.systemd.enable_unit_files(units, false, false).await;
        enabled.map(drop).map_err(|error| classify(SYSTEMD, "enable the machine's unit", error))
    }

    /// Has systemd start a unit no longer by itself.
    pub(super) async fn disable(&self, unit: &str) -> Result<(), Error> {
        let disabled = self.systemd.disable_unit_files(&[unit], false).await;
        disabled.map(drop).map_err(|error| classify(SYSTEMD, "disable the machine's unit", error))
    }

    /// Tells whether the host itself is still on its way up.
    pub(super) async fn is_booting(&self) -> Result<bool, Error> {
        let state = self.systemd.system_state().await;
        let state = state.map_err(|error| classify(SYSTEMD, "tell the host's state", error))?;
        Ok(matches!(state.as_str(), "initializing" | "starting"))
    }

    /// Lists the machines that machined has: name, class, and the service that registered it.
    pub(super) async fn machines(&self) -> Result<Vec<(String, String, String)>, Error> {
        let all = self.machines.list_machines().await;
        let all = all.map_err(|error| classify(MACHINED, "list the machines", error))?;
        Ok(all.into_iter().map(|(name, class, service, _)| (name, class, service)).collect())
    }

    /// Makes systemd read its unit files again.
    pub(super) async fn reload(&self) -> Result<(), Error> {
        self.systemd.reload().await.map_err(|error| classify(SYSTEMD, "read its unit files again", error))
    }

    /// Makes networkd read its files again; one that does not run will when it starts.
    pub(super) async fn reload_network(&self) -> Result<(), Error> {
        if self.status(NETWORKD).await?.is_down() {
            return Ok(());
        }
        let asked = async {
            let networks = NetworksProxy::builder(&self.connection)
                .cache_properties(CacheProperties::No)
                .build()
                .await?;
            networks.reload().await
        };
        asked.await.map_err(|error| classify("systemd-networkd", "read its files again", error))
    }

    /// Asks until `reached` says so or the deadline is over, and tells which; asks anew when a job ended.
    pub(super) async fn wait<F>(&self, deadline: Instant, reached: F) -> Result<bool, Error>
    where
        F: AsyncFnMut(&Self) -> Result<bool, Error>,
    {
        let jobs = self.systemd.receive_job_removed().await;
        let jobs = jobs.map_err(|error| classify(SYSTEMD, "say when a job ends", error))?;
        self.wait_beside(jobs, deadline, reached).await
    }

    /// Waits until a machine's guest has said that its boot is over, which nspawn hands on, or its unit is down, or the
    /// deadline is over.
    ///
    /// It costs the booting guest nothing. That it has booted is not known by it: a guest may say so at any time, and one
    /// whose first process is not systemd never does.
    ///
    /// **Source**: sd_notify(3), `STATUS=`; systemd-nspawn hands it on behind words of its own.
    pub(super) async fn booted(&self, unit: &str, deadline: Instant) -> Result<(), Error> {
        let failed = |error| classify(SYSTEMD, "say when a unit changes", error);
        let properties = PropertiesProxy::builder(&self.connection)
            .destination("org.freedesktop.systemd1")
            .path(object(unit))
            .cache_properties(CacheProperties::No)
            .build()
            .await
            .map_err(failed)?;
        let service = ServiceProxy::builder(&self.connection)
            .path(object(unit))
            .cache_properties(CacheProperties::No)
            .build()
            .await
            .map_err(failed)?;
        let changes = properties.receive_properties_changed().await.map_err(failed)?;
        let said = async |host: &Self| {
            let (text, status) = future::zip(service.status_text(), host.status(unit)).await;
            Ok(text.map_err(failed)?.starts_with(SAID) || status?.is_down())
        };
        self.wait_beside(changes, deadline, said).await.map(drop)
    }

    async fn wait_beside<F>(
        &self,
        mut signals: impl Stream + Unpin,
        deadline: Instant,
        mut reached: F,
    ) -> Result<bool, Error>
    where
        F: AsyncFnMut(&Self) -> Result<bool, Error>,
    {
        match self.systemd.subscribe().await {
            Err(error) if is(&error, SUBSCRIBED) => {}
            other => other.map_err(|error| classify(SYSTEMD, "say what it does", error))?,
        }
        loop {
            if reached(self).await? {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            let signal = async {
                if signals.next().await.is_none() {
                    future::pending().await
                }
            };
            let tick = async {
                async_io::Timer::after(PERIOD.min(left)).await;
            };
            future::or(signal, tick).await;
        }
    }
}

/// Names a unit's object: what is neither a letter nor a digit is its number there.
///
/// **Source**: sd_bus_path_encode(3); org.freedesktop.systemd1(5).
fn object(unit: &str) -> String {
    let mut path = "/org/freedesktop/systemd1/unit/".to_owned();
    for byte in unit.bytes() {
        // a first digit would be escaped too; no unit of ours has one
        if byte.is_ascii_alphanumeric() {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("_{byte:02x}"));
        }
    }
    path
}

/// Waits for all of some futures at once.
async fn together<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = all.map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = waiting.iter().map(|_| None).collect();
    future::poll_fn(|context| {
        for (future, done) in waiting.iter_mut().zip(&mut done).filter(|(_, done)| done.is_none()) {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                *done = Some(output);
            }
        }
        if done.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

/// Tells whether an error of a service's own has this name.
fn is(error: &zbus::Error, name: &str) -> bool {
    matches!(error, zbus::Error::MethodError(found, _, _) if found.as_str() == name)
}

fn is_gone(error: &zbus::Error) -> bool {
    is(error, NO_MACHINE)
        || matches!(error, zbus::Error::FDO(inner) if matches!(**inner, Standard::UnknownObject(_)))
}

fn present(result: zbus::Result<()>, action: &'static str) -> Result<(), Error> {
    match result {
        Err(error) if is(&error, NO_MACHINE) => Ok(()),
        other => other.map_err(|error| classify(MACHINED, action, error)),
    }
}

/// Tells apart what the user can do something about.
fn classify(service: &'static str, action: &'static str, source: zbus::Error) -> Error {
    let standard = match &source {
        zbus::Error::FDO(inner) => Some(&**inner),
        _ => None,
    };
    match standard {
        Some(Standard::ServiceUnknown(_) | Standard::NameHasNoOwner(_)) => Error::Absent { service },
        Some(Standard::AccessDenied(_) | Standard::InteractiveAuthorizationRequired(_)) => {
            Error::Denied { action, source }
        }
        _ => Error::Call { service, action, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_units_object_is_named_as_systemd_names_it() {
        assert_eq!(
            object("systemd-nspawn@my-agents.service"),
            "/org/freedesktop/systemd1/unit/systemd_2dnspawn_40my_2dagents_2eservice"
        );
    }

    #[test]
    fn futures_are_waited_for_together() {
        let all = [3, 1, 2].map(|number| async move {
            future::yield_now().await;
            number
        });
        assert_eq!(future::block_on(together(all.into_iter())), [3, 1, 2]);
    }
}
