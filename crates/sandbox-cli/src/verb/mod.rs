//! One file a verb.

mod bootstrap;
mod build;
mod costs;
mod create;
mod doctor;
mod exec;
mod export;
mod health;
mod import;
mod internal;
mod layer;
mod list;
mod lock;
mod locked;
mod logs;
mod machine;
mod profile;
mod remove;
mod rename;
mod repair;
mod resolve;

use clap::CommandFactory as _;

use crate::{
    args::{Cli, Verb},
    exit::Exit,
    failure::Failure,
    settings::Settings,
};

/// Tells whether a verb's exit status is its payload's, so that our own failures are 125.
pub const fn runs_a_payload(verb: &Verb) -> bool {
    matches!(verb, Verb::Exec(_) | Verb::Shell(_))
}

/// Runs a verb.
///
/// # Errors
/// What the user is to be told.
pub fn run(verb: Verb, settings: &Settings) -> Result<Exit, Failure> {
    match verb {
        Verb::Bootstrap(args) => bootstrap::run(&args, settings),
        Verb::Resolve(args) => resolve::run(&args, settings),
        Verb::Create(args) => create::run(&args, settings),
        Verb::Lock(args) => lock::run(&args, settings),
        Verb::Start(args) => machine::start(&args, settings),
        Verb::Stop(args) => machine::stop(&args, settings),
        Verb::Restart(args) => machine::restart(&args, settings),
        Verb::Remove(args) => remove::run(&args, settings),
        Verb::Rename(args) => rename::run(&args, settings),
        Verb::Repair(args) => repair::run(&args, settings),
        Verb::List => list::list(settings),
        Verb::Status(args) => list::status(&args, settings),
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
        Verb::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "sandbox", &mut std::io::stdout());
            Ok(Exit::OK)
        }
        Verb::Man => {
            clap_mangen::Man::new(Cli::command())
                .render(&mut std::io::stdout())
                .map_err(|error| Failure::said(Exit::HOST, format!("the page cannot be written: {error}")))?;
            Ok(Exit::OK)
        }
        Verb::Internal { verb } => internal::run(verb, settings),
    }
}
