//! Why a wish cannot be met, as a chain of facts from the wish to the dead end.

use std::{
    collections::{BTreeSet, HashSet},
    fmt,
};

use super::{
    pool::{Kind, Pool},
    seed::Seed,
};
use crate::{
    deb::{
        packages::{self, Catalog, NameId, PackageId},
        version::Version,
    },
    error::{Cause, Class, Hint},
    lock::Reason,
};

/// Why there is no package set.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing has that name, and nothing provides it.
    #[error("package `{name}` is wanted by {by}, and the archive has none of that name")]
    Unknown {
        /// What was asked for.
        name: String,
        /// By whom.
        by: String,
        /// Names that are much like it, the most alike first.
        near: Vec<String>,
    },
    /// A virtual package that several packages provide: the user must choose.
    #[error("package `{name}`, wanted by {by}, is virtual: {} provide it", providers.join(", "))]
    Virtual {
        /// What was asked for.
        name: String,
        /// By whom.
        by: String,
        /// Names of the packages that provide it.
        providers: Vec<String>,
    },
    /// The archive has the package, not the version.
    #[error("version {version} of package `{name}` is wanted by {by}, and the archive offers {offers}")]
    Version {
        /// The package.
        name: String,
        /// The version asked for.
        version: String,
        /// By whom.
        by: String,
        /// What there is.
        offers: String,
    },
    /// The archive has the package, not in the suite.
    #[error("package `{name}` of suite `{suite}` is wanted by {by}, and the archive offers {offers}")]
    Suite {
        /// The package.
        name: String,
        /// The suite asked for.
        suite: String,
        /// By whom.
        by: String,
        /// What there is.
        offers: String,
    },
    /// Two versions of one package.
    #[error(
        "`{first}` is wanted by {first_by} and `{second}` by {second_by}, and a build has one version of a package"
    )]
    Versions {
        /// What was asked for first, as `name=version`.
        first: String,
        /// By whom.
        first_by: String,
        /// What was asked for then.
        second: String,
        /// By whom.
        second_by: String,
    },
    /// A package of another architecture.
    #[error("package `{name}` is wanted by {by} for {architecture}, and the build is for {native} only")]
    Foreign {
        /// The package.
        name: String,
        /// By whom it is wanted.
        by: String,
        /// The architecture asked for.
        architecture: String,
        /// The build's.
        native: String,
    },
    /// The catalogue was read for another architecture than the request is for.
    #[error("packages are wanted for {wanted}, and the indexes were read for {read}")]
    Architecture {
        /// The request's.
        wanted: String,
        /// The catalogue's.
        read: String,
    },
    /// A package that is both asked for and excluded.
    #[error("package `{name}` is wanted by {by}, and is excluded")]
    Excluded {
        /// The package.
        name: String,
        /// By whom it is wanted.
        by: String,
    },
    /// Each wish may be met, but not all of them.
    #[error("no set of packages meets all wishes")]
    Unsatisfiable {
        /// The facts that contradict each other, as errors below errors.
        #[source]
        chain: Chain,
    },
    /// The archive's description of a package is malformed.
    #[error("the archive describes a package wrongly")]
    Malformed {
        /// What is wrong.
        #[from]
        source: packages::Error,
    },
}

impl Cause for Error {
    fn class(&self) -> Class {
        match self {
            Self::Malformed { source } => source.class(),
            Self::Architecture { .. } => Class::Bug,
            _ => Class::Unavailable,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Unknown { near, .. } => {
                near.iter().map(|name| Hint::Note(format!("there is a package `{name}`"))).collect()
            }
            Self::Virtual { providers, .. } => {
                vec![Hint::Note(format!("ask for one of them by name: {}", providers.join(", ")))]
            }
            _ => Vec::new(),
        }
    }
}

/// Gives the end of what an error says: of a chain, the dead end.
pub(super) fn last(error: &Error) -> String {
    match error {
        Error::Unsatisfiable { chain } => chain.facts().last().map(ToString::to_string).unwrap_or_default(),
        other => other.to_string(),
    }
}

/// A fact, and those that follow from it down to the dead end.
#[derive(Debug)]
pub struct Chain {
    fact: Fact,
    next: Option<Box<Self>>,
}

impl Chain {
    /// Iterates over the facts, from the wish to the dead end.
    pub fn facts(&self) -> impl Iterator<Item = &Fact> {
        std::iter::successors(Some(self), |link| link.next.as_deref()).map(|link| &link.fact)
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fact.fmt(f)
    }
}

impl std::error::Error for Chain {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.next.as_deref().map(|next| next as _)
    }
}

/// Something that the request or the archive says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A package is wished for.
    Wanted {
        /// Its name, as asked for.
        name: String,
        /// By whom.
        by: String,
    },
    /// A package needs others.
    Needs {
        /// Name and version.
        package: String,
        /// `depends on` or `pre-depends on`.
        how: &'static str,
        /// The group of alternatives, as in its stanza.
        group: String,
    },
    /// What there is of what is needed.
    Offers {
        /// In words.
        offers: String,
    },
    /// Two packages cannot be together.
    Conflict {
        /// Name and version.
        package: String,
        /// Name and version of the other.
        other: String,
    },
    /// Facts left out of the middle of a long chain.
    Elided {
        /// How many.
        count: usize,
    },
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wanted { name, by } => write!(f, "`{name}` is wanted by {by}"),
            Self::Needs { package, how, group } => write!(f, "`{package}` {how} `{group}`"),
            Self::Offers { offers } => write!(f, "the archive offers {offers}"),
            Self::Conflict { package, other } => write!(f, "`{package}` cannot be together with `{other}`"),
            Self::Elided { count } => write!(f, "of {count} dependencies more"),
        }
    }
}

/// Where a clause of the search comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Origin {
    /// A wish, by its place.
    Seed(usize),
    /// A package's requirement, by its place.
    Need(PackageId, usize),
    /// Two packages that cannot be together.
    Conflict(PackageId, PackageId),
}

/// How many facts are shown of a chain: more would not be read.
const SHOWN: usize = 24;

/// Puts contradicting facts in the order of a chain: from the wishes, along what is needed, to the dead ends.
pub(super) fn unsatisfiable(pool: &mut Pool<'_>, seeds: &[Seed], core: &[Origin]) -> Result<Error, Error> {
    let core: HashSet<Origin> = core.iter().copied().collect();
    let mut facts = Vec::new();
    let mut known = HashSet::new();
    for (_, seed) in seeds.iter().enumerate().filter(|(at, _)| core.contains(&Origin::Seed(*at))) {
        facts.push(Fact::Wanted { name: seed.name.clone(), by: by(&seed.reason) });
        let mut stack: Vec<_> = seed.targets.iter().rev().copied().collect();
        while let Some(id) = stack.pop() {
            if known.insert(id) {
                let from = stack.len();
                needs(pool, id, &core, &mut facts, &mut stack)?;
                stack[from..].reverse();
            }
        }
    }
    facts.extend(conflicts(pool, &core, &known));
    Ok(Error::Unsatisfiable { chain: chain(facts) })
}

/// Two names, and the pairs of their versions that cannot be together.
type Opposed = ((NameId, NameId), Vec<(PackageId, PackageId)>);

/// Tells which packages cannot be together; for two names once, where it holds for all their versions alike.
fn conflicts(pool: &Pool<'_>, core: &HashSet<Origin>, known: &HashSet<PackageId>) -> Vec<Fact> {
    let mut pairs: Vec<_> = core
        .iter()
        .filter_map(|origin| match origin {
            Origin::Conflict(a, b) if known.contains(a) && known.contains(b) => Some((*a, *b)),
            _ => None,
        })
        .collect();
    pairs.sort_unstable();
    let mut groups: Vec<Opposed> = Vec::new();
    for (a, b) in pairs {
        let (x, y) = (pool.package(a).name_id(), pool.package(b).name_id());
        match groups.iter_mut().find(|(names, _)| *names == (x, y) || *names == (y, x)) {
            Some((names, all)) => {
                let pair = if *names == (x, y) { (a, b) } else { (b, a) };
                if !all.contains(&pair) {
                    all.push(pair);
                }
            }
            None if x != y => groups.push(((x, y), vec![(a, b)])),
            None => {}
        }
    }
    groups.iter().flat_map(|(_, all)| of_two_names(pool, all)).collect()
}

fn of_two_names(pool: &Pool<'_>, pairs: &[(PackageId, PackageId)]) -> Vec<Fact> {
    let left: BTreeSet<_> = pairs.iter().map(|pair| pair.0).collect();
    let right: BTreeSet<_> = pairs.iter().map(|pair| pair.1).collect();
    if left.len() * right.len() == pairs.len() {
        return vec![Fact::Conflict { package: versions(pool, &left), other: versions(pool, &right) }];
    }
    let one = |&(a, b): &(_, _)| Fact::Conflict { package: full(pool, a), other: full(pool, b) };
    pairs.iter().map(one).collect()
}

/// Tells what a package needs as far as it belongs to the contradiction.
fn needs(
    pool: &mut Pool<'_>,
    id: PackageId,
    core: &HashSet<Origin>,
    facts: &mut Vec<Fact>,
    stack: &mut Vec<PackageId>,
) -> Result<(), Error> {
    let needs = pool.needs(id)?;
    let relevant = |place: &usize| core.contains(&Origin::Need(id, *place));
    for requirement in
        needs.requirements.iter().enumerate().filter(|(place, _)| relevant(place)).map(|(_, need)| need)
    {
        let group: Vec<_> = requirement.group.iter().map(ToString::to_string).collect();
        let how = if requirement.kind == Kind::PreDepends { "pre-depends on" } else { "depends on" };
        facts.push(Fact::Needs { package: full(pool, id), how, group: group.join(" | ") });
        if requirement.targets.is_empty() {
            let each: Vec<_> =
                requirement.group.iter().map(|relation| offered(pool, relation.name)).collect();
            facts.push(Fact::Offers { offers: each.join("; ") });
        }
        stack.extend(&requirement.targets);
    }
    Ok(())
}

fn by(reason: &Reason) -> String {
    match reason {
        Reason::Essential => "every system: it is essential".to_owned(),
        Reason::Priority(word) => format!("the variant: its priority is {word}"),
        Reason::Requested(by) | Reason::Dependency(by) => by.clone(),
    }
}

fn full(pool: &Pool<'_>, id: PackageId) -> String {
    let package = pool.package(id);
    format!("{} {}", package.name(), package.version_text())
}

/// Gives the name and the versions of packages of one name: `a 2 or 1`.
fn versions(pool: &Pool<'_>, all: &BTreeSet<PackageId>) -> String {
    let name = all.first().map_or("", |&id| pool.package(id).name());
    let texts: Vec<_> = all.iter().map(|&id| pool.package(id).version_text()).collect();
    format!("{name} {}", texts.join(" or "))
}

fn chain(mut facts: Vec<Fact>) -> Chain {
    if facts.len() > SHOWN {
        let count = facts.len() - SHOWN;
        facts.splice(SHOWN / 2..facts.len() - SHOWN / 2, [Fact::Elided { count }]);
    }
    let last = facts.pop().unwrap_or(Fact::Offers { offers: "no such set".to_owned() });
    let end = Chain { fact: last, next: None };
    facts.into_iter().rev().fold(end, |next, fact| Chain { fact, next: Some(Box::new(next)) })
}

/// Says what there is of a name, with regard to what the request excludes and to the version that it asks for.
fn offered(pool: &Pool<'_>, name: &str) -> String {
    let own = pool.catalog.name(name);
    if own.is_some_and(|own| pool.is_excluded(own)) {
        return format!("`{name}`, which is excluded");
    }
    let offers = offers(pool.catalog, name);
    match own.and_then(|own| pool.pinned(own)) {
        Some(pin) => format!("{offers}, of which {} is asked for", pool.package(pin).version_text()),
        None => offers,
    }
}

/// Says in words what the archive has of a name.
pub(super) fn offers(catalog: &Catalog, name: &str) -> String {
    let version = |id| {
        let package = catalog.package(id);
        format!("{} ({})", package.version_text(), package.source())
    };
    let mut all: Vec<_> =
        catalog.name(name).into_iter().flat_map(|own| catalog.versions(own)).map(version).collect();
    let provided = |(id, version): (PackageId, Option<Version<'_>>)| {
        let version = version.map_or_else(|| "without a version".to_owned(), |version| version.to_string());
        format!("{version} (provided by `{}`)", catalog.package(id).name())
    };
    all.extend(catalog.providers(name).map(provided));
    match all.len() {
        0 => format!("no `{name}`"),
        1..=6 => format!("`{name}` {}", all.join(", ")),
        more => format!("`{name}` {} and {} more", all[..5].join(", "), more - 5),
    }
}

/// Finds names much like one that does not exist, at most three.
pub(super) fn near(catalog: &Catalog, name: &str) -> Vec<String> {
    let allowed = (name.len() / 4).clamp(1, 3);
    let mut found: Vec<(usize, &str)> = catalog
        .names()
        .filter_map(|id| catalog.versions(id).next())
        .map(|id| catalog.package(id).name())
        .filter(|other| other.len().abs_diff(name.len()) <= allowed)
        .map(|other| (strsim::osa_distance(name, other), other))
        .filter(|(distance, _)| *distance <= allowed)
        .collect();
    found.sort_unstable();
    found.into_iter().take(3).map(|(_, name)| name.to_owned()).collect()
}
