//! Which of the stacked files first needs a chosen package.

use std::collections::HashMap;

use super::{Error, pool::Pool, seed::Seed};
use crate::deb::packages::PackageId;

/// Gives each chosen package its layer: the first whose wishes, with those of the layers below, need it.
///
/// Of alternatives that were chosen, the one counts that [`super::greedy`] would take if there were no layers
/// above: so a layer has the same packages whatever is stacked on it, as far as the choice is the same. What is
/// chosen and strictly needed by nothing is of the last layer.
pub(super) fn of(
    pool: &mut Pool<'_>,
    seeds: &[Seed],
    chosen: &[PackageId],
    count: usize,
) -> Result<HashMap<PackageId, usize>, Error> {
    let last = count.saturating_sub(1);
    if last == 0 {
        return Ok(chosen.iter().map(|&id| (id, 0)).collect());
    }
    let mut layers: HashMap<PackageId, Option<usize>> = chosen.iter().map(|&id| (id, None)).collect();
    for layer in 0..count {
        let mut new = Vec::new();
        for seed in seeds.iter().filter(|seed| seed.layer.min(last) == layer) {
            new.extend(take(&mut layers, &seed.targets, layer));
        }
        for id in new {
            follow(pool, &mut layers, id, layer)?;
        }
    }
    Ok(layers.into_iter().map(|(id, layer)| (id, layer.unwrap_or(last))).collect())
}

/// Gives a layer what one of its packages needs, and what that needs.
fn follow(
    pool: &mut Pool<'_>,
    layers: &mut HashMap<PackageId, Option<usize>>,
    id: PackageId,
    layer: usize,
) -> Result<(), Error> {
    let mut stack = vec![(id, 0)];
    while let Some((id, next)) = stack.last_mut() {
        let needs = pool.needs(*id)?;
        let Some(requirement) = needs.requirements.get(*next) else {
            stack.pop();
            continue;
        };
        *next += 1;
        let preferred = pool.preferred(requirement);
        let all: Vec<PackageId> = preferred.into_iter().chain(requirement.targets.iter().copied()).collect();
        stack.extend(take(layers, &all, layer).map(|id| (id, 0)));
    }
    Ok(())
}

/// Gives the first of some packages that is chosen a layer, unless one of them has one.
fn take(
    layers: &mut HashMap<PackageId, Option<usize>>,
    targets: &[PackageId],
    layer: usize,
) -> Option<PackageId> {
    if targets.iter().any(|id| layers.get(id).copied().flatten().is_some()) {
        return None;
    }
    let first = targets.iter().copied().find(|id| layers.contains_key(id))?;
    layers.insert(first, Some(layer));
    Some(first)
}
