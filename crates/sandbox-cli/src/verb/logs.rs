//! `sandbox logs`: the guest's journal, read by the guest's own journalctl where it runs, else by the host's.

use std::path::Path;

use sandbox_core::{error::Context as _, session};

use super::machine::{Host, name};
use crate::{args::Logs, exit::Exit, failure::Failure, settings::Settings};

/// Shows a machine's journal.
///
/// # Errors
/// What the user is to be told.
pub fn run(args: &Logs, settings: &Settings) -> Result<Exit, Failure> {
    let name = name(&args.name)?;
    settings.need_root("logs")?;
    let host = Host::new(settings);
    let machines = host.machines()?;
    let subject = || format!("the journal of machine `{name}`");
    let definition = machines.records.read(&name).during("read", subject())?.definition;
    let backend = machines.backend(definition.backend).during("read", subject())?;
    let mut argv = vec!["journalctl".to_owned(), "--no-pager".to_owned()];
    if settings.json() {
        argv.push("--output=json".to_owned());
    }
    argv.extend(args.lines.map(|lines| format!("--lines={lines}")));
    match backend.leader(&name)? {
        Some(leader) => {
            argv.extend(args.follow.then(|| "--follow".to_owned()));
            let request = session::Request { argv, term: settings.term.clone(), ..Default::default() };
            let ended = session::exec(&leader, &request).during("read", subject())?;
            Ok(Exit(ended.code()))
        }
        None if args.follow => Err(Failure::said(
            Exit::UNAVAILABLE,
            format!("machine `{name}` does not run: nothing more will come"),
        )
        .hint("see what there is", format!("sandbox logs {name}"))),
        None => from_disk(argv, &definition.tree.join("var/log/journal")),
    }
}

#[expect(clippy::disallowed_methods, reason = "its output is the user's, not ours to read")]
fn from_disk(argv: Vec<String>, journal: &Path) -> Result<Exit, Failure> {
    if !journal.is_dir() {
        return Err(Failure::said(
            Exit::UNAVAILABLE,
            format!("{} is not there: the machine keeps no journal, or never ran", journal.display()),
        ));
    }
    let status = std::process::Command::new("journalctl")
        .args(&argv[1..])
        .arg("--directory")
        .arg(journal)
        .status()
        .map_err(|error| {
            Failure::said(Exit::HOST, format!("journalctl, which reads it, cannot be run: {error}"))
        })?;
    Ok(Exit(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}
