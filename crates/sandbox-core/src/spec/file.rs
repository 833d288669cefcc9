//! The schema: what an image or profile file may say.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

use crate::machine::Needs;

/// The version of the schema that this program reads.
pub const SCHEMA: u32 = 1;

/// One image or profile file, or several merged.
///
/// **Shape**: TOML 1.0, keys in kebab-case, `schema = 1` first. Unknown keys are refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
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
    /// Platform tarballs from an npm registry, unpacked as they are.
    #[serde(default)]
    pub npm: Vec<Npm>,
    /// Files put into the tree.
    #[serde(default)]
    pub files: Vec<TreeFile>,
    /// Symbolic links put into the tree.
    #[serde(default)]
    pub links: Vec<Link>,
    /// Users made in the tree.
    #[serde(default)]
    pub users: Vec<User>,
    /// systemd units.
    #[serde(default)]
    pub units: Units,
    /// Archives of others, each with a key of its own.
    #[serde(default)]
    pub source: Vec<ExtraSource>,
    /// What the machine must allow.
    #[serde(default)]
    pub machine: Needs,
    /// Commands that tell whether it works, run in the booted machine.
    #[serde(default)]
    pub health: Vec<Health>,

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
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Packages {
    /// Installed, or the build fails.
    pub install: Vec<String>,
    /// Installed where the archive has them.
    pub if_available: Vec<String>,
    /// Never installed.
    pub exclude: Vec<String>,
}

/// A platform tarball of an npm package.
///
/// **Source**: the registry's version document, `GET /NAME/VERSION`; `dist.integrity` is checked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Npm {
    /// The package whose version is asked for: `@openai/codex`.
    pub package: String,
    /// A version or a dist-tag: `latest`.
    #[serde(default = "latest")]
    pub version: String,
    /// What is fetched, by Debian architecture.
    pub platform: BTreeMap<String, Part>,
    /// The folder of the tree that receives the tarball's `package/`.
    pub into: PathBuf,
    /// Links made in the tree, by the link's path; targets are relative to `into`.
    #[serde(default)]
    pub bin: BTreeMap<PathBuf, String>,
}

/// The tarball of one architecture.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Part {
    /// The package that has it.
    pub package: String,
    /// Its version; `{version}` stands for the main package's.
    #[serde(default = "same_version")]
    pub version: String,
    /// What to strip from the front of each path, beyond `package/`.
    #[serde(default)]
    pub strip: String,
}

/// A file of the tree.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
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
}

/// A symbolic link of the tree.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Link {
    /// Where: absolute.
    pub path: PathBuf,
    /// What it says.
    pub target: String,
}

/// A user of the tree.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
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

/// systemd units.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Units {
    /// Enabled.
    pub enable: Vec<String>,
    /// Masked.
    pub mask: Vec<String>,
}

/// A command that tells whether a profile works.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Health {
    /// The command and its arguments.
    pub argv: Vec<String>,
    /// Who runs it.
    #[serde(default = "agent")]
    pub user: String,
    /// The status that means well.
    #[serde(default)]
    pub status: i32,
}

/// An archive: a mirror's tree of suites.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Archive {
    /// Base URL without a trailing slash.
    pub mirror: String,
    /// Where its old states are kept: a base URL in which `{timestamp}` stands for `20261118T221743Z`.
    pub snapshot: Option<String>,
    /// The same for architectures that are elsewhere: Ubuntu's ports.
    #[serde(default)]
    pub by_architecture: BTreeMap<String, String>,
}

impl Archive {
    /// Gives the base URL for a Debian architecture.
    #[must_use]
    pub fn mirror_of(&self, architecture: &str) -> &str {
        self.by_architecture.get(architecture).unwrap_or(&self.mirror)
    }
}

/// A suite of an archive.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Pocket {
    /// `release`, `updates`, `security`, `backports`.
    pub name: String,
    /// The archive that has it.
    pub archive: String,
    /// The directory below `dists/`.
    pub suite: String,
    /// The `Codename` that its Release file must have.
    pub codename: Option<String>,
    /// The `Suite` that its Release file must have.
    pub release_suite: Option<String>,
    /// Fingerprints of primary keys, of which one must have signed.
    pub signers: Vec<String>,
    /// Left out unless asked for.
    #[serde(default)]
    pub optional: bool,
}

/// An archive of somebody else's: what a deb822 stanza of apt's says.
///
/// **Source**: sources.list(5).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ExtraSource {
    /// Its file in the tree: `/etc/apt/sources.list.d/NAME.sources`.
    pub name: String,
    /// Base URLs; several are mirrors of each other.
    pub uris: Vec<String>,
    /// Directories below `dists/`; with a slash at the end, of a flat archive, below the base URL itself.
    pub suites: Vec<String>,
    /// Components of each suite; a flat archive has none.
    #[serde(default)]
    pub components: Vec<String>,
    /// The architectures that it exists for; none for every one.
    #[serde(default)]
    pub architectures: Vec<String>,
    /// The keyring that alone is trusted for it: an absolute path on the host, or an armored block.
    pub signed_by: String,
}

/// apt's own configuration in the tree.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Apt {
    /// The file below `/etc/apt/sources.list.d/`.
    pub sources: String,
    /// The keyring file that its `Signed-By` names.
    pub signed_by: PathBuf,
}

fn latest() -> String {
    "latest".to_owned()
}

fn same_version() -> String {
    "{version}".to_owned()
}

fn mode_0644() -> String {
    "0644".to_owned()
}

fn root() -> String {
    "root".to_owned()
}

fn bash() -> String {
    "/bin/bash".to_owned()
}

fn agent() -> String {
    "agent".to_owned()
}
