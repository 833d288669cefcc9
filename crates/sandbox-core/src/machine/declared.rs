//! What profiles declare of a machine, beyond what its backend must know.

use crate::spec::{Health, Port, Spec};

/// What profiles declare of a machine: kept, as the files that said so may change.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Declared {
    /// Ports that are served in it.
    pub ports: Vec<ServedPort>,
    /// Commands that tell whether profiles work.
    pub health: Vec<HealthCheck>,
    /// Commands that log in to agents.
    #[serde(default)]
    pub logins: Vec<Login>,
}

/// How an agent is logged in to.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Login {
    /// The agent's name.
    pub agent: String,
    /// The command, for the user `agent` at a terminal.
    pub argv: Vec<String>,
}

/// A port and who serves it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ServedPort {
    /// The profile.
    pub profile: String,
    /// The port.
    pub port: Port,
}

/// A check and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HealthCheck {
    /// The profile.
    pub profile: String,
    /// The check.
    pub check: Health,
}

impl Declared {
    /// Gathers what the files of a spec declare, in their order.
    #[must_use]
    pub fn of(spec: &Spec) -> Self {
        let mut all = Self::default();
        for file in &spec.files {
            let profile = || file.name.clone();
            let ports = file.layer.ports.iter().cloned();
            all.ports.extend(ports.map(|port| ServedPort { profile: profile(), port }));
            let checks = file.layer.health.iter().cloned();
            all.health.extend(checks.map(|check| HealthCheck { profile: profile(), check }));
            let agents = file.layer.agent.iter().filter(|agent| !agent.login.is_empty());
            let logins = agents.map(|agent| Login { agent: agent.name.clone(), argv: agent.login.clone() });
            all.logins.extend(logins);
        }
        all
    }
}
