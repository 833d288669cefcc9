//! `sandbox secret`.

use std::io::{IsTerminal as _, Read as _};

use sandbox_core::{error::Context as _, machine::secret};

use super::machine::{Host, holder, name};
use crate::{args::Secret, exit::Exit, failure::Failure, settings::Settings, ui};

/// Returns the machine that a verb of secrets is about.
pub fn machine_of(verb: &Secret) -> &str {
    match verb {
        Secret::Set { name, .. } | Secret::List { name } | Secret::Remove { name, .. } => name,
    }
}

/// Runs a verb of secrets.
///
/// # Errors
/// What the user is to be told.
pub fn run(verb: &Secret, settings: &Settings) -> Result<Exit, Failure> {
    let name = name(machine_of(verb))?;
    settings.need_root("secret")?;
    let host = Host::new(settings);
    let machines = host.machines()?;
    match verb {
        Secret::Set { key, .. } => {
            machines.records.read(&name).during("change the secrets of", format!("machine `{name}`"))?;
            let value = value()?;
            machines.set_secret(&name, key, &value, &holder("secret set"))?;
            ui::done(settings, &serde_json::json!({"name": name.as_str(), "key": key, "set": true}));
        }
        Secret::Remove { key, .. } => {
            machines.remove_secret(&name, key, &holder("secret remove"))?;
            ui::done(settings, &serde_json::json!({"name": name.as_str(), "key": key, "removed": true}));
        }
        Secret::List { .. } => {
            let keys = machines.secrets(&name)?;
            if settings.json() {
                ui::json(&keys);
            } else {
                keys.iter().for_each(|key| ui::line(key));
            }
        }
    }
    Ok(Exit::OK)
}

/// Reads a value from standard input, without the end of its line where it has one line.
fn value() -> Result<Vec<u8>, Failure> {
    let mut stdin = std::io::stdin();
    if stdin.is_terminal() {
        ui::notice("the value is shown as you type it; end it with Enter and Ctrl-D\n");
    }
    let mut value = Vec::new();
    let read = stdin.by_ref().take(secret::LIMIT as u64 + 2).read_to_end(&mut value);
    read.map_err(|error| Failure::said(Exit::HOST, format!("the value cannot be read: {error}")))?;
    if value.iter().filter(|byte| **byte == b'\n').count() == 1 && value.last() == Some(&b'\n') {
        value.pop();
    }
    Ok(value)
}
