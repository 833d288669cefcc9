//! Checks for the backend `lxc`.

use std::path::Path;

use sandbox_core::machine::lxc::{self, Lxc, LxcError, Version, idmap};

use super::{Finding, Verdict, finding, with};

/// The first version whose profile lets container engines of today work under AppArmor.
///
/// **Source**: lxc issue 4630; runc 1.2.8 mounts /proc by file descriptor, which earlier profiles deny.
const ENGINES: Version = Version(6, 0, 6);

/// Its version, and ids.
pub fn version() -> Finding {
    const CHECK: &str = "lxc";
    let lacking = |text: String| finding(CHECK, Verdict::Lacking, text);
    match Lxc::new(Path::new("/var/lib/sandbox")).probe() {
        Ok(version) => finding(CHECK, Verdict::Good, format!("{version}: machines run with `--backend lxc`")),
        Err(LxcError::Absent) => {
            with(lacking("not installed; `--backend lxc` needs it".to_owned()), "apt-get install lxc")
        }
        Err(error @ LxcError::NoIds) => with(lacking(error.to_string()), idmap::COMMAND),
        Err(error) => lacking(error.to_string()),
    }
}

/// What its AppArmor lets nested containers do.
pub fn nesting() -> Finding {
    const CHECK: &str = "lxc nesting";
    let Ok(version) = lxc::version() else {
        return finding(CHECK, Verdict::Good, "not looked at: there is no LXC of use");
    };
    match lxc::apparmor() {
        None => {
            finding(CHECK, Verdict::Good, "no AppArmor here: `nesting.conf` gives machines what Docker needs")
        }
        Some(_) if version < ENGINES => finding(
            CHECK,
            Verdict::Lacking,
            format!(
                "LXC {version} is older than {ENGINES}: under its AppArmor profile `docker run` with runc 1.2.8 or \
                 newer fails (lxc issue 4630); machines with such an engine need a newer LXC, or `--backend nspawn`"
            ),
        ),
        Some(major) if major >= 4 => finding(
            CHECK,
            Verdict::Good,
            format!("AppArmor {major}: machines' profiles allow user namespaces and message queues by name"),
        ),
        Some(major) => {
            finding(CHECK, Verdict::Good, format!("AppArmor {major}: machines have profiles of their own"))
        }
    }
}
