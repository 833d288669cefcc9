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
    let name = name(&args.name)?;
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
