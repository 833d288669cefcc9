//! The timer of systemd that has snapshots taken: one for all machines of a state directory.
//!
//! **Source**: systemd.timer(5), systemd.service(5).

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
};

use super::{SnapshotError, place, schedule::Schedule};
use crate::machine::nspawn::unit::{quote, sole};

/// Where units stand.
const UNITS: &str = "/etc/systemd/system";

/// Names the timer's unit, without its ending.
#[must_use]
pub fn name(state: &Path) -> String {
    sole("sandbox-snapshots", state)
}

/// Writes the service.
#[must_use]
pub fn service(program: &Path, state: &Path) -> String {
    let (program, state) = (quote(&program.to_string_lossy()), quote(&state.to_string_lossy()));
    format!(
        "# Written by sandbox; it goes with the last schedule.\n[Unit]\n\
         Description=Snapshots of sandbox machines that are due\n\n[Service]\nType=oneshot\nNice=10\n\
         IOSchedulingClass=idle\nExecStart={program} --state-dir {state} snapshot run --due\n"
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
    let service = write(&place("service"), &service(program, state))?;
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

#[expect(clippy::disallowed_methods, reason = "a program of the host, with no tree to be contained in")]
fn systemctl(words: &[&str]) -> Result<(), SnapshotError> {
    let failed = place::failed(Path::new("systemctl"), "running it");
    let output = std::process::Command::new("systemctl")
        .args(words)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            Err(failed(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned())))
        }
        Err(error) => Err(failed(error)),
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
        let text = service(Path::new("/usr/bin/sandbox"), Path::new("/srv/my state"));
        let start = "ExecStart=/usr/bin/sandbox --state-dir \"/srv/my state\" snapshot run --due\n";
        assert!(text.ends_with(start), "{text}");
    }
}
