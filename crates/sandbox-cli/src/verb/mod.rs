//! One file a verb.

mod ask;
mod autostart;
mod batch;
mod bootstrap;
mod build;
mod console;
mod copy;
mod costs;
mod create;
mod doctor;
mod duplicate;
mod elsewhere;
mod exec;
mod export;
mod foreign;
mod health;
mod import;
mod internal;
mod kill;
mod layer;
mod list;
mod listing;
mod lock;
mod locked;
mod logs;
mod machine;
mod man;
mod mount;
mod moving;
mod names;
mod part;
mod profile;
mod protect;
mod provision;
mod proxmox;
mod remove;
mod rename;
mod repair;
mod resolve;
mod secret;
mod set;
mod snapshot;
mod top;
mod variable;
mod wait;
mod within;

use crate::{
    args::{Names, Verb},
    exit::Exit,
    failure::Failure,
    settings::Settings,
};

/// Tells whether a verb's exit status is its payload's, so that our own failures are 125.
pub const fn runs_a_payload(verb: &Verb) -> bool {
    matches!(verb, Verb::Exec(_) | Verb::Shell(_))
}

/// Gives the machine that a verb changes, which must be one of ours.
fn changed(verb: &Verb) -> Option<&str> {
    match verb {
        Verb::Start(_)
        | Verb::Stop(_)
        | Verb::Restart(_)
        | Verb::Kill(_)
        | Verb::Enable(_)
        | Verb::Disable(_)
        | Verb::Protect(_)
        | Verb::Unprotect(_)
        | Verb::Remove(_) => batch::names(verb).and_then(Names::only),
        Verb::Set(args) => Some(&args.name),
        Verb::Secret { verb } => Some(secret::machine_of(verb)),
        Verb::Mount(args) => Some(&args.name),
        Verb::Unmount(args) => Some(&args.name),
        Verb::Copy(args) => copy::machine_of(&args.to),
        Verb::Exec(args) => Some(&args.name),
        Verb::Shell(args) => Some(&args.name),
        Verb::Console(args) => Some(&args.name),
        _ => None,
    }
}

/// Gives the machines that a verb is about.
fn concerned(verb: &Verb) -> Vec<&str> {
    if let Some(name) = changed(verb) {
        return vec![name];
    }
    match verb {
        Verb::Status(args) => vec![&args.name],
        Verb::Health(args) => args.names.only().into_iter().collect(),
        Verb::Wait(args) => vec![&args.name],
        Verb::Logs(args) => vec![&args.name],
        Verb::Export(args) => vec![&args.name],
        Verb::Move(args) => vec![&args.name],
        Verb::Rename(args) => vec![&args.name],
        Verb::Clone(args) | Verb::Fork(args) => vec![&args.name],
        Verb::Top(args) => args.names.iter().map(String::as_str).collect(),
        Verb::Copy(args) => copy::machine_of(&args.from).into_iter().collect(),
        Verb::Snapshot { verb } => snapshot::machine_of(verb).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// Runs a verb, on one machine or on several.
///
/// # Errors
/// What the user is to be told.
pub fn run(verb: Verb, settings: &Settings) -> Result<Exit, Failure> {
    match &verb {
        Verb::Start(args) if args.names.all => autostart::start_all(settings),
        _ if batch::names(&verb).is_some_and(|names| names.only().is_none()) => batch::run(&verb, settings),
        _ => one(verb, settings),
    }
}

/// Runs a verb that is about one machine at most.
fn one(verb: Verb, settings: &Settings) -> Result<Exit, Failure> {
    if let Some(name) = changed(&verb) {
        foreign::check(name, settings)?;
    }
    let elsewhere = concerned(&verb).into_iter().find_map(|name| elsewhere::record(name, settings));
    if let Some(record) = elsewhere
        && let Some(ended) = elsewhere::run(&verb, record, settings)
    {
        return ended;
    }
    match verb {
        Verb::Bootstrap(args) => bootstrap::run(&args, settings),
        Verb::Resolve(args) => resolve::run(&args, settings),
        Verb::Create(args) => create::run(&args, settings),
        Verb::Lock(args) => lock::run(&args, settings),
        Verb::Start(args) => machine::start(&args, settings),
        Verb::Stop(args) => machine::stop(&args, settings),
        Verb::Restart(args) => machine::restart(&args, settings),
        Verb::Kill(args) => kill::run(&args, settings),
        Verb::Wait(args) => wait::run(&args, settings),
        Verb::Set(args) => set::run(&args, settings),
        Verb::Secret { verb } => secret::run(&verb, settings),
        Verb::Enable(args) => autostart::enable(&args, settings),
        Verb::Disable(args) => autostart::disable(&args, settings),
        Verb::Protect(args) => protect::run(&args, true, settings),
        Verb::Unprotect(args) => protect::run(&args, false, settings),
        Verb::Mount(args) => mount::mount(&args, settings),
        Verb::Unmount(args) => mount::unmount(&args, settings),
        Verb::Copy(args) => copy::run(&args, settings),
        Verb::Remove(args) => remove::run(&args, settings),
        Verb::Move(args) => moving::run(&args, settings),
        Verb::Rename(args) => rename::run(&args, settings),
        Verb::Clone(args) => duplicate::run(&args, duplicate::CLONE, settings),
        Verb::Fork(args) => duplicate::run(&args, duplicate::FORK, settings),
        Verb::Snapshot { verb } => snapshot::run(&verb, settings),
        Verb::Repair(args) => repair::run(&args, settings),
        Verb::List(args) => listing::run(&args, settings),
        Verb::Status(args) => list::status(&args, settings),
        Verb::Top(args) => top::run(&args, settings),
        Verb::Console(args) => console::run(&args, settings),
        Verb::Logs(args) => logs::run(&args, settings),
        Verb::Exec(args) => exec::exec(args, settings),
        Verb::Shell(args) => exec::shell(args, settings),
        Verb::Export(args) => export::run(&args, settings),
        Verb::Import(args) => import::run(&args, settings),
        Verb::Layer { verb } => layer::run(&verb, settings),
        Verb::Health(args) => health::run(&args, settings),
        Verb::Profile { verb } => profile::run(&verb, settings),
        Verb::Profiles => profile::list(settings),
        Verb::Doctor => doctor::run(settings),
        Verb::Completions { shell } => crate::complete::registration(shell),
        Verb::Man { dir } => man::run(dir.as_deref(), settings),
        Verb::Internal { verb } => internal::run(verb, settings),
    }
}
