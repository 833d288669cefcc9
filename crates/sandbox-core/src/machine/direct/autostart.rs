//! The unit of the host's systemd that starts machines with the host: one for all machines of a state directory.
//!
//! Supervisors stay below it, so that the host's shutdown asks them to end and waits for their machines.
//!
//! **Source**: systemd.service(5), systemd.kill(5).

use std::path::{Path, PathBuf};

use crate::machine::{
    Definition, Kind, nspawn,
    nspawn::unit::{quote, sole},
    record::Records,
};

/// Where units stand.
const UNITS: &str = "/etc/systemd/system";

/// Writes the unit.
///
/// It is none of the things that the host's boot waits for, and machines that do not start are not the end of those that
/// do.
#[must_use]
fn unit(program: &Path, state: &Path) -> String {
    let (program, state) = (quote(&program.to_string_lossy()), quote(&state.to_string_lossy()));
    // one that failed would take the supervisors of those that run with it
    let ends = "1 2 3 4 5 6 7 70 125 129 130 143 SIGABRT SIGBUS SIGSEGV SIGKILL";
    format!(
        "# Written by sandbox; it goes with the last machine that is started by it.\n[Unit]\n\
         Description=Machines of sandbox that start with the host\n\
         After=network.target nftables.service firewalld.service systemd-networkd.service machines.target lxc.service\n\n\
         [Service]\nType=exec\nRemainAfterExit=yes\nSuccessExitStatus={ends}\nTimeoutStopSec=120\n\
         ExecStart={program} --state-dir {state} start --all\n\n[Install]\nWantedBy=multi-user.target\n"
    )
}

/// Has the host's systemd start machines of this backend with it, as long as there is one that wants it. Where the host
/// has no systemd nothing is done.
///
/// # Errors
/// Where the unit cannot be written, or systemd refuses.
pub(super) fn set(
    state: &Path,
    program: &Path,
    changed: &Definition,
    gone: bool,
) -> Result<(), nspawn::Error> {
    if !is_there() {
        return Ok(());
    }
    let (all, _) = Records::new(state).list_readable().unwrap_or_default();
    let others = all.iter().map(|record| &record.definition).filter(|other| other.name != changed.name);
    let wanted = (!gone && changed.chosen.autostart.is_some())
        || others.into_iter().any(|other| other.backend == Kind::Direct && other.chosen.autostart.is_some());
    let name = format!("{}.service", sole("sandbox-machines", state));
    let path = PathBuf::from(UNITS).join(&name);
    if wanted {
        nspawn::host_unit(&name, &path, &unit(program, state))
    } else if path.exists() {
        nspawn::no_host_unit(&name, &path)
    } else {
        Ok(())
    }
}

/// Tells whether the host has a systemd that could do it.
#[must_use]
pub fn is_there() -> bool {
    Path::new("/run/systemd/system").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_outlive_what_starts_them_and_end_before_the_host_does() {
        let text = unit(Path::new("/usr/bin/sandbox"), Path::new("/srv/my state"));
        assert!(
            text.contains("ExecStart=/usr/bin/sandbox --state-dir \"/srv/my state\" start --all\n"),
            "{text}"
        );
        for line in ["RemainAfterExit=yes", "SuccessExitStatus=1 2 3 4 5 6 7 70"] {
            assert!(text.lines().any(|found| found.starts_with(line)), "{line}: {text}");
        }
        assert!(!text.contains("KillMode"), "the default ends supervisors with the unit");
    }
}
