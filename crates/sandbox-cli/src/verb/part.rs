//! Parts of a batch: this program run again for one machine, as a process of its own with a deadline.
//!
//! A part that fails, crashes, hangs or is killed is reported with its machine's name; the other parts go on, and the
//! batch ends with the worst exit code.

use std::time::{Duration, Instant};

use sandbox_core::{
    host::{
        child::{Ended, Ending, Job},
        parallel::parallel,
    },
    machine::{life::Machines, signal::Signal},
    name::MachineName,
    report::Event,
};

use crate::{exit::Exit, settings::Settings, ui};

/// How long a verb waits while the machines of other verbs are recovered; what takes longer goes on in the background.
pub const BRIEFLY: Duration = Duration::from_secs(5);

/// How long the recovery of one machine may take.
pub const RECOVERY: Duration = Duration::from_secs(30 * 60);

/// For how many seconds the verbs of other machines leave one alone whose recovery failed.
const LEFT_ALONE: i64 = 600;

/// How many machines are recovered at once.
const AT_ONCE: usize = 4;

/// Returns the job of a part.
pub fn job(words: &[&str], settings: &Settings) -> Job {
    let mut arguments = vec!["--state-dir".into(), settings.state.clone().into()];
    arguments.extend(["--cache-dir".into(), settings.cache.clone().into()]);
    match settings.display {
        crate::settings::Display::Json => arguments.push("--json".into()),
        crate::settings::Display::Quiet => arguments.push("--quiet".into()),
        _ => {}
    }
    arguments.extend(words.iter().map(Into::into));
    Job { program: settings.program.clone(), arguments, quiet: false, bound: true }
}

/// Returns the exit code of a part, and in words how it ended where it did not end by itself.
pub fn outcome(ending: Ending, deadline: Duration) -> (Exit, Option<String>) {
    match ending {
        Ending::Code(code) => (Exit(u8::try_from(code).unwrap_or(Exit::BUG.0)), None),
        Ending::Deadline => {
            let text = format!("it had not ended after {} s, and was killed", deadline.as_secs());
            (Exit::UNAVAILABLE, Some(text))
        }
        // the kernel's, for want of memory, or a person's
        Ending::Signal(libc::SIGKILL) => (Exit::HOST, Some("its process was killed".to_owned())),
        Ending::Signal(signal) => {
            let name = signal.to_string().parse::<Signal>();
            let name = name.map_or_else(|_| signal.to_string(), |signal| signal.to_string());
            (Exit::BUG, Some(format!("its process crashed ({name})")))
        }
    }
}

/// Recovers machines with which a verb has begun something and died, each in a process of its own. One whose recovery
/// has failed shortly before is left alone.
pub fn recover(machines: &Machines<'_>, names: Vec<MachineName>, patience: Duration, settings: &Settings) {
    let until = Instant::now() + patience;
    let (begun, fresh): (Vec<_>, Vec<_>) = names
        .into_iter()
        .filter(|name| !machines.records.failed_since(name, settings.now, LEFT_ALONE))
        .partition(|name| machines.records.intent(name).is_some());
    // what was begun and has no intent yet may hold a name that another needs
    for names in [fresh, begun] {
        for (name, recovered) in
            names.iter().zip(parallel(&names, AT_ONCE, |name| one(name, until, settings)))
        {
            let (out, err, problem) = match recovered {
                Ok(Recovered::Left(out, err, id)) => {
                    let text = format!("machine `{name}` is still being recovered, by process {id}");
                    machines.reporter.report(Event::Notice { text });
                    (out, err, None)
                }
                Ok(Recovered::Ended(ended)) => {
                    let (_, how) = outcome(ended.ending, RECOVERY);
                    (ended.out, ended.err, how)
                }
                Err(error) => (Vec::new(), Vec::new(), Some(format!("no process can be started: {error}"))),
            };
            ui::passed_through(&out, &err);
            if let Some(problem) = problem {
                machines.records.note_failure(name, &problem);
                let text = format!(
                    "could not clean up machine `{name}`: {problem}; `sandbox repair {name}` tries again"
                );
                machines.reporter.report(Event::Warning { text });
            }
        }
    }
}

enum Recovered {
    Ended(Ended),
    /// It goes on: what it wrote, and its process id.
    Left(Vec<u8>, Vec<u8>, u32),
}

fn one(name: &MachineName, until: Instant, settings: &Settings) -> std::io::Result<Recovered> {
    let job = job(&["internal", "recover-machine", name.as_str()], settings);
    let mut running = Job { quiet: true, bound: false, ..job }.start()?;
    if running.wait(until.saturating_duration_since(Instant::now()))? {
        return Ok(Recovered::Ended(running.end(true)?));
    }
    let id = running.id();
    let (out, err) = running.leave();
    Ok(Recovered::Left(out, err, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_of_a_part_has_an_exit_code_and_words() {
        let limit = Duration::from_secs(9);
        assert_eq!(outcome(Ending::Code(4), limit), (Exit(4), None));
        let (exit, words) = outcome(Ending::Signal(libc::SIGSEGV), limit);
        assert_eq!((exit, words.unwrap().as_str()), (Exit::BUG, "its process crashed (SIGSEGV)"));
        assert_eq!(outcome(Ending::Signal(libc::SIGKILL), limit).0, Exit::HOST);
        let (exit, words) = outcome(Ending::Deadline, limit);
        assert!(exit == Exit::UNAVAILABLE && words.unwrap().contains("9 s"));
    }
}
