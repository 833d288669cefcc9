//! Packages of an npm registry with all they depend on.
//!
//! What the tree has is found out when it is locked, of what the registry says alone: no machine, no Node.js and
//! no right is needed for that. When it is built, the tarballs are fetched by their digests, and the npm of the
//! tree installs them, without a network and without any script that the profile does not name.

mod install;
mod range;
mod registry;
mod tree;

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use install::Tarball;
use registry::{Engines, Registry};
use tree::Placed;

use super::{PartError, fetched::Into, npm, python};
use crate::{
    Result,
    deb::packages::is_path,
    error::{Cause, Class, Context as _, Hint},
    host::{parallel::parallel, runner::RunnerError, transport::TransportError},
    layer::{Doors, Order},
    lock::{Fetched, Lock, LockedPart, NpmPackage},
    report::Event,
    spec::Npm,
    store::{Checksum, StoreError},
};

/// How many tarballs are fetched at once.
const JOBS: usize = 8;

/// Why a package is not there with its tree.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The registry cannot be asked.
    #[error("the npm registry does not tell of `{package}`")]
    Ask {
        /// The package.
        package: String,
        /// Why.
        #[source]
        source: TransportError,
    },
    /// What came describes no package.
    #[error("{url} does not describe a package")]
    Document {
        /// Where it is from.
        url: String,
        /// Why.
        source: serde_json::Error,
    },
    /// No version will do.
    #[error("the npm registry has no `{package}` {wanted}, which {by} needs")]
    NoVersion {
        /// The package.
        package: String,
        /// What is wanted.
        wanted: String,
        /// By whom.
        by: String,
    },
    /// A dependency is not of the registry.
    #[error("{by} needs `{package}` from `{wanted}`, which is not in the registry and has no digest")]
    Foreign {
        /// The package.
        package: String,
        /// Where it is.
        wanted: String,
        /// By whom it is wanted.
        by: String,
    },
    /// A package is not for this platform.
    #[error("`{package}` {version}, which {by} needs, does not run on linux of {architecture}")]
    Platform {
        /// The package.
        package: String,
        /// Its version.
        version: String,
        /// Debian's word.
        architecture: String,
        /// By whom it is wanted.
        by: String,
    },
    /// Packages want different versions of one that they must share.
    #[error("{by} needs `{package}` {wanted} beside packages that need another")]
    Peers {
        /// The package.
        package: String,
        /// What is wanted.
        wanted: String,
        /// By whom.
        by: String,
    },
    /// The tree does not end.
    #[error("it depends on more than {limit} packages")]
    Many {
        /// The most.
        limit: usize,
    },
    /// A package has no digest that is strong enough.
    #[error("the npm registry gives no sha512 integrity of `{package}` {version}")]
    Integrity {
        /// The package.
        package: String,
        /// Its version.
        version: String,
    },
    /// Nothing in the tree installs it.
    #[error("`{package}` is installed by npm, and the tree has none")]
    NoNpm {
        /// The package.
        package: String,
    },
    /// A tarball is not what it should be.
    #[error("the tarball of `{package}` is damaged, or describes no package")]
    Tarball {
        /// The package.
        package: String,
        /// Why.
        source: std::io::Error,
    },
    /// A tarball cannot be had.
    #[error("the tarball of `{package}` {version} cannot be had")]
    Fetch {
        /// The package.
        package: String,
        /// Its version.
        version: String,
        /// Why.
        source: StoreError,
    },
    /// Scripts are to run of a package that is not there.
    #[error("`scripts` of `{package}` names `{script}`, which is not in its tree")]
    Script {
        /// The package.
        package: String,
        /// What is named.
        script: String,
    },
    /// npm failed.
    #[error("npm does not install `{package}`")]
    Npm {
        /// The package.
        package: String,
        /// Its story.
        #[source]
        source: Box<RunnerError>,
    },
    /// The tree cannot be written.
    #[error("{} cannot be written in the tree", path.display())]
    Write {
        /// The path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Cause for TreeError {
    fn class(&self) -> Class {
        match self {
            Self::Ask { source, .. } => source.class(),
            Self::Fetch { source, .. } => source.class(),
            Self::Npm { source, .. } => source.class(),
            Self::Document { .. } | Self::Foreign { .. } | Self::Integrity { .. } | Self::Tarball { .. } => {
                Class::Untrusted
            }
            Self::NoVersion { .. } | Self::Platform { .. } | Self::Peers { .. } | Self::Many { .. } => {
                Class::Unavailable
            }
            Self::NoNpm { .. } | Self::Script { .. } => Class::File,
            Self::Write { .. } => Class::Host,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Ask { .. } => {
                vec![Hint::run("name another registry", "--npm-registry URL")]
            }
            Self::Fetch { source, .. } => source.hints(),
            Self::NoNpm { .. } => vec![Hint::Note("the profile needs `requires = [\"node\"]`".into())],
            _ => Vec::new(),
        }
    }
}

/// Finds out which packages a part has. Of what was locked before, the versions of Node.js and npm are read.
pub(super) fn lock(
    part: &Npm,
    order: &Order,
    lock: &Lock,
    parts: &[LockedPart],
    doors: &Doors<'_>,
) -> std::result::Result<LockedPart, TreeError> {
    if !has_npm(order, lock) {
        return Err(TreeError::NoNpm { package: part.package.clone() });
    }
    let engines = engines(order, lock, parts);
    let mut registry = Registry::new(&order.npm_registry, doors.transport, engines);
    registry.learn(vec![part.package.clone()])?;
    let version = registry
        .of(&part.package)
        .and_then(|known| Some(known.pick(&part.version, &registry.engines)?.version.clone()));
    let version = version.ok_or_else(|| TreeError::NoVersion {
        package: part.package.clone(),
        wanted: part.version.clone(),
        by: "the profile".to_owned(),
    })?;
    let placed = tree::of(&part.package, &version, &order.architecture, &mut registry)?;
    let packages = placed.iter().map(|one| package(one, &order.npm_registry));
    let packages = packages.collect::<std::result::Result<_, _>>()?;
    Ok(LockedPart { name: part.package.clone(), version, what: Fetched::NpmTree { packages } })
}

/// Tells whether something that comes before gives the tree an npm.
fn has_npm(order: &Order, lock: &Lock) -> bool {
    let layer = &order.spec.layer;
    let links = (layer.npm.iter().flat_map(|part| part.bin.keys()))
        .chain(layer.download.iter().flat_map(|part| part.bin.keys()))
        .chain(layer.links.iter().map(|link| &link.path));
    let is_npm = |path: &PathBuf| path.file_name().is_some_and(|name| name == "npm");
    lock.packages.iter().any(|package| package.name == "npm") || links.into_iter().any(is_npm)
}

/// Tells whether a part brings a program that npm packages run by, so that it is locked before them.
pub(super) fn brings_engine<'a>(mut links: impl Iterator<Item = &'a PathBuf>) -> bool {
    links.any(|path| is_named(path, "node") || is_named(path, "npm"))
}

fn is_named(path: &Path, name: &str) -> bool {
    path.file_name().is_some_and(|last| last == name)
}

/// Finds the versions of Node.js and npm that the tree will have: of a part that links them, or of Debian's packages.
fn engines(order: &Order, lock: &Lock, parts: &[LockedPart]) -> Engines {
    let layer = &order.spec.layer;
    let of = |program: &str, package: &str| {
        let npm = (layer.npm.iter())
            .filter(|part| !part.platform.is_empty() && part.bin.keys().any(|link| is_named(link, program)))
            .map(|part| ("npm", part.package.as_str()));
        let download = (layer.download.iter())
            .filter(|part| part.bin.keys().any(|link| is_named(link, program)))
            .map(|part| ("download", part.name.as_str()));
        let mut brought = npm.chain(download);
        let found = brought.find_map(|(kind, name)| {
            parts
                .iter()
                .find(|part| part.kind() == kind && part.name == name)
                .map(|part| part.version.clone())
        });
        range::Version::parse(&found.or_else(|| python::upstream(lock, package))?)
    };
    Engines { node: of("node", "nodejs"), npm: of("npm", "npm") }
}

fn package(placed: &Placed, registry: &str) -> std::result::Result<NpmPackage, TreeError> {
    let Placed { path, name, manifest } = placed;
    let lacking = || TreeError::Integrity { package: name.clone(), version: manifest.version.clone() };
    let sha512 = npm::sha512_of(&manifest.dist.integrity).ok_or_else(lacking)?;
    let (tarball, _) = npm::place(registry, &manifest.dist.tarball);
    let unusual = tarball != usual(name, &manifest.version) && is_path(&tarball);
    Ok(NpmPackage {
        path: path.clone(),
        name: (!path.ends_with(&format!("node_modules/{name}"))).then(|| name.clone()),
        version: manifest.version.clone(),
        tarball: unusual.then_some(tarball),
        sha512,
    })
}

/// Gives where a registry has a tarball as a rule.
fn usual(name: &str, version: &str) -> String {
    format!("{name}/-/{}-{version}.tgz", name.rsplit('/').next().unwrap_or(name))
}

/// Gives a locked package's own name.
fn name(package: &NpmPackage) -> &str {
    let folder = package.path.rsplit("node_modules/").next().unwrap_or_default();
    package.name.as_deref().unwrap_or(folder)
}

/// Fetches what a part's tree has, and has npm install it.
pub(super) fn put(part: &Npm, to: Into<'_>) -> Result<()> {
    let subject = || format!("`{}`", part.package);
    let locked = to.locked("npm-tree", &part.package)?;
    let Fetched::NpmTree { packages } = &locked.what else {
        return Err(PartError::Unlocked { package: part.package.clone() }).during("find", subject());
    };
    let root = to.rootfs.root();
    if !["usr/local/bin/npm", "usr/bin/npm"].iter().any(|path| root.has(Path::new(path))) {
        return Err(TreeError::NoNpm { package: part.package.clone() }).during("install", subject());
    }
    let tarballs = fetch(packages, to).during("fetch", subject())?;
    install::install(part, &locked.version, &tarballs, to).during("install", subject())?;
    let text = format!("{} {}: {} npm packages", part.package, locked.version, packages.len());
    to.doors.reporter.report(Event::Notice { text });
    to.link(&part.into, part.bin.iter().map(|(link, target)| (link, target.clone())))
        .during("link", subject())
}

fn fetch<'a>(packages: &'a [NpmPackage], to: Into<'_>) -> std::result::Result<Vec<Tarball<'a>>, TreeError> {
    let one = |package: &'a NpmPackage| {
        let (name, version) = (name(package), &package.version);
        let lacking = || TreeError::Integrity { package: name.to_owned(), version: version.clone() };
        let checksum =
            Checksum::from_integrity(&format!("sha512-{}", package.sha512)).map_err(|_| lacking())?;
        let urls = match &package.tarball {
            Some(url) if url.contains("://") => vec![url.clone()],
            Some(path) => npm::urls(&to.order.npm_registry, path, None),
            None => npm::urls(&to.order.npm_registry, &usual(name, version), None),
        };
        let entry = to.fetch(&urls, checksum, npm::TARBALL_LIMIT).map_err(|source| TreeError::Fetch {
            package: name.to_owned(),
            version: version.clone(),
            source,
        })?;
        Ok(Tarball { package, entry })
    };
    at_once(packages, JOBS, one)
}

/// Does the same with each, several at a time; gives the results in order, or the first problem.
pub(super) fn at_once<'a, T: Sync, R: Send, E: Send>(
    items: &'a [T],
    jobs: usize,
    one: impl Fn(&'a T) -> std::result::Result<R, E> + Sync,
) -> std::result::Result<Vec<R>, E> {
    let stop = AtomicBool::new(false);
    // where one failed, those after it are not begun
    let results = parallel(items, jobs, |item| {
        let result = (!stop.load(Ordering::Relaxed)).then(|| one(item));
        stop.fetch_or(matches!(result, Some(Err(_))), Ordering::Relaxed);
        result
    });
    results.into_iter().flatten().collect()
}

/// Picks a version as npm does of a registry's document about a package, by a version of Node.js; for comparison with
/// npm itself.
#[must_use]
pub fn pick(document: &str, wanted: &str, node: &str) -> Option<String> {
    let known: registry::Packument = serde_json::from_str(document).ok()?;
    let engines = Engines { node: range::Version::parse(node), npm: None };
    known.pick(wanted, &engines).map(|found| found.version.clone())
}

/// Compares two versions as npm does; none where one is none.
#[must_use]
pub fn order(one: &str, other: &str) -> Option<std::cmp::Ordering> {
    Some(range::Version::parse(one)?.cmp(&range::Version::parse(other)?))
}

/// Tells whether a range admits a version; none where one of them is none.
#[must_use]
pub fn admits(range: &str, version: &str) -> Option<bool> {
    Some(range::Range::parse(range)?.admits(&range::Version::parse(version)?))
}
