//! Why systemd or machined could not do what was asked.

use std::{io, path::PathBuf, time::Duration};

use crate::{
    error::{Cause, Class, Hint},
    machine::network,
    name::MachineName,
};

/// Why the nspawn backend failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no system bus.
    #[error("the system bus at {path} cannot be reached")]
    Bus {
        /// The bus's socket.
        path: &'static str,
        /// What the bus library said.
        #[source]
        source: zbus::Error,
    },
    /// Nobody answers for a service of systemd's.
    #[error("{service} is not on this host")]
    Absent {
        /// The service.
        service: &'static str,
    },
    /// The caller lacks the right.
    #[error("systemd does not let this user {action}")]
    Denied {
        /// What was asked, as a verb phrase.
        action: &'static str,
        /// What systemd said.
        #[source]
        source: zbus::Error,
    },
    /// A call failed.
    #[error("{service} could not {action}")]
    Call {
        /// The service.
        service: &'static str,
        /// What was asked, as a verb phrase.
        action: &'static str,
        /// What systemd said.
        #[source]
        source: zbus::Error,
    },
    /// The machine's unit did not come up.
    #[error("{unit} ended with result `{result}`{}", status_of(*.status))]
    Failed {
        /// The unit.
        unit: String,
        /// systemd's word for how it ended: `exit-code`, `timeout`, `start-limit-hit`.
        result: String,
        /// The exit status or signal of its main process.
        status: i32,
    },
    /// No machine of ours has the name.
    #[error("`{name}` is no machine of `sandbox` under machined")]
    Unknown {
        /// The name.
        name: MachineName,
    },
    /// Another machine holds the name.
    #[error("machined has a machine of this name that is no unit of ours ({unit})")]
    Taken {
        /// The unit that machined names as its holder.
        unit: String,
    },
    /// A state was not reached in time.
    #[error("{unit} was not {state} within {} s", .waited.as_secs())]
    Late {
        /// The unit.
        unit: String,
        /// The state that was waited for.
        state: &'static str,
        /// How long was waited.
        waited: Duration,
    },
    /// networkd, which gives both ends of the machine's link their addresses, does not run.
    #[error("systemd-networkd, which gives the machine its address, does not run on this host")]
    Networkd,
    /// The wall was not put up or taken down.
    #[error("the machine's firewall rules could not be changed")]
    Wall(#[source] network::Error),
    /// A file cannot be read, written or removed.
    #[error("{} cannot be {done}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// `read`, `written` or `removed`.
        done: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// The main process has no status of its own where a command before it failed.
fn status_of(status: i32) -> String {
    if status == 0 { String::new() } else { format!(", status {status}") }
}

impl Cause for Error {
    fn class(&self) -> Class {
        match self {
            Self::Bus { .. } | Self::Absent { .. } | Self::Denied { .. } | Self::Networkd => Class::Host,
            Self::File { .. } | Self::Call { .. } | Self::Late { .. } => Class::Host,
            Self::Failed { .. } | Self::Taken { .. } | Self::Unknown { .. } => Class::Unavailable,
            Self::Wall(source) => source.class(),
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Absent { .. } => {
                vec![
                    Hint::run("install systemd-machined and nspawn", "apt install systemd-container"),
                    Hint::Note("the backend `direct` needs no machined: --backend direct".into()),
                ]
            }
            Self::Bus { .. } => {
                vec![Hint::Note("the backend `direct` needs no system bus: --backend direct".into())]
            }
            Self::Denied { .. } => vec![Hint::Note("run it as root".into())],
            Self::Networkd => {
                vec![Hint::run("start systemd-networkd", "systemctl enable --now systemd-networkd")]
            }
            Self::Failed { unit, .. } | Self::Late { unit, .. } => {
                vec![Hint::run("read the unit's log", format!("journalctl -b -u {unit}"))]
            }
            Self::Taken { unit } => {
                vec![Hint::run("stop what holds the name", format!("systemctl stop {unit}"))]
            }
            Self::Wall(source) => source.hints(),
            _ => Vec::new(),
        }
    }
}
