//! Verbs on several machines: each machine by itself, whatever becomes of the others.
//!
//! Each is done by a process of its own, which an interrupt at the terminal does not reach: Ctrl-C lets the present one
//! end and leaves the rest alone. For a user who is not root polkit asks on the terminal, so that it is done here.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use clap::Parser as _;
use sandbox_core::{machine::State, report::Event};
use signal_hook::consts::SIGINT;

use super::{
    machine::{BOOT, Host, name},
    part, remove,
};
use crate::{
    args::{Cli, Names, Verb, Whom},
    exit::Exit,
    failure::Failure,
    settings::Settings,
    ui,
};

/// What a verb may take for one machine beside what waits for the guest.
const OVERHEAD: Duration = Duration::from_secs(120);

/// A verb on several machines.
struct Batch {
    /// The verb.
    verb: &'static str,
    /// What it did to those that it succeeded with.
    done: &'static str,
    /// Its options.
    options: Vec<String>,
    /// How long it may take for one machine.
    deadline: Duration,
}

/// Returns the machines of a verb that takes several.
pub const fn names(verb: &Verb) -> Option<&Names> {
    Some(match verb {
        Verb::Start(args) => &args.names,
        Verb::Stop(args) | Verb::Restart(args) => &args.names,
        Verb::Kill(args) => &args.names,
        Verb::Remove(args) => &args.names,
        Verb::Enable(args) | Verb::Disable(args) | Verb::Protect(args) | Verb::Unprotect(args) => &args.names,
        Verb::Health(args) => &args.names,
        _ => return None,
    })
}

impl Batch {
    /// Returns the batch of a verb that takes several machines; none of any other.
    fn of(verb: &Verb) -> Option<Self> {
        let batch = |verb, done, options: &[&str], deadline| {
            let options = options.iter().map(|word| (*word).to_owned()).collect();
            Some(Self { verb, done, options, deadline })
        };
        let seconds = Duration::from_secs;
        match verb {
            Verb::Start(_) => batch("start", "started", &[], BOOT + OVERHEAD),
            Verb::Stop(args) => {
                let timeout = args.timeout.to_string();
                batch("stop", "stopped", &["--timeout", &timeout], seconds(args.timeout) + OVERHEAD)
            }
            Verb::Restart(args) => {
                let timeout = args.timeout.to_string();
                let deadline = seconds(args.timeout) + BOOT + OVERHEAD;
                batch("restart", "restarted", &["--timeout", &timeout], deadline)
            }
            Verb::Kill(args) => {
                let whom = if args.whom == Whom::All { "all" } else { "leader" };
                let signal = args.signal.number().to_string();
                batch("kill", "signalled", &["--signal", &signal, "--whom", whom], OVERHEAD)
            }
            Verb::Remove(args) => {
                let options: &[&str] =
                    if args.keep_volumes { &["--yes", "--keep-volumes"] } else { &["--yes"] };
                batch("remove", "removed", options, part::RECOVERY)
            }
            Verb::Enable(_) => batch("enable", "enabled", &[], OVERHEAD),
            Verb::Disable(_) => batch("disable", "disabled", &[], OVERHEAD),
            Verb::Protect(_) => batch("protect", "protected", &[], OVERHEAD),
            Verb::Unprotect(_) => batch("unprotect", "unprotected", &[], OVERHEAD),
            Verb::Health(_) => batch("health", "checked", &[], part::RECOVERY),
            _ => None,
        }
    }

    /// Returns the command line of one machine.
    fn words(&self, name: &str, settings: &Settings) -> Vec<String> {
        let mut words = vec!["--lock-timeout".to_owned(), settings.lock_wait.as_secs().to_string()];
        words.extend(settings.adopt.then(|| "--adopt".to_owned()));
        words.push(self.verb.to_owned());
        words.extend(self.options.iter().cloned());
        words.extend(["--".to_owned(), name.to_owned()]);
        words
    }

    /// Does it with one machine; what went wrong has been reported then.
    fn one(&self, name: &str, settings: &Settings) -> Exit {
        let words = self.words(name, settings);
        if !nix::unistd::geteuid().is_root() {
            return here(&words, settings).unwrap_or_else(|failure| {
                report(&failure, settings);
                failure.exit()
            });
        }
        let deadline = self.deadline + settings.lock_wait;
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let (exit, how) = match part::job(&words, settings).run(deadline) {
            Ok(ended) => {
                ui::passed_through(&ended.out, &[]);
                part::outcome(ended.ending, deadline)
            }
            Err(error) => (Exit::HOST, Some(format!("no process can be started: {error}"))),
        };
        if let Some(how) = how {
            let text = format!("could not {} machine `{name}`: {how}", self.verb);
            report(&Failure::said(exit, text), settings);
        }
        exit
    }
}

/// Does a verb in this process.
fn here(words: &[String], settings: &Settings) -> Result<Exit, Failure> {
    let words = ["sandbox"].into_iter().chain(words.iter().map(String::as_str));
    let cli = Cli::try_parse_from(words);
    let cli = cli.map_err(|error| Failure::said(Exit::BUG, error.to_string()))?;
    super::one(cli.verb, settings)
}

/// Reports what went wrong with one machine.
fn report(failure: &Failure, settings: &Settings) {
    if settings.json() {
        ui::line(&failure.json().to_string());
    }
    ui::notice(&failure.text());
}

/// Does a verb with several machines.
///
/// # Errors
/// Those that it failed with, with the worst exit code; each has been reported.
pub fn run(verb: &Verb, settings: &Settings) -> Result<Exit, Failure> {
    let (Some(batch), Some(asked)) = (Batch::of(verb), names(verb)) else { return Ok(Exit::OK) };
    let mut all = asked.names.clone();
    // a wrong name is found before anything is done
    all.iter().try_for_each(|text| name(text).map(drop))?;
    if asked.all {
        all = every(verb, &batch, settings)?;
    }
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|name| seen.insert(name.clone()));
    if let Verb::Remove(args) = verb
        && !all.is_empty()
        && !remove::is_wanted(&all, args, settings)?
    {
        return Ok(Exit::UNAVAILABLE);
    }
    each(&batch, &all, settings)
}

/// Returns the machines of `--all`.
fn every(verb: &Verb, batch: &Batch, settings: &Settings) -> Result<Vec<String>, Failure> {
    settings.need_root(batch.verb)?;
    let host = Host::new(settings);
    let (machines, _) = host.machines()?.list()?;
    let runs = matches!(verb, Verb::Stop(_) | Verb::Restart(_) | Verb::Kill(_) | Verb::Health(_));
    let wanted = machines.iter().filter(|machine| !runs || machine.state != State::Stopped);
    let names: Vec<_> = wanted.map(|machine| machine.name.to_string()).collect();
    if names.is_empty() {
        let text = if runs { "no machine runs" } else { "there are no machines" };
        host.reporter().report(Event::Notice { text: text.to_owned() });
    }
    Ok(names)
}

/// Does a batch, machine after machine, until Ctrl-C.
fn each(batch: &Batch, names: &[String], settings: &Settings) -> Result<Exit, Failure> {
    let interrupted = interrupt();
    let (mut failed, mut worst) = (Vec::new(), Exit::OK);
    for (at, name) in names.iter().enumerate() {
        if interrupted.load(Ordering::Relaxed) {
            let left =
                format!("interrupted; not {}: {}", batch.done, [&failed, &names[at..]].concat().join(", "));
            return Err(Failure::said(Exit::of_signal(libc::SIGINT), left));
        }
        if batch.verb == "health" && !settings.json() {
            ui::line(&format!("{}{name}:", if at > 0 { "\n" } else { "" }));
        }
        let exit = batch.one(name, settings);
        // a machine that is not healthy has been checked
        if exit != Exit::OK && !(batch.verb == "health" && exit == Exit::UNAVAILABLE) {
            failed.push(name.clone());
        }
        worst = worst.or_worse(exit);
    }
    if failed.is_empty() {
        return Ok(worst);
    }
    Err(Failure::said(worst, format!("not {}: {}", batch.done, failed.join(", "))))
}

/// Notes the first Ctrl-C; the second ends this process.
fn interrupt() -> Arc<AtomicBool> {
    let noted = Arc::default();
    let _ = signal_hook::flag::register_conditional_default(SIGINT, Arc::clone(&noted));
    let _ = signal_hook::flag::register(SIGINT, Arc::clone(&noted));
    noted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_machine_s_command_line_has_the_options_that_were_typed() {
        for (typed, options) in [
            ("stop a b --timeout 5", "stop --timeout 5"),
            ("restart a b", "restart --timeout 60"),
            ("kill a b -s KILL --whom all", "kill --signal 9 --whom all"),
            ("remove a b", "remove --yes"),
            ("remove a b --keep-volumes", "remove --yes --keep-volumes"),
            ("health --all", "health"),
            ("protect a b", "protect"),
        ] {
            let cli = Cli::try_parse_from(["sandbox"].into_iter().chain(typed.split(' '))).unwrap();
            assert!(names(&cli.verb).is_some_and(|names| names.only().is_none()), "{typed}");
            let batch = Batch::of(&cli.verb).unwrap();
            let words =
                [vec![batch.verb.to_owned()], batch.options.clone(), vec!["--".into(), "a".into()]].concat();
            assert_eq!(words.join(" "), format!("{options} -- a"), "{typed}");
            let one = Cli::try_parse_from(["sandbox".to_owned()].into_iter().chain(words)).unwrap();
            assert_eq!(names(&one.verb).unwrap().only(), Some("a"), "{typed}");
        }
    }
}
