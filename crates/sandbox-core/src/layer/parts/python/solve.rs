//! Which versions go together.
//!
//! A complete search with clause learning ([`crate::resolve::clauses`]): where there is a set, it is found. The highest
//! version that everything chosen so far allows is tried first, in the order in which packages are wished for. Of what
//! a version needs the index is asked when the version is chosen for the first time.
//!
//! A pre-release or a withdrawn version is chosen only where a wish names it (PEP 440, PEP 592). Which wishes do is
//! learnt on the way, so the search begins again where one is found late. A pre-release is chosen also where no final
//! version meets all wishes; this is tried when all else fails.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    PythonError,
    index::Candidate,
    requirement::{Environment, Requirement},
};
use crate::resolve::clauses::{self, Clauses, Rules};

/// How many wishes an error lists.
const LISTED: usize = 8;

/// How many combinations are looked at to make an error shorter.
const TRIES: usize = 1000;

/// What versions there are and what they need.
pub(super) trait Packages {
    /// Gives the versions of packages that run in the tree, the highest first.
    fn versions(&mut self, names: &[String]) -> Result<Vec<Vec<Candidate>>, PythonError>;

    /// Gives what a version needs, in the words of its metadata.
    fn needs(&mut self, candidate: &Candidate) -> Result<Vec<String>, PythonError>;
}

/// Chooses a version of everything that some wishes need.
///
/// # Errors
/// [`PythonError::Conflict`] or [`PythonError::Together`] where no set of versions meets all wishes.
pub(super) fn solve(
    wanted: &[Requirement],
    environment: &Environment,
    packages: &mut dyn Packages,
) -> Result<Vec<(String, Candidate)>, PythonError> {
    let mut solver = Solver {
        environment,
        packages,
        names: Vec::new(),
        candidates: Vec::new(),
        extras: vec![String::new()],
        wishes: Vec::new(),
        wanted: Vec::new(),
        needs: HashMap::new(),
        allowing: BTreeMap::new(),
        news: false,
        lenient: false,
    };
    solver.wanted = solver.learn(wanted.to_vec(), None)?;
    let first = solver.search()?;
    if let Ok(chosen) = &first
        && chosen.iter().all(|&id| solver.is_proper(id, chosen))
    {
        return Ok(solver.named(chosen));
    }
    solver.lenient = true;
    match (solver.search()?, first) {
        (Ok(chosen), _) if chosen.iter().all(|&id| solver.is_proper(id, &chosen)) => {
            Ok(solver.named(&chosen))
        }
        (_, Err(facts)) | (Err(facts), _) => Err(solver.conflict(&facts)),
        (Ok(chosen), Ok(_)) => Err(solver.conflict(&solver.active(&chosen))),
    }
}

/// A version of a package, or an extra of that version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Id {
    /// The place of its name.
    name: usize,
    /// The place of the extra's name; 0 for the package itself.
    extra: usize,
    /// The place among the package's versions.
    version: usize,
}

impl Id {
    const fn plain(self) -> Self {
        Self { extra: 0, ..self }
    }
}

/// A wish, and the version that has it; none for the profile.
#[derive(Clone, Debug)]
struct Wish {
    requirement: Requirement,
    by: Option<Id>,
    name: usize,
    /// The versions that it admits, the highest first.
    admits: Vec<usize>,
}

/// Where a clause comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Wish(usize),
    /// Of each package there is one version; not every version may be chosen.
    Law,
}

struct Solver<'a> {
    environment: &'a Environment,
    packages: &'a mut dyn Packages,
    names: Vec<String>,
    /// By name: its versions, the highest first.
    candidates: Vec<Vec<Candidate>>,
    extras: Vec<String>,
    wishes: Vec<Wish>,
    /// The profile's wishes.
    wanted: Vec<usize>,
    /// The wishes of every version that was chosen at some time.
    needs: HashMap<Id, Vec<usize>>,
    /// The wishes that allow a pre-release or a withdrawn version to be chosen.
    allowing: BTreeMap<Id, BTreeSet<usize>>,
    /// Whether `allowing` has grown since the search began.
    news: bool,
    /// Whether any pre-release may be chosen, after all final versions.
    lenient: bool,
}

impl Rules for Solver<'_> {
    type Id = Id;
    type Origin = Origin;
    type Error = PythonError;

    fn expand(&mut self, id: Id, clauses: &mut Clauses<Id, Origin>) -> Result<(), PythonError> {
        if id.extra == 0 {
            let others = (0..self.candidates[id.name].len()).filter(|&version| version != id.version);
            others.for_each(|version| clauses.add(&[id, Id { version, ..id }], &[], Origin::Law));
            self.restrict(id, clauses);
        }
        for wish in self.wishes_of(id)? {
            self.impose(wish, clauses);
        }
        Ok(())
    }

    fn decide(&mut self, clauses: &mut Clauses<Id, Origin>) -> Result<Option<Id>, PythonError> {
        if let Some(id) = self.wanted.iter().find_map(|&wish| self.open(wish, clauses)) {
            return Ok(Some(id));
        }
        while clauses.agenda < clauses.places() {
            let wishes = clauses.at(clauses.agenda).and_then(|id| self.needs.get(&id));
            if let Some(id) = wishes.and_then(|all| all.iter().find_map(|&wish| self.open(wish, clauses))) {
                return Ok(Some(id));
            }
            clauses.agenda += 1;
        }
        Ok(None)
    }
}

impl Solver<'_> {
    /// Searches until no wish is found late that allows more versions; gives what is needed of what was chosen.
    fn search(&mut self) -> Result<Result<Vec<Id>, Vec<usize>>, PythonError> {
        loop {
            self.news = false;
            let mut clauses = Clauses::new();
            for wish in self.wanted.clone() {
                self.impose(wish, &mut clauses);
            }
            let found = clauses::search(self, &mut clauses)?;
            if !std::mem::take(&mut self.news) {
                return Ok(found.map(|chosen| self.needed(&chosen)).map_err(|facts| {
                    let wishes = facts.into_iter().filter_map(|fact| match fact {
                        Origin::Wish(wish) => Some(wish),
                        Origin::Law => None,
                    });
                    wishes.collect::<BTreeSet<_>>().into_iter().collect()
                }));
            }
        }
    }

    /// Gives a wish's first version that may still be chosen, where none is.
    fn open(&self, wish: usize, clauses: &mut Clauses<Id, Origin>) -> Option<Id> {
        let Wish { name, admits, .. } = &self.wishes[wish];
        let ids = || admits.iter().map(|&version| Id { name: *name, extra: 0, version });
        let values: Vec<_> = ids().map(|id| (id, clauses.is_chosen(id))).collect();
        if values.iter().any(|(_, value)| *value == Some(true)) {
            return None;
        }
        let mut free = values.iter().filter(|(_, value)| value.is_none()).map(|(id, _)| *id);
        let mut allowed = free.clone();
        allowed.find(|id| self.is_allowed(*id, clauses)).or_else(|| free.next())
    }

    /// Tells whether a version may be chosen because of what is chosen already.
    fn is_allowed(&self, id: Id, clauses: &mut Clauses<Id, Origin>) -> bool {
        !self.is_restricted(id)
            || self.allowing.get(&id).is_some_and(|wishes| {
                let mut by = wishes.iter().map(|&wish| self.wishes[wish].by);
                by.any(|by| by.is_none_or(|by| clauses.is_chosen(by) == Some(true)))
            })
    }

    fn is_restricted(&self, id: Id) -> bool {
        let candidate = &self.candidates[id.name][id.version];
        candidate.withdrawn || candidate.version.is_pre()
    }

    /// Adds that a pre-release or a withdrawn version needs a wish that allows it.
    fn restrict(&self, id: Id, clauses: &mut Clauses<Id, Origin>) {
        let candidate = &self.candidates[id.name][id.version];
        if !self.is_restricted(id) || (self.lenient && !candidate.withdrawn) {
            return;
        }
        let wishes = self.allowing.get(&id).into_iter().flatten();
        let by: Option<Vec<Id>> = wishes.map(|&wish| self.wishes[wish].by).collect();
        // where the profile allows it, it always is
        if let Some(by) = by {
            clauses.add(&[id], &by, Origin::Law);
        }
    }

    /// Adds that a wish is met by what it admits, and by nothing else.
    fn impose(&mut self, at: usize, clauses: &mut Clauses<Id, Origin>) {
        let Wish { requirement, by, name, admits } = &self.wishes[at];
        let id = |version: usize| Id { name: *name, extra: 0, version };
        let not: Vec<Id> = by.iter().copied().collect();
        let targets: Vec<Id> = admits.iter().map(|&version| id(version)).collect();
        clauses.add(&not, &targets, Origin::Wish(at));
        let mut admitted = vec![false; self.candidates[*name].len()];
        admits.iter().for_each(|&version| admitted[version] = true);
        for version in (0..admitted.len()).filter(|&version| !admitted[version]) {
            clauses.add(&[&not[..], &[id(version)]].concat(), &[], Origin::Wish(at));
        }
        for extra in &requirement.extras {
            let extra = self.extras.iter().position(|known| known == extra).unwrap_or_default();
            for target in &targets {
                let with = Id { extra, ..*target };
                clauses.add(&[&not[..], &[*target]].concat(), &[with], Origin::Wish(at));
            }
        }
    }

    /// Gives what a version or one of its extras needs; reads it where it is chosen for the first time.
    fn wishes_of(&mut self, id: Id) -> Result<Vec<usize>, PythonError> {
        if let Some(known) = self.needs.get(&id) {
            return Ok(known.clone());
        }
        let name = self.names[id.name].clone();
        let extras = if id.extra == 0 { Vec::new() } else { vec![self.extras[id.extra].clone()] };
        let mut found = Vec::new();
        for text in self.packages.needs(&self.candidates[id.name][id.version])? {
            let Some(requirement) = Requirement::parse(&text) else {
                // one of an address counts only where its condition does
                let condition = text.split_once(';').map_or("", |(_, condition)| condition);
                let alone = Requirement::parse(&format!("x ; {condition}"));
                if alone.is_some_and(|alone| !alone.counts(self.environment, &extras)) {
                    continue;
                }
                return Err(PythonError::Foreign { package: name, wanted: text });
            };
            let counts = requirement.counts(self.environment, &extras);
            // what counts without extras was wished for already
            if counts && (extras.is_empty() || !requirement.counts(self.environment, &[])) {
                found.push(requirement);
            }
        }
        let wishes = self.learn(found, Some(id))?;
        self.needs.insert(id, wishes.clone());
        Ok(wishes)
    }

    /// Takes up wishes, and asks for the versions of what they name.
    fn learn(&mut self, wished: Vec<Requirement>, by: Option<Id>) -> Result<Vec<usize>, PythonError> {
        let mut new: Vec<String> = wished.iter().map(|wish| wish.name.clone()).collect();
        new.retain(|name| !self.names.contains(name));
        new.sort();
        new.dedup();
        let versions = self.packages.versions(&new)?;
        self.names.extend(new);
        self.candidates.extend(versions);
        let mut added = Vec::new();
        for requirement in wished {
            let Some(name) = self.names.iter().position(|known| *known == requirement.name) else { continue };
            let admits = self.candidates[name].iter().enumerate();
            let admits = admits.filter(|(_, one)| requirement.versions.admit(&one.version));
            let admits = admits.map(|(version, _)| version).collect();
            for extra in &requirement.extras {
                if !self.extras.contains(extra) {
                    self.extras.push(extra.clone());
                }
            }
            added.push(self.wishes.len());
            self.wishes.push(Wish { requirement, by, name, admits });
            self.allow(self.wishes.len() - 1);
        }
        Ok(added)
    }

    /// Takes up which pre-releases and withdrawn versions a wish allows.
    fn allow(&mut self, at: usize) {
        let Wish { requirement, name, admits, .. } = &self.wishes[at];
        let versions = &requirement.versions;
        let no_final = admits.iter().all(|&version| {
            let candidate = &self.candidates[*name][version];
            candidate.version.is_pre() || (candidate.withdrawn && !versions.name_one())
        });
        for &version in admits {
            let (id, candidate) = (Id { name: *name, extra: 0, version }, &self.candidates[*name][version]);
            let pre = !candidate.version.is_pre() || versions.name_pre() || no_final;
            if self.is_restricted(id) && pre && (!candidate.withdrawn || versions.name_one()) {
                self.allowing.entry(id).or_default().insert(at);
                self.news = true;
            }
        }
    }

    /// Gives those of the chosen that the profile's wishes lead to, in the order of their names.
    fn needed(&self, chosen: &[Id]) -> Vec<Id> {
        let chosen: BTreeSet<Id> = chosen.iter().copied().collect();
        let mut needed = BTreeSet::new();
        let mut wishes = self.wanted.clone();
        while let Some(wish) = wishes.pop() {
            let Wish { requirement, name, admits, .. } = &self.wishes[wish];
            let extras = requirement
                .extras
                .iter()
                .filter_map(|extra| self.extras.iter().position(|known| known == extra));
            for extra in std::iter::once(0).chain(extras) {
                let of = admits.iter().map(|&version| Id { name: *name, extra, version });
                for id in of.filter(|id| chosen.contains(id) && chosen.contains(&id.plain())) {
                    if needed.insert(id) {
                        wishes.extend(self.needs.get(&id).into_iter().flatten());
                    }
                }
            }
        }
        needed.into_iter().collect()
    }

    /// Gives the wishes of what is chosen.
    fn active(&self, chosen: &[Id]) -> Vec<usize> {
        let of = chosen.iter().filter_map(|id| self.needs.get(id)).flatten();
        self.wanted.iter().chain(of).copied().collect()
    }

    /// Tells whether a pre-release or a withdrawn version is one that the wishes of the others allow.
    fn is_proper(&self, id: Id, chosen: &[Id]) -> bool {
        let candidates = &self.candidates[id.name];
        let one = &candidates[id.version];
        let wishes = self.active(chosen).into_iter().map(|wish| &self.wishes[wish]);
        let wishes: Vec<&Wish> = wishes.filter(|wish| wish.name == id.name).collect();
        let named = wishes.iter().any(|wish| wish.requirement.versions.name_one());
        let pre = || {
            let all = |version: &usize| wishes.iter().all(|wish| wish.admits.contains(version));
            let mut finals = (0..candidates.len()).filter(|&version| {
                !candidates[version].version.is_pre() && (named || !candidates[version].withdrawn)
            });
            wishes.iter().any(|wish| wish.requirement.versions.name_pre()) || !finals.any(|one| all(&one))
        };
        (!one.withdrawn || named) && (!one.version.is_pre() || pre())
    }

    fn named(&self, chosen: &[Id]) -> Vec<(String, Candidate)> {
        let plain = chosen.iter().filter(|id| id.extra == 0);
        let one = |id: &Id| (self.names[id.name].clone(), self.candidates[id.name][id.version].clone());
        let mut named: Vec<_> = plain.map(one).collect();
        named.sort_by(|(a, _), (b, _)| a.cmp(b));
        named
    }

    /// Says which wishes contradict each other: those for one package, where they alone do.
    fn conflict(&self, facts: &[usize]) -> PythonError {
        let mut by_name: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        facts.iter().for_each(|&wish| by_name.entry(self.wishes[wish].name).or_default().push(wish));
        let versions = |wishes: &[usize]| -> BTreeSet<Id> {
            wishes.iter().filter_map(|&wish| self.wishes[wish].by.map(Id::plain)).collect()
        };
        let all = versions(facts);
        let alone = |wishes: &Vec<usize>| {
            let own = versions(wishes);
            // where another version of who wishes has another wish, that is a part of the story
            let is_whole =
                own.iter().all(|id| all.iter().all(|other| other.name != id.name || own.contains(other)));
            let left = 0..self.candidates[self.wishes[wishes[0]].name].len();
            let mut tries = TRIES;
            is_whole && self.excludes_all(&self.by_package(wishes), left.collect(), &mut tries)
        };
        let one = by_name.iter().filter(|(_, wishes)| alone(wishes)).min_by_key(|(_, wishes)| wishes.len());
        match one {
            Some((&name, wishes)) => {
                PythonError::Conflict { package: self.names[name].clone(), wishes: self.words(wishes) }
            }
            None => PythonError::Together { wishes: self.words(facts) },
        }
    }

    /// Sorts wishes by the package that has them, and by its version: wishes of two versions never meet.
    fn by_package(&self, wishes: &[usize]) -> Vec<Vec<Vec<usize>>> {
        let mut packages: BTreeMap<Option<usize>, BTreeMap<Option<usize>, Vec<usize>>> = BTreeMap::new();
        for &wish in wishes {
            let by = self.wishes[wish].by;
            let versions = packages.entry(by.map(|id| id.name)).or_default();
            versions.entry(by.map(|id| id.version)).or_default().push(wish);
        }
        packages.into_values().map(|versions| versions.into_values().collect()).collect()
    }

    /// Tells whether no version is left, whichever version of each package has its wishes.
    fn excludes_all(&self, packages: &[Vec<Vec<usize>>], left: Vec<usize>, tries: &mut usize) -> bool {
        let Some((first, rest)) = packages.split_first() else { return left.is_empty() };
        first.iter().all(|wishes| {
            *tries = tries.saturating_sub(1);
            let admits =
                |version: &usize| wishes.iter().all(|&wish| self.wishes[wish].admits.contains(version));
            let left = left.iter().copied().filter(admits).collect();
            *tries > 0 && self.excludes_all(rest, left, tries)
        })
    }

    fn words(&self, wishes: &[usize]) -> Vec<String> {
        let word = |&wish: &usize| {
            let Wish { requirement, by, .. } = &self.wishes[wish];
            let by = by.map_or("the profile".to_owned(), |id| {
                format!("{} {}", self.names[id.name], self.candidates[id.name][id.version].version)
            });
            format!("`{}` ({by})", requirement.text)
        };
        let mut words: Vec<String> = wishes.iter().take(LISTED).map(word).collect();
        if wishes.len() > LISTED {
            words.push(format!("{} more", wishes.len() - LISTED));
        }
        words
    }
}

#[cfg(test)]
mod tests;
