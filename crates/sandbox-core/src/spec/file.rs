//! The schema: what an image or profile file may say.

mod guest;
mod image;
mod parts;

use std::collections::BTreeMap;

pub use guest::{
    Agent, Group, Health, Link, Mcp, McpFile, McpFormat, Port, Protocol, Skills, Step, TreeFile, Unit, Units,
    User, Volume, VolumeKind,
};
pub use image::{Apt, Archive, ExtraSource, Pocket};
pub use parts::{ArchiveKind, Build, Download, Git, Interpreter, Npm, Part, Python};
use serde::Deserialize;

use crate::machine::Needs;

/// The version of the schema that this program reads.
pub const SCHEMA: u32 = 1;

/// One image or profile file, or several merged.
///
/// **Shape**: TOML 1.0, keys in kebab-case, `schema = 1` first. Unknown keys are refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Layer {
    /// Always 1.
    pub schema: u32,
    /// The file's name without `.toml`.
    pub name: String,
    /// One line: what it is.
    #[serde(default)]
    pub summary: String,
    /// Profiles that come before this one.
    #[serde(default)]
    pub requires: Vec<String>,
    /// Keys of lower layers that this one takes back before its own count, dotted: `packages.install`.
    #[serde(default)]
    pub unset: Vec<String>,
    /// What it costs in isolation, in words.
    #[serde(default)]
    pub costs: Vec<String>,
    /// Packages of the distribution.
    #[serde(default)]
    pub packages: Packages,
    /// Archives of others, each with a key of its own.
    #[serde(default)]
    pub source: Vec<ExtraSource>,
    /// Packages of an npm registry.
    #[serde(default)]
    pub npm: Vec<Npm>,
    /// Python tools.
    #[serde(default)]
    pub python: Vec<Python>,
    /// Binaries and archives behind URLs.
    #[serde(default)]
    pub download: Vec<Download>,
    /// Files of git repositories.
    #[serde(default)]
    pub git: Vec<Git>,
    /// Groups made in the tree.
    #[serde(default)]
    pub groups: Vec<Group>,
    /// Users made in the tree.
    #[serde(default)]
    pub users: Vec<User>,
    /// Files put into the tree.
    #[serde(default)]
    pub files: Vec<TreeFile>,
    /// Symbolic links put into the tree.
    #[serde(default)]
    pub links: Vec<Link>,
    /// systemd units of its own.
    #[serde(default)]
    pub unit: Vec<Unit>,
    /// What becomes of units by name.
    #[serde(default)]
    pub units: Units,
    /// Kernel settings of the guest: `net.ipv4.ping_group_range = "0 1000"`.
    #[serde(default, deserialize_with = "super::words::read")]
    #[schemars(schema_with = "super::words::schema")]
    pub sysctl: BTreeMap<String, String>,
    /// Limits of the guest's processes, as setrlimit(2) names and counts them (bytes, seconds): `nofile = 65536`,
    /// `"soft:hard"`, `"infinity"`.
    #[serde(default, deserialize_with = "super::words::read")]
    #[schemars(schema_with = "super::words::schema")]
    pub limits: BTreeMap<String, String>,
    /// Variables of login shells, of `sandbox exec`, and of users' units: `${NAME}` stands for the value before.
    #[serde(default, deserialize_with = "super::words::read")]
    #[schemars(schema_with = "super::words::schema")]
    pub environment: BTreeMap<String, String>,
    /// Variables that break what it installs, each with the reason: no file of a stack may set them.
    #[serde(default)]
    pub refuses: BTreeMap<String, String>,
    /// Commands run in the tree while it is built, last of the profile's parts.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// Ports that it serves.
    #[serde(default)]
    pub ports: Vec<Port>,
    /// Folders that outlive the tree.
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// What the machine must allow.
    #[serde(default)]
    pub machine: Needs,
    /// Commands that tell whether it works, run in the booted machine.
    #[serde(default)]
    pub health: Vec<Health>,
    /// Agents that it installs.
    #[serde(default)]
    pub agent: Vec<Agent>,
    /// Servers of the Model Context Protocol for every agent.
    #[serde(default)]
    pub mcp: Vec<Mcp>,
    /// Skills for every agent.
    #[serde(default)]
    pub skills: Vec<Skills>,

    /// Image: `debian` or `ubuntu`.
    pub distribution: Option<String>,
    /// Image: the version number users know, such as `13`.
    pub release: Option<String>,
    /// Image: Debian architectures that it exists for.
    #[serde(default)]
    pub architectures: Vec<String>,
    /// Image: components read from every pocket.
    #[serde(default)]
    pub components: Vec<String>,
    /// Image: the keyring shipped with the program.
    pub keyring: Option<String>,
    /// Image: archives by name, `main` and where it differs `security`.
    #[serde(default)]
    pub archive: BTreeMap<String, Archive>,
    /// Image: suites of those archives, `release` first.
    #[serde(default)]
    pub pocket: Vec<Pocket>,
    /// Image: apt's own configuration in the tree.
    pub apt: Option<Apt>,
}

/// Packages of the distribution.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Packages {
    /// Installed, or the build fails.
    pub install: Vec<String>,
    /// Installed where the archive has them.
    pub if_available: Vec<String>,
    /// Never installed.
    pub exclude: Vec<String>,
}

fn latest() -> String {
    "latest".to_owned()
}

fn root() -> String {
    "root".to_owned()
}
