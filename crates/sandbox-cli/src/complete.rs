//! Words that a shell completes: verbs and options by the parser itself, names of machines and profiles by what is
//! there.
//!
//! A shell asks this very program, with `COMPLETE` in the environment and the words so far as arguments.

use std::{ffi::OsStr, fs, path::PathBuf};

use clap::{Command, CommandFactory as _};
use clap_complete::{
    CompleteEnv, Shell,
    engine::{
        ArgValueCandidates, ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter as _,
    },
    env::{Bash, EnvCompleter as _, Fish, Zsh},
};

use sandbox_core::spec::Kind;

use crate::{args::Cli, catalogue::catalogue, exit::Exit, failure::Failure, settings::variable};

/// The variable that a shell asks by.
const ASKED: &str = "COMPLETE";

/// Answers a shell that asks for words, and then ends the program.
pub fn answer() {
    CompleteEnv::with_factory(command).var(ASKED).complete();
}

/// Prints what a shell reads once, to ask from then on.
///
/// # Errors
/// For a shell that is not known, or where it cannot be written.
pub fn registration(shell: Shell) -> Result<Exit, Failure> {
    let mut out = std::io::stdout();
    let written = match shell {
        Shell::Bash => Bash.write_registration(ASKED, "sandbox", "sandbox", "sandbox", &mut out),
        Shell::Zsh => Zsh.write_registration(ASKED, "sandbox", "sandbox", "sandbox", &mut out),
        Shell::Fish => Fish.write_registration(ASKED, "sandbox", "sandbox", "sandbox", &mut out),
        // others get verbs and options, and no names
        other => {
            clap_complete::generate(other, &mut Cli::command(), "sandbox", &mut out);
            Ok(())
        }
    };
    written.map_err(|error| Failure::said(Exit::HOST, format!("it cannot be written: {error}")))?;
    Ok(Exit::OK)
}

/// Gives the parser, its arguments with what completes them.
fn command() -> Command {
    let command = Cli::command();
    command.mut_subcommands(|verb| {
        let made = matches!(verb.get_name(), "create" | "import" | "profile");
        let verb = if made { verb } else { named(verb) };
        let verb = with_profiles(verb);
        verb.mut_subcommands(|inner| {
            let inner = if made { inner } else { named(inner) };
            let show = inner.get_name() == "show";
            let inner = with_profiles(inner);
            let ids: Vec<_> = inner.get_arguments().map(|argument| argument.get_id().clone()).collect();
            if show && ids.iter().any(|id| id == "names") {
                inner.mut_arg("names", |argument| argument.add(ArgValueCandidates::new(profiles)))
            } else {
                inner
            }
        })
    })
}

/// Completes a verb's machine.
fn named(verb: Command) -> Command {
    verb.mut_args(|argument| match argument.get_id().as_str() {
        "name" | "names" if argument.is_positional() => argument.add(ArgValueCandidates::new(machines)),
        "from" | "to" if argument.is_positional() => argument.add(ArgValueCompleter::new(places)),
        _ => argument,
    })
}

fn with_profiles(verb: Command) -> Command {
    verb.mut_args(|argument| match argument.get_id().as_str() {
        "profile" => argument.add(ArgValueCandidates::new(profiles)),
        "release" | "suite" => argument.add(ArgValueCandidates::new(images)),
        _ => argument,
    })
}

fn state() -> PathBuf {
    variable("SANDBOX_STATE_DIR").map_or_else(|| "/var/lib/sandbox".into(), PathBuf::from)
}

fn names() -> Vec<String> {
    let Ok(entries) = fs::read_dir(state().join("machines")) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<_> = names.filter(|name| sandbox_core::name::MachineName::new(name).is_ok()).collect();
    names.sort();
    names
}

fn machines() -> Vec<CompletionCandidate> {
    names().into_iter().map(CompletionCandidate::new).collect()
}

/// A place of `copy`: a machine with a colon, or a path of the host.
fn places(typed: &OsStr) -> Vec<CompletionCandidate> {
    let start = typed.to_string_lossy();
    let names = names().into_iter().map(|name| format!("{name}:/"));
    let mut all: Vec<_> =
        names.filter(|name| name.starts_with(&*start)).map(CompletionCandidate::new).collect();
    all.extend(PathCompleter::any().complete(typed));
    all
}

fn own() -> Option<PathBuf> {
    let home = || Some(PathBuf::from(variable("HOME")?).join(".config"));
    let config = variable("XDG_CONFIG_HOME").map(PathBuf::from).or_else(home)?;
    Some(config.join("sandbox"))
}

fn profiles() -> Vec<CompletionCandidate> {
    of_catalogue(Kind::Profile)
}

fn images() -> Vec<CompletionCandidate> {
    of_catalogue(Kind::Image)
}

fn of_catalogue(kind: Kind) -> Vec<CompletionCandidate> {
    catalogue(own().as_ref()).names(kind).into_iter().map(CompletionCandidate::new).collect()
}
