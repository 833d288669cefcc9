//! The timer of systemd that has snapshots taken: one for all machines of a state directory.
//!
//! **Source**: systemd.timer(5), systemd.service(5).

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{SnapshotError, place, schedule::Schedule};
use crate::{
    host::child::{self, Ending, Job},
    machine::nspawn::unit::{quote, sole},
};

/// How long systemctl may take.
const SYSTEMCTL: Duration = Duration::from_secs(90);

/// Where units stand.
const UNITS: &str = "/etc/systemd/system";

/// Names the timer's unit, without its ending.
#[must_use]
pub fn name(state: &Path) -> String {
    sole("sandbox-snapshots", state)
}

/// How long the scheduled work on one machine may take; then it is ended, and tried again by the next run.
pub const DEADLINE: Duration = Duration::from_secs(30 * 60);

/// On how many machines a run works at once.
pub const AT_ONCE: usize = 2;

/// Returns how long a run for a number of machines may take if each of them uses its time up.
#[must_use]
pub fn longest(machines: usize) -> Duration {
    let rounds = u32::try_from(machines.div_ceil(AT_ONCE)).unwrap_or(u32::MAX);
    (DEADLINE + 2 * child::GRACE).saturating_mul(rounds.max(1)) + Duration::from_secs(300)
}

/// Writes the service.
///
/// A run is over before the unit's own deadline, which ends one whose parent process hangs. One child that the kernel
/// kills for want of memory is not the end of the run.
#[must_use]
pub fn service(program: &Path, state: &Path, machines: usize) -> String {
    let seconds = longest(machines).as_secs();
    let (program, state) = (quote(&program.to_string_lossy()), quote(&state.to_string_lossy()));
    format!(
        "# Written by sandbox; it goes with the last schedule.\n[Unit]\n\
         Description=Snapshots of sandbox machines that are due\n\n[Service]\nType=oneshot\nNice=10\n\
         IOSchedulingClass=idle\nTimeoutStartSec={seconds}s\nTimeoutStopSec=60s\nOOMPolicy=continue\nExecStart={program} --state-dir {state} snapshot run --due\n"
    )
}

/// Writes the timer: it comes as often as some schedule needs.
#[must_use]
pub fn timer(every: u64) -> String {
    format!(
        "# Written by sandbox; it goes with the last schedule.\n[Unit]\n\
         Description=Snapshots of sandbox machines that are due\n\n[Timer]\nOnBootSec=2min\n\
         OnUnitActiveSec={every}s\nAccuracySec=10s\n\n[Install]\nWantedBy=timers.target\n"
    )
}

/// Tells how often the timer must come: the largest step that meets every schedule, at least a minute.
#[must_use]
pub fn step(schedules: &[Schedule]) -> Option<u64> {
    const fn common(a: u64, b: u64) -> u64 {
        if b == 0 { a } else { common(b, a % b) }
    }
    schedules.iter().map(|schedule| schedule.every).reduce(common).map(|every| every.max(60))
}

/// Has systemd come as often as the schedules need, or not at all; where systemd is not, nothing is done. Tells whether
/// systemd is there.
///
/// # Errors
/// Where a unit cannot be written, or systemctl fails.
pub fn set(state: &Path, program: &Path, schedules: &[Schedule]) -> Result<bool, SnapshotError> {
    if !Path::new("/run/systemd/system").exists() {
        return Ok(false);
    }
    let name = name(state);
    let place = |ending: &str| PathBuf::from(format!("{UNITS}/{name}.{ending}"));
    let timer_unit = format!("{name}.timer");
    let Some(every) = step(schedules) else {
        if place("timer").exists() || place("service").exists() {
            // the run that this is may be the service's own: its timer alone is stopped
            systemctl(&["disable", "--now", &timer_unit])?;
            for ending in ["timer", "service"] {
                let path = place(ending);
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(place::failed(&path, "removing the unit")(error));
                    }
                    _ => {}
                }
            }
            systemctl(&["daemon-reload"])?;
        }
        return Ok(true);
    };
    let service = write(&place("service"), &service(program, state, schedules.len()))?;
    let timer = write(&place("timer"), &timer(every))?;
    if service || timer {
        systemctl(&["daemon-reload"])?;
        systemctl(&["enable", &timer_unit])?;
        systemctl(&["restart", &timer_unit])?;
    }
    Ok(true)
}

/// Writes a unit where it does not say so already.
fn write(path: &Path, text: &str) -> Result<bool, SnapshotError> {
    if fs::read_to_string(path).is_ok_and(|present| present == text) {
        return Ok(false);
    }
    let new = path.with_extension("sandbox-new");
    let write = || {
        fs::write(&new, text)?;
        fs::File::open(&new)?.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(place::failed(path, "writing the unit"))?;
    Ok(true)
}

fn systemctl(words: &[&str]) -> Result<(), SnapshotError> {
    let failed = |why: String| place::failed(Path::new("systemctl"), "running it")(io::Error::other(why));
    let arguments = words.iter().map(Into::into).collect();
    let job = Job { program: "/usr/bin/systemctl".into(), arguments, quiet: true, bound: true };
    let ended = job.run(SYSTEMCTL).map_err(|error| failed(error.to_string()))?;
    match ended.ending {
        Ending::Code(0) => Ok(()),
        Ending::Deadline => Err(failed(format!("it had not ended after {} s", SYSTEMCTL.as_secs()))),
        _ => Err(failed(String::from_utf8_lossy(&ended.err).trim().to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::snapshot::retention::Keep;

    #[test]
    fn the_timer_comes_as_often_as_every_schedule_needs() {
        let schedule = |every| Schedule { every, keep: Keep::parse("1h").unwrap() };
        assert_eq!(step(&[]), None);
        assert_eq!(step(&[schedule(3600), schedule(5400)]), Some(1800));
        assert_eq!(step(&[schedule(61 * 60), schedule(60 * 60)]), Some(60));
        assert!(timer(1800).contains("OnUnitActiveSec=1800s\n"));
    }

    #[test]
    fn another_state_directory_has_another_timer() {
        assert_eq!(name(Path::new("/var/lib/sandbox")), "sandbox-snapshots");
        assert_ne!(name(Path::new("/srv/a")), name(Path::new("/srv/b")));
        let text = service(Path::new("/usr/bin/sandbox"), Path::new("/srv/my state"), 3);
        let start = "ExecStart=/usr/bin/sandbox --state-dir \"/srv/my state\" snapshot run --due\n";
        assert!(text.ends_with(start), "{text}");
    }

    #[test]
    fn a_run_has_a_deadline_that_is_longer_than_those_of_its_machines() {
        let text = service(Path::new("/usr/bin/sandbox"), Path::new("/s"), 3);
        let limit = text.lines().find_map(|line| line.strip_prefix("TimeoutStartSec=")).unwrap();
        let limit: u64 = limit.trim_end_matches('s').parse().unwrap();
        assert!(limit > 2 * (DEADLINE + child::GRACE).as_secs(), "{limit}");
        assert!(text.contains("\nOOMPolicy=continue\n"), "{text}");
        assert!(longest(0) > DEADLINE);
    }
}
