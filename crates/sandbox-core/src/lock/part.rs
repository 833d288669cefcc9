//! What a lock keeps of the parts that come from elsewhere than the distribution.

use serde::{Deserialize, Deserializer, de::Error as _};

use crate::digest::Sha256;

/// A part, exactly.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LockedPart {
    /// What the profile asks for: a package, a download's name, a repository's address.
    pub name: String,
    /// The version that the profile's word (`latest`) meant; a repository's commit.
    pub version: String,
    /// What is fetched for it.
    #[serde(flatten)]
    pub what: Fetched,
}

/// What is fetched for a part, by its kind.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fetched {
    /// A tarball of an npm registry, unpacked as it is.
    Npm {
        /// The package that has the tarball of the architecture.
        tarball: String,
        /// The tarball's version.
        tarball_version: String,
        /// Its path below the registry.
        path: String,
        /// Its whole address, where the registry named one that is not below it.
        #[serde(default)]
        url: Option<String>,
        /// Its SHA-512 in base64, without `sha512-` in front.
        sha512: String,
    },
    /// A package of an npm registry with all it depends on.
    NpmTree {
        /// All of them, by their place.
        packages: Vec<NpmPackage>,
    },
    /// A Python tool with all it depends on.
    Python {
        /// The interpreter's version that they were chosen for: `3.13`.
        python: String,
        /// What was asked for beside the version: extras in brackets, further conditions.
        asked: Vec<String>,
        /// The files, by their names.
        files: Vec<PythonFile>,
    },
    /// A file behind a URL.
    Download {
        /// The URL.
        url: String,
        /// Its digest.
        sha256: Sha256,
    },
    /// The files of a git repository at a commit, which is the part's version.
    Git {
        /// The branch or tag that was asked for.
        revision: String,
        /// The digest of the files as they are kept.
        sha256: Sha256,
    },
}

/// A package of an npm tree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NpmPackage {
    /// Its folder: `node_modules/a/node_modules/b`.
    pub path: String,
    /// Its name, where the folder has another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its version.
    pub version: String,
    /// Its tarball's path below the registry or whole address, where that is not the usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tarball: Option<String>,
    /// The tarball's SHA-512 in base64.
    pub sha512: String,
}

/// A wheel or source archive of a Python tool.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PythonFile {
    /// Its file name: `httpie-3.2.4-py3-none-any.whl`.
    pub file: String,
    /// Its address.
    pub url: String,
    /// Its digest.
    pub sha256: Sha256,
}

impl LockedPart {
    /// Gives the word for its kind, as it stands in the lock.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self.what {
            Fetched::Npm { .. } => "npm",
            Fetched::NpmTree { .. } => "npm-tree",
            Fetched::Python { .. } => "python",
            Fetched::Download { .. } => "download",
            Fetched::Git { .. } => "git",
        }
    }

    /// Gives one of the things that a wish may ask for beside name and version.
    #[must_use]
    pub fn fact(&self, key: &str) -> Option<String> {
        match (&self.what, key) {
            (Fetched::Npm { tarball, .. }, "tarball") => Some(tarball.clone()),
            (Fetched::Python { python, .. }, "python") => Some(python.clone()),
            (Fetched::Python { asked, .. }, "asked") => Some(asked.join(", ")),
            (Fetched::Download { url, .. }, "url") => Some(url.clone()),
            (Fetched::Download { sha256, .. }, "sha256") => Some(sha256.to_string()),
            (Fetched::Git { revision, .. }, "revision") => Some(revision.clone()),
            _ => None,
        }
    }

    /// Lists the parts within it, each with name, version and what tells it from another of the same version.
    #[must_use]
    pub fn within(&self) -> Vec<(String, String, String)> {
        match &self.what {
            Fetched::NpmTree { packages } => {
                let one = |package: &NpmPackage| {
                    (package.path.clone(), package.version.clone(), format!("{package:?}"))
                };
                packages.iter().map(one).collect()
            }
            Fetched::Python { files, .. } => {
                let one = |file: &PythonFile| {
                    let mut words = file.file.splitn(3, '-');
                    let (name, version) =
                        (words.next().unwrap_or_default(), words.next().unwrap_or_default());
                    (name.to_owned(), version.to_owned(), file.sha256.to_string())
                };
                files.iter().map(one).collect()
            }
            _ => Vec::new(),
        }
    }
}

impl<'de> Deserialize<'de> for LockedPart {
    /// Reads a table whose `kind` says what else is in it; one without is of the time when there was but one.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut table = toml::Table::deserialize(deserializer)?;
        table.entry("kind").or_insert_with(|| "npm".into());
        let is_git = table.get("kind").and_then(toml::Value::as_str) == Some("git");
        let (named, versioned) = if is_git { ("url", "commit") } else { ("package", "version") };
        let mut word = |key: &'static str, other: &'static str| {
            let value = table.remove(key).or_else(|| table.remove(other));
            let value = value.ok_or_else(|| D::Error::missing_field(key))?;
            value.try_into::<String>().map_err(|wrong| D::Error::custom(wrong.message()))
        };
        let (name, version) = (word(named, "name")?, word(versioned, "version")?);
        let what = toml::Value::Table(table).try_into::<Fetched>();
        Ok(Self { name, version, what: what.map_err(|wrong| D::Error::custom(wrong.message()))? })
    }
}
