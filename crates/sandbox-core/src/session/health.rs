//! Whether the profiles of a machine work: their checks, run in it, each until it is well or its time is over.

use std::{
    io, thread,
    time::{Duration, Instant},
};

use super::{Exit, Request, SessionError, probe};
use crate::machine::{HealthCheck, Leader, guest::EnterError};

/// How long one run of a check may take at least: it may be slow without being ill.
const PATIENCE: Duration = Duration::from_secs(30);

/// The pause between two runs.
const PAUSE: Duration = Duration::from_millis(250);

/// How a check ended.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Outcome {
    /// The profile whose check it is.
    pub profile: String,
    /// What works where it succeeds; empty where its profile has no word for it.
    pub name: String,
    /// The command.
    pub argv: Vec<String>,
    /// Who ran it.
    pub user: String,
    /// Whether it is well.
    pub healthy: bool,
    /// How it ended last: `status 1`.
    pub ended: String,
    /// What it said last.
    pub said: String,
}

/// Runs every check of a machine, in order. Time counts from the beginning: what was started with the machine
/// starts while others are looked at. All of it takes no longer than the slowest check may, and one run of it.
///
/// # Errors
/// Where the machine cannot be entered.
pub fn health(leader: &Leader, checks: &[HealthCheck]) -> Result<Vec<Outcome>, SessionError> {
    let begun = Instant::now();
    let whole = whole(checks);
    let next = |check| {
        let left = whole.saturating_sub(begun.elapsed());
        if left.is_zero() { Ok(not_run(check)) } else { one(leader, check, begun, left) }
    };
    checks.iter().map(next).collect()
}

/// How long all checks of a machine may take.
fn whole(checks: &[HealthCheck]) -> Duration {
    let slowest = checks.iter().map(|health| health.check.within).max().unwrap_or_default();
    Duration::from_secs(slowest.into()).saturating_add(PATIENCE)
}

/// Words a check that the others left no time for.
fn not_run(health: &HealthCheck) -> Outcome {
    let ended = "not run: earlier checks took all the time".to_owned();
    Outcome { ended, ..unseen(health) }
}

/// Returns what is known of a check before it has run.
fn unseen(health: &HealthCheck) -> Outcome {
    let (profile, check) = (health.profile.clone(), health.check.clone());
    Outcome {
        profile,
        name: check.name,
        argv: check.argv,
        user: check.user,
        healthy: false,
        ended: String::new(),
        said: String::new(),
    }
}

fn one(
    leader: &Leader,
    health: &HealthCheck,
    begun: Instant,
    most: Duration,
) -> Result<Outcome, SessionError> {
    let check = &health.check;
    let within = Duration::from_secs(check.within.into());
    let request = Request { argv: check.argv.clone(), user: Some(check.user.clone()), ..Request::default() };
    loop {
        let left = within.saturating_sub(begun.elapsed());
        let (code, ended, said) = match probe::probe(leader, &request, left.max(PATIENCE).min(most)) {
            Ok(probed) => (Some(probed.exit.code()), words(probed.exit), probed.said),
            // a user that the machine lacks is the check's failure, not ours
            Err(error @ SessionError::User { .. }) => (None, error.to_string(), String::new()),
            // and so is one that the machine does not let begin
            Err(error) if is_late(&error) => (None, "not begun in time".to_owned(), String::new()),
            Err(error) => return Err(error),
        };
        let healthy = code.is_some_and(|code| i32::from(code) == check.status);
        if healthy || begun.elapsed() + PAUSE >= within {
            return Ok(Outcome { healthy, ended, said, ..unseen(health) });
        }
        thread::sleep(PAUSE);
    }
}

fn is_late(error: &SessionError) -> bool {
    matches!(
        error,
        SessionError::Enter { source: EnterError::Step { source, .. } }
            if source.kind() == io::ErrorKind::TimedOut
    )
}

fn words(exit: Exit) -> String {
    match exit {
        Exit::Status(status) => format!("status {status}"),
        Exit::Signal(signal) => format!("signal {signal}"),
        Exit::NotFound => "command not found".to_owned(),
        Exit::NotExecutable => "not executable".to_owned(),
        Exit::Detached => "detached".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Health;

    #[test]
    fn many_checks_take_no_longer_than_the_slowest() {
        let health = |within| HealthCheck {
            profile: "p".to_owned(),
            check: Health {
                name: "works".to_owned(),
                argv: vec!["true".to_owned()],
                user: "root".to_owned(),
                status: 0,
                within,
            },
        };
        let checks: Vec<_> = [5, 60, 1].into_iter().chain([3; 100]).map(health).collect();
        assert_eq!(whole(&checks), Duration::from_secs(60) + PATIENCE);
        assert_eq!(whole(&[]), PATIENCE);
        let outcome = not_run(&checks[0]);
        assert!(!outcome.healthy && outcome.name == "works" && outcome.ended.starts_with("not run"));
    }
}
