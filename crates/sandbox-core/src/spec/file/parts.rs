//! Parts that come from elsewhere than the distribution: each is locked with a digest and kept in the store.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

use super::{latest, root};

/// A package of an npm registry: a platform tarball, unpacked as it is, or with all it depends on.
///
/// **Source**: the registry's version document, `GET /NAME/VERSION`; `dist.integrity` is checked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Npm {
    /// The package whose version is asked for: `@openai/codex`.
    pub package: String,
    /// A version or a dist-tag: `latest`.
    #[serde(default = "latest")]
    pub version: String,
    /// The tarball that is fetched, by Debian architecture. Without any, the package is installed with its
    /// tree, by npm in the tree and from a lock of its own.
    #[serde(default)]
    pub platform: BTreeMap<String, Part>,
    /// The folder of the tree that receives it: the tarball's `package/`, or `node_modules` and its like.
    pub into: PathBuf,
    /// Links made in the tree, by the link's path; targets are relative to `into`.
    #[serde(default)]
    pub bin: BTreeMap<PathBuf, String>,
    /// Packages of its tree whose install scripts are run; no other's are.
    #[serde(default)]
    pub scripts: Vec<String>,
}

/// The tarball of one architecture.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize, schemars::JsonSchema)]
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

/// A Python tool with all it depends on, in an environment of its own.
///
/// **Source**: the simple repository API (PEP 691), whose `sha256` each file is checked by.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Python {
    /// The package: `aider-chat`, extras in brackets behind it.
    pub package: String,
    /// A version, or `latest`.
    #[serde(default = "latest")]
    pub version: String,
    /// The folder of the tree that is its virtual environment.
    pub into: PathBuf,
    /// Links made in the tree, by the link's path; targets are relative to `into`.
    #[serde(default)]
    pub bin: BTreeMap<PathBuf, String>,
    /// Packages beside it, with their conditions: `setuptools<81`.
    #[serde(default)]
    pub with: Vec<String>,
    /// The interpreter, where it is not the distribution's `python3`.
    pub python: Option<Interpreter>,
}

/// An interpreter of Python that another part brings.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Interpreter {
    /// Its path in the tree.
    pub path: PathBuf,
    /// Its version: `3.12.11`, or `3.12` where nothing depends on the rest.
    pub version: String,
}

/// A binary or an archive behind a URL.
///
/// In `url`, `checksums` and `into` words in braces stand for values: `{version}`, `{arch}` (the word of
/// `architectures`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Download {
    /// What the lock calls it: `lazygit`.
    pub name: String,
    /// A package of the distribution that it stands in for: where that one is installed, this is left out.
    pub unless: Option<String>,
    /// A version, or `latest`, which `latest` is asked for.
    #[serde(default = "latest")]
    pub version: String,
    /// An address that tells the newest version: it redirects to one whose last word it is
    /// (`…/releases/latest`), or its text is it; a `v` in front is dropped.
    pub latest: Option<String>,
    /// Where it is.
    pub url: String,
    /// The vendor's word for each Debian architecture that it exists for, with the digest where it is known.
    pub architectures: BTreeMap<String, Build>,
    /// A file of the vendor's with lines of SHA-256 and file name, or the digest alone.
    pub checksums: Option<String>,
    /// Neither a digest nor such a file is there: what comes first is taken, and locked.
    #[serde(default)]
    pub unchecked: bool,
    /// How it is packed; the URL's ending says it otherwise.
    pub archive: Option<ArchiveKind>,
    /// How many folders are dropped from the front of an archive's paths.
    #[serde(default)]
    pub strip: usize,
    /// The only paths of the archive that are taken, after `strip`; none takes all.
    #[serde(default)]
    pub only: Vec<String>,
    /// The folder that receives an archive, or the path of a binary.
    pub into: PathBuf,
    /// Links made in the tree, by the link's path; targets are relative to `into`.
    #[serde(default)]
    pub bin: BTreeMap<PathBuf, String>,
}

/// A download of one architecture.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Build {
    /// The vendor's word: `x86_64`.
    pub word: String,
    /// Its SHA-256, for a `version` that is not `latest`.
    pub sha256: Option<crate::digest::Sha256>,
}

/// How a download is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ArchiveKind {
    /// Not at all: one file.
    None,
    /// One file, gzip.
    Gz,
    /// tar, gzip.
    TarGz,
    /// tar, xz.
    TarXz,
    /// tar, zstd.
    TarZst,
    /// zip.
    Zip,
}

/// A git repository's files at a commit.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Git {
    /// The repository: `https://…`.
    pub url: String,
    /// A branch, a tag or a whole commit id; the lock has the commit.
    #[serde(default = "head")]
    pub revision: String,
    /// The folder of the tree that receives the files.
    pub into: PathBuf,
    /// Who owns them.
    #[serde(default = "root")]
    pub owner: String,
}

fn same_version() -> String {
    "{version}".to_owned()
}

fn head() -> String {
    "HEAD".to_owned()
}
