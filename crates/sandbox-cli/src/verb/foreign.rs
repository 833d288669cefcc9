//! Machines that somebody else made: never changed unless they are adopted.

use sandbox_core::{
    machine::{Foreign, life},
    name::MachineName,
    report::Event,
};

use super::machine::{Host, holder};
use crate::{exit::Exit, failure::Failure, settings::Settings};

/// Refuses a machine of somebody else's, or adopts it where that is asked for. One that is ours costs one look.
///
/// # Errors
/// Exit 1 where it is none of ours.
pub fn check(text: &str, settings: &Settings) -> Result<(), Failure> {
    let known = MachineName::new(text).is_ok_and(|name| settings.state.join("machines").join(name).exists());
    if known || !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let host = Host::new(settings);
    let machines = host.as_they_are();
    // a host where they cannot be listed says so where it matters
    let Some(found) = machines.foreign().unwrap_or_default().into_iter().find(|found| found.name == text)
    else {
        return Ok(());
    };
    if !settings.adopt {
        return Err(Failure::said(Exit::UNAVAILABLE, refused(&found))
            .hint("make it one of ours first", format!("sandbox set {text} --adopt")));
    }
    let name = machines.adopt(&found, &settings.program, settings.now, &holder("adopt"))?;
    let text = format!(
        "machine `{name}` is one of ours from now on; from its next start on it has our settings, a wall among them"
    );
    host.reporter().report(Event::Notice { text });
    Ok(())
}

fn refused(found: &Foreign) -> String {
    format!(
        "`{}` is a machine of backend `{}` that `sandbox` did not make, and is left alone",
        found.name,
        life::word(found.backend)
    )
}
