//! A complete search with clause learning, for where apt's way is blocked.
//!
//! A variable is “this version is chosen”. Clauses are made only for packages that are chosen on the way:
//! what it needs, what it conflicts with, one version a name. A contradiction is analysed to a new clause
//! (first unique implication point), which remembers the clauses that it follows from.
//!
//! **Source**: J. Marques-Silva, I. Lynce, S. Malik, “Conflict-Driven Clause Learning SAT Solvers”, 2009.

use std::collections::HashMap;

use super::{
    Error,
    explain::{self, Origin},
    pool::{Kind, Pool},
    seed::Seed,
};
use crate::deb::packages::PackageId;

/// A variable, and whether it is negated in the lowest bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Literal(usize);

impl Literal {
    const fn new(variable: usize, negated: bool) -> Self {
        Self(variable << 1 | negated as usize)
    }

    const fn variable(self) -> usize {
        self.0 >> 1
    }

    const fn is_negated(self) -> bool {
        self.0 & 1 == 1
    }

    const fn opposite(self) -> Self {
        Self(self.0 ^ 1)
    }
}

struct Clause {
    literals: Vec<Literal>,
    origin: Source,
}

enum Source {
    Fact(Origin),
    Learned(Vec<usize>),
}

/// A variable's value and how it came about.
#[derive(Clone, Copy, Default)]
struct Assigned {
    value: Option<bool>,
    level: usize,
    /// The clause that forced it; none for a decision.
    reason: Option<usize>,
}

/// Where a level of decisions began.
struct Mark {
    trail: usize,
    agenda: usize,
}

struct Search<'p, 'a> {
    pool: &'p mut Pool<'a>,
    seeds: &'p [Seed],
    variables: HashMap<PackageId, usize>,
    packages: Vec<PackageId>,
    assigned: Vec<Assigned>,
    expanded: Vec<bool>,
    clauses: Vec<Clause>,
    /// By literal: the clauses to look at when it becomes false.
    watches: Vec<Vec<usize>>,
    trail: Vec<Literal>,
    marks: Vec<Mark>,
    head: usize,
    /// How many places of the trail have all their requirements met.
    agenda: usize,
}

/// Chooses packages that meet all wishes.
///
/// # Errors
/// [`Error::Unsatisfiable`] where there is no such set.
pub(super) fn choose(pool: &mut Pool<'_>, seeds: &[Seed]) -> Result<Vec<PackageId>, Error> {
    let mut search = Search {
        pool,
        seeds,
        variables: HashMap::new(),
        packages: Vec::new(),
        assigned: Vec::new(),
        expanded: Vec::new(),
        clauses: Vec::new(),
        watches: Vec::new(),
        trail: Vec::new(),
        marks: Vec::new(),
        head: 0,
        agenda: 0,
    };
    search.run()
}

impl Search<'_, '_> {
    fn run(&mut self) -> Result<Vec<PackageId>, Error> {
        let mut conflict = None;
        for (at, seed) in self.seeds.iter().enumerate() {
            let literals = seed.targets.iter().map(|&id| self.literal(id, false)).collect();
            let found = self.add(literals, Source::Fact(Origin::Seed(at)));
            conflict = conflict.or(found);
        }
        loop {
            conflict = match conflict {
                Some(clause) => Some(clause),
                None => self.propagate()?,
            };
            if let Some(clause) = conflict {
                conflict = self.learn(clause)?;
                continue;
            }
            match self.next_decision()? {
                Some(literal) => {
                    self.marks.push(Mark { trail: self.trail.len(), agenda: self.agenda });
                    self.assign(literal, None);
                }
                None => return Ok(self.chosen().collect()),
            }
        }
    }

    fn chosen(&self) -> impl Iterator<Item = PackageId> {
        self.trail.iter().filter(|literal| !literal.is_negated()).map(|l| self.packages[l.variable()])
    }

    fn literal(&mut self, id: PackageId, negated: bool) -> Literal {
        let variable = *self.variables.entry(id).or_insert(self.packages.len());
        if variable == self.packages.len() {
            self.packages.push(id);
            self.assigned.push(Assigned::default());
            self.expanded.push(false);
            self.watches.extend([Vec::new(), Vec::new()]);
        }
        Literal::new(variable, negated)
    }

    fn value(&self, literal: Literal) -> Option<bool> {
        self.assigned[literal.variable()].value.map(|value| value != literal.is_negated())
    }

    fn level(&self, literal: Literal) -> usize {
        self.assigned[literal.variable()].level
    }

    fn assign(&mut self, literal: Literal, reason: Option<usize>) {
        let value = Some(!literal.is_negated());
        self.assigned[literal.variable()] = Assigned { value, level: self.marks.len(), reason };
        self.trail.push(literal);
    }

    /// Adds a clause at any time; gives it back where it is contradicted already.
    fn add(&mut self, mut literals: Vec<Literal>, origin: Source) -> Option<usize> {
        let at = self.clauses.len();
        // Watch what is not false, else what became false last: it is undone first.
        let rank = |search: &Self, literal: &Literal| match search.value(*literal) {
            Some(false) => search.level(*literal),
            _ => usize::MAX,
        };
        for place in 0..literals.len().min(2) {
            let best =
                (place..literals.len()).rev().max_by_key(|&i| rank(self, &literals[i])).unwrap_or(place);
            literals.swap(place, best);
        }
        for literal in literals.iter().take(2) {
            self.watches[literal.0].push(at);
        }
        let first = literals.first().copied();
        let alone = literals.get(1).is_none_or(|&second| self.value(second) == Some(false));
        self.clauses.push(Clause { literals, origin });
        match first.map(|first| (first, self.value(first))) {
            None | Some((_, Some(false))) => Some(at),
            Some((first, None)) if alone => {
                self.assign(first, Some(at));
                None
            }
            _ => None,
        }
    }

    /// Draws all consequences; gives the clause that is contradicted, if one is.
    fn propagate(&mut self) -> Result<Option<usize>, Error> {
        while let Some(&literal) = self.trail.get(self.head) {
            self.head += 1;
            let expanded = if literal.is_negated() { None } else { self.expand(literal.variable())? };
            if let Some(clause) = expanded.or_else(|| self.visit(literal.opposite())) {
                return Ok(Some(clause));
            }
        }
        Ok(None)
    }

    /// Makes the clauses of a package that is chosen for the first time.
    fn expand(&mut self, variable: usize) -> Result<Option<usize>, Error> {
        if std::mem::replace(&mut self.expanded[variable], true) {
            return Ok(None);
        }
        let id = self.packages[variable];
        let needs = self.pool.needs(id)?;
        let itself = Literal::new(variable, true);
        let mut conflict = None;
        for (place, requirement) in needs.requirements.iter().enumerate() {
            if requirement.kind != Kind::Recommends {
                let mut literals = vec![itself];
                literals.extend(requirement.targets.iter().map(|&target| self.literal(target, false)));
                let found = self.add(literals, Source::Fact(Origin::Need(id, place)));
                conflict = conflict.or(found);
            }
        }
        let name = self.pool.package(id).name_id();
        let others: Vec<_> = self.pool.versions(name).filter(|&other| other != id).collect();
        for &other in needs.conflicts.iter().chain(&others) {
            let literals = vec![itself, self.literal(other, true)];
            let found = self.add(literals, Source::Fact(Origin::Conflict(id, other)));
            conflict = conflict.or(found);
        }
        Ok(conflict)
    }

    /// Looks at the clauses that watch a literal which has become false.
    fn visit(&mut self, literal: Literal) -> Option<usize> {
        let mut watching = std::mem::take(&mut self.watches[literal.0]);
        let mut kept = 0;
        let mut conflict = None;
        for place in 0..watching.len() {
            let at = watching[place];
            if conflict.is_some() || self.keeps_watch(at, literal, &mut conflict) {
                watching[kept] = at;
                kept += 1;
            }
        }
        watching.truncate(kept);
        // Clauses may have come to watch it meanwhile only by `add`, which is not called here.
        self.watches[literal.0] = watching;
        conflict
    }

    /// Finds another literal to watch, or draws the consequence; tells whether the watch stays.
    fn keeps_watch(&mut self, at: usize, literal: Literal, conflict: &mut Option<usize>) -> bool {
        let mut literals = std::mem::take(&mut self.clauses[at].literals);
        if literals[0] == literal && literals.len() > 1 {
            literals.swap(0, 1);
        }
        let first = literals[0];
        let mut stays = true;
        if self.value(first) != Some(true) || first == literal {
            let other = (2..literals.len()).find(|&i| self.value(literals[i]) != Some(false));
            if let Some(other) = other {
                literals.swap(1, other);
                self.watches[literals[1].0].push(at);
                stays = false;
            } else if self.value(first).is_none() {
                self.assign(first, Some(at));
            } else {
                *conflict = Some(at);
            }
        }
        self.clauses[at].literals = literals;
        stays
    }

    /// Learns from a contradiction, goes back to where it could have been foreseen, and draws the consequence.
    fn learn(&mut self, conflict: usize) -> Result<Option<usize>, Error> {
        let highest = self.clauses[conflict].literals.iter().map(|&literal| self.level(literal)).max();
        let level = highest.unwrap_or(0);
        if level == 0 {
            return Err(self.unsatisfiable(conflict));
        }
        self.back_to(level);
        let (literals, from) = self.analyse(conflict);
        let target = literals.iter().skip(1).map(|&literal| self.level(literal)).max().unwrap_or(0);
        self.back_to(target);
        Ok(self.add(literals, Source::Learned(from)))
    }

    /// Resolves a contradicted clause with reasons until one literal of the last level is left, put first.
    fn analyse(&self, conflict: usize) -> (Vec<Literal>, Vec<usize>) {
        let level = self.marks.len();
        let mut seen = vec![false; self.packages.len()];
        let (mut learned, mut from) = (Vec::new(), Vec::new());
        let (mut open, mut place, mut clause) = (0, self.trail.len(), conflict);
        loop {
            from.push(clause);
            for &literal in &self.clauses[clause].literals {
                let variable = literal.variable();
                let at = self.level(literal);
                if at == 0
                    || self.value(literal) != Some(false)
                    || std::mem::replace(&mut seen[variable], true)
                {
                    continue;
                }
                if at == level {
                    open += 1;
                } else {
                    learned.push(literal);
                }
            }
            loop {
                place -= 1;
                if seen[self.trail[place].variable()] {
                    break;
                }
            }
            open -= 1;
            let pivot = self.trail[place];
            match self.assigned[pivot.variable()].reason {
                Some(reason) if open > 0 => clause = reason,
                _ => {
                    learned.insert(0, pivot.opposite());
                    return (learned, from);
                }
            }
        }
    }

    fn back_to(&mut self, level: usize) {
        if let Some(mark) = self.marks.get(level) {
            for literal in self.trail.drain(mark.trail..) {
                self.assigned[literal.variable()] = Assigned::default();
            }
            self.head = self.trail.len();
            self.agenda = mark.agenda;
            self.marks.truncate(level);
        }
    }

    /// Finds the next package to choose: for the first wish or need that is not met, in apt's order.
    fn next_decision(&mut self) -> Result<Option<Literal>, Error> {
        for seed in self.seeds {
            if let Some(literal) = self.open(&seed.targets) {
                return Ok(Some(literal));
            }
        }
        while let Some(&literal) = self.trail.get(self.agenda) {
            if let Some(found) = self.unmet(literal, false)? {
                return Ok(Some(found));
            }
            self.agenda += 1;
        }
        for at in 0..self.trail.len() {
            if let Some(found) = self.unmet(self.trail[at], true)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Finds what a chosen package still needs, or would like where `recommended`.
    fn unmet(&mut self, literal: Literal, recommended: bool) -> Result<Option<Literal>, Error> {
        if literal.is_negated() {
            return Ok(None);
        }
        let needs = self.pool.needs(self.packages[literal.variable()])?;
        let wanted = needs.requirements.iter().filter(|need| (need.kind == Kind::Recommends) == recommended);
        Ok(wanted.into_iter().find_map(|need| self.open(&need.targets)))
    }

    /// Gives the first target that may still be chosen, where none is.
    fn open(&mut self, targets: &[PackageId]) -> Option<Literal> {
        let literals: Vec<_> = targets.iter().map(|&id| self.literal(id, false)).collect();
        let met = literals.iter().any(|&literal| self.value(literal) == Some(true));
        literals.into_iter().find(|&literal| !met && self.value(literal).is_none())
    }

    /// Traces a contradiction without any decision to the facts that it follows from.
    fn unsatisfiable(&mut self, conflict: usize) -> Error {
        let mut known = vec![false; self.clauses.len()];
        let mut stack = vec![conflict];
        let mut facts = Vec::new();
        while let Some(at) = stack.pop() {
            if std::mem::replace(&mut known[at], true) {
                continue;
            }
            let clause = &self.clauses[at];
            match &clause.origin {
                Source::Fact(origin) => facts.push(*origin),
                Source::Learned(from) => stack.extend(from),
            }
            let fixed = clause.literals.iter().map(|literal| self.assigned[literal.variable()]);
            stack.extend(fixed.filter(|assigned| assigned.level == 0).filter_map(|assigned| assigned.reason));
        }
        match explain::unsatisfiable(self.pool, self.seeds, &facts) {
            Ok(error) | Err(error) => error,
        }
    }
}
