//! `sandbox enable`, `sandbox disable` and `sandbox start --all`: machines that start with their host.

use std::thread;

use sandbox_core::{
    machine::{Kind, direct},
    report::Event,
};

use super::machine::{BOOT, Host, holder, name, say_state};
use crate::{args::Named, exit::Exit, failure::Failure, settings::Settings, ui};

/// Starts a machine with the host from now on.
///
/// # Errors
/// What the user is to be told.
pub fn enable(args: &Named, settings: &Settings) -> Result<Exit, Failure> {
    change(args, settings, true)
}

/// Starts a machine with the host no longer.
///
/// # Errors
/// What the user is to be told.
pub fn disable(args: &Named, settings: &Settings) -> Result<Exit, Failure> {
    change(args, settings, false)
}

fn change(args: &Named, settings: &Settings, wanted: bool) -> Result<Exit, Failure> {
    let name = name(&args.name)?;
    settings.need_root(if wanted { "enable" } else { "disable" })?;
    let host = Host::new(settings);
    let machines = host.machines()?;
    let chosen = machines.choose(&name, &holder("enable"), false, |chosen| {
        chosen.autostart = wanted.then(|| chosen.autostart.unwrap_or_default());
    })?;
    let (definition, _) = machines.look_at(&name)?;
    if wanted && definition.backend == Kind::Direct && !direct::autostart::is_there() {
        let text = "the backend `direct` has nobody who starts it with the host: have the host run \
                    `sandbox start --all` when it boots (docs/guide/machines.md says how)";
        host.reporter().report(Event::Notice { text: text.to_owned() });
    }
    if settings.json() {
        ui::json(&serde_json::json!({"name": name.as_str(), "autostart": chosen.autostart}));
    }
    Ok(Exit::OK)
}

/// Starts all machines that start with the host and do not run, in order; one that fails keeps no other from it.
///
/// # Errors
/// Exit 1 names those that did not start.
pub fn start_all(settings: &Settings) -> Result<Exit, Failure> {
    settings.need_root("start")?;
    let host = Host::new(settings);
    let machines = host.machines()?;
    let mut failed = Vec::new();
    for (name, delay) in machines.autostarted()? {
        if machines.look_at(&name)?.1.is_some() {
            continue;
        }
        thread::sleep(delay);
        match machines.start(&name, BOOT, &holder("start --all")) {
            Ok(state) => say_state(&name, &state, settings),
            Err(error) => {
                let text = Failure::from(error).text();
                host.reporter().report(Event::Warning { text: text.trim_end().to_owned() });
                failed.push(name.to_string());
            }
        }
    }
    if failed.is_empty() {
        return Ok(Exit::OK);
    }
    Err(Failure::said(Exit::UNAVAILABLE, format!("not started: {}", failed.join(", "))))
}
