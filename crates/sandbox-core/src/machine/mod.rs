//! A startable machine and what runs it.

pub mod attach;
pub mod cgroup;
pub mod changes;
pub mod chosen;
pub mod copy;
mod declared;
pub mod direct;
pub mod disk;
pub mod environment;
mod ephemeral;
pub mod export;
pub mod frozen;
pub mod guest;
mod holding;
mod identity;
pub mod import;
pub mod journal;
pub mod life;
pub mod limits;
pub mod logs;
pub mod lxc;
mod managers;
pub mod mounts;
mod moving;
pub mod needs;
pub mod nesting;
pub mod network;
pub mod nspawn;
pub mod processes;
pub mod provision;
pub mod proxmox;
pub mod record;
mod rename;
pub mod seccomp;
pub mod secret;
pub mod settle;
pub mod signal;
pub mod snapshot;
pub mod usage;
pub mod volume;

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

pub use chosen::{Autostart, Chosen, HostFolder, Limits, Restart};
pub use declared::{Declared, HealthCheck, Login, ServedPort};
pub use needs::{Needs, Nesting};

use self::cgroup::MachineCgroup;
use crate::{Result, name::MachineName, report::Reporter};

/// What runs a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// systemd-nspawn under systemd-machined, driven over D-Bus.
    Nspawn,
    /// liblxc: an unprivileged container that root starts.
    Lxc,
    /// systemd-nspawn under a supervisor of ours.
    Direct,
    /// A container of Proxmox VE, on this host or elsewhere.
    Proxmox,
}

/// What the guest may reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// The internet; not the host (but for DNS and DHCP), not the LAN, not other machines.
    #[default]
    Internet,
    /// Whatever the host reaches, and the host.
    Open,
    /// The host's own network stack: no wall at all.
    Host,
    /// Nothing.
    None,
}

impl Network {
    /// Gives the word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Internet => "internet",
            Self::Open => "open",
            Self::Host => "host",
            Self::None => "none",
        }
    }
}

/// A private address that the guest may reach all the same: a mirror's or a resolver's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Exception {
    /// The exact address.
    pub address: IpAddr,
    /// The exact port, for TCP, and for UDP too where it is 53.
    pub port: u16,
    /// Why, in a few words: `mirror http://…`, `resolver`.
    pub reason: String,
}

/// Everything a backend must know to write a machine's configuration; kept in the machine's record.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Definition {
    /// Its name; also its host name.
    pub name: MachineName,
    /// What runs it.
    pub backend: Kind,
    /// Its tree, ids 0-based.
    pub tree: PathBuf,
    /// What it asks of the backend.
    pub needs: Needs,
    /// What it may reach.
    pub network: Network,
    /// Private addresses that it may reach all the same.
    pub exceptions: Vec<Exception>,
    /// Its folders that outlive the tree.
    #[serde(default)]
    pub volumes: Vec<volume::Mounted>,
    /// No user namespace and every capability: for test hosts, asked for by name only.
    pub privileged: bool,
    /// The absolute path of the `sandbox` program, for units that call it.
    pub program: PathBuf,
    /// What its user chose for it.
    #[serde(default)]
    pub chosen: Chosen,
    /// Which container it is, for one of Proxmox VE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<proxmox::place::Place>,
}

/// Where a machine is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Not running.
    Stopped,
    /// It has a leader; its systemd has not finished booting.
    Starting,
    /// Its systemd says running.
    Running,
    /// Its systemd says degraded: some unit failed.
    Degraded,
    /// It is going down.
    Stopping,
    /// It stands still for a moment, while it is copied.
    Frozen,
    /// It is elsewhere, and cannot be asked.
    Unreachable,
    /// A process is making it.
    Creating,
    /// A process is removing it.
    Removing,
}

/// A machine's first process, in the host's numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Its process id on the host.
    pub pid: i32,
    /// The machine's cgroup, as the backend gave it, where that is known.
    pub cgroup: Option<MachineCgroup>,
    /// The system calls that the machine's profiles allow beside those of every machine.
    pub system_calls: Vec<String>,
}

impl Leader {
    /// Names a process whose machine's cgroup is not known.
    #[must_use]
    pub const fn new(pid: i32) -> Self {
        Self { pid, cgroup: None, system_calls: Vec::new() }
    }
}

/// A machine or tree that somebody else made where a backend has its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Foreign {
    /// Its name, which need not be one of ours.
    pub name: String,
    /// What would run it.
    pub backend: Kind,
    /// Whether it runs.
    pub running: bool,
    /// Its tree, where it is known.
    pub tree: Option<PathBuf>,
}

/// Where the host's own words of a machine are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostLog {
    /// In the host's journal, under a unit.
    Unit(String),
    /// In files, the first first.
    Files(Vec<PathBuf>),
}

/// A machine's console, attached to.
pub struct Console {
    /// What is said there and typed.
    pub stream: std::os::unix::net::UnixStream,
    /// Says that the window has another size, in rows and columns.
    pub resize: Box<dyn Fn(u16, u16) + Send>,
}

/// What a machine's life needs of a backend. Every verb may be repeated.
pub trait Backend: Send + Sync {
    /// Tells which one it is.
    fn kind(&self) -> Kind;

    /// Tells where a machine's tree must stand.
    fn tree(&self, name: &MachineName) -> PathBuf;

    /// Sees, before anything is made, that the host can run the machine and that its place is free.
    ///
    /// # Errors
    /// What is missing or in the way, or what this backend does not have.
    fn admit(&self, _definition: &Definition) -> Result<()> {
        Ok(())
    }

    /// Writes the machine's configuration; nothing runs yet.
    ///
    /// # Errors
    /// Where the host cannot give what the definition asks for, or a file cannot be written.
    fn define(&self, definition: &Definition) -> Result<()>;

    /// Starts the machine and returns when it has a leader.
    ///
    /// # Errors
    /// Where it did not start; the cause carries the end of the log.
    fn start(&self, definition: &Definition, deadline: Duration, reporter: &dyn Reporter) -> Result<()>;

    /// Waits, a while at most, until a machine that was started has probably booted, where the host hears of that: to be
    /// asked costs a booting guest time. Where the host does not, it returns at once.
    fn booted(&self, _definition: &Definition, _deadline: Duration) {}

    /// Shuts the machine down cleanly, by force after the deadline, and returns when it is gone.
    ///
    /// # Errors
    /// Where it is still there.
    fn stop(&self, definition: &Definition, deadline: Duration, reporter: &dyn Reporter) -> Result<()>;

    /// Removes configuration, units, firewall rules, interfaces and runtime files of a stopped machine,
    /// also of a half-made one. The tree is not touched.
    ///
    /// # Errors
    /// Where something is left.
    fn undefine(&self, definition: &Definition) -> Result<()>;

    /// Makes what the user chose count: in the machine's configuration, and at once where it runs.
    ///
    /// # Errors
    /// As [`Backend::define`].
    fn apply(&self, definition: &Definition) -> Result<()> {
        self.define(definition)
    }

    /// Has the host start the machine with it, or no longer, as the definition says, once those of the same backend
    /// that are named have begun. Where the host has nothing that could, `sandbox start --all` does it.
    ///
    /// # Errors
    /// Where the host's service manager refuses.
    fn autostart(&self, _definition: &Definition, _earlier: &[MachineName]) -> Result<()> {
        Ok(())
    }

    /// Lists what runs under this backend and was made by somebody else.
    ///
    /// # Errors
    /// Where the backend cannot be asked.
    fn foreign(&self) -> Result<Vec<Foreign>> {
        Ok(Vec::new())
    }

    /// Sets aside what a machine that somebody else made has of configuration; it stays, under another name.
    ///
    /// # Errors
    /// Where it cannot be set aside.
    fn adopt(&self, _definition: &Definition) -> Result<()> {
        Ok(())
    }

    /// Attaches to the machine's console, as a window of a size; none where the host has no way to it but through the
    /// guest.
    ///
    /// # Errors
    /// Where it cannot be reached.
    fn console(&self, _name: &MachineName, _rows: u16, _columns: u16) -> Result<Option<Console>> {
        Ok(None)
    }

    /// Tells where the host's own words of the machine are: its unit's or its supervisor's.
    fn host_log(&self, _definition: &Definition) -> HostLog {
        HostLog::Files(Vec::new())
    }

    /// Gives the machine's first process, none where it does not run.
    ///
    /// # Errors
    /// Where the backend cannot be asked.
    fn leader(&self, name: &MachineName) -> Result<Option<Leader>>;

    /// Gives the first processes of those of the machines that run.
    ///
    /// # Errors
    /// Where the backend cannot be asked.
    fn leaders(&self, names: &[MachineName]) -> Result<BTreeMap<MachineName, Leader>> {
        let mut all = BTreeMap::new();
        for name in names {
            if let Some(leader) = self.leader(name)? {
                all.insert(name.clone(), leader);
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
pub(crate) mod example {
    use super::{Chosen, Declared, Definition, Kind, Needs, Network, record::Record};
    use crate::name::MachineName;

    /// A record of such a machine.
    pub(crate) fn record(name: &str) -> Record {
        Record {
            version: 1,
            definition: definition(name),
            image: "trixie".to_owned(),
            profiles: Vec::new(),
            packages: 1,
            layers: Vec::new(),
            declared: Declared::default(),
            created: 0,
            schedule: None,
        }
    }

    /// A machine of nspawn that asks for nothing.
    pub(crate) fn definition(name: &str) -> Definition {
        Definition {
            name: MachineName::new(name).unwrap(),
            backend: Kind::Nspawn,
            tree: format!("/var/lib/machines/{name}").into(),
            needs: Needs::default(),
            network: Network::Internet,
            exceptions: Vec::new(),
            volumes: Vec::new(),
            privileged: false,
            program: "/usr/bin/sandbox".into(),
            chosen: Chosen::default(),
            place: None,
        }
    }
}
