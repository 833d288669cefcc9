//! `sandbox enable`, `sandbox disable` and `sandbox start --all`: machines that start with their host.

use std::{thread, time::Duration};

use sandbox_core::{
    machine::{Kind, direct},
    report::Event,
};

use super::{
    machine::{BOOT, Host, holder, name},
    part,
};
use crate::{args::Several, exit::Exit, failure::Failure, settings::Settings, ui};

/// Starts a machine with the host from now on.
///
/// # Errors
/// What the user is to be told.
pub fn enable(args: &Several, settings: &Settings) -> Result<Exit, Failure> {
    change(args, settings, true)
}

/// Starts a machine with the host no longer.
///
/// # Errors
/// What the user is to be told.
pub fn disable(args: &Several, settings: &Settings) -> Result<Exit, Failure> {
    change(args, settings, false)
}

fn change(args: &Several, settings: &Settings, wanted: bool) -> Result<Exit, Failure> {
    let name = name(args.names.first())?;
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

/// How long the start of one machine may take in all: what waits for its boot ends before.
const START: Duration = Duration::from_secs(BOOT.as_secs() + 120);

/// Starts all machines that start with the host and do not run, in order, each by a process of its own; one that fails
/// keeps no other from it.
///
/// # Errors
/// Those that did not start, with the worst exit code.
pub fn start_all(settings: &Settings) -> Result<Exit, Failure> {
    settings.need_root("start")?;
    let host = Host::new(settings);
    let machines = host.machines()?;
    let (mut failed, mut worst) = (Vec::new(), Exit::OK);
    let started = machines.autostarted()?;
    if started.is_empty() {
        let text = "no machine starts with the host: `sandbox enable NAME` has one do so";
        host.reporter().report(Event::Notice { text: text.to_owned() });
    }
    for (name, delay) in started {
        if machines.look_at(&name).is_ok_and(|(_, leader)| leader.is_some()) {
            continue;
        }
        thread::sleep(delay);
        let ended = part::job(&["start", name.as_str()], settings).run(START);
        let (exit, how) = match ended {
            Ok(ended) => {
                ui::passed_through(&ended.out, &[]);
                part::outcome(ended.ending, START)
            }
            Err(error) => (Exit::HOST, Some(format!("no process can be started: {error}"))),
        };
        if let Some(how) = how {
            let text = format!("could not start machine `{name}`: {how}");
            host.reporter().report(Event::Warning { text });
        }
        if exit != Exit::OK {
            failed.push(name.to_string());
            worst = worst.or_worse(exit);
        }
    }
    if failed.is_empty() {
        return Ok(Exit::OK);
    }
    Err(Failure::said(worst, format!("not started: {}", failed.join(", "))))
}
