//! Whether the profiles of a machine work: their checks, run in it, each until it is well or its time is over.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{Exit, Request, SessionError, probe};
use crate::machine::{HealthCheck, Leader};

/// How long one run of a check may take at least: it may be slow without being ill.
const PATIENCE: Duration = Duration::from_secs(30);

/// The pause between two runs.
const PAUSE: Duration = Duration::from_millis(250);

/// How a check ended.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Outcome {
    /// The profile whose check it is.
    pub profile: String,
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
/// starts while others are looked at.
///
/// # Errors
/// Where the machine cannot be entered.
pub fn health(leader: &Leader, checks: &[HealthCheck]) -> Result<Vec<Outcome>, SessionError> {
    let begun = Instant::now();
    checks.iter().map(|check| one(leader, check, begun)).collect()
}

fn one(leader: &Leader, health: &HealthCheck, begun: Instant) -> Result<Outcome, SessionError> {
    let check = &health.check;
    let within = Duration::from_secs(check.within.into());
    let request = Request { argv: check.argv.clone(), user: Some(check.user.clone()), ..Request::default() };
    loop {
        let left = within.saturating_sub(begun.elapsed());
        let (code, ended, said) = match probe::probe(leader, &request, left.max(PATIENCE)) {
            Ok(probed) => (Some(probed.exit.code()), words(probed.exit), probed.said),
            // a user that the machine lacks is the check's failure, not ours
            Err(error @ SessionError::User { .. }) => (None, error.to_string(), String::new()),
            Err(error) => return Err(error),
        };
        let healthy = code.is_some_and(|code| i32::from(code) == check.status);
        if healthy || begun.elapsed() + PAUSE >= within {
            let (profile, argv, user) = (health.profile.clone(), check.argv.clone(), check.user.clone());
            return Ok(Outcome { profile, argv, user, healthy, ended, said });
        }
        thread::sleep(PAUSE);
    }
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
