//! A machine's unit is started and ended, and machined's word of the machine with it.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use futures_lite::future;

use super::{
    error::Error,
    files,
    machined::{self, Host},
    unit, write,
};
use crate::{
    machine::{Definition, network},
    name::MachineName,
    report::{Event, Reporter},
};

/// `SIGRTMIN+4` as systemd counts it: to a machine's first process, an orderly power-off.
///
/// **Source**: systemd(1), "Signals". The C library keeps 32 and 33, so `SIGRTMIN` is 34.
const POWER_OFF: i32 = 34 + 4;

/// How long a machine has to go after each harder request.
const GRACE: Duration = Duration::from_secs(10);

/// How long a machine has to begin its shutdown before it is asked again.
const REPEAT: Duration = Duration::from_secs(3);

/// How long killed processes may take to go: large mounts and full disks hold them up.
pub(super) const LAST: Duration = Duration::from_secs(60);

/// Starts a machine, and waits until systemd and machined say that it is there.
pub(super) async fn start(definition: &Definition, state: &Path, deadline: Duration) -> Result<(), Error> {
    let host = Host::connect().await?;
    let unit = unit::name(&definition.name);
    let name = definition.name.as_str();
    let until = Instant::now() + deadline;
    let networkd = async {
        Ok::<_, Error>(
            network::has_link(definition.network) && host.status(machined::NETWORKD).await?.is_down(),
        )
    };
    // together: each answer takes a turn of the bus
    let asked = future::zip(future::zip(host.status(&unit), host.machine(name)), networkd);
    let ((status, machine), absent) = asked.await;
    let (mut status, mut machine) = (status?, machine?);
    if absent? {
        return Err(Error::Networkd);
    }
    // A start or a stop that is under way ends first, whoever asked for it.
    if status.is_moving() {
        if !host.wait(until, async |host| Ok(!host.status(&unit).await?.is_moving())).await? {
            return Err(Error::Late { unit, state: "at rest", waited: deadline });
        }
        (status, machine) = (host.status(&unit).await?, host.machine(name).await?);
    }
    if status.active == "active" && machine.is_some() {
        return Ok(());
    }
    // Without its files systemd would start the tree all the same, with no wall around it.
    write(&host, definition, state).await?;
    if machine.is_some() {
        forget(&host, &definition.name).await?;
    }
    host.reset(&unit).await?;
    if status.is_down() {
        files::sweep(&definition.name)?;
    }
    match launch(&host, &definition.name, until, deadline).await {
        // machined was restarted (by needrestart, by an upgrade) and holds a machine that is gone.
        Err(Error::Failed { .. }) if forget(&host, &definition.name).await? => {
            host.reset(&unit).await?;
            launch(&host, &definition.name, until, deadline).await
        }
        other => other,
    }
}

/// Starts the unit and waits until it is up and machined knows the machine.
pub(super) async fn launch(
    host: &Host,
    name: &MachineName,
    until: Instant,
    waited: Duration,
) -> Result<(), Error> {
    let unit = unit::name(name);
    host.start(&unit).await?;
    let mut down = false;
    let reached = host.wait(until, async |host| {
        let status = host.status(&unit).await?;
        down = status.is_down();
        Ok(down || (status.active == "active" && host.machine(name.as_str()).await?.is_some()))
    });
    match reached.await? {
        _ if down => Err(host.failure(&unit).await),
        true => Ok(()),
        false => Err(Error::Late { unit, state: "up", waited }),
    }
}

/// Makes machined forget a machine whose unit is down, and tells whether there was one.
async fn forget(host: &Host, name: &MachineName) -> Result<bool, Error> {
    let unit = unit::name(name);
    let Some(machine) = host.machine(name.as_str()).await? else { return Ok(false) };
    if machine.unit != unit {
        return Err(Error::Taken { unit: machine.unit });
    }
    if !host.status(&unit).await?.is_down() {
        return Ok(false);
    }
    host.terminate(name.as_str()).await?;
    let until = Instant::now() + GRACE;
    host.wait(until, async |host| Ok(host.machine(name.as_str()).await?.is_none())).await
}

/// Asks ever harder until unit and machine are gone.
pub(super) async fn stop(
    name: &MachineName,
    restarts: bool,
    deadline: Duration,
    reporter: &dyn Reporter,
) -> Result<(), Error> {
    let host = Host::connect().await?;
    let unit = unit::name(name);
    if is_gone(&host, name).await? {
        return Ok(());
    }
    if restarts {
        // systemd must know that this end is meant
        host.stop(&unit).await?;
    }
    if power_off(&host, name, Instant::now() + deadline).await? {
        return Ok(());
    }
    let text = format!("{name} did not shut down within {} s and is ended by force", deadline.as_secs());
    reporter.report(Event::Warning { text });
    host.terminate(name.as_str()).await?;
    if host.wait(Instant::now() + GRACE, async |host| is_gone(host, name).await).await? {
        return files::sweep(name);
    }
    host.stop(&unit).await?;
    // what systemd itself would wait for
    host.kill(&unit).await?;
    match host.wait(Instant::now() + LAST, async |host| is_gone(host, name).await).await? {
        true => files::sweep(name),
        false => Err(Error::Late { unit, state: "gone", waited: deadline + GRACE + LAST }),
    }
}

/// Asks the first process to shut down until it is gone, and tells whether it went in time.
///
/// A first process that has not come so far as to handle the signal drops it, so it is sent again.
async fn power_off(host: &Host, name: &MachineName, until: Instant) -> Result<bool, Error> {
    loop {
        host.kill_leader(name.as_str(), POWER_OFF).await?;
        let round = until.min(Instant::now() + REPEAT);
        if host.wait(round, async |host| is_gone(host, name).await).await? {
            return Ok(true);
        }
        if Instant::now() >= until {
            return Ok(false);
        }
    }
}

pub(super) async fn is_gone(host: &Host, name: &MachineName) -> Result<bool, Error> {
    Ok(host.status(&unit::name(name)).await?.is_down() && host.machine(name.as_str()).await?.is_none())
}
