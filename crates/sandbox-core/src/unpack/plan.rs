//! In which batches packages are put into a tree, and in which order they are wanted.

use std::{cmp::Reverse, collections::HashSet};

use super::package::Package;
use crate::{
    deb::relation,
    lock::{Lock, Reason, needs},
};

/// A package of so many bytes is large.
const LARGE: u64 = 2_000_000;

/// Large packages have a batch of their own where they have so many bytes together: the scripts of the others
/// run while these are unpacked. Less is not worth another run of dpkg.
const WORTH: u64 = 16_000_000;

/// The package whose links are others' folders.
pub(super) const BOTTOM: &str = "base-files";

/// A lock's packages in batches. Each batch needs nothing beyond itself and those before it.
///
/// It follows from the lock alone, never from what is faster: so the same lock gives the same tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The batch of each package of the lock.
    of: Vec<usize>,
    batches: Vec<Batch>,
    /// The first batch goes straight into the tree, which is empty.
    fresh: bool,
}

/// Packages that are configured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The stacked file that they belong to.
    pub group: usize,
    /// How many there are.
    pub packages: usize,
}

impl Plan {
    /// Makes the plan of a lock whose packages belong to these groups; an empty tree is where it begins.
    ///
    /// First the essential packages with what they need, which stand first in a lock; then the rest of their
    /// group; then group by group, of each those last that are large and that no other of the group needs.
    #[must_use]
    pub fn of(lock: &Lock, groups: &[usize]) -> Self {
        let first = groups.iter().copied().min().unwrap_or(0);
        let essential = lock.packages.iter().rposition(|package| package.reason == Reason::Essential);
        let bottom = essential.map_or(lock.packages.len(), |last| last + 1);
        let mut plan = Self { of: vec![0; groups.len()], batches: Vec::new(), fresh: true };
        let (begin, rest): (Vec<usize>, Vec<usize>) =
            (0..groups.len()).partition(|&at| groups[at] == first && at < bottom);
        plan.push(first, &begin);
        plan.push_groups(lock, groups, &rest);
        plan
    }

    /// Makes the plan of a lock whose packages come on top of those that are in a tree and configured.
    #[must_use]
    pub fn onto(lock: &Lock, groups: &[usize]) -> Self {
        let mut plan = Self { of: vec![0; groups.len()], batches: Vec::new(), fresh: false };
        plan.push_groups(lock, groups, &(0..groups.len()).collect::<Vec<_>>());
        plan
    }

    fn push_groups(&mut self, lock: &Lock, groups: &[usize], all: &[usize]) {
        let needs = needs(lock);
        let mut known: Vec<usize> = all.iter().map(|&at| groups[at]).collect();
        known.sort_unstable();
        known.dedup();
        for group in known {
            let members: Vec<usize> = all.iter().copied().filter(|&at| groups[at] == group).collect();
            let late = late(lock, &needs, &members);
            let (late, early): (Vec<usize>, Vec<usize>) =
                members.into_iter().partition(|at| late.contains(at));
            self.push(group, &early);
            self.push(group, &late);
        }
    }

    fn push(&mut self, group: usize, members: &[usize]) {
        // an empty tree has a first batch, whatever it has
        if members.is_empty() && !(self.fresh && self.batches.is_empty()) {
            return;
        }
        for &at in members {
            self.of[at] = self.batches.len();
        }
        self.batches.push(Batch { group, packages: members.len() });
    }

    /// Lists the batches in the order in which they are configured.
    #[must_use]
    pub fn batches(&self) -> &[Batch] {
        &self.batches
    }

    /// Gives the batch of a package, by its place in the lock.
    #[must_use]
    pub fn batch(&self, at: usize) -> usize {
        self.of[at]
    }

    /// Tells whether a batch goes straight into the tree.
    #[must_use]
    pub const fn is_straight(&self, batch: usize) -> bool {
        self.fresh && batch == 0
    }

    /// Gives the places of the packages of a batch, in the lock's order.
    #[must_use]
    pub fn members(&self, batch: usize) -> Vec<usize> {
        (0..self.of.len()).filter(|&at| self.of[at] == batch).collect()
    }

    /// Gives the places of a lock's packages in the order in which they are wanted: what all others stand on,
    /// then batch by batch the largest first, so that no large one is left for the end.
    #[must_use]
    pub fn order(&self, lock: &Lock) -> Vec<usize> {
        let mut order: Vec<usize> = (0..lock.packages.len()).collect();
        order.sort_by_key(|&at| {
            let package = &lock.packages[at];
            let bottom = self.is_straight(self.of[at]) && package.name == BOTTOM;
            (!bottom, self.of[at], Reverse(package.size), at)
        });
        order
    }
}

/// Gives those of some packages that are large and that none of the others needs, unless there is little in them.
fn late(lock: &Lock, needs: &[Vec<Vec<usize>>], members: &[usize]) -> HashSet<usize> {
    let size = |at: usize| lock.packages[at].size;
    let mut late: HashSet<usize> = members.iter().copied().collect();
    let mut open: Vec<usize> = members.iter().copied().filter(|&at| size(at) < LARGE).collect();
    while let Some(at) = open.pop() {
        if late.remove(&at) {
            open.extend(needs[at].iter().flatten());
        }
    }
    let bytes = late.iter().map(|&at| size(at)).sum::<u64>();
    if bytes < WORTH || late.len() == members.len() { HashSet::new() } else { late }
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

    fn need() -> Reason {
        Reason::Dependency("b".to_owned())
    }

    #[test]
    fn the_first_batch_ends_with_the_last_essential_package() {
        let some = lock(&[
            ("a", 1, need()),
            ("base-files", 2, Reason::Essential),
            ("b", 9, Reason::Essential),
            ("c", 3, need()),
            ("d", 4, need()),
        ]);
        let plan = Plan::of(&some, &[0; 5]);
        assert_eq!(plan.batches(), [Batch { group: 0, packages: 3 }, Batch { group: 0, packages: 2 }]);
        assert_eq!(plan.order(&some), [1, 2, 0, 4, 3]);
        let none = lock(&[("a", 1, need()), ("b", 2, need())]);
        let plan = Plan::of(&none, &[0, 0]);
        assert_eq!(plan.batches(), [Batch { group: 0, packages: 2 }]);
        assert_eq!(plan.order(&none), [1, 0]);
    }

    #[test]
    fn each_group_is_a_batch_after_those_below() {
        let some = lock(&[
            ("a", 1, Reason::Essential),
            ("b", 2, need()),
            ("c", 3, need()),
            ("d", 4, need()),
            ("e", 9, need()),
        ]);
        let plan = Plan::of(&some, &[0, 3, 1, 0, 1]);
        let groups: Vec<_> = plan.batches().iter().map(|batch| (batch.group, batch.packages)).collect();
        assert_eq!(groups, [(0, 1), (0, 1), (1, 2), (3, 1)]);
        assert_eq!(plan.members(2), [2, 4]);
        assert_eq!(plan.order(&some), [0, 3, 4, 2, 1]);
        assert!(plan.is_straight(0) && !plan.is_straight(1));
        let onto = Plan::onto(&some, &[1, 2, 1, 1, 1]);
        let groups: Vec<_> = onto.batches().iter().map(|batch| (batch.group, batch.packages)).collect();
        assert_eq!(groups, [(1, 4), (2, 1)]);
        assert!(!onto.is_straight(0));
    }

    #[test]
    fn large_packages_that_no_other_needs_come_last() {
        let sized = |engine| {
            let mut some = lock(&[
                ("e", 1, Reason::Essential),
                ("engine", engine, need()),
                ("library", LARGE, need()),
                ("small", 9, need()),
                ("top", LARGE, need()),
            ]);
            some.packages[1].depends = "library".to_owned();
            some.packages[3].depends = "x | library".to_owned();
            some.packages[4].depends = "engine".to_owned();
            some
        };
        let batches = |lock: &Lock, groups: &[usize]| {
            let plan = Plan::of(lock, groups);
            (0..plan.batches().len()).map(|batch| plan.members(batch)).collect::<Vec<_>>()
        };
        let worth = sized(WORTH);
        assert_eq!(batches(&worth, &[0; 5]), [vec![0], vec![2, 3], vec![1, 4]]);
        assert_eq!(batches(&sized(WORTH / 2), &[0; 5]), [vec![0], vec![1, 2, 3, 4]]);
        // another batch has nothing small to begin with
        assert_eq!(batches(&worth, &[0, 1, 0, 0, 1]), [vec![0], vec![2, 3], vec![1, 4]]);
        // and is cut in the same way on top of a tree
        let onto = Plan::onto(&worth, &[1; 5]);
        assert_eq!([onto.members(0), onto.members(1)], [vec![0, 2, 3], vec![1, 4]]);
    }
}
