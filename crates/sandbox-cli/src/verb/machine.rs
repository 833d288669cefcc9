//! What the verbs of machines share, and those that are one call: start, stop, restart.

use std::time::Duration;

use sandbox_core::{
    error::{Context as _, shell_word},
    layer::kept::Layers,
    machine::{
        Backend, Declared,
        direct::Direct,
        guest::GuestState,
        life::Machines,
        lxc::Lxc,
        nspawn::{Nspawn, Wish},
        proxmox::Proxmox,
        record::Records,
    },
    name::MachineName,
    report::{Event, Reporter},
};

use super::{ask, part, snapshot};
use crate::{
    args::{Start, Stop},
    exit::Exit,
    failure::Failure,
    progress::Progress,
    settings::{Display, Settings},
    ui,
};

/// How long a machine may take to boot where nobody says otherwise.
pub const BOOT: Duration = Duration::from_secs(120);

/// The backends of this program, and who listens.
pub struct Host {
    nspawn: Nspawn,
    lxc: Lxc,
    direct: Direct,
    proxmox: Proxmox,
    progress: Progress,
    records: Records,
    layers: Layers,
    settings: Settings,
}

impl Host {
    /// Makes the backends of the settings; nothing is asked of the host yet.
    pub fn new(settings: &Settings) -> Self {
        Self {
            nspawn: Nspawn::new(&settings.state),
            lxc: Lxc::new(&settings.state),
            direct: Direct::new(&settings.state, &settings.program),
            proxmox: Proxmox::new(&settings.state),
            progress: Progress::new(settings),
            records: Records::new(&settings.state).waiting(settings.lock_wait),
            layers: Layers::new(&settings.state),
            settings: settings.clone(),
        }
    }

    /// Gives the machines, after cleaning up what dead makers left. What takes long goes on in the background.
    ///
    /// # Errors
    /// Where the records cannot be read.
    pub fn machines(&self) -> Result<Machines<'_>, Failure> {
        self.recover(part::BRIEFLY)?;
        Ok(self.as_they_are())
    }

    /// Cleans up what dead makers left, for a time at most.
    ///
    /// # Errors
    /// Where the records cannot be read.
    pub fn recover(&self, patience: Duration) -> Result<(), Failure> {
        let machines = self.as_they_are();
        let unfinished = machines.unfinished(None)?;
        if !unfinished.is_empty() {
            part::recover(&machines, unfinished, patience, &self.settings);
        }
        // no verb on machines depends on it
        if let Err(failure) = self.recover_layers() {
            self.progress.report(Event::Warning { text: failure.sentence() });
        }
        Ok(())
    }

    /// Cleans up what dead builders of layers left.
    ///
    /// # Errors
    /// Where it cannot be.
    pub fn recover_layers(&self) -> Result<(), Failure> {
        let count = self.layers.recover().during("clean up", "half-made layers")?;
        if count > 0 {
            let text = format!("cleaned up {count} half-made layer{}", if count == 1 { "" } else { "s" });
            self.progress.report(Event::Notice { text });
        }
        Ok(())
    }

    /// Gives the machines as they are.
    pub fn as_they_are(&self) -> Machines<'_> {
        let backends: Vec<&dyn Backend> = vec![&self.nspawn, &self.lxc, &self.direct, &self.proxmox];
        Machines { records: self.records.clone(), backends, reporter: &self.progress }
    }

    /// Gives the backend of LXC.
    pub const fn lxc(&self) -> &Lxc {
        &self.lxc
    }

    /// Gives who listens.
    pub fn reporter(&self) -> &dyn Reporter {
        &self.progress
    }
}

/// Checks a machine's name.
///
/// # Errors
/// Exit 2 with what is wrong.
pub fn name(text: &str) -> Result<MachineName, Failure> {
    MachineName::new(text).map_err(|invalid| Failure::said(Exit::USAGE, invalid.to_string()))
}

/// Says who holds a machine, for others who want it.
pub fn holder(verb: &str) -> String {
    format!("process {} (sandbox {verb})", std::process::id())
}

/// Tells how a boot ended.
pub fn say_state(name: &MachineName, state: &GuestState, settings: &Settings) {
    if settings.json() {
        ui::line(
            &serde_json::json!({"event": "booted", "name": name.as_str(), "state": state.to_string()})
                .to_string(),
        );
    } else if let GuestState::Degraded { failed } = state {
        ui::notice(&format!(
            "warning: machine `{name}` is degraded: {} failed\n\nhint: see why:  sandbox exec {name} -- systemctl status {}\n",
            ui::word(&failed.join(", ")),
            ui::word(&failed.join(" "))
        ));
    }
}

/// Says what a user does next with a machine that was just made: starts it or opens a shell, and logs in to agents.
pub fn say_next(name: &MachineName, declared: &Declared, started: bool, settings: &Settings) {
    if !matches!(settings.display, Display::Bars | Display::Lines) {
        return;
    }
    let rows = next(name, declared, started);
    let width = rows.iter().map(|(command, _)| command.chars().count()).max().unwrap_or(0);
    let lines = rows.iter().map(|(command, what)| format!("  {command:<width$}  {what}\n"));
    ui::notice(&format!("next:\n{}", lines.collect::<String>()));
}

fn next(name: &MachineName, declared: &Declared, started: bool) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    if !started {
        rows.push((format!("sandbox start {name}"), "start it".to_owned()));
    }
    rows.push((format!("sandbox shell {name}"), "open a shell in it".to_owned()));
    for login in &declared.logins {
        let argv: Vec<_> = login.argv.iter().map(|word| shell_word(word)).collect();
        let command = format!("sandbox exec -t --user agent {name} -- {}", argv.join(" "));
        rows.push((command, format!("log in to {}", login.agent)));
    }
    if !declared.ports.is_empty() {
        rows.push((format!("sandbox status {name}"), "see its ports and addresses".to_owned()));
    }
    rows
}

/// `sandbox start`.
///
/// # Errors
/// What the user is to be told.
pub fn start(args: &Start, settings: &Settings) -> Result<Exit, Failure> {
    let name = name(args.names.first())?;
    if let Some(asked) = ask::instead(&name, Wish::Start, BOOT, settings)? {
        return Ok(asked);
    }
    settings.need_root("start")?;
    let host = Host::new(settings);
    let state = host.machines()?.start(&name, BOOT, &holder("start"))?;
    say_state(&name, &state, settings);
    Ok(Exit::OK)
}

/// `sandbox stop`.
///
/// # Errors
/// What the user is to be told.
pub fn stop(args: &Stop, settings: &Settings) -> Result<Exit, Failure> {
    let name = name(args.names.first())?;
    let deadline = Duration::from_secs(args.timeout);
    if let Some(asked) = ask::instead(&name, Wish::Stop, deadline, settings)? {
        return Ok(asked);
    }
    settings.need_root("stop")?;
    let host = Host::new(settings);
    let machines = host.machines()?;
    let removed = machines.end(&name, deadline, &holder("stop"))?;
    if removed {
        snapshot::set_timer(&machines, settings)?;
        let text = format!("machine `{name}` was ephemeral, and is removed");
        host.reporter().report(Event::Notice { text });
    }
    let state = if removed { "removed" } else { "stopped" };
    ui::done(settings, &serde_json::json!({"name": name.as_str(), "state": state}));
    Ok(Exit::OK)
}

/// `sandbox restart`.
///
/// # Errors
/// What the user is to be told.
pub fn restart(args: &Stop, settings: &Settings) -> Result<Exit, Failure> {
    let name = name(args.names.first())?;
    settings.need_root("restart")?;
    let host = Host::new(settings);
    let machines = host.machines()?;
    machines.stop(&name, Duration::from_secs(args.timeout), &holder("restart"))?;
    let state = machines.start(&name, BOOT, &holder("restart"))?;
    say_state(&name, &state, settings);
    Ok(Exit::OK)
}

#[cfg(test)]
mod tests {
    use sandbox_core::machine::Login;

    use super::*;

    #[test]
    fn what_comes_next_can_be_typed() {
        let argv = ["a b", "auth", "login"].map(str::to_owned).to_vec();
        let declared =
            Declared { logins: vec![Login { agent: "a".to_owned(), argv }], ..Declared::default() };
        let commands = |declared: &Declared, started| -> Vec<String> {
            next(&MachineName::new("m").unwrap(), declared, started)
                .into_iter()
                .map(|(command, _)| command)
                .collect()
        };
        assert_eq!(commands(&Declared::default(), true), ["sandbox shell m"]);
        assert_eq!(
            commands(&declared, false),
            ["sandbox start m", "sandbox shell m", "sandbox exec -t --user agent m -- 'a b' auth login"]
        );
    }
}
