//! `sandbox status`.

use sandbox_core::{
    machine::{State, life, life::Status, network::Wall},
    report::Event,
};

use super::{
    machine::{Host, name},
    set::{limits, shown},
};
use crate::{
    args::Named,
    exit::Exit,
    failure::Failure,
    settings::Settings,
    table::{Cell, Tone},
    ui,
};

/// Returns which process makes or removes a machine.
pub fn holder(machine: &Status) -> Option<String> {
    let done = if machine.state == State::Removing { "removed" } else { "made" };
    let by = machine.holder.as_ref()?;
    Some(format!("machine `{}` is being {done} by {by}", machine.name))
}

/// Says what is wrong with a machine's wall.
pub fn breach(machine: &Status) -> Option<String> {
    let (name, repair) = (&machine.name, "`sandbox repair`");
    match machine.wall? {
        Wall::Up => None,
        Wall::Missing => Some(format!(
            "the wall of machine `{name}` is missing: it may reach the host, the LAN and other machines; put it up \
             again with {repair}"
        )),
        Wall::Altered => Some(format!(
            "the wall of machine `{name}` is not what sandbox put up: another program has changed the table `inet \
             sandbox`; put it up again with {repair}, or else `sandbox restart {name}`"
        )),
    }
}

/// Shows one machine.
///
/// # Errors
/// What the user is to be told.
pub fn status(args: &Named, settings: &Settings) -> Result<Exit, Failure> {
    let name = name(&args.name)?;
    settings.need_root("status")?;
    let host = Host::new(settings);
    let machine = host.machines()?.status(&name)?;
    if settings.json() {
        ui::json(&machine);
    } else {
        ui::fields(&rows(&machine).into_iter().map(|row| field(row, &machine)).collect::<Vec<_>>());
        if let Some(text) = breach(&machine) {
            host.reporter().report(Event::Warning { text });
        }
    }
    Ok(Exit::OK)
}

/// Colours what is not a plain fact.
fn field((key, value): (&'static str, String), machine: &Status) -> (&'static str, Cell) {
    let tone = match (key, machine.wall) {
        ("state", _) => tone(machine.state),
        ("wall", Some(Wall::Up)) => Tone::Good,
        ("wall", Some(_)) | ("failed", _) => Tone::Bad,
        _ => Tone::Plain,
    };
    (key, Cell::toned(&value, tone))
}

fn rows(machine: &Status) -> Vec<(&'static str, String)> {
    let addresses: Vec<_> = machine.addresses.iter().map(ToString::to_string).collect();
    let mut rows = vec![
        ("name", machine.name.to_string()),
        ("state", word(machine.state).to_owned()),
        ("backend", life::word(machine.backend).to_owned()),
        ("image", machine.image.clone()),
        ("profiles", machine.profiles.join(", ")),
        ("packages", machine.packages.to_string()),
        ("network", format!("{:?}", machine.network).to_lowercase()),
        ("wall", machine.wall.map_or("-", wall).to_owned()),
        match &machine.place {
            Some(place) => ("place", place.words()),
            None => ("tree", machine.tree.display().to_string()),
        },
    ];
    rows.extend(machine.protected.then(|| ("protected", "yes".to_owned())));
    rows.extend(machine.ephemeral.then(|| ("ephemeral", "yes, removed when it stops".to_owned())));
    rows.extend(limits(&machine.limits).map(|words| ("limits", words)));
    if let Some(by) = &machine.holder {
        rows.push(("held by", by.clone()));
    }
    if let Some(leader) = machine.leader {
        rows.push(("leader", leader.to_string()));
        rows.push(("addresses", addresses.join(", ")));
    }
    let ports = machine.ports.iter();
    let ports = ports.map(|served| {
        let port = &served.port;
        let address = std::net::SocketAddr::new(port.address, port.port);
        ("port", format!("{address}/{}: {} ({})", port.protocol.word(), port.what, served.profile))
    });
    let volumes = machine.volumes.iter();
    let volumes =
        volumes.map(|volume| ("volume", format!("{} in {}", volume.path.display(), volume.source.display())));
    let mounts = machine.mounts.iter().map(|mount| ("mount", shown(mount)));
    rows.extend(ports.chain(volumes).chain(mounts));
    if !machine.failed_units.is_empty() {
        rows.push(("failed", machine.failed_units.join(", ")));
    }
    rows
}

const fn wall(wall: Wall) -> &'static str {
    match wall {
        Wall::Up => "up",
        Wall::Missing => "missing",
        Wall::Altered => "altered",
    }
}

/// Returns how a state is shown.
pub const fn tone(state: State) -> Tone {
    match state {
        State::Running => Tone::Good,
        State::Stopped => Tone::Faint,
        State::Starting
        | State::Degraded
        | State::Stopping
        | State::Frozen
        | State::Creating
        | State::Removing => Tone::Uneasy,
        State::Unreachable => Tone::Bad,
    }
}

/// Gives a state's word.
pub const fn word(state: State) -> &'static str {
    match state {
        State::Stopped => "stopped",
        State::Starting => "starting",
        State::Running => "running",
        State::Degraded => "degraded",
        State::Stopping => "stopping",
        State::Frozen => "frozen",
        State::Unreachable => "unreachable",
        State::Creating => "creating",
        State::Removing => "removing",
    }
}
