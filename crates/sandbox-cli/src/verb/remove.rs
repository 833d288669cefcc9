//! `sandbox remove`.

use sandbox_core::machine::life::Volumes;

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
    let status = machines.status(&name)?;
    if !args.yes {
        let question = format!("Remove machine `{name}` with all that is in it ({})?", status.tree.display());
        if !ui::confirm(&question, settings.interactive, &format!("sandbox remove {name} --yes"))? {
            return Ok(Exit::UNAVAILABLE);
        }
    }
    machines.remove(&name, Volumes::Removed, &holder("remove"))?;
    Ok(Exit::OK)
}
