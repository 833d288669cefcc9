//! What a choice is made from: packages with their relations turned into packages that satisfy them.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    rc::Rc,
};

use super::{Error, Request, Wanted, seed};
use crate::deb::{
    packages::{Catalog, NameId, Package, PackageId},
    relation::Relation,
};

/// How strongly a package asks for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    PreDepends,
    Depends,
    Recommends,
}

/// One group of alternatives, with the packages that satisfy it.
#[derive(Clone, Debug)]
pub(super) struct Requirement<'a> {
    pub kind: Kind,
    pub group: Vec<Relation<'a>>,
    /// In apt's order of preference.
    pub targets: Vec<PackageId>,
}

/// What choosing a package brings with it.
#[derive(Clone, Debug, Default)]
pub(super) struct Needs<'a> {
    pub requirements: Vec<Requirement<'a>>,
    /// Packages that it conflicts with or breaks; never of its own name.
    pub conflicts: Vec<PackageId>,
}

/// The catalogue as a request sees it: without what is excluded, and with pinned versions.
pub(super) struct Pool<'a> {
    pub catalog: &'a Catalog,
    excluded: HashSet<NameId>,
    pins: HashMap<NameId, PackageId>,
    /// Versions that are preferred to the catalogue's first, for something asked for of their suite.
    switched: HashMap<NameId, PackageId>,
    recommends: bool,
    needs: HashMap<PackageId, Rc<Needs<'a>>>,
}

impl<'a> Pool<'a> {
    /// Applies a request's exclusions and versions to a catalogue.
    pub fn new(catalog: &'a Catalog, request: &Request) -> Result<Self, Error> {
        let excluded = request.exclude.iter().filter_map(|name| catalog.name(name)).collect();
        let mut pool = Self {
            catalog,
            excluded,
            pins: HashMap::new(),
            switched: HashMap::new(),
            recommends: request.recommends,
            needs: HashMap::new(),
        };
        let mut asked: HashMap<NameId, &Wanted> = HashMap::new();
        let mut suites = Vec::new();
        for wanted in request.install.iter().chain(&request.optional) {
            let Some(pin) = seed::pin(catalog, wanted)? else { continue };
            let first = *asked.entry(pin.name).or_insert(wanted);
            if *pool.pins.entry(pin.name).or_insert(pin.version) != pin.version {
                return Err(Error::Versions {
                    first: first.name.clone(),
                    first_by: first.by.clone(),
                    second: wanted.name.clone(),
                    second_by: wanted.by.clone(),
                });
            }
            suites.extend(pin.suite.map(|suite| (pin.version, suite)));
        }
        for (version, suite) in suites {
            pool.switch(version, suite)?;
        }
        Ok(pool)
    }

    /// Makes what a package of a suite needs come from that suite too, as far as nothing else will do.
    ///
    /// **Source**: apt-get(8), `install`, "pkg/release"; apt 2.6, `pkgDepCache::SetCandidateRelease`.
    fn switch(&mut self, version: PackageId, suite: &str) -> Result<(), Error> {
        let mut open = vec![version];
        while let Some(id) = open.pop() {
            let needs = self.read(id)?;
            for need in needs.requirements {
                if need.targets.iter().any(|&target| self.is_candidate(target)) {
                    continue;
                }
                let helps = |&&target: &&PackageId| {
                    let package = self.package(target);
                    package.is_of(suite) && need.group.iter().any(|relation| relation.name == package.name())
                };
                if let Some(&target) = need.targets.iter().find(helps) {
                    self.switched.insert(self.package(target).name_id(), target);
                    open.push(target);
                }
            }
        }
        Ok(())
    }

    pub fn package(&self, id: PackageId) -> Package<'a> {
        self.catalog.package(id)
    }

    pub fn is_excluded(&self, name: NameId) -> bool {
        self.excluded.contains(&name)
    }

    /// Gives the one version of a name that may be chosen, where one is asked for.
    pub fn pinned(&self, name: NameId) -> Option<PackageId> {
        self.pins.get(&name).copied()
    }

    /// Tells whether a package may be chosen at all.
    pub fn is_allowed(&self, id: PackageId) -> bool {
        let name = self.package(id).name_id();
        !self.excluded.contains(&name) && self.pins.get(&name).is_none_or(|&pin| pin == id)
    }

    /// Gives the version of a name that apt would take: the first of the catalogue, or the one asked for.
    pub fn candidate(&self, name: NameId) -> Option<PackageId> {
        let switched = self.switched.get(&name).copied().filter(|&id| self.is_allowed(id));
        switched.or_else(|| self.versions(name).next())
    }

    pub fn is_candidate(&self, id: PackageId) -> bool {
        self.candidate(self.package(id).name_id()) == Some(id)
    }

    /// Gives the versions of a name that may be chosen, the preferred first.
    pub fn versions(&self, name: NameId) -> impl Iterator<Item = PackageId> {
        self.catalog.versions(name).filter(|&id| self.is_allowed(id))
    }

    /// Gives what a package needs, read once.
    pub fn needs(&mut self, id: PackageId) -> Result<Rc<Needs<'a>>, Error> {
        if let Some(needs) = self.needs.get(&id) {
            return Ok(Rc::clone(needs));
        }
        let needs = Rc::new(self.read(id)?);
        self.needs.insert(id, Rc::clone(&needs));
        Ok(needs)
    }

    fn read(&self, id: PackageId) -> Result<Needs<'a>, Error> {
        let package = self.package(id);
        let mut needs = Needs::default();
        let recommends = [("Recommends", Kind::Recommends)];
        let fields = [("Depends", Kind::Depends), ("Pre-Depends", Kind::PreDepends)];
        for (field, kind) in fields.into_iter().chain(recommends.into_iter().filter(|_| self.recommends)) {
            for group in package.relations(field)? {
                let targets = self.targets(&group);
                // A package may satisfy itself, by its own Provides.
                if !targets.contains(&id) {
                    needs.requirements.push(Requirement { kind, group, targets });
                }
            }
        }
        for field in ["Conflicts", "Breaks"] {
            for relation in package.relations(field)?.into_iter().flatten() {
                let hit = self.satisfying(&relation).into_iter();
                needs.conflicts.extend(hit.filter(|&hit| self.package(hit).name_id() != package.name_id()));
            }
        }
        needs.conflicts.sort_unstable();
        needs.conflicts.dedup();
        Ok(needs)
    }

    /// Gives the candidates that satisfy one of several alternatives, in apt's exact order.
    ///
    /// Of equal providers apt takes the one whose name it met last while it read the archive, be it in another
    /// package's relations. To find that takes milliseconds, so it is asked only where it decides.
    pub fn preferred(&self, requirement: &Requirement<'a>) -> Vec<PackageId> {
        if requirement.targets.len() < 2 {
            return requirement.targets.iter().copied().filter(|&id| self.is_candidate(id)).collect();
        }
        let mut all: Vec<PackageId> = Vec::new();
        for relation in &requirement.group {
            let own = self.catalog.name(relation.name);
            let mut found = self.satisfying(relation);
            found.retain(|id| requirement.targets.contains(id) && self.is_candidate(*id));
            let rank = |id: &PackageId| {
                let package = self.package(*id);
                (Some(package.name_id()) != own, !package.is_essential(), package.priority())
            };
            found.sort_by_key(rank);
            if found.len() > 1 && rank(&found[0]) == rank(&found[1]) {
                let first = rank(&found[0]);
                let tied = found.partition_point(|id| rank(id) == first);
                let mention = |id: &PackageId| self.catalog.first_mention(self.package(*id).name_id());
                found[..tied].sort_by_cached_key(|id| Reverse(mention(id)));
            }
            all.extend(found);
        }
        all
    }

    /// Gives the packages that satisfy one of several alternatives, in apt's order.
    pub fn targets(&self, group: &[Relation<'a>]) -> Vec<PackageId> {
        let mut targets: Vec<PackageId> = Vec::new();
        for relation in group {
            for id in self.satisfying(relation) {
                if !targets.contains(&id) {
                    targets.push(id);
                }
            }
        }
        targets
    }

    /// Gives the packages that are what a relation names, then those that provide it.
    ///
    /// **Source**: apt 2.6, `CompareProviders`: essential before others, then by priority, then the last in the
    /// archive.
    pub fn satisfying(&self, relation: &Relation<'_>) -> Vec<PackageId> {
        let fits = |id: PackageId| self.is_allowed(id) && self.fits(id, relation.qualifier);
        let own = self.catalog.name(relation.name);
        let mut found: Vec<_> = own.into_iter().flat_map(|name| self.catalog.versions(name)).collect();
        found.retain(|&id| fits(id) && self.package(id).version().is_some_and(|v| relation.admits(&v)));
        let provides = |(id, version): (PackageId, Option<_>)| {
            let admitted = match (&relation.bound, version) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(_), Some(version)) => relation.admits(&version),
            };
            (admitted && fits(id)).then_some(id)
        };
        let mut providers: Vec<_> = self.catalog.providers(relation.name).filter_map(provides).collect();
        providers.sort_by_key(|&id| {
            let package = self.package(id);
            let first =
                self.catalog.versions(package.name_id()).map(|other| self.package(other).place()).min();
            (!package.is_essential(), package.priority(), Reverse(first))
        });
        found.extend(providers);
        found
    }

    /// Tells whether a package is of the architecture that a relation asks for.
    ///
    /// A catalogue has packages of one architecture only, so a foreign one is never satisfied.
    fn fits(&self, id: PackageId, qualifier: Option<&str>) -> bool {
        match qualifier {
            None | Some("native") => true,
            Some("any") => self.package(id).allows_any(),
            Some(architecture) => architecture == self.catalog.architecture(),
        }
    }
}
