//! Chooses the packages of a build: pure, from a catalogue and a request to a list in install order.
//!
//! Two ways, tried in turn. [`greedy`] walks dependencies depth-first and takes the first alternative that
//! can be had, as apt does, so that people get the set that they know. Where it runs into a conflict,
//! [`search`] looks through every version and every alternative with clause learning: it finds a set if there
//! is one, and otherwise says which facts of the archive contradict each other. The search is our own because
//! it expands only packages that are chosen, prefers apt's order, and keeps for each learned clause what it
//! was learned from, which is what the explanation is made of.

pub(crate) mod clauses;
mod explain;
mod greedy;
mod layers;
mod order;
mod pool;
mod search;
mod seed;

use std::{fmt, str::FromStr};

pub use explain::{Chain, Error, Fact};

use crate::{
    deb::{
        packages::{Catalog, PackageId},
        release::Digest,
    },
    digest::Sha256,
    error::{Cause as _, Class},
    lock::{LockedPackage, Reason},
};

/// Which packages a build begins with, before any are asked for by name.
///
/// **Source**: mmdebstrap(1), VARIANTS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// `Essential: yes` and nothing else.
    Essential,
    /// Essential packages and apt.
    Apt,
    /// Also those of priority required; also called `required`.
    #[default]
    #[serde(alias = "required")]
    Minbase,
    /// Essential packages, apt and build-essential.
    Buildd,
    /// As minbase, and those of priority important; also called `debootstrap` and `-`.
    #[serde(alias = "debootstrap")]
    Important,
    /// As important, and those of priority standard.
    Standard,
}

/// A text that names no variant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no variant; there are essential, apt, minbase, buildd, important and standard")]
pub struct NotAVariant(pub String);

impl FromStr for Variant {
    type Err = NotAVariant;

    fn from_str(text: &str) -> Result<Self, NotAVariant> {
        Ok(match text {
            "essential" => Self::Essential,
            "apt" => Self::Apt,
            "minbase" | "required" => Self::Minbase,
            "buildd" => Self::Buildd,
            "important" | "debootstrap" | "-" => Self::Important,
            "standard" => Self::Standard,
            _ => return Err(NotAVariant(text.to_owned())),
        })
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Essential => "essential",
            Self::Apt => "apt",
            Self::Minbase => "minbase",
            Self::Buildd => "buildd",
            Self::Important => "important",
            Self::Standard => "standard",
        })
    }
}

/// A package asked for by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// **Shape**: `name`, `name:architecture`, each also with `=version` or `/suite` after it.
    pub name: String,
    /// Who asks, for error messages and the lock: ``profile `docker` (profiles/docker.toml:4)``.
    pub by: String,
    /// The place of who asks in [`Request::layers`]; those of the variant are of the first.
    pub layer: usize,
}

/// What is asked of the archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Debian architecture of the build; the catalogue must have been read for it.
    pub architecture: String,
    /// Which packages to begin with.
    pub variant: Variant,
    /// Packages that must be there.
    pub install: Vec<Wanted>,
    /// Packages that are asked for only where the archive has them.
    pub optional: Vec<Wanted>,
    /// Names of packages that must not be there, whatever depends on them: as if the archive had none.
    pub exclude: Vec<String>,
    /// Whether `Recommends` are followed where they can be.
    pub recommends: bool,
    /// Names of the files that are stacked, from the image upwards; none where that does not matter.
    pub layers: Vec<String>,
}

/// What was chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// The packages, dependencies first as far as cycles allow.
    pub packages: Vec<LockedPackage>,
    /// Packages, by their place in the list, of which the archive lists SHA-512 alone. Their `sha256` is zeros: it is
    /// known when the package was fetched.
    pub by_sha512: Vec<(usize, [u8; 64])>,
    /// Optional wishes that were not met.
    pub skipped: Vec<Skipped>,
}

/// An optional wish that was not met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// What was asked for, and by whom.
    pub wanted: Wanted,
    /// The end of the reason why not: "… would be nice, but `why`".
    pub why: String,
}

/// Chooses packages and gives them in install order.
///
/// The same catalogue and request always give the same list. An optional wish that cannot be met is skipped.
///
/// # Errors
/// [`Error`] says which wish cannot be met, and the chain of facts why.
pub fn resolve(catalog: &Catalog, request: &Request) -> Result<Resolved, Error> {
    let mut request = request.clone();
    let optional = std::mem::take(&mut request.optional);
    let mut skipped = Vec::new();
    // most often all of them can be had
    request.optional.clone_from(&optional);
    if !optional.is_empty() {
        match attempt(catalog, &request) {
            Ok(packages) => return Ok(Resolved::of(packages, skipped)),
            Err(_) => request.optional.clear(),
        }
    }
    let mut packages = attempt(catalog, &request)?;
    for wanted in optional {
        request.optional.push(wanted.clone());
        match attempt(catalog, &request) {
            Ok(more) => packages = more,
            Err(error) if error.class() != Class::Unavailable => return Err(error),
            Err(error) => {
                request.optional.pop();
                skipped.push(Skipped { wanted, why: explain::last(&error) });
            }
        }
    }
    Ok(Resolved::of(packages, skipped))
}

/// A package, and its SHA-512 where the archive lists no SHA-256.
type Listed = (LockedPackage, Option<[u8; 64]>);

impl Resolved {
    fn of(packages: Vec<Listed>, skipped: Vec<Skipped>) -> Self {
        let by_sha512 = packages.iter().enumerate().filter_map(|(at, (_, sha512))| Some((at, (*sha512)?)));
        let by_sha512 = by_sha512.collect();
        Self { packages: packages.into_iter().map(|(package, _)| package).collect(), by_sha512, skipped }
    }
}

/// Chooses packages for a request whose wishes are all to be met.
fn attempt(catalog: &Catalog, request: &Request) -> Result<Vec<Listed>, Error> {
    if request.architecture != catalog.architecture() {
        return Err(Error::Architecture {
            wanted: request.architecture.clone(),
            read: catalog.architecture().to_owned(),
        });
    }
    let mut pool = pool::Pool::new(catalog, request)?;
    let seeds = seed::collect(&mut pool, request)?;
    let chosen = match greedy::choose(&mut pool, &seeds)? {
        Some(chosen) => chosen,
        None => search::choose(&mut pool, &seeds)?,
    };
    let layers = layers::of(&mut pool, &seeds, &chosen, request.layers.len())?;
    let reached = order::reasons(&mut pool, &seeds, &chosen, &layers)?;
    let mut sorted = order::sort(&mut pool, &reached)?;
    // what a package needs is never of a layer above its own, so it still comes first
    sorted.sort_by_key(|(id, _)| layers[id]);
    let name = |id| request.layers.get(layers[&id]).cloned().unwrap_or_default();
    sorted.into_iter().map(|(id, reason)| locked(catalog, id, reason, name(id))).collect()
}

fn locked(catalog: &Catalog, id: PackageId, reason: Reason, layer: String) -> Result<Listed, Error> {
    let package = catalog.package(id);
    let line = |names: &[&str]| {
        let fields = names.iter().filter_map(|name| package.field(name)).filter(|text| !text.is_empty());
        let words: Vec<_> = fields.map(|text| text.split_ascii_whitespace().collect::<Vec<_>>()).collect();
        words.into_iter().map(|words| words.join(" ")).collect::<Vec<_>>().join(", ")
    };
    let (sha256, sha512) = match package.digest()? {
        Digest::Sha256(digest) => (digest, None),
        Digest::Sha512(digest) => (Sha256::from_bytes([0; 32]), Some(digest)),
    };
    let locked = LockedPackage {
        name: package.name().to_owned(),
        version: package.version_text().to_owned(),
        architecture: package.architecture()?.to_owned(),
        source: package.source().to_owned(),
        path: package.path()?,
        size: package.size()?,
        sha256,
        reason,
        depends: line(&["Pre-Depends", "Depends"]),
        provides: line(&["Provides"]),
        layer,
    };
    Ok((locked, sha512))
}

#[cfg(test)]
mod tests;
