//! `sandbox remove`.

use sandbox_core::{
    error::Context as _,
    machine::{
        life::{Machines, Volumes},
        record::{self, Doing},
    },
    name::MachineName,
    report::Event,
};

use super::machine::{Host, holder, name};
use crate::{args::Remove, exit::Exit, failure::Failure, settings::Settings, ui};

/// Removes a machine, asked for twice.
///
/// # Errors
/// What the user is to be told.
pub fn run(args: &Remove, settings: &Settings) -> Result<Exit, Failure> {
    let name = name(args.names.first())?;
    settings.need_root("remove")?;
    let host = Host::new(settings);
    let machines = host.machines()?;
    match machines.records.read(&name) {
        Err(record::Error::Half { .. }) => return rest(args.yes, &name, &machines, settings),
        Err(record::Error::Busy { doing: Doing::Removing, .. }) => {
            return rest(true, &name, &machines, settings);
        }
        Err(busy @ record::Error::Busy { doing: Doing::Making, .. }) => {
            return Ok(Err(busy).during("remove", format!("machine `{name}`"))?);
        }
        _ => {}
    }
    machines.refuse_protected(&name, "remove")?;
    let status = machines.status(&name)?;
    let paths: Vec<_> = status.volumes.iter().map(|volume| volume.path.display().to_string()).collect();
    let kept = match (paths.is_empty(), args.keep_volumes) {
        (true, _) => String::new(),
        (false, true) => format!(" Its volumes stay: {}.", paths.join(", ")),
        (false, false) => {
            format!(
                " Its volumes go with it, logins and work among them: {} (--keep-volumes).",
                paths.join(", ")
            )
        }
    };
    if args.yes && !kept.is_empty() {
        host.reporter().report(Event::Notice { text: kept.trim().to_owned() });
    }
    if !args.yes {
        let question =
            format!("Remove machine `{name}` with all that is in it ({})?{kept}", status.tree.display());
        if !ui::confirm(&question, settings.interactive, &format!("sandbox remove {name} --yes"))? {
            return Ok(Exit::UNAVAILABLE);
        }
    }
    machines.remove(
        &name,
        if args.keep_volumes { Volumes::Kept } else { Volumes::Removed },
        &holder("remove"),
    )?;
    super::snapshot::set_timer(&machines, settings)?;
    ui::done(
        settings,
        &serde_json::json!({"name": name.as_str(), "removed": true, "volumes_kept": args.keep_volumes}),
    );
    Ok(Exit::OK)
}

/// Asks once whether machines are to be removed, each named with what goes with it.
///
/// # Errors
/// Where there is no terminal to ask at, or the machines cannot be read.
pub fn is_wanted(names: &[String], args: &Remove, settings: &Settings) -> Result<bool, Failure> {
    settings.need_root("remove")?;
    if args.yes {
        return Ok(true);
    }
    let machines = Host::new(settings);
    let machines = machines.as_they_are();
    let mut question = String::new();
    for text in names {
        let there = match machines.records.read(&name(text)?) {
            Ok(record) if record.definition.chosen.protected => "protected, and stays".to_owned(),
            Ok(record) => {
                let definition = record.definition;
                let volumes = definition.volumes.iter().map(|volume| volume.path.display().to_string());
                let volumes: Vec<_> = if args.keep_volumes { Vec::new() } else { volumes.collect() };
                let tree = definition.tree.display();
                if volumes.is_empty() {
                    tree.to_string()
                } else {
                    format!("{tree}; volumes {}", volumes.join(", "))
                }
            }
            Err(record::Error::Missing { .. }) => "does not exist".to_owned(),
            Err(_) => "half removed or half made".to_owned(),
        };
        question += &format!("  {text}: {there}\n");
    }
    let kept = if args.keep_volumes {
        "; their volumes stay"
    } else {
        ", logins and work in volumes among it (--keep-volumes)"
    };
    question += &format!("Remove these machines with all that is in them{kept}?");
    let command = format!("{} --yes", settings.typed);
    ui::confirm(&question, settings.interactive, &command)
}

/// Removes what is left of a half-removed or half-made machine.
fn rest(
    yes: bool,
    name: &MachineName,
    machines: &Machines<'_>,
    settings: &Settings,
) -> Result<Exit, Failure> {
    if !yes {
        let question = format!("Machine `{name}` is half removed or half made. Remove what is left of it?");
        if !ui::confirm(&question, settings.interactive, &format!("sandbox remove {name} --yes"))? {
            return Ok(Exit::UNAVAILABLE);
        }
    }
    machines.remove_rest(name)?;
    super::snapshot::set_timer(machines, settings)?;
    ui::done(settings, &serde_json::json!({"name": name.as_str(), "removed": true}));
    Ok(Exit::OK)
}
