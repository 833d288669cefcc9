//! `sandbox protect`, `sandbox unprotect`: machines that are not removed by mistake.

use super::machine::{Host, holder, name};
use crate::{args::Several, exit::Exit, failure::Failure, settings::Settings, ui};

/// Protects a machine, or no longer.
///
/// # Errors
/// Where there is no such machine, or another process holds it.
pub fn run(args: &Several, wanted: bool, settings: &Settings) -> Result<Exit, Failure> {
    let name = name(args.names.first())?;
    let verb = if wanted { "protect" } else { "unprotect" };
    settings.need_root(verb)?;
    let host = Host::new(settings);
    let chosen = host.machines()?.choose(&name, &holder(verb), false, |chosen| chosen.protected = wanted)?;
    ui::done(settings, &serde_json::json!({"name": name.as_str(), "protected": chosen.protected}));
    Ok(Exit::OK)
}
