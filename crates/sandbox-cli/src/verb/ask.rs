//! Verbs that somebody who is not root may ask systemd and machined for: polkit decides, and may ask for a password.

use std::{
    io::Read as _,
    path::Path,
    process::{Child, Stdio},
    time::Duration,
};

use sandbox_core::{
    machine::nspawn::{self, Wish},
    name::MachineName,
};

use super::machine::Host;
use crate::{exit::Exit, failure::Failure, settings::Settings};

/// polkit's own program that asks on a terminal. A desktop has another, which is asked first.
const ASKER: &str = "/usr/bin/pkttyagent";

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
    let asker = Asker::on_terminal();
    let asked = nspawn::ask(name, wish, deadline, host.reporter());
    drop(asker);
    asked?;
    Ok(Some(Exit::OK))
}

/// The program that asks, as long as there may be something to be asked.
struct Asker(Child);

impl Asker {
    /// Starts it where somebody sits at a terminal; where it is not installed nobody is asked there.
    #[expect(
        clippy::disallowed_methods,
        reason = "it speaks with polkit about this process, and ends with it"
    )]
    fn on_terminal() -> Option<Self> {
        let terminal = rustix::stdio::stdin();
        if !rustix::termios::isatty(terminal) || !Path::new(ASKER).exists() {
            return None;
        }
        let mut child = std::process::Command::new(ASKER)
            .args(["--process", &std::process::id().to_string(), "--fallback", "--notify-fd", "1"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        // it closes this once polkit knows of it, or when it cannot be
        let mut told = Vec::new();
        let _ = child.stdout.take()?.read_to_end(&mut told);
        Some(Self(child))
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        let id = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(id) = id {
            // it puts the terminal right again
            let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
            let _ = rustix::process::kill_process(id, rustix::process::Signal::CONT);
        }
        let _ = self.0.wait();
    }
}
