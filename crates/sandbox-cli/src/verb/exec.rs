//! `sandbox exec` and `sandbox shell`.

use sandbox_core::{error::Context as _, machine::Leader, name::MachineName, session};

use super::machine::{Host, name};
use crate::{args, exit::Exit, failure::Failure, settings::Settings};

/// Runs a command in a machine and ends as it ended.
///
/// # Errors
/// What the user is to be told; exit 125.
pub fn exec(args: args::Exec, settings: &Settings) -> Result<Exit, Failure> {
    let name = name(&args.name)?;
    settings.need_root("exec")?;
    let env = args.env.iter().map(|pair| variable(pair)).collect::<Result<Vec<_>, _>>()?;
    let subject = || format!("machine `{name}`");
    let carrier = session::carrier().during("run a command in", subject())?;
    let leader = leader(&name, settings)?;
    let terminal = args.wants_terminal(settings.on_terminal);
    let request = session::Request {
        argv: args.command,
        user: args.user,
        env,
        cwd: args.cwd,
        terminal,
        emulator: settings.emulator.clone(),
    };
    let ended = session::exec_by(carrier, &leader, &request).during("run a command in", subject())?;
    Ok(Exit(ended.code()))
}

/// Opens a login shell in a machine.
///
/// # Errors
/// What the user is to be told; exit 125.
pub fn shell(args: args::Shell, settings: &Settings) -> Result<Exit, Failure> {
    let name = name(&args.name)?;
    settings.need_root("shell")?;
    let subject = || format!("machine `{name}`");
    let carrier = session::carrier().during("open a shell in", subject())?;
    let leader = leader(&name, settings)?;
    let ended = session::shell(carrier, &leader, args.user.as_deref(), &settings.emulator)
        .during("open a shell in", subject())?;
    Ok(Exit(ended.code()))
}

/// Finds the first process of a machine that runs.
///
/// # Errors
/// Where it does not run.
pub fn leader(name: &MachineName, settings: &Settings) -> Result<Leader, Failure> {
    Ok(Host::new(settings).as_they_are().leader(name, "enter")?)
}

fn variable(pair: &str) -> Result<(String, String), Failure> {
    match pair.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(Failure::said(Exit::USAGE, format!("`--env {pair}` is not KEY=VALUE"))),
    }
}
