//! What a build is made of, exactly: every package with its version and digest, in install order.

mod format;

pub use format::{Error, VERSION, read, write};

use crate::digest::Sha256;

/// All that a build needs to know to fetch the same packages again.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Lock {
    /// The image's name: `trixie`.
    pub image: String,
    /// Debian architecture: `amd64`.
    pub architecture: String,
    /// The latest `Date` of the Release files, in seconds since 1970: the tree's SOURCE_DATE_EPOCH.
    pub epoch: i64,
    /// The suites that packages come from, in the image's order.
    pub sources: Vec<LockedSource>,
    /// The packages, dependencies before what needs them as far as cycles allow.
    pub packages: Vec<LockedPackage>,
}

/// A suite of an archive as it was when the lock was made.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedSource {
    /// The pocket's name in the image file: `release`, `updates`, `security`.
    pub id: String,
    /// Base URLs, the preferred one first, without a trailing slash.
    pub mirrors: Vec<String>,
    /// The directory below `dists/`.
    pub suite: String,
    /// The components read.
    pub components: Vec<String>,
    /// The Release file's `Date`, in seconds since 1970.
    pub date: i64,
    /// The digest of the signed text of the Release file.
    pub release: Sha256,
    /// The primary key's fingerprint of a good signature, upper-case hexadecimal.
    pub signed_by: String,
}

/// One package of a build.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LockedPackage {
    /// Its name.
    pub name: String,
    /// Its whole version, epoch and revision included.
    pub version: String,
    /// Its own architecture: the build's, or `all`.
    pub architecture: String,
    /// The id of the source it comes from.
    pub source: String,
    /// Its path below the mirror.
    pub path: String,
    /// Bytes of the `.deb`.
    pub size: u64,
    /// Digest of the `.deb`.
    pub sha256: Sha256,
    /// Why it is in the build.
    pub reason: Reason,
}

/// Why a package is in a build.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "of")]
pub enum Reason {
    /// `Essential: yes`.
    Essential,
    /// Its priority is in the variant's set: `required`.
    Priority(String),
    /// Asked for by name: by the variant, a profile or `--include`; says by whom.
    Requested(String),
    /// A package of this name depends on it.
    Dependency(String),
}

impl Reason {
    /// Tells whether apt would call the package automatically installed.
    #[must_use]
    pub const fn is_automatic(&self) -> bool {
        matches!(self, Self::Dependency(_))
    }
}
