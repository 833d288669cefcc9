//! `sandbox rename`.

use super::machine::{BOOT, Host, holder, name, say_state};
use crate::{args::Rename, exit::Exit, failure::Failure, settings::Settings, ui};

/// Gives a machine another name.
///
/// # Errors
/// What the user is to be told.
pub fn run(args: &Rename, settings: &Settings) -> Result<Exit, Failure> {
    let (old, new) = (name(&args.name)?, name(&args.new)?);
    settings.need_root("rename")?;
    let host = Host::new(settings);
    let machines = host.machines()?;
    let holder = holder("rename");
    let restart = args.restart && machines.status(&old)?.leader.is_some();
    if restart {
        machines.stop(&old, sandbox_core::machine::life::STOP_DEADLINE, &holder)?;
    }
    let renamed = machines.rename(&old, &new, &holder);
    if restart {
        let name = if renamed.is_ok() { &new } else { &old };
        let started = machines.start(name, BOOT, &holder);
        if renamed.is_ok() {
            say_state(name, &started?, settings);
        }
    }
    renamed?;
    ui::done(settings, &serde_json::json!({"name": new.as_str(), "was": old.as_str()}));
    Ok(Exit::OK)
}
