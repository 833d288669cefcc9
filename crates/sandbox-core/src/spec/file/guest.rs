//! What a profile puts into the guest: files, people, units, settings, and how to see that all works.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

use super::root;

/// A file of the tree.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TreeFile {
    /// Where: absolute.
    pub path: PathBuf,
    /// Its whole text.
    pub content: String,
    /// Permission bits in octal.
    #[serde(default = "mode_0644")]
    pub mode: String,
    /// A user of the tree, by name.
    #[serde(default = "root")]
    pub owner: String,
    /// A group of the tree, by name; the owner's own otherwise.
    pub group: Option<String>,
}

/// A symbolic link of the tree.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Link {
    /// Where: absolute.
    pub path: PathBuf,
    /// What it says.
    pub target: String,
}

/// A user of the tree.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// Groups beside its own; those that the tree lacks are made as system groups.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Its login shell.
    #[serde(default = "bash")]
    pub shell: String,
}

/// A group of the tree.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its number; the next free one of the system's otherwise.
    pub gid: Option<u32>,
}

/// What becomes of systemd's units.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Units {
    /// Enabled.
    pub enable: Vec<String>,
    /// Disabled.
    pub disable: Vec<String>,
    /// Masked.
    pub mask: Vec<String>,
}

/// A unit of the profile's own: a service, a timer, a socket, or a drop-in of one.
///
/// **Source**: systemd.unit(5).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Unit {
    /// Its file below `/etc/systemd/system`: `backup.timer`, `docker.service.d/50-sandbox.conf`.
    pub name: String,
    /// Its text.
    pub content: String,
    /// Whether it is enabled.
    #[serde(default)]
    pub enable: bool,
}

/// A command that is run in the tree while it is built.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Step {
    /// The command and its arguments; there is no shell.
    pub argv: Vec<String>,
    /// Who runs it.
    #[serde(default = "root")]
    pub user: String,
    /// Whether it has the host's network; what it fetches is in no lock, so that none is the rule.
    #[serde(default)]
    pub network: bool,
    /// Variables for it.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

/// A port that the profile serves.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Port {
    /// Its number.
    pub port: u16,
    /// `tcp` or `udp`.
    #[serde(default)]
    pub protocol: Protocol,
    /// The guest's address that it listens on.
    #[serde(default = "loopback")]
    pub address: std::net::IpAddr,
    /// What is served there, in a few words.
    pub what: String,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Gives the word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A command that tells whether a profile works, run in the booted machine.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Health {
    /// What works where it succeeds, in a few words: `daemon answers`.
    #[serde(default)]
    pub name: String,
    /// The command and its arguments.
    pub argv: Vec<String>,
    /// Who runs it.
    #[serde(default = "agent")]
    pub user: String,
    /// The status that means well.
    #[serde(default)]
    pub status: i32,
    /// How long it may fail before that counts, in seconds: what is started at boot needs a moment.
    #[serde(default = "ten")]
    pub within: u32,
}

/// A folder of the guest that outlives its tree.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Volume {
    /// Where: absolute.
    pub path: PathBuf,
    /// What becomes of it.
    pub kind: VolumeKind,
    /// Who owns it.
    #[serde(default = "agent")]
    pub owner: String,
    /// Permission bits in octal.
    #[serde(default = "mode_0700")]
    pub mode: String,
}

/// What a volume is for, which decides where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeKind {
    /// Logins: one machine's alone; in no snapshot, no fork, no export.
    Auth,
    /// Work: kept with the machine.
    Home,
    /// What can be made again.
    Cache,
}

/// An agent: how it is told what it must know, in files of its own format.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Agent {
    /// Its name: `claude`.
    pub name: String,
    /// The file of instructions that it reads: what the walls are, what is reachable, how to ask.
    pub instructions: PathBuf,
    /// Where servers of the Model Context Protocol are registered, where it knows them.
    pub mcp: Option<McpFile>,
    /// The folder that skills are linked into, where it knows them.
    pub skills: Option<PathBuf>,
    /// The command that logs in to it, run by the user `agent` at a terminal: `["claude", "auth", "login"]`.
    #[serde(default)]
    pub login: Vec<String>,
}

/// A file in which an agent looks for servers of the Model Context Protocol.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct McpFile {
    /// The file.
    pub path: PathBuf,
    /// Its shape.
    pub format: McpFormat,
    /// A user of the tree, by name.
    #[serde(default = "root")]
    pub owner: String,
}

/// The shape of a file that registers servers of the Model Context Protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum McpFormat {
    /// JSON: `mcpServers`, each with `command`, `args`, `env` (Claude Code, Gemini CLI).
    McpServers,
    /// TOML: `[mcp_servers.NAME]` (Codex).
    CodexToml,
    /// JSON: `mcp`, each with `type`, `command`, `environment` (OpenCode).
    Opencode,
}

/// A server of the Model Context Protocol, registered with every agent that is there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Mcp {
    /// Its name: `memory`.
    pub name: String,
    /// The command that speaks the protocol on its standard streams.
    pub argv: Vec<String>,
    /// Variables for it; never a secret.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

/// A folder of skills, linked into the folder of every agent that is there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Skills {
    /// The link's name.
    pub name: String,
    /// The folder of the tree.
    pub path: PathBuf,
}

fn mode_0644() -> String {
    "0644".to_owned()
}

fn mode_0700() -> String {
    "0700".to_owned()
}

fn bash() -> String {
    "/bin/bash".to_owned()
}

fn agent() -> String {
    "agent".to_owned()
}

const fn loopback() -> std::net::IpAddr {
    std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)
}

const fn ten() -> u32 {
    10
}
