//! Verbs that somebody who is not root may ask systemd and machined for: polkit decides, and may ask for a password.

use std::{path::Path, time::Duration};

use sandbox_core::{
    machine::nspawn::{self, Wish},
    name::MachineName,
};

use super::machine::Host;
use crate::{exit::Exit, failure::Failure, settings::Settings};

/// Asks where this is not root and machined is here; none where this is root or there is nobody to ask.
///
/// # Errors
/// Where polkit does not allow it, or the machine is none of ours.
pub fn instead(
    name: &MachineName,
    wish: Wish,
    deadline: Duration,
    settings: &Settings,
) -> Result<Option<Exit>, Failure> {
    if nix::unistd::geteuid().is_root() || !Path::new("/run/systemd/system").exists() {
        return Ok(None);
    }
    let host = Host::new(settings);
    nspawn::ask(name, wish, deadline, host.reporter())?;
    Ok(Some(Exit::OK))
}
