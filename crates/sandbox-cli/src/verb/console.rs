//! `sandbox console`.

use sandbox_core::{error::Context as _, session};

use super::{
    logs,
    machine::{Host, name},
};
use crate::{args::Console, exit::Exit, failure::Failure, settings::Settings};

/// Shows what a machine's console said, and attaches to a console of it.
///
/// # Errors
/// What the user is to be told.
pub fn run(args: &Console, settings: &Settings) -> Result<Exit, Failure> {
    let name = name(&args.name)?;
    settings.need_root("console")?;
    let host = Host::new(settings);
    let machines = host.as_they_are();
    let leader = machines.leader(&name, "attach to")?;
    let (definition, _) = machines.look_at(&name)?;
    let subject = || format!("machine `{name}`");
    let backend = machines.backend(definition.backend).during("attach to", subject())?;
    if args.lines > 0 {
        logs::last_words(&backend.host_log(&definition), args.lines);
    }
    if args.user.is_none() {
        let (rows, columns) = session::window();
        if let Some(console) = backend.console(&name, rows, columns)? {
            return Ok(Exit(session::attach(console).during("attach to", subject())?.code()));
        }
    }
    let ended =
        session::console(&leader, args.user.as_deref(), &settings.emulator).during("attach to", subject())?;
    Ok(Exit(ended.code()))
}
