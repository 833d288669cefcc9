//! What only an image says, and archives of others.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

/// An archive: a mirror's tree of suites.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize, schemars::JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize, schemars::JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize, schemars::JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Apt {
    /// The file below `/etc/apt/sources.list.d/`.
    pub sources: String,
    /// The keyring file that its `Signed-By` names.
    pub signed_by: PathBuf,
}
