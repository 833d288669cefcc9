//! What a choice begins with: the variant's packages and those asked for by name.

use super::{Error, Request, Variant, Wanted, pool::Pool};
use crate::{
    deb::{
        packages::{Catalog, NameId, PackageId, Priority},
        relation::Relation,
    },
    lock::Reason,
};

/// A wish that the choice must meet with one of several packages.
#[derive(Clone, Debug)]
pub(super) struct Seed {
    /// As it was asked for.
    pub name: String,
    pub reason: Reason,
    /// The place of who asks among the layers.
    pub layer: usize,
    /// In order of preference; never empty.
    pub targets: Vec<PackageId>,
}

/// A wanted package's name, architecture and what is asked of its version, taken apart.
struct Parts<'a> {
    name: &'a str,
    architecture: Option<&'a str>,
    version: Option<&'a str>,
    suite: Option<&'a str>,
}

fn parts(text: &str) -> Parts<'_> {
    let (full, version, suite) = match text.find(['=', '/']) {
        Some(at) if text[at..].starts_with('=') => (&text[..at], Some(&text[at + 1..]), None),
        Some(at) => (&text[..at], None, Some(&text[at + 1..])),
        None => (text, None, None),
    };
    let (name, architecture) = match full.split_once(':') {
        Some((name, architecture)) => (name, Some(architecture)),
        None => (full, None),
    };
    Parts { name, architecture, version, suite }
}

/// A version that a wish is bound to.
pub(super) struct Pin<'w> {
    pub name: NameId,
    pub version: PackageId,
    /// The suite, where it was asked for and not the version: what it needs may come from there too.
    pub suite: Option<&'w str>,
}

/// Finds the version that a wish is bound to, if it is to one.
pub(super) fn pin<'w>(catalog: &Catalog, wanted: &'w Wanted) -> Result<Option<Pin<'w>>, Error> {
    let parts = parts(&wanted.name);
    let Some(name) = catalog.name(parts.name) else { return Ok(None) };
    let fits = |&id: &PackageId| {
        let package = catalog.package(id);
        parts.version.is_none_or(|version| package.version_text() == version)
            && parts.suite.is_none_or(|suite| package.is_of(suite))
    };
    if parts.version.is_none() && parts.suite.is_none() {
        return Ok(None);
    }
    // what a suite has of a package is its newest, whatever the versions of other suites are
    let newest = catalog
        .versions(name)
        .filter(fits)
        .max_by(|&a, &b| catalog.package(a).version().cmp(&catalog.package(b).version()));
    if let Some(version) = newest {
        return Ok(Some(Pin { name, version, suite: parts.suite }));
    }
    let (name, by) = (parts.name.to_owned(), wanted.by.clone());
    let offers = super::explain::offers(catalog, parts.name);
    Err(match (parts.version, parts.suite) {
        (_, Some(suite)) => Error::Suite { name, suite: suite.to_owned(), by, offers },
        (version, None) => {
            Error::Version { name, version: version.unwrap_or_default().to_owned(), by, offers }
        }
    })
}

/// Collects all wishes of a request, each package once, in the order in which they are met.
pub(super) fn collect(pool: &mut Pool<'_>, request: &Request) -> Result<Vec<Seed>, Error> {
    let mut seeds = of_variant(pool, request.variant);
    let by = format!("variant {}", request.variant);
    for name in names_of(request.variant) {
        seeds.push(requested(pool, &Wanted { name: (*name).to_owned(), by: by.clone(), layer: 0 })?);
    }
    for wanted in &request.install {
        seeds.push(requested(pool, wanted)?);
    }
    for wanted in &request.optional {
        seeds.push(requested(pool, wanted)?);
    }
    Ok(seeds)
}

/// Tells what a variant has by name.
const fn names_of(variant: Variant) -> &'static [&'static str] {
    match variant {
        Variant::Essential => &[],
        Variant::Apt | Variant::Minbase | Variant::Important | Variant::Standard => &["apt"],
        Variant::Buildd => &["apt", "build-essential"],
    }
}

/// Tells which priorities a variant has.
const fn lowest_priority(variant: Variant) -> Option<Priority> {
    match variant {
        Variant::Essential | Variant::Apt | Variant::Buildd => None,
        Variant::Minbase => Some(Priority::Required),
        Variant::Important => Some(Priority::Important),
        Variant::Standard => Some(Priority::Standard),
    }
}

/// Gives the essential packages, then those of the variant's priorities.
fn of_variant(pool: &Pool<'_>, variant: Variant) -> Vec<Seed> {
    let mut essential = Vec::new();
    let mut others = Vec::new();
    for id in pool.catalog.names().filter_map(|name| pool.candidate(name)) {
        let package = pool.package(id);
        let seed = |reason| Seed {
            name: package.name().to_owned(),
            reason,
            layer: 0,
            targets: pool.versions(package.name_id()).collect(),
        };
        if package.is_essential() {
            essential.push(seed(Reason::Essential));
        } else if lowest_priority(variant).is_some_and(|lowest| package.priority() <= lowest) {
            others.push(seed(Reason::Priority(word(package.priority()).to_owned())));
        }
    }
    let place = |seed: &Seed| seed.targets.first().map(|&id| pool.package(id).place());
    essential.sort_by_key(place);
    others.sort_by_key(place);
    essential.append(&mut others);
    essential
}

const fn word(priority: Priority) -> &'static str {
    match priority {
        Priority::Required => "required",
        Priority::Important => "important",
        Priority::Standard => "standard",
        Priority::Optional => "optional",
        Priority::Extra => "extra",
    }
}

/// Finds what a wish means: the package of that name, or the only one that provides it.
fn requested(pool: &Pool<'_>, wanted: &Wanted) -> Result<Seed, Error> {
    let parts = parts(&wanted.name);
    let (name, by) = (parts.name.to_owned(), wanted.by.clone());
    let native = pool.catalog.architecture();
    if let Some(other) = parts.architecture.filter(|word| ![native, "native", "any", "all"].contains(word)) {
        return Err(Error::Foreign { name, by, architecture: other.to_owned(), native: native.to_owned() });
    }
    let seed = |targets| {
        let reason = Reason::Requested(by.clone());
        Seed { name: wanted.name.clone(), reason, layer: wanted.layer, targets }
    };
    if let Some(own) = pool.catalog.name(parts.name) {
        if pool.is_excluded(own) {
            return Err(Error::Excluded { name, by });
        }
        return Ok(seed(pool.versions(own).collect()));
    }
    if parts.version.is_some() || parts.suite.is_some() {
        return Err(Error::Unknown { near: super::explain::near(pool.catalog, &name), name, by });
    }
    let relation = Relation { name: parts.name, qualifier: None, bound: None };
    let providers = pool.satisfying(&relation);
    let mut names: Vec<_> = providers.iter().map(|&id| pool.package(id).name().to_owned()).collect();
    names.sort();
    names.dedup();
    match names.len() {
        0 => Err(Error::Unknown { near: super::explain::near(pool.catalog, &name), name, by }),
        1 => Ok(seed(providers)),
        _ => Err(Error::Virtual { name, by, providers: names }),
    }
}
