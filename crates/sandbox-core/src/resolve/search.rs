//! A complete search, for where apt's way is blocked.
//!
//! A variable is “this version is chosen”. Clauses are made only for packages that are chosen on the way:
//! what it needs, what it conflicts with, one version a name.

use super::{
    Error,
    clauses::{self, Clauses, Rules},
    explain::{self, Origin},
    pool::{Kind, Pool},
    seed::Seed,
};
use crate::deb::packages::PackageId;

struct Search<'p, 'a> {
    pool: &'p mut Pool<'a>,
    seeds: &'p [Seed],
}

/// Chooses packages that meet all wishes.
///
/// # Errors
/// [`Error::Unsatisfiable`] where there is no such set.
pub(super) fn choose(pool: &mut Pool<'_>, seeds: &[Seed]) -> Result<Vec<PackageId>, Error> {
    let mut clauses = Clauses::new();
    for (at, seed) in seeds.iter().enumerate() {
        clauses.add(&[], &seed.targets, Origin::Seed(at));
    }
    let mut search = Search { pool, seeds };
    match clauses::search(&mut search, &mut clauses)? {
        Ok(chosen) => Ok(chosen),
        Err(facts) => match explain::unsatisfiable(pool, seeds, &facts) {
            Ok(error) | Err(error) => Err(error),
        },
    }
}

impl Rules for Search<'_, '_> {
    type Id = PackageId;
    type Origin = Origin;
    type Error = Error;

    fn expand(&mut self, id: PackageId, clauses: &mut Clauses<PackageId, Origin>) -> Result<(), Error> {
        let needs = self.pool.needs(id)?;
        for (place, requirement) in needs.requirements.iter().enumerate() {
            if requirement.kind != Kind::Recommends {
                clauses.add(&[id], &requirement.targets, Origin::Need(id, place));
            }
        }
        let name = self.pool.package(id).name_id();
        let others: Vec<_> = self.pool.versions(name).filter(|&other| other != id).collect();
        for &other in needs.conflicts.iter().chain(&others) {
            clauses.add(&[id, other], &[], Origin::Conflict(id, other));
        }
        Ok(())
    }

    /// Finds the next package to choose: for the first wish or need that is not met, in apt's order.
    fn decide(&mut self, clauses: &mut Clauses<PackageId, Origin>) -> Result<Option<PackageId>, Error> {
        for seed in self.seeds {
            if let Some(id) = open(&seed.targets, clauses) {
                return Ok(Some(id));
            }
        }
        while clauses.agenda < clauses.places() {
            if let Some(found) = self.unmet(clauses.agenda, false, clauses)? {
                return Ok(Some(found));
            }
            clauses.agenda += 1;
        }
        for place in 0..clauses.places() {
            if let Some(found) = self.unmet(place, true, clauses)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

impl Search<'_, '_> {
    /// Finds what a chosen package still needs, or would like where `recommended`.
    fn unmet(
        &mut self,
        place: usize,
        recommended: bool,
        clauses: &mut Clauses<PackageId, Origin>,
    ) -> Result<Option<PackageId>, Error> {
        let Some(id) = clauses.at(place) else { return Ok(None) };
        let needs = self.pool.needs(id)?;
        let mut wanted =
            needs.requirements.iter().filter(|need| (need.kind == Kind::Recommends) == recommended);
        Ok(wanted.find_map(|need| open(&need.targets, clauses)))
    }
}

/// Gives the first target that may still be chosen, where none is.
fn open(targets: &[PackageId], clauses: &mut Clauses<PackageId, Origin>) -> Option<PackageId> {
    let values: Vec<_> = targets.iter().map(|&id| (id, clauses.is_chosen(id))).collect();
    let met = values.iter().any(|(_, value)| *value == Some(true));
    values.into_iter().find(|(_, value)| !met && value.is_none()).map(|(id, _)| id)
}
