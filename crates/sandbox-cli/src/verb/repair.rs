//! `sandbox repair`.

use sandbox_core::machine::{journal::Ending, settle};

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
    if !args.dry_run {
        host.recover_layers()?;
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
    if settled.is_empty() {
        ui::line("nothing is half-made");
    }
    Ok(Exit::OK)
}
