//! What a package needs to be configured before its preinst runs.
//!
//! **Source**: Debian Policy §7.2, `Pre-Depends`.

use std::collections::BTreeSet;

use super::package::Package;
use crate::deb::relation;

/// Lists the packages of a batch that a package's pre-dependencies lead to, in the batch's order; none where they lead
/// back to it.
pub(super) fn of(package: &Package<'_>, batch: &[&Package<'_>]) -> Vec<String> {
    let mut found: BTreeSet<usize> = BTreeSet::new();
    let mut open = targets(package, "Pre-Depends", batch);
    while let Some(at) = open.pop() {
        if found.insert(at) {
            open.extend(targets(batch[at], "Pre-Depends", batch));
            open.extend(targets(batch[at], "Depends", batch));
        }
    }
    let names: Vec<String> = found.into_iter().map(|at| batch[at].locked.name.clone()).collect();
    if names.contains(&package.locked.name) { Vec::new() } else { names }
}

/// Finds the packages of a batch that a relation of a package means; all alternatives that are there.
fn targets(package: &Package<'_>, field: &str, batch: &[&Package<'_>]) -> Vec<usize> {
    let architecture = &package.locked.architecture;
    let text = package.fields.get(field).unwrap_or_default();
    let Ok(groups) = relation::parse(text, architecture) else { return Vec::new() };
    let wanted: BTreeSet<&str> = groups.iter().flatten().map(|relation| relation.name).collect();
    let is_wanted = |other: &Package<'_>| {
        let provides = other.fields.get("Provides").unwrap_or_default();
        let provided = relation::parse(provides, architecture).unwrap_or_default();
        wanted.contains(other.locked.name.as_str())
            || provided.iter().flatten().any(|relation| wanted.contains(relation.name))
    };
    (0..batch.len()).filter(|&at| is_wanted(batch[at])).collect()
}
