//! `sandbox kill`.

use std::time::Duration;

use sandbox_core::machine::{nspawn::Wish, processes};

use super::{
    ask,
    machine::{Host, name},
};
use crate::{
    args::{Kill, Whom},
    exit::Exit,
    failure::Failure,
    settings::Settings,
    ui,
};

/// Sends a signal to a machine's processes.
///
/// # Errors
/// What the user is to be told.
pub fn run(args: &Kill, settings: &Settings) -> Result<Exit, Failure> {
    let name = name(args.names.first())?;
    if args.whom == Whom::Leader
        && let Some(asked) =
            ask::instead(&name, Wish::Signal(args.signal.number()), Duration::ZERO, settings)?
    {
        return Ok(asked);
    }
    settings.need_root("kill")?;
    let whom = match args.whom {
        Whom::Leader => processes::Whom::Leader,
        Whom::All => processes::Whom::All,
    };
    let host = Host::new(settings);
    let count = host.as_they_are().kill(&name, args.signal, whom)?;
    if settings.json() {
        let signal = args.signal.to_string();
        ui::json(&serde_json::json!({"name": name.as_str(), "signal": signal, "processes": count}));
    }
    Ok(Exit::OK)
}
