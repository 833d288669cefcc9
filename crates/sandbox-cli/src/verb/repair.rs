//! `sandbox repair`.

use sandbox_core::{
    error::Context as _,
    machine::{journal::Ending, network, settle},
};

use super::machine::{Host, name};
use crate::{args::Repair, exit::Exit, failure::Failure, settings::Settings, ui};

/// Ends what a command that died left, and says what it did.
///
/// # Errors
/// What the user is to be told.
pub fn run(args: &Repair, settings: &Settings) -> Result<Exit, Failure> {
    let name = args.name.as_deref().map(name).transpose()?;
    settings.need_root("repair")?;
    let host = Host::new(settings);
    let machines = host.as_they_are();
    let settled = machines.repair(name.as_ref(), args.dry_run)?;
    let mut walls = 0;
    if !args.dry_run {
        host.recover_layers()?;
        walls = network::repair(&settings.program).during("put up", "the walls of machines")?;
    }
    if settings.json() {
        ui::json(&settled);
        return Ok(Exit::OK);
    }
    for one in &settled {
        let would = match one.ending {
            Ending::Undone => "undo",
            Ending::Completed => "complete",
        };
        ui::line(&match args.dry_run {
            true => format!("would {would} a `{}` of machine `{}` that had died", one.verb, one.name),
            false => settle::said(one),
        });
    }
    if walls > 0 {
        ui::line("put the walls of machines up again");
    }
    if settled.is_empty() && walls == 0 {
        ui::line("nothing is half-made");
    }
    Ok(Exit::OK)
}
