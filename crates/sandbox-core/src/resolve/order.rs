//! Why each chosen package is there, and the order in which packages are installed.

use std::collections::HashMap;

use super::{
    Error,
    pool::{Kind, Pool},
    seed::Seed,
};
use crate::{deb::packages::PackageId, lock::Reason};

/// Finds for each chosen package why it is there; what nothing asks for any more is left out.
///
/// The reason is one of the package's own layer: what a file above asks for by name, and is there before as a
/// dependency, stays one, so that a layer is the same whatever is stacked on it.
pub(super) fn reasons(
    pool: &mut Pool<'_>,
    seeds: &[Seed],
    chosen: &[PackageId],
    layers: &HashMap<PackageId, usize>,
) -> Result<Vec<(PackageId, Reason)>, Error> {
    let place: HashMap<PackageId, usize> = chosen.iter().enumerate().map(|(at, &id)| (id, at)).collect();
    let mut reached: Vec<(PackageId, Reason)> = Vec::with_capacity(chosen.len());
    let mut known = vec![false; chosen.len()];
    let top = layers.values().copied().max().unwrap_or(0);
    for layer in 0..=top {
        for seed in seeds.iter().filter(|seed| seed.layer.min(top) == layer) {
            if let Some(at) = seed.targets.iter().find_map(|id| place.get(id).copied())
                && !std::mem::replace(&mut known[at], true)
            {
                reached.push((chosen[at], seed.reason.clone()));
            }
        }
        let mut next = 0;
        while next < reached.len() {
            let id = reached[next].0;
            next += 1;
            let needs = pool.needs(id)?;
            for target in needs.requirements.iter().flat_map(|requirement| &requirement.targets) {
                if let Some(&at) = place.get(target)
                    && layers[target] <= layer
                    && !std::mem::replace(&mut known[at], true)
                {
                    reached.push((*target, Reason::Dependency(pool.package(id).name().to_owned())));
                }
            }
        }
    }
    Ok(reached)
}

/// Sorts packages so that each comes after what it depends on; in a cycle, after what it pre-depends on.
///
/// Packages that could stand anywhere stand as the essential ones first, then by name.
pub(super) fn sort(
    pool: &mut Pool<'_>,
    chosen: &[(PackageId, Reason)],
) -> Result<Vec<(PackageId, Reason)>, Error> {
    let mut chosen = chosen.to_vec();
    chosen.sort_by_key(|(id, reason)| (*reason != Reason::Essential, pool.package(*id).name()));
    let place: HashMap<PackageId, usize> = chosen.iter().enumerate().map(|(at, (id, _))| (*id, at)).collect();
    let mut all = vec![Vec::new(); chosen.len()];
    let mut before = vec![Vec::new(); chosen.len()];
    for (at, (id, _)) in chosen.iter().enumerate() {
        for requirement in &pool.needs(*id)?.requirements {
            let targets = requirement.targets.iter().filter_map(|target| place.get(target).copied());
            match requirement.kind {
                // Recommends make cycles that dpkg does not care for.
                Kind::Recommends => {}
                Kind::Depends => all[at].extend(targets),
                Kind::PreDepends => {
                    all[at].extend(targets.clone());
                    before[at].extend(targets);
                }
            }
        }
    }
    let mut sorted = Vec::with_capacity(chosen.len());
    for cycle in components(&all) {
        let inner: HashMap<usize, usize> = cycle.iter().enumerate().map(|(new, &old)| (old, new)).collect();
        let edges: Vec<Vec<usize>> = cycle
            .iter()
            .map(|&old| before[old].iter().filter_map(|target| inner.get(target).copied()).collect())
            .collect();
        sorted.extend(components(&edges).into_iter().flatten().map(|new| chosen[cycle[new]].clone()));
    }
    Ok(sorted)
}

/// Finds the strongly connected components of a graph, each after those that it points to, its members in
/// rising order.
///
/// **Source**: R. Tarjan, “Depth-first search and linear graph algorithms”, 1972; here without recursion.
fn components(edges: &[Vec<usize>]) -> Vec<Vec<usize>> {
    const NEW: usize = usize::MAX;
    let mut number = vec![NEW; edges.len()];
    let mut low = vec![0; edges.len()];
    let mut open = vec![false; edges.len()];
    let (mut path, mut found, mut count) = (Vec::new(), Vec::new(), 0);
    for root in 0..edges.len() {
        let mut stack = if number[root] == NEW { vec![(root, 0)] } else { Vec::new() };
        while let Some(&mut (node, ref mut next)) = stack.last_mut() {
            if *next == 0 && number[node] == NEW {
                (number[node], low[node], open[node]) = (count, count, true);
                count += 1;
                path.push(node);
            }
            if let Some(&target) = edges[node].get(*next) {
                *next += 1;
                if number[target] == NEW {
                    stack.push((target, 0));
                } else if open[target] {
                    low[node] = low[node].min(number[target]);
                }
                continue;
            }
            stack.pop();
            if let Some(&(parent, _)) = stack.last() {
                low[parent] = low[parent].min(low[node]);
            }
            if low[node] == number[node] {
                let start = path.iter().rposition(|&member| member == node).unwrap_or(0);
                let mut component = path.split_off(start);
                component.iter().for_each(|&member| open[member] = false);
                component.sort_unstable();
                found.push(component);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::components;

    #[test]
    fn puts_targets_first_and_cycles_together() {
        assert_eq!(components(&[vec![1], vec![2], vec![1, 3], vec![]]), [vec![3], vec![1, 2], vec![0]]);
        assert_eq!(components(&[vec![0], vec![]]), [vec![0], vec![1]]);
    }

    #[test]
    fn does_not_overflow_on_long_chains() {
        let chain: Vec<_> =
            (1..=200_000).map(|next| if next < 200_000 { vec![next] } else { vec![] }).collect();
        assert_eq!(components(&chain).first(), Some(&vec![199_999]));
    }
}
