//! apt's way: depth-first, the first alternative that can be had, never back.
//!
//! **Source**: apt 2.6, `pkgDepCache::MarkInstall`: everything asked for is marked before any dependency is
//! looked at; then dependencies are followed in the order of the stanza.

use std::collections::{HashMap, HashSet};

use super::{Error, pool::Kind, pool::Pool, seed::Seed};
use crate::deb::packages::{NameId, PackageId};

/// Chooses packages, or nothing where the way is blocked by a conflict or a gap.
pub(super) fn choose(pool: &mut Pool<'_>, seeds: &[Seed]) -> Result<Option<Vec<PackageId>>, Error> {
    let mut chosen = Chosen::default();
    for seed in seeds {
        if seed.targets.iter().any(|&id| chosen.has(pool, id)) {
            continue;
        }
        let Some(&first) = seed.targets.first() else { return Ok(None) };
        if !chosen.add(pool, first)? {
            return Ok(None);
        }
    }
    for at in 0..chosen.order.len() {
        if !follow(pool, &mut chosen, at)? {
            return Ok(None);
        }
    }
    Ok(Some(chosen.order))
}

/// Chooses what one package needs, and what that needs; the stack is our own, as chains can be long.
fn follow(pool: &mut Pool<'_>, chosen: &mut Chosen, at: usize) -> Result<bool, Error> {
    let mut stack = vec![(chosen.order[at], 0)];
    while let Some((id, next)) = stack.last_mut() {
        let needs = pool.needs(*id)?;
        let Some(requirement) = needs.requirements.get(*next) else {
            stack.pop();
            continue;
        };
        *next += 1;
        if requirement.targets.iter().any(|&target| chosen.has(pool, target)) {
            continue;
        }
        let mut found = None;
        for target in pool.preferred(requirement) {
            if chosen.add(pool, target)? {
                found = Some(target);
                break;
            }
        }
        match found {
            Some(target) => stack.push((target, 0)),
            None if requirement.kind == Kind::Recommends => {}
            None => return Ok(false),
        }
    }
    Ok(true)
}

/// What is chosen so far.
#[derive(Default)]
struct Chosen {
    order: Vec<PackageId>,
    by_name: HashMap<NameId, PackageId>,
    barred: HashSet<PackageId>,
}

impl Chosen {
    fn has(&self, pool: &Pool<'_>, id: PackageId) -> bool {
        self.by_name.get(&pool.package(id).name_id()) == Some(&id)
    }

    /// Adds a package unless it conflicts with one that is chosen.
    fn add(&mut self, pool: &mut Pool<'_>, id: PackageId) -> Result<bool, Error> {
        let name = pool.package(id).name_id();
        let needs = pool.needs(id)?;
        let blocked = self.by_name.contains_key(&name)
            || self.barred.contains(&id)
            || needs.conflicts.iter().any(|&other| self.has(pool, other));
        if !blocked {
            self.by_name.insert(name, id);
            self.order.push(id);
            self.barred.extend(&needs.conflicts);
        }
        Ok(!blocked)
    }
}
