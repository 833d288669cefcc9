//! `sandbox wait`.

use std::{
    thread,
    time::{Duration, Instant},
};

use sandbox_core::{
    error::Context as _,
    machine::{
        guest::{self, GuestState},
        life::Machines,
    },
    name::MachineName,
    session,
};

use super::machine::{Host, name};
use crate::{
    args::{Until, Wait},
    exit::Exit,
    failure::Failure,
    settings::Settings,
    ui,
};

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// Waits until a machine is as asked for.
///
/// # Errors
/// Exit 1 where it is not so after the time, with what it is instead.
pub fn run(args: &Wait, settings: &Settings) -> Result<Exit, Failure> {
    let name = name(&args.name)?;
    settings.need_root("wait")?;
    let host = Host::new(settings);
    let machines = host.as_they_are();
    let begun = Instant::now();
    loop {
        let left = args.timeout.map(|most| Duration::from_secs(most).saturating_sub(begun.elapsed()));
        let seen = look(&machines, &name, args.until, left)?;
        let over = left.is_some_and(|left| left <= PAUSE);
        if settings.json() && (seen.is_none() || over) {
            ui::json(&serde_json::json!({
                "name": name.as_str(), "reached": seen.is_none(), "seen": seen,
                "seconds": begun.elapsed().as_secs_f64(),
            }));
        }
        match seen {
            None => return Ok(Exit::OK),
            Some(seen) if over => {
                let seconds = args.timeout.unwrap_or(0);
                let text = format!("machine `{name}` is {seen} after {seconds} s");
                return Err(Failure::said(Exit::UNAVAILABLE, text)
                    .hint("see how it is", format!("sandbox status {name}")));
            }
            Some(_) => thread::sleep(PAUSE),
        }
    }
}

/// Looks once; gives what is so instead of what is waited for.
fn look(
    machines: &Machines<'_>,
    name: &MachineName,
    until: Until,
    left: Option<Duration>,
) -> Result<Option<String>, Failure> {
    if let Some(found) = machines.records.under_way(name) {
        return Ok(Some(if found.removing { "being removed" } else { "being made" }.to_owned()));
    }
    let (_, leader) = machines.look_at(name)?;
    let Some(leader) = leader else {
        return Ok((until != Until::Stopped).then(|| "stopped".to_owned()));
    };
    match until {
        Until::Stopped => Ok(Some("running".to_owned())),
        // a machine that ends while it is looked at is stopped at the next look
        Until::Running => Ok(match guest::state(&leader) {
            Ok(GuestState::Running | GuestState::Degraded { .. }) => None,
            Ok(other) => Some(other.to_string()),
            Err(_) => Some("going".to_owned()),
        }),
        Until::Port(port) => Ok(match guest::is_open(&leader, port) {
            Ok(true) => None,
            _ => Some(format!("not listening on port {port}")),
        }),
        Until::Healthy => {
            match guest::state(&leader) {
                Ok(GuestState::Running | GuestState::Degraded { .. }) => {}
                Ok(other) => return Ok(Some(other.to_string())),
                Err(_) => return Ok(Some("going".to_owned())),
            }
            let mut checks = machines.declared(name)?.health;
            let most = left.map_or(u64::from(u32::MAX), |left| left.as_secs());
            for health in &mut checks {
                health.check.within = health.check.within.min(u32::try_from(most).unwrap_or(u32::MAX));
            }
            let outcomes = session::health(&leader, &checks)
                .during("check the health of", format!("machine `{name}`"))?;
            let ill: Vec<_> = outcomes.iter().filter(|outcome| !outcome.healthy).collect();
            let words: Vec<_> = ill
                .iter()
                .map(|outcome| format!("`{}` ({})", outcome.argv.join(" "), outcome.ended))
                .collect();
            Ok((!words.is_empty()).then(|| format!("not healthy: {}", words.join(", "))))
        }
    }
}
