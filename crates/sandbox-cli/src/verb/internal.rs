//! What units and supervisors call, and what Ctrl-C does.

use std::{ffi::OsString, os::unix::process::CommandExt as _, path::PathBuf, thread, time::Duration};

use sandbox_core::{
    error::Context as _,
    host::root,
    layer::kept::{Id, Layers},
    machine::{
        Kind, direct, frozen, lxc, mounts, network, nspawn,
        record::Records,
        seccomp::{Dumps, Filter},
        snapshot::{schedule::Ran, timer},
    },
    name::MachineName,
};

use super::{
    copy, logs,
    machine::{BOOT, Host, holder, name},
    part,
};
use crate::{
    args::Internal,
    exit::{ENDING, Exit},
    failure::Failure,
    settings::Settings,
    ui,
};

/// How long a hook of a unit or of LXC may take: the host's service manager and LXC wait for it.
const HOOK: Duration = Duration::from_secs(80);

/// How long a tree may be made ahead.
const SPARE: Duration = Duration::from_secs(30 * 60);

/// Returns how long an internal verb may take, and none for those that run as long as something else does.
const fn longest(verb: &Internal) -> Option<Duration> {
    match verb {
        Internal::WallUp { .. }
        | Internal::LxcStarted { .. }
        | Internal::LxcEnded { .. }
        | Internal::Started { .. } => Some(HOOK),
        Internal::LxcAgain { .. } => Some(BOOT.saturating_mul(3)),
        Internal::Spare { .. } => Some(SPARE),
        Internal::Recover { .. } => Some(part::RECOVERY.saturating_mul(2)),
        Internal::RecoverMachine { .. } | Internal::Reap { .. } => Some(part::RECOVERY),
        Internal::Snapshot { .. } => Some(timer::DEADLINE.saturating_mul(2)),
        Internal::Delay { seconds } => Some(Duration::from_secs(seconds.saturating_add(80))),
        Internal::Supervise { .. }
        | Internal::Thaw { .. }
        | Internal::Carry { .. }
        | Internal::Confined { .. }
        | Internal::Journal { .. }
        | Internal::ForwardNames { .. }
        | Internal::KeepWalls => None,
    }
}

/// Ends this process after a time, so that what waits for it does not wait forever.
fn end_after(limit: Duration) {
    thread::spawn(move || {
        thread::sleep(limit);
        ui::notice(&format!("error: it had not ended after {} s\n", limit.as_secs()));
        #[expect(clippy::exit, reason = "the thread that does the work hangs")]
        std::process::exit(i32::from(Exit::UNAVAILABLE.0));
    });
}

/// Runs an internal verb.
///
/// # Errors
/// What the log is to be told.
pub fn run(verb: Internal, settings: &Settings) -> Result<Exit, Failure> {
    settings.need_root("internal")?;
    if let Some(limit) = longest(&verb) {
        end_after(limit);
    }
    match verb {
        Internal::RecoverMachine { name: text } => {
            // what went wrong has been reported
            let recovered = Host::new(settings).as_they_are().recover(&name(&text)?);
            Ok(recovered.map_or_else(|error| Exit::of(error.class()), |_| Exit::OK))
        }
        Internal::Snapshot { name: text } => snapshot(&text, settings),
        Internal::Carry { leader, began, errand } => Ok(copy::carry(leader, began, &errand)),
        Internal::Delay { seconds } => {
            nspawn::delay_at_boot(Duration::from_secs(seconds))?;
            Ok(Exit::OK)
        }
        Internal::Thaw { cgroup } => {
            // a unit that is stopped ends all its processes at once: this one ends with its input
            let ignored = std::sync::Arc::default();
            for signal in
                [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT, signal_hook::consts::SIGHUP]
            {
                let _ = signal_hook::flag::register(signal, std::sync::Arc::clone(&ignored));
            }
            frozen::watch_over(&cgroup).during("let go on", cgroup.display().to_string())?;
            Ok(Exit::OK)
        }
        Internal::Confined { allow, no_core_dumps, command } => {
            let dumps = if no_core_dumps { Dumps::Refused } else { Dumps::of_host() };
            Err(confined(&allow, dumps, &command))
        }
        Internal::Journal { follow, arguments } => logs::read(follow, &arguments),
        Internal::Recover { signal, paths } => recover(&paths, settings).map(|()| Exit::of_signal(signal)),
        Internal::Spare { layer } => spare(&layer, settings),
        Internal::Supervise { name: text } => {
            let name = name(&text)?;
            let definition = Records::new(&settings.state)
                .definition(&name)
                .during("supervise", format!("machine `{name}`"))?;
            let ended = direct::supervise(&definition, &settings.state);
            reap_if_ephemeral(&name, settings);
            ended?;
            Ok(Exit::OK)
        }
        Internal::WallUp { name } => wall_up(&name, settings),
        Internal::KeepWalls => {
            network::keep_walls(Host::new(settings).reporter()).during("keep", "the walls of machines")?;
            Ok(Exit::OK)
        }
        Internal::ForwardNames { link, index } => {
            network::forward(&link, index).during("forward", format!("names on the link `{link}`"))?;
            Ok(Exit::OK)
        }
        Internal::LxcStarted { name: text, leader } => {
            let name = name(&text)?;
            let definition = Records::new(&settings.state)
                .definition(&name)
                .during("start", format!("machine `{name}`"))?;
            lxc::started(&definition, &settings.state, leader)?;
            Ok(Exit::OK)
        }
        Internal::LxcEnded { name: text, target } => {
            let name = name(&text)?;
            // liblxc reboots by itself where this succeeds
            let ours = lxc::rebooted(&settings.state, &name, &target)
                && begin(&["internal", "lxc-again", name.as_str()], settings);
            reap_if_ephemeral(&name, settings);
            Ok(if ours { Exit::UNAVAILABLE } else { Exit::OK })
        }
        Internal::Reap { name: text } => {
            // LXC's hook starts this process
            lxc::leave_profile().during("remove", format!("machine `{text}`"))?;
            Host::new(settings).as_they_are().reap(&name(&text)?, &holder("reap"))?;
            Ok(Exit::OK)
        }
        Internal::LxcAgain { name: text } => {
            lxc::leave_profile().during("start", format!("machine `{text}`"))?;
            let name = name(&text)?;
            let wanted = || lxc::is_wanted(&settings.state, &name);
            Host::new(settings).as_they_are().start_again(&name, BOOT, &holder("reboot"), wanted)?;
            Ok(Exit::OK)
        }
        Internal::Started { name: text, main } => {
            let name = name(&text)?;
            let definition = Records::new(&settings.state)
                .definition(&name)
                .during("prepare", format!("machine `{name}`"))?;
            nspawn::started(&definition, &settings.state, main)?;
            Ok(Exit::OK)
        }
    }
}

/// Has another process remove a machine that has ended, where it is ephemeral and stays ended.
fn reap_if_ephemeral(name: &MachineName, settings: &Settings) {
    let record = Records::new(&settings.state).read(name);
    if record.is_ok_and(|record| record.definition.chosen.ephemeral) {
        reap(name, settings);
    }
}

/// Has another process remove an ephemeral machine that has stopped.
pub fn reap(name: &MachineName, settings: &Settings) {
    begin(&["internal", "reap", name.as_str()], settings);
}

fn spare(layer: &str, settings: &Settings) -> Result<Exit, Failure> {
    let subject = || format!("a tree of layer `{layer}`");
    let layers = Layers::new(&settings.state);
    let made = layers.find(layer).during("make ahead", subject())?;
    layers.make_spare(made.id, &holder("create")).during("make ahead", subject())?;
    Ok(Exit::OK)
}

/// Has another process make a tree of a layer ahead, which nobody waits for. Whatever becomes of it, nothing depends
/// on it.
pub fn make_spare(layer: Id, settings: &Settings) {
    begin(&["internal", "spare", &layer.to_string()], settings);
}

/// Begins something that goes on when this process has ended, and tells whether it could.
#[expect(clippy::disallowed_methods, reason = "the process goes on when this one has ended")]
fn begin(words: &[&str], settings: &Settings) -> bool {
    use std::process::{Command, Stdio};
    let begun = Command::new(&settings.program)
        .args(["--quiet", "--state-dir"])
        .arg(&settings.state)
        .args(words)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn();
    begun.is_ok()
}

/// Puts a machine's walls up, before it starts.
fn wall_up(text: &str, settings: &Settings) -> Result<Exit, Failure> {
    let name = name(text)?;
    let (host, records) = (Host::new(settings), Records::new(&settings.state));
    mounts::complete_recorded(&records, &name, &holder("start"), host.reporter());
    let definition = records.definition(&name).during("wall in", format!("machine `{name}`"))?;
    match definition.backend {
        Kind::Lxc => lxc::prepare(&definition, &settings.state, host.reporter())?,
        _ => nspawn::prepare(&definition, host.reporter())?,
    }
    Ok(Exit::OK)
}

/// Becomes a command below the filter, or reports why not.
#[expect(clippy::disallowed_methods, reason = "this process is replaced; there is no output to wait for")]
fn confined(allow: &[String], dumps: Dumps, command: &[OsString]) -> Failure {
    let Some((program, arguments)) = command.split_first() else {
        return Failure::said(Exit::USAGE, "there is no command");
    };
    if let Err(error) = Filter::new(allow, dumps).install() {
        return Failure::said(Exit::HOST, format!("the filter on system calls cannot be installed: {error}"));
    }
    let error = std::process::Command::new(program).args(arguments).exec();
    Failure::said(Exit::HOST, format!("{} cannot be executed: {error}", program.to_string_lossy()))
}

/// Undoes what makers left that died, and removes what is named.
fn recover(paths: &[PathBuf], settings: &Settings) -> Result<(), Failure> {
    for path in paths {
        // only places that we name ourselves
        if path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(".sandbox-partial")) {
            root::clear_tree(path).map_err(|error| {
                Failure::said(Exit::HOST, format!("{} cannot be removed: {error}", path.display()))
            })?;
        }
    }
    Host::new(settings).recover(part::RECOVERY)
}

/// Does the scheduled work on a machine, and prints as the last line what was done.
fn snapshot(text: &str, settings: &Settings) -> Result<Exit, Failure> {
    let name = name(text)?;
    clean_on_interrupt(settings, &[]);
    let host = Host::new(settings);
    let mut ran = Ran::new(name);
    let ended = host.as_they_are().run_schedule(&mut ran, settings.now, &holder("snapshot run"));
    let failed = ended.map_err(Failure::from).err();
    ran.problem = failed.as_ref().map(Failure::sentence);
    ui::line(&serde_json::json!(ran).to_string());
    Ok(failed.map_or(Exit::OK, |failure| failure.exit()))
}

/// From here on SIGINT, SIGTERM and SIGHUP replace this process by one that undoes its work, and exits with the code of
/// that signal.
///
/// What runs below it has asked to die with it, and its locks fall with its threads: the new program finds
/// what any later command would find after a crash, and cleans it up at once.
pub fn clean_on_interrupt(settings: &Settings, paths: &[PathBuf]) {
    let Ok(mut signals) = signal_hook::iterator::Signals::new(ENDING) else { return };
    let (settings, paths) = (settings.clone(), paths.to_vec());
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            become_recovery(signal, &paths, &settings);
        }
    });
}

#[expect(clippy::disallowed_methods, reason = "this process is replaced; there is no output to wait for")]
fn become_recovery(signal: i32, paths: &[PathBuf], settings: &Settings) {
    ui::notice("\ninterrupted: cleaning up\n");
    let error = std::process::Command::new(&settings.program)
        .args(["--quiet", "--state-dir"])
        .arg(&settings.state)
        .arg("--cache-dir")
        .arg(&settings.cache)
        .args(["internal", "recover", "--signal", &signal.to_string(), "--"])
        .args(paths)
        .exec();
    ui::notice(&format!("cannot clean up: {error}\n"));
}
