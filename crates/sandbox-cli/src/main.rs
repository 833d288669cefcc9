//! The command line of `sandbox`: arguments in, the core's verbs called, results and errors shown.

mod args;
mod catalogue;
mod complete;
mod exit;
mod failure;
mod help;
mod keys;
mod progress;
mod registries;
mod settings;
mod table;
mod timings;
mod ui;
mod usage;
mod verb;

use std::process::ExitCode;

use clap::FromArgMatches as _;
use sandbox_core::{
    host,
    machine::guest::{CARRIER, carry},
};

use crate::{args::Cli, exit::Exit, failure::Failure, settings::Settings};

/// Tells whether JSON is asked for on a command line that cannot be read.
fn wants_json() -> bool {
    std::env::args_os().skip(1).take_while(|word| word != "--").any(|word| word == "--json")
}

fn main() -> ExitCode {
    // before anything of its surroundings is read
    if std::env::args_os().skip(1).eq(CARRIER) {
        carry();
        return ExitCode::SUCCESS;
    }
    host::descriptors::keep_private();
    host::inherited::settle();
    complete::answer();
    let parsed = help::command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            let typed: Vec<_> = std::env::args_os().skip(1).collect();
            if let Some(failure) = usage::failure(&error, &typed) {
                if wants_json() {
                    ui::line(&failure.json().to_string());
                }
                ui::notice(&failure.text());
                return failure.exit().into();
            }
            if error.use_stderr() && wants_json() {
                let text = error.to_string();
                let said = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
                ui::line(&Failure::said(Exit::USAGE, said).json().to_string());
            }
            let _ = error.print();
            return if error.use_stderr() { Exit::USAGE.into() } else { Exit::OK.into() };
        }
    };
    let payload = verb::runs_a_payload(&cli.verb);
    let json = cli.global.json;
    let settings = Settings::read(&cli.global);
    let timings = settings.as_ref().ok().and_then(|settings| settings.timings.clone());
    let ended = settings.and_then(|settings| verb::run(cli.verb, &settings));
    // whatever the end was
    if let Some(timings) = timings {
        ui::notice(&timings.table());
    }
    match ended {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if json && !payload {
                ui::line(&failure.json().to_string());
            }
            ui::failure(&failure.text());
            if payload { Exit::OURS.into() } else { failure.exit().into() }
        }
    }
}
