//! The core of a complete search: clauses, propagation and clause learning, without knowledge of what is chosen.
//!
//! A variable stands for one thing that may be chosen, such as a version of a package. [`Rules`] adds the clauses of
//! a thing when it is chosen for the first time, and names the next thing to choose. A contradiction is analysed to a
//! new clause (first unique implication point), which remembers the clauses that it follows from.
//!
//! **Source**: J. Marques-Silva, I. Lynce, S. Malik, “Conflict-Driven Clause Learning SAT Solvers”, 2009.

use std::{collections::HashMap, hash::Hash};

/// A variable, and whether it is negated in the lowest bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Literal(usize);

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

/// What a search chooses from.
pub(crate) trait Rules {
    /// One thing that may be chosen.
    type Id: Copy + Eq + Hash;
    /// Where a clause comes from, for the explanation of a contradiction.
    type Origin: Copy;
    /// Why the rules cannot be read.
    type Error;

    /// Adds the clauses of a thing that is chosen for the first time.
    fn expand(
        &mut self,
        id: Self::Id,
        clauses: &mut Clauses<Self::Id, Self::Origin>,
    ) -> Result<(), Self::Error>;

    /// Names the next thing to choose; none where everything that is chosen has what it needs.
    fn decide(
        &mut self,
        clauses: &mut Clauses<Self::Id, Self::Origin>,
    ) -> Result<Option<Self::Id>, Self::Error>;
}

struct Clause<O> {
    literals: Vec<Literal>,
    origin: Source<O>,
}

enum Source<O> {
    Fact(O),
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

/// All clauses that are known, and what is chosen at present.
pub(crate) struct Clauses<I, O> {
    variables: HashMap<I, usize>,
    ids: Vec<I>,
    assigned: Vec<Assigned>,
    expanded: Vec<bool>,
    clauses: Vec<Clause<O>>,
    /// By literal: the clauses to look at when it becomes false.
    watches: Vec<Vec<usize>>,
    trail: Vec<Literal>,
    marks: Vec<Mark>,
    head: usize,
    /// How many places of the trail have all their requirements met; the rules count it up.
    pub(crate) agenda: usize,
    /// A clause that was contradicted when it was added.
    contradicted: Option<usize>,
}

/// The things chosen, or the facts that contradict each other.
pub(crate) type Answer<R> = Result<Vec<<R as Rules>::Id>, Vec<<R as Rules>::Origin>>;

/// Searches until everything that is chosen has what it needs; gives the things chosen, in the order in which they
/// were, or the facts that contradict each other.
pub(crate) fn search<R: Rules>(
    rules: &mut R,
    clauses: &mut Clauses<R::Id, R::Origin>,
) -> Result<Answer<R>, R::Error> {
    loop {
        if let Some(conflict) = clauses.propagate(rules)? {
            if !clauses.learn(conflict) {
                return Ok(Err(clauses.facts(conflict)));
            }
            continue;
        }
        match rules.decide(clauses)? {
            Some(id) => {
                let literal = clauses.literal(id, false);
                clauses.marks.push(Mark { trail: clauses.trail.len(), agenda: clauses.agenda });
                clauses.assign(literal, None);
            }
            None => return Ok(Ok(clauses.chosen().collect())),
        }
    }
}

impl<I: Copy + Eq + Hash, O: Copy> Clauses<I, O> {
    pub(crate) fn new() -> Self {
        Self {
            variables: HashMap::new(),
            ids: Vec::new(),
            assigned: Vec::new(),
            expanded: Vec::new(),
            clauses: Vec::new(),
            watches: Vec::new(),
            trail: Vec::new(),
            marks: Vec::new(),
            head: 0,
            agenda: 0,
            contradicted: None,
        }
    }

    /// Adds a clause: one of `chosen` is chosen, or one of `not` is not.
    pub(crate) fn add(&mut self, not: &[I], chosen: &[I], origin: O) {
        let negated: Vec<_> = not.iter().map(|&id| (id, true)).collect();
        let all = negated.into_iter().chain(chosen.iter().map(|&id| (id, false)));
        let literals = all.map(|(id, negated)| self.literal(id, negated)).collect();
        self.insert(literals, Source::Fact(origin));
    }

    /// Gives whether a thing is chosen; none where that is open.
    pub(crate) fn is_chosen(&mut self, id: I) -> Option<bool> {
        let literal = self.literal(id, false);
        self.value(literal)
    }

    /// Gives the things that are chosen at present, in the order in which they were.
    pub(crate) fn chosen(&self) -> impl Iterator<Item = I> {
        self.trail.iter().filter(|literal| !literal.is_negated()).map(|literal| self.ids[literal.variable()])
    }

    /// Gives how many places the trail has.
    pub(crate) fn places(&self) -> usize {
        self.trail.len()
    }

    /// Gives the thing that is chosen at a place of the trail; none where one was excluded there.
    pub(crate) fn at(&self, place: usize) -> Option<I> {
        let literal = self.trail.get(place).filter(|literal| !literal.is_negated())?;
        Some(self.ids[literal.variable()])
    }

    fn literal(&mut self, id: I, negated: bool) -> Literal {
        let variable = *self.variables.entry(id).or_insert(self.ids.len());
        if variable == self.ids.len() {
            self.ids.push(id);
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

    /// Adds a clause at any time; remembers it where it is contradicted already.
    fn insert(&mut self, mut literals: Vec<Literal>, origin: Source<O>) {
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
            None | Some((_, Some(false))) => self.contradicted = self.contradicted.or(Some(at)),
            Some((first, None)) if alone => self.assign(first, Some(at)),
            _ => {}
        }
    }

    /// Draws all consequences; gives the clause that is contradicted, if one is.
    fn propagate<R: Rules<Id = I, Origin = O>>(&mut self, rules: &mut R) -> Result<Option<usize>, R::Error> {
        loop {
            if let Some(conflict) = self.contradicted.take() {
                return Ok(Some(conflict));
            }
            let Some(&literal) = self.trail.get(self.head) else { return Ok(None) };
            self.head += 1;
            let variable = literal.variable();
            if !literal.is_negated() && !std::mem::replace(&mut self.expanded[variable], true) {
                rules.expand(self.ids[variable], self)?;
                if let Some(conflict) = self.contradicted.take() {
                    return Ok(Some(conflict));
                }
            }
            if let Some(conflict) = self.visit(literal.opposite()) {
                return Ok(Some(conflict));
            }
        }
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
        // Clauses may have come to watch it meanwhile only by `insert`, which is not called here.
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

    /// Learns from a contradiction, goes back to where it could have been foreseen, and draws the consequence;
    /// false where it follows from no decision.
    fn learn(&mut self, conflict: usize) -> bool {
        let highest = self.clauses[conflict].literals.iter().map(|&literal| self.level(literal)).max();
        let level = highest.unwrap_or(0);
        if level == 0 {
            return false;
        }
        self.back_to(level);
        let (literals, from) = self.analyse(conflict);
        let target = literals.iter().skip(1).map(|&literal| self.level(literal)).max().unwrap_or(0);
        self.back_to(target);
        self.insert(literals, Source::Learned(from));
        true
    }

    /// Resolves a contradicted clause with reasons until one literal of the last level is left, put first.
    fn analyse(&self, conflict: usize) -> (Vec<Literal>, Vec<usize>) {
        let level = self.marks.len();
        let mut seen = vec![false; self.ids.len()];
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

    /// Traces a contradiction without any decision to the facts that it follows from.
    fn facts(&self, conflict: usize) -> Vec<O> {
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
        facts
    }
}
