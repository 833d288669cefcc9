//! Which versions go together.
//!
//! The highest version of each is taken, in the order in which they are wished for. Where a later wish is against
//! what was taken, it is begun again with that wish known from the start; where nothing fulfils all of them, the one
//! who wished last must be another version.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    PythonError,
    index::{Candidate, Index},
    requirement::{Environment, Requirement},
};

/// How often it is begun again.
const ROUNDS: usize = 300;

/// What a version says that it needs, in the words of its metadata.
pub(super) type Needs<'a> = dyn FnMut(&str, &Candidate) -> Result<Vec<String>, PythonError> + 'a;

/// A wish, and who has it: a package in a version, or the profile.
#[derive(Clone, Debug)]
struct Wish {
    requirement: Requirement,
    by: Option<(String, String)>,
}

impl Wish {
    fn words(&self) -> String {
        match &self.by {
            Some((name, version)) => format!("`{}` ({name} {version})", self.requirement.text),
            None => format!("`{}` (the profile)", self.requirement.text),
        }
    }
}

/// Chooses a version of everything that some wishes need.
pub(super) fn solve(
    wishes: &[Requirement],
    environment: &Environment,
    index: &mut Index<'_>,
    needs: &mut Needs<'_>,
) -> Result<Vec<(String, Candidate)>, PythonError> {
    let mut solver = Solver { environment, hints: BTreeMap::new(), excluded: BTreeSet::new() };
    for _ in 0..ROUNDS {
        match solver.round(wishes, index, needs)? {
            Round::Done(chosen) => {
                return Ok(chosen.into_iter().map(|(name, one)| (name, one.candidate)).collect());
            }
            Round::Again => {}
        }
    }
    Err(PythonError::Rounds { rounds: ROUNDS })
}

struct Solver<'a> {
    environment: &'a Environment,
    /// Wishes of earlier rounds, by what they are for.
    hints: BTreeMap<String, Vec<Wish>>,
    /// Versions whose wishes cannot be fulfilled.
    excluded: BTreeSet<(String, String)>,
}

struct Chosen {
    candidate: Candidate,
    extras: Vec<String>,
    wishes: Vec<Wish>,
}

enum Round {
    Done(BTreeMap<String, Chosen>),
    Again,
}

impl Solver<'_> {
    fn round(
        &mut self,
        wishes: &[Requirement],
        index: &mut Index<'_>,
        needs: &mut Needs<'_>,
    ) -> Result<Round, PythonError> {
        let mut chosen: BTreeMap<String, Chosen> = BTreeMap::new();
        let mut queue: VecDeque<Wish> =
            wishes.iter().map(|wish| Wish { requirement: wish.clone(), by: None }).collect();
        while !queue.is_empty() {
            index.learn(queue.iter().map(|wish| wish.requirement.name.clone()).collect())?;
            for wish in std::mem::take(&mut queue) {
                let name = wish.requirement.name.clone();
                let new = match chosen.get_mut(&name) {
                    Some(known) if wish.requirement.versions.admit(&known.candidate.version) => {
                        known.wishes.push(wish.clone());
                        let more =
                            wish.requirement.extras.iter().filter(|extra| !known.extras.contains(extra));
                        let more: Vec<String> = more.cloned().collect();
                        known.extras.extend(more.iter().cloned());
                        more
                    }
                    Some(known) => {
                        let all: Vec<Wish> = known.wishes.iter().cloned().chain([wish]).collect();
                        return self.again(&name, &all, &chosen, index);
                    }
                    None => {
                        let Some(candidate) = self.pick(&name, &wish, index) else {
                            return self.again(&name, &[wish], &chosen, index);
                        };
                        let extras = wish.requirement.extras.clone();
                        let by = Some((name.clone(), candidate.version.to_string()));
                        queue.extend(self.wishes(&name, &candidate, &[], by, needs)?);
                        chosen.insert(
                            name.clone(),
                            Chosen { candidate, extras: extras.clone(), wishes: vec![wish] },
                        );
                        extras
                    }
                };
                if let (false, Some(known)) = (new.is_empty(), chosen.get(&name)) {
                    let by = Some((name.clone(), known.candidate.version.to_string()));
                    queue.extend(self.wishes(&name, &known.candidate, &new, by, needs)?);
                }
            }
        }
        Ok(Round::Done(chosen))
    }

    /// Reads what a version needs, for some extras or for none.
    fn wishes(
        &self,
        name: &str,
        candidate: &Candidate,
        extras: &[String],
        by: Option<(String, String)>,
        needs: &mut Needs<'_>,
    ) -> Result<Vec<Wish>, PythonError> {
        let mut found = Vec::new();
        for text in needs(name, candidate)? {
            let Some(requirement) = Requirement::parse(&text) else {
                // one of an address counts only where its condition does
                let condition = text.split_once(';').map_or("", |(_, condition)| condition);
                let alone = Requirement::parse(&format!("x ; {condition}"));
                if alone.is_some_and(|alone| !alone.counts(self.environment, extras)) {
                    continue;
                }
                return Err(PythonError::Foreign { package: name.to_owned(), wanted: text });
            };
            let counts = requirement.counts(self.environment, extras);
            // what counts without extras was wished for already
            if counts && (extras.is_empty() || !requirement.counts(self.environment, &[])) {
                found.push(Wish { requirement, by: by.clone() });
            }
        }
        Ok(found)
    }

    /// Picks the highest version that fulfils a wish and all that were heard of in earlier rounds.
    fn pick(&self, name: &str, wish: &Wish, index: &Index<'_>) -> Option<Candidate> {
        let hints = self.hints.get(name).map_or(&[][..], Vec::as_slice);
        let wishes: Vec<&Requirement> =
            std::iter::once(wish).chain(hints).map(|wish| &wish.requirement).collect();
        pick(name, &wishes, &self.excluded, index)
    }

    /// Learns of wishes that what was taken does not fulfil.
    fn again(
        &mut self,
        name: &str,
        all: &[Wish],
        chosen: &BTreeMap<String, Chosen>,
        index: &Index<'_>,
    ) -> Result<Round, PythonError> {
        let hints = self.hints.entry(name.to_owned()).or_default();
        let known = |one: &Wish| hints.iter().any(|hint| hint.requirement.text == one.requirement.text);
        let new: Vec<Wish> = all.iter().filter(|one| !known(one)).cloned().collect();
        let is_new = !new.is_empty();
        hints.extend(new);
        let wishes: Vec<Wish> = hints.clone();
        let requirements: Vec<&Requirement> = wishes.iter().map(|wish| &wish.requirement).collect();
        if is_new && pick(name, &requirements, &self.excluded, index).is_some() {
            return Ok(Round::Again);
        }
        let Some(blamed) = self.blamed(&wishes, chosen, index) else {
            let words = wishes.iter().map(Wish::words).collect();
            return Err(PythonError::Conflict { package: name.to_owned(), wishes: words });
        };
        self.excluded.insert(blamed);
        self.hints.clear();
        Ok(Round::Again)
    }

    /// Finds who could be another version: the last of those who wish, or of those who wish for them.
    fn blamed(
        &self,
        wishes: &[Wish],
        chosen: &BTreeMap<String, Chosen>,
        index: &Index<'_>,
    ) -> Option<(String, String)> {
        let mut seen = BTreeSet::new();
        let mut queue: VecDeque<(String, String)> =
            wishes.iter().rev().filter_map(|one| one.by.clone()).collect();
        while let Some(by) = queue.pop_front() {
            let Some(known) = chosen.get(&by.0).filter(|_| seen.insert(by.clone())) else { continue };
            let mut excluded = self.excluded.clone();
            excluded.insert(by.clone());
            let requirements: Vec<&Requirement> = known.wishes.iter().map(|wish| &wish.requirement).collect();
            if pick(&by.0, &requirements, &excluded, index).is_some() {
                return Some(by);
            }
            queue.extend(known.wishes.iter().rev().filter_map(|one| one.by.clone()));
        }
        None
    }
}

fn pick(
    name: &str,
    wishes: &[&Requirement],
    excluded: &BTreeSet<(String, String)>,
    index: &Index<'_>,
) -> Option<Candidate> {
    let named = wishes.iter().any(|wish| wish.versions.name_one());
    let fits = |one: &&Candidate| {
        (named || !one.withdrawn)
            && wishes.iter().all(|wish| wish.versions.admit(&one.version))
            && !excluded.contains(&(name.to_owned(), one.version.to_string()))
    };
    let pre = wishes.iter().any(|wish| wish.versions.name_pre());
    let mut fitting = index.of(name).iter().filter(fits);
    let first = fitting.clone().find(|one| pre || !one.version.is_pre());
    first.or_else(|| fitting.next()).cloned()
}
