//! What a build is made of, exactly: every package with its version and digest, in install order.
//!
//! A lock is enough to build from: no index is read. It also keeps what was asked for and what each package
//! depends on, so that without a network it can be told whether it still does for a spec: see [`unmet`].

mod compare;
mod format;
mod grouped;
mod part;
mod satisfies;

pub use compare::{Change, Difference, Direction, compare};
pub use format::{Error, VERSION, read, write};
pub use grouped::grouped;
pub(crate) use grouped::needs;
pub use part::{Fetched, LockedPart, NpmPackage, PythonFile};
pub use satisfies::{PartWish, SourceWish, Unmet, Unsatisfied, Wish, Wishes, unmet};

use crate::digest::Sha256;

/// All that a build needs to know to fetch the same packages again.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Lock {
    /// The image's name: `trixie`.
    pub image: String,
    /// Debian architecture: `amd64`.
    pub architecture: String,
    /// The latest `Date` of the Release files, in seconds since 1970: the tree's SOURCE_DATE_EPOCH.
    pub epoch: i64,
    /// What was asked for, in the words of the command line.
    pub asked: Asked,
    /// The files that it was made with. A changed one does not make the lock wrong, but is told.
    pub inputs: Vec<Input>,
    /// The suites that packages come from, in the image's order.
    pub sources: Vec<LockedSource>,
    /// The packages: the image's, then each profile's; among them dependencies before what needs them, as far as
    /// cycles allow.
    pub packages: Vec<LockedPackage>,
    /// What profiles take from elsewhere, in their order.
    pub parts: Vec<LockedPart>,
}

/// What was asked for when a lock was made, so that it can be built and renewed without saying it again.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// The image as it was named: `trixie`, or a path.
    pub image: String,
    /// The profiles as they were named.
    pub profiles: Vec<String>,
    /// The variant's word: `minbase`.
    pub variant: String,
    /// Packages asked for beside those of image and profiles.
    pub include: Vec<String>,
    /// Packages that must not be there, beside those of image and profiles.
    pub exclude: Vec<String>,
    /// Whether recommended packages were taken too.
    pub recommends: bool,
}

/// A file that a lock was made with.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// `image`, `profile` or `keyring`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The digest of its bytes.
    pub sha256: Sha256,
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
    /// Where old states of the archive are kept: a base URL in which `{timestamp}` stands for the moment.
    #[serde(default)]
    pub snapshot: Option<String>,
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
    /// Its `Pre-Depends` and `Depends`, on one line; empty where it has none.
    pub depends: String,
    /// Its `Provides`, on one line; empty where it has none.
    pub provides: String,
    /// The name of the image or profile whose wishes, with those of what is below it, first need the package.
    ///
    /// Empty in older locks, and there the image is meant: see [`grouped`].
    pub layer: String,
}

/// What is between the name and the suite in the id of an archive beside the distribution's own; no pocket has it.
pub const FOREIGN: char = ' ';

impl LockedPackage {
    /// Tells whether it comes from an archive beside the distribution's own.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.source.contains(FOREIGN)
    }
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

impl std::fmt::Display for Reason {
    /// Writes it as it stands in the lock file: `dependency of libc6`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Essential => f.write_str("essential"),
            Self::Priority(word) => write!(f, "priority {word}"),
            Self::Requested(by) => write!(f, "requested by {by}"),
            Self::Dependency(of) => write!(f, "dependency of {of}"),
        }
    }
}

impl Reason {
    /// Tells whether apt would call the package automatically installed.
    #[must_use]
    pub const fn is_automatic(&self) -> bool {
        matches!(self, Self::Dependency(_))
    }
}
