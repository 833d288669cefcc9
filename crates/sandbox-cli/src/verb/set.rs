//! `sandbox set`: what a user chooses for a machine.

use sandbox_core::machine::{
    Autostart, Chosen, HostFolder, Limits, chosen,
    chosen::{Cpus, Size},
    mounts::owners::Owners,
};

use super::{
    machine::{Host, holder, name},
    variable,
};
use crate::{args, exit::Exit, failure::Failure, settings::Settings, table::Cell, ui};

/// Changes what is asked for, and shows what is so now.
///
/// # Errors
/// What the user is to be told; then nothing is changed.
pub fn run(args: &args::Set, settings: &Settings) -> Result<Exit, Failure> {
    let name = name(&args.name)?;
    settings.need_root("set")?;
    let variables = args
        .env
        .iter()
        .map(|pair| variable::read_line(pair, name.as_str()))
        .collect::<Result<Vec<_>, _>>()?;
    let host = Host::new(settings);
    let machines = host.machines()?;
    variable::check(&machines, &name, &variables, settings)?;
    let chosen = machines.choose(&name, &holder("set"), args.unenforced, |chosen| {
        edit(chosen, args, variables);
    })?;
    if settings.json() {
        ui::json(&chosen);
    } else {
        let fields = rows(&chosen).into_iter().map(|(key, value)| (key, Cell::from(value)));
        ui::fields(&fields.collect::<Vec<_>>());
    }
    Ok(Exit::OK)
}

/// Changes the limits that are given.
pub fn limit(limits: &mut Limits, given: &args::Limited) {
    if let Some(cpus) = given.cpus {
        limits.cpus = cpus.0.map(|cpus| cpus.0);
    }
    if let Some(memory) = given.memory {
        limits.memory = memory.0.map(|memory| memory.0);
    }
    if let Some(tasks) = given.tasks {
        limits.tasks = tasks.0;
    }
    if let Some(disk) = given.disk {
        limits.disk = disk.0.map(|disk| disk.0);
    }
}

fn edit(chosen: &mut Chosen, args: &args::Set, variables: Vec<(String, String)>) {
    limit(&mut chosen.limits, &args.limits);
    if let Some(weight) = args.cpu_weight {
        chosen.limits.cpu_weight = weight.0.map(|weight| weight.0);
    }
    if let Some(dumps) = args.core_dumps {
        chosen.limits.no_core_dumps = dumps == args::YesNo::No;
    }
    chosen.environment.extend(variables);
    for key in &args.unset_env {
        chosen.environment.remove(key);
    }
    if let Some(restart) = args.restart {
        chosen.restart = match restart {
            args::Restart::No => chosen::Restart::No,
            args::Restart::OnFailure => chosen::Restart::OnFailure,
            args::Restart::Always => chosen::Restart::Always,
        };
    }
    if let Some(ephemeral) = args.ephemeral {
        chosen.ephemeral = ephemeral == args::YesNo::Yes;
    }
    let asked = args.start_order.is_some() || args.start_delay.is_some();
    match args.autostart {
        Some(args::YesNo::No) => chosen.autostart = None,
        Some(args::YesNo::Yes) => chosen.autostart = Some(chosen.autostart.unwrap_or_default()),
        // an order is of no use without
        None if asked => chosen.autostart = Some(chosen.autostart.unwrap_or_default()),
        None => {}
    }
    if let Some(Autostart { order, delay }) = &mut chosen.autostart {
        *order = args.start_order.unwrap_or(*order);
        *delay = args.start_delay.unwrap_or(*delay);
    }
}

fn rows(chosen: &Chosen) -> Vec<(&'static str, String)> {
    let none = || "no limit".to_owned();
    let size = |size: Option<u64>| size.map_or_else(none, |size| Size(size).to_string());
    let limits = &chosen.limits;
    let mut rows = vec![
        ("cpus", limits.cpus.map_or_else(none, |cpus| Cpus(cpus).to_string())),
        ("memory", size(limits.memory)),
        ("tasks", limits.tasks.map_or_else(none, |tasks| tasks.to_string())),
        ("cpu weight", limits.cpu_weight.map_or_else(none, |weight| weight.to_string())),
        ("core dumps", if limits.no_core_dumps { "no" } else { "yes" }.to_owned()),
        ("disk", size(limits.disk)),
        (
            "autostart",
            chosen.autostart.map_or_else(
                || "no".to_owned(),
                |start| format!("yes, order {}, after {} s", start.order, start.delay),
            ),
        ),
        ("restart", chosen.restart.word().to_owned()),
        ("protected", if chosen.protected { "yes" } else { "no" }.to_owned()),
    ];
    rows.extend(chosen.ephemeral.then(|| ("ephemeral", "yes, removed when it stops".to_owned())));
    rows.extend(chosen.environment.iter().map(|(key, value)| ("environment", format!("{key}={value}"))));
    rows.extend(chosen.mounts.iter().map(|mount| ("mount", shown(mount))));
    rows
}

/// Words the limits of a machine in one line; none where it has none.
pub fn limits(limits: &Limits) -> Option<String> {
    let all = [
        limits.cpus.map(|cpus| format!("{} processors", Cpus(cpus))),
        limits.memory.map(|memory| format!("memory {}", Size(memory))),
        limits.tasks.map(|tasks| format!("{tasks} tasks")),
        limits.disk.map(|disk| format!("disk {}", Size(disk))),
        limits.cpu_weight.map(|weight| format!("cpu weight {weight}")),
        limits.no_core_dumps.then(|| "no core dumps".to_owned()),
    ];
    let all: Vec<_> = all.into_iter().flatten().collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// Words a mount.
pub fn shown(mount: &HostFolder) -> String {
    let only = match (mount.read_only, mount.writable_git) {
        (true, _) => ", read-only",
        (_, true) => ", git writable",
        _ => "",
    };
    let owners = match &mount.owners {
        Some(Owners::User(user)) => format!("owner `{}`", user.name),
        Some(Owners::Same) => "same ids".to_owned(),
        None => "of an earlier version".to_owned(),
    };
    format!("{} on {} ({owners}{only})", mount.source.display(), mount.path.display())
}
