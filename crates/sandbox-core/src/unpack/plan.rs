//! In which order packages are wanted, and which can be configured while others are still unpacked.

use std::{cmp::Reverse, collections::HashSet};

use super::package::Package;
use crate::{
    deb::relation,
    lock::{Lock, Reason},
};

/// The package whose links are others' folders.
pub(super) const BOTTOM: &str = "base-files";

/// A lock's packages in two batches: the essential ones with what they need, then the rest.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many packages of the lock are in the first batch: all of them where nothing is essential.
    pub first: usize,
}

impl Plan {
    /// Makes the plan of a lock. Its order has essential packages as early as what they need allows.
    pub fn of(lock: &Lock) -> Self {
        let essential = lock.packages.iter().rposition(|package| package.reason == Reason::Essential);
        Self { first: essential.map_or(lock.packages.len(), |last| last + 1) }
    }

    /// Tells whether a package is in the first batch, by its place in the lock.
    pub const fn is_first(self, at: usize) -> bool {
        at < self.first
    }
}

/// Gives the places of a lock's packages in the order in which they are wanted: what all others stand on, then
/// batch by batch the largest first, so that no large one is left for the end.
#[must_use]
pub fn order(lock: &Lock) -> Vec<usize> {
    let plan = Plan::of(lock);
    let mut order: Vec<usize> = (0..lock.packages.len()).collect();
    order.sort_by_key(|&at| {
        let package = &lock.packages[at];
        (package.name != BOTTOM, !plan.is_first(at), Reverse(package.size), at)
    });
    order
}

/// Tells whether packages need nothing beyond themselves, so that dpkg can configure them by themselves.
///
/// Versions are not compared: the resolver did that, and one version of a package is in a lock.
pub fn is_closed(packages: &[&Package<'_>], architecture: &str) -> bool {
    let mut names = HashSet::new();
    for package in packages {
        names.insert(package.locked.name.as_str());
        let provides = package.fields.get("Provides").unwrap_or_default();
        let provided = relation::parse(provides, architecture).unwrap_or_default();
        names.extend(provided.into_iter().flatten().map(|relation| relation.name));
    }
    packages.iter().all(|package| {
        ["Pre-Depends", "Depends"].iter().all(|field| {
            let text = package.fields.get(field).unwrap_or_default();
            let Ok(clauses) = relation::parse(text, architecture) else { return false };
            clauses.iter().all(|clause| clause.iter().any(|relation| names.contains(relation.name)))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{digest::Sha256, lock::LockedPackage};

    fn lock(packages: &[(&str, u64, Reason)]) -> Lock {
        let package = |(name, size, reason): &(&str, u64, Reason)| LockedPackage {
            name: (*name).to_owned(),
            version: "1".to_owned(),
            architecture: "all".to_owned(),
            source: "release".to_owned(),
            path: String::new(),
            size: *size,
            sha256: Sha256::of(b""),
            reason: reason.clone(),
            depends: String::new(),
            provides: String::new(),
            layer: String::new(),
        };
        Lock {
            image: "x".to_owned(),
            architecture: "amd64".to_owned(),
            packages: packages.iter().map(package).collect(),
            ..Lock::default()
        }
    }

    #[test]
    fn the_first_batch_ends_with_the_last_essential_package() {
        let need = || Reason::Dependency("b".to_owned());
        let some = lock(&[
            ("a", 1, need()),
            ("base-files", 2, Reason::Essential),
            ("b", 9, Reason::Essential),
            ("c", 3, need()),
            ("d", 4, need()),
        ]);
        assert_eq!(Plan::of(&some).first, 3);
        assert_eq!(order(&some), [1, 2, 0, 4, 3]);
        let none = lock(&[("a", 1, need()), ("b", 2, need())]);
        assert_eq!(Plan::of(&none).first, 2);
        assert_eq!(order(&none), [1, 0]);
    }
}
