//! `sandbox list` and `sandbox status`.

use sandbox_core::{
    machine::{Foreign, State, life, life::Status, network::Wall},
    report::Event,
};

use super::{
    internal,
    machine::{Host, name},
    set::shown,
};
use crate::{args::Named, exit::Exit, failure::Failure, settings::Settings, ui};

/// Lists the machines.
///
/// # Errors
/// What the user is to be told.
pub fn list(settings: &Settings) -> Result<Exit, Failure> {
    settings.need_root("list")?;
    let host = Host::new(settings);
    let all = host.machines()?;
    let (machines, worst) = all.list()?;
    let worst = worst.map_or(Exit::OK, Exit::of);
    // one that stopped with the host has nothing else that removes it
    let gone = machines.iter().filter(|machine| machine.ephemeral && machine.state == State::Stopped);
    gone.for_each(|machine| internal::reap(&machine.name, settings));
    // a host where they cannot be listed has none that matter
    let foreign = all.foreign().unwrap_or_default();
    if settings.json() {
        let ours = machines.iter().map(|machine| serde_json::json!(machine));
        let theirs = foreign.iter().map(|found| {
            serde_json::json!({
                "name": found.name, "state": foreign_state(found), "backend": found.backend,
                "tree": found.tree, "foreign": true,
            })
        });
        ui::json(&ours.chain(theirs).collect::<Vec<_>>());
        return Ok(worst);
    }
    if machines.is_empty() && foreign.is_empty() {
        ui::notice(
            "no machines\n\nhint: make one:  sandbox create agents --release trixie --profile docker,claude,codex\n",
        );
        return Ok(worst);
    }
    let rows: Vec<Vec<String>> = machines
        .iter()
        .map(|machine| {
            vec![
                machine.name.to_string(),
                word(machine.state).to_owned(),
                life::word(machine.backend).to_owned(),
                machine.image.clone(),
                machine.profiles.join(","),
                machine.addresses.first().map_or_else(|| "-".to_owned(), ToString::to_string),
            ]
        })
        .collect();
    let theirs = foreign.iter().map(|found| {
        let backend = life::word(found.backend).to_owned();
        let dash = || "-".to_owned();
        vec![
            found.name.clone(),
            foreign_state(found).to_owned(),
            backend,
            "foreign".to_owned(),
            dash(),
            dash(),
        ]
    });
    let rows: Vec<_> = rows.into_iter().chain(theirs).collect();
    ui::table(&["NAME", "STATE", "BACKEND", "IMAGE", "PROFILES", "ADDRESS"], &rows);
    for text in machines.iter().filter_map(breach) {
        host.reporter().report(Event::Warning { text });
    }
    Ok(worst)
}

/// Says what is wrong with a machine's wall.
fn breach(machine: &Status) -> Option<String> {
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

const fn foreign_state(found: &Foreign) -> &'static str {
    if found.running { "running" } else { "stopped" }
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
        for (key, value) in rows(&machine) {
            ui::line(&format!("{key:>10}: {value}"));
        }
        if let Some(text) = breach(&machine) {
            host.reporter().report(Event::Warning { text });
        }
    }
    Ok(Exit::OK)
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
    }
}
