//! `sandbox set`: what a user chooses for a machine.

use sandbox_core::{
    machine::{
        Autostart, Chosen, HostFolder, Limits, chosen,
        chosen::{Cpus, Size},
        mounts::owners::Owners,
    },
    spec,
};

use super::machine::{Host, holder, name};
use crate::{
    args::{self, OrNone},
    exit::Exit,
    failure::Failure,
    settings::Settings,
    ui,
};

/// Changes what is asked for, and shows what is so now.
///
/// # Errors
/// What the user is to be told; then nothing is changed.
pub fn run(args: &args::Set, settings: &Settings) -> Result<Exit, Failure> {
    let name = name(&args.name)?;
    settings.need_root("set")?;
    let variables = args.env.iter().map(|pair| variable(pair)).collect::<Result<Vec<_>, _>>()?;
    let host = Host::new(settings);
    let machines = host.machines()?;
    let chosen = machines.choose(&name, &holder("set"), args.unenforced, |chosen| {
        edit(chosen, args, variables);
    })?;
    if settings.json() {
        ui::json(&chosen);
    } else {
        for (key, value) in rows(&chosen) {
            ui::line(&format!("{key:>12}: {value}"));
        }
    }
    Ok(Exit::OK)
}

/// Reads a variable that is to be set for every user of a machine.
///
/// # Errors
/// Exit 2 where it is none.
pub fn variable(pair: &str) -> Result<(String, String), Failure> {
    match pair.split_once('=') {
        Some((key, value)) if spec::is_variable(key) && !value.contains(['\n', '\0']) => {
            Ok((key.to_owned(), value.to_owned()))
        }
        _ => Err(Failure::said(Exit::USAGE, format!("`--env {pair}` is not KEY=VALUE in one line"))),
    }
}

/// Changes the limits that are given.
pub fn limit(
    limits: &mut Limits,
    cpus: Option<OrNone<Cpus>>,
    memory: Option<OrNone<Size>>,
    tasks: Option<OrNone<u64>>,
    disk: Option<OrNone<Size>>,
) {
    if let Some(cpus) = cpus {
        limits.cpus = cpus.0.map(|cpus| cpus.0);
    }
    if let Some(memory) = memory {
        limits.memory = memory.0.map(|memory| memory.0);
    }
    if let Some(tasks) = tasks {
        limits.tasks = tasks.0;
    }
    if let Some(disk) = disk {
        limits.disk = disk.0.map(|disk| disk.0);
    }
}

fn edit(chosen: &mut Chosen, args: &args::Set, variables: Vec<(String, String)>) {
    limit(&mut chosen.limits, args.cpus, args.memory, args.tasks, args.disk);
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

/// Words a mount.
pub fn shown(mount: &HostFolder) -> String {
    let only = if mount.read_only { ", read-only" } else { "" };
    let owners = match &mount.owners {
        Some(Owners::User(user)) => format!("owner `{}`", user.name),
        Some(Owners::Same) => "same ids".to_owned(),
        None => "of an earlier version".to_owned(),
    };
    format!("{} on {} ({owners}{only})", mount.source.display(), mount.path.display())
}
