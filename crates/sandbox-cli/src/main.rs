//! The command line of `sandbox`: arguments in, the core's verbs called, results and errors shown.

mod args;
mod catalogue;
mod complete;
mod exit;
mod failure;
mod progress;
mod registries;
mod settings;
mod timings;
mod ui;
mod verb;

use std::{io::Write as _, process::ExitCode};

use clap::Parser as _;

use crate::{args::Cli, exit::Exit, settings::Settings};

fn main() -> ExitCode {
    sandbox_core::host::descriptors::keep_private();
    complete::answer();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::USAGE.into() } else { Exit::OK.into() };
        }
    };
    let payload = verb::runs_a_payload(&cli.verb);
    let json = cli.global.json;
    let ended = Settings::read(&cli.global).and_then(|settings| verb::run(cli.verb, &settings));
    match ended {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if json && !payload {
                ui::line(&failure.json().to_string());
            }
            let _ = std::io::stderr().write_all(failure.text().as_bytes());
            if payload { Exit::OURS.into() } else { failure.exit().into() }
        }
    }
}
