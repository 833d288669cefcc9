//! `sandbox health`: whether what the profiles of a machine brought works.

use sandbox_core::{
    error::Context as _,
    name::MachineName,
    report::Event,
    session::{self, Outcome},
};

use super::{
    exec::leader,
    machine::{Host, name},
};
use crate::{args::Running, exit::Exit, failure::Failure, settings::Settings, ui};

/// Runs every check of a machine's profiles.
///
/// # Errors
/// Where the machine is not there or does not run.
pub fn run(args: &Running, settings: &Settings) -> Result<Exit, Failure> {
    let name = name(args.names.first())?;
    settings.need_root("health")?;
    let outcomes = outcomes(&name, settings)?;
    let healthy = outcomes.iter().all(|outcome| outcome.healthy);
    if settings.json() {
        ui::json(&serde_json::json!({"name": name.as_str(), "healthy": healthy, "checks": outcomes}));
    } else {
        show(&outcomes);
    }
    Ok(if healthy { Exit::OK } else { Exit::UNAVAILABLE })
}

/// Runs the checks of a machine that was just made.
///
/// # Errors
/// Exit 1 with what is not well; the machine stays.
pub fn wait(name: &MachineName, settings: &Settings) -> Result<(), Failure> {
    let outcomes = outcomes(name, settings)?;
    if settings.json() {
        let healthy = outcomes.iter().all(|outcome| outcome.healthy);
        let event = serde_json::json!({"event": "health", "name": name.as_str(), "healthy": healthy, "checks": outcomes});
        ui::line(&event.to_string());
    }
    let ill: Vec<_> = outcomes.iter().filter(|outcome| !outcome.healthy).map(word).collect();
    if ill.is_empty() {
        let text = format!("all {} health checks of machine `{name}` are well", outcomes.len());
        Host::new(settings).reporter().report(Event::Notice { text });
        return Ok(());
    }
    let text = format!("machine `{name}` runs, and not all of it is healthy: {}", ill.join("; "));
    Err(Failure::said(Exit::UNAVAILABLE, text).hint("look again", format!("sandbox health {name}")))
}

fn outcomes(name: &MachineName, settings: &Settings) -> Result<Vec<Outcome>, Failure> {
    let checks = Host::new(settings).as_they_are().declared(name)?.health;
    let leader = leader(name, settings)?;
    Ok(session::health(&leader, &checks).during("check the health of", format!("machine `{name}`"))?)
}

fn show(outcomes: &[Outcome]) {
    let status = |outcome: &Outcome| match outcome.healthy {
        true => "healthy".to_owned(),
        false => {
            let last = outcome.said.lines().rev().find(|line| !line.trim().is_empty());
            let last = last.map_or_else(String::new, |line| format!(": {}", plain(line)));
            format!("failed, {}{last}", outcome.ended)
        }
    };
    let rows: Vec<_> = outcomes
        .iter()
        .map(|outcome| vec![outcome.profile.clone(), outcome.argv.join(" "), status(outcome)])
        .collect();
    ui::table(&["PROFILE", "CHECK", "STATUS"], &rows);
}

fn word(outcome: &Outcome) -> String {
    format!("`{}` of profile `{}` ended with {}", outcome.argv.join(" "), outcome.profile, outcome.ended)
}

/// A guest's words do not move the terminal's cursor.
fn plain(line: &str) -> String {
    line.trim().chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(120).collect()
}
