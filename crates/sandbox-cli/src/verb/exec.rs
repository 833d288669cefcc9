//! `sandbox exec` and `sandbox shell`.

use sandbox_core::{error::Context as _, machine::Leader, name::MachineName, session};

use super::{
    machine::{Host, name},
    variable,
};
use crate::{args, exit::Exit, failure::Failure, settings::Settings, ui};

/// Runs a command in a machine and ends as it ended.
///
/// # Errors
/// What the user is to be told; exit 125.
pub fn exec(args: args::Exec, settings: &Settings) -> Result<Exit, Failure> {
    let name = name(&args.name)?;
    settings.need_root("exec")?;
    let env =
        args.env.iter().map(|pair| variable::read(pair, name.as_str())).collect::<Result<Vec<_>, _>>()?;
    let subject = || format!("machine `{name}`");
    let carrier = session::carrier().during("run a command in", subject())?;
    let leader = leader(&name, settings)?;
    let command = args.command.first().cloned().unwrap_or_default();
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
    Ok(exit(ended, &command, &name))
}

/// Returns the exit code of a payload, and says why one has not begun.
fn exit(ended: session::Exit, command: &str, name: &MachineName) -> Exit {
    if let Some(text) = unstarted(ended, command, name) {
        ui::failure(&Failure::said(Exit(ended.code()), text).text());
    }
    Exit(ended.code())
}

/// Words why a payload has not begun; none where it has.
fn unstarted(ended: session::Exit, command: &str, name: &MachineName) -> Option<String> {
    match ended {
        session::Exit::NotFound => Some(format!("{}: not found in {name}", ui::word(command))),
        session::Exit::NotExecutable => Some(format!("{}: not executable in {name}", ui::word(command))),
        _ => None,
    }
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
    Ok(exit(ended, "sh", &name))
}

/// Finds the first process of a machine that runs.
///
/// # Errors
/// Where it does not run.
pub fn leader(name: &MachineName, settings: &Settings) -> Result<Leader, Failure> {
    Ok(Host::new(settings).as_they_are().leader(name, "enter")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_begin_is_named() {
        let name = MachineName::new("agents").unwrap();
        for (ended, text, code) in [
            (session::Exit::NotFound, Some("claude\\u001b: not found in agents"), 127),
            (session::Exit::NotExecutable, Some("claude\\u001b: not executable in agents"), 126),
            // the payload's own words stand by themselves
            (session::Exit::Status(127), None, 127),
            (session::Exit::Signal(2), None, 130),
        ] {
            assert_eq!(unstarted(ended, "claude\u{1b}", &name).as_deref(), text);
            assert_eq!(ended.code(), code);
        }
    }
}
