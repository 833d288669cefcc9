//! `sandbox health`: whether what the profiles of a machine brought works.

use sandbox_core::{
    error::{Context as _, shell_word},
    name::MachineName,
    report::Event,
    session::{self, Outcome},
};

use super::{
    exec::leader,
    machine::{Host, name},
};
use crate::{
    args::Running,
    exit::Exit,
    failure::Failure,
    settings::Settings,
    table::{Cell, Column, Table, Tone},
    ui,
};

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
        true => Cell::toned("healthy", Tone::Good),
        false => {
            let last = outcome.said.lines().rev().find(|line| !line.trim().is_empty());
            let last = last.map_or_else(String::new, |line| format!(": {}", plain(line)));
            Cell::toned(&format!("failed, {}{last}", outcome.ended), Tone::Bad)
        }
    };
    let rows = outcomes
        .iter()
        .map(|outcome| vec![outcome.profile.as_str().into(), Cell::from(title(outcome)), status(outcome)]);
    let columns = [Column::new("PROFILE"), Column::new("CHECK").wrap(), Column::new("STATUS").wrap()];
    ui::table(&Table::new(&columns, rows.collect()));
    for outcome in outcomes.iter().filter(|outcome| !outcome.healthy && !outcome.name.is_empty()) {
        let (name, profile) = (&outcome.name, &outcome.profile);
        ui::notice(&format!("\n{profile}, {name}:  {}\n", shell_words(&outcome.argv)));
    }
}

/// Returns the name of a check; the command of one that has none.
fn title(outcome: &Outcome) -> String {
    if outcome.name.is_empty() { outcome.argv.join(" ") } else { outcome.name.clone() }
}

/// Writes a command as it is typed.
fn shell_words(argv: &[String]) -> String {
    argv.iter().map(|word| shell_word(word)).collect::<Vec<_>>().join(" ")
}

fn word(outcome: &Outcome) -> String {
    format!("`{}` of profile `{}` ended with {}", title(outcome), outcome.profile, outcome.ended)
}

/// A guest's words do not move the terminal's cursor.
fn plain(line: &str) -> String {
    line.trim().chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_called_by_its_name() {
        let named = Outcome {
            profile: "docker".to_owned(),
            name: "daemon answers".to_owned(),
            argv: vec!["docker".to_owned(), "info".to_owned()],
            user: "agent".to_owned(),
            healthy: false,
            ended: "status 1".to_owned(),
            said: String::new(),
        };
        assert_eq!(word(&named), "`daemon answers` of profile `docker` ended with status 1");
        let of_before = Outcome { name: String::new(), ..named };
        assert_eq!(title(&of_before), "docker info");
    }
}
