//! Which of the stacked files each package of a lock belongs to.

use std::collections::HashMap;

use super::Lock;
use crate::deb::relation;

/// Gives for each package of a lock the place of its file among those that are stacked, the image's being 0.
///
/// What a lock says of it holds, but for two things: a file that is not stacked here means the image, as none
/// does in an older lock; and what a package needs is never of a file above its own. Both happen where a lock
/// still does for files that were changed or stacked otherwise since.
#[must_use]
pub fn grouped(lock: &Lock, names: &[&str]) -> Vec<usize> {
    let place = |name: &str| names.iter().position(|known| *known == name).unwrap_or(0);
    let mut groups: Vec<usize> = lock.packages.iter().map(|package| place(&package.layer)).collect();
    if groups.iter().all(|&group| group == 0) {
        return groups;
    }
    let needs = needs(lock);
    let mut open: Vec<usize> = (0..groups.len()).rev().collect();
    while let Some(at) = open.pop() {
        for any in &needs[at] {
            let lowest = any.iter().copied().min_by_key(|&other| (groups[other], other));
            if let Some(lowest) = lowest.filter(|&lowest| groups[lowest] > groups[at]) {
                groups[lowest] = groups[at];
                open.push(lowest);
            }
        }
    }
    groups
}

/// Gives for each package the sets of packages of which it needs one each. Versions are not compared: the
/// resolver did that, and one version of a package is in a lock.
pub(crate) fn needs(lock: &Lock) -> Vec<Vec<Vec<usize>>> {
    let parse = |text| relation::parse(text, &lock.architecture).unwrap_or_default();
    let mut are: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, package) in lock.packages.iter().enumerate() {
        are.entry(&package.name).or_default().push(at);
        for relation in parse(&package.provides).into_iter().flatten() {
            are.entry(relation.name).or_default().push(at);
        }
    }
    let one = |text| {
        let groups = parse(text).into_iter();
        let any = groups.map(|group| {
            let names = group.iter().filter_map(|relation| are.get(relation.name));
            names.flatten().copied().collect::<Vec<_>>()
        });
        any.collect()
    };
    lock.packages.iter().map(|package| one(package.depends.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        digest::Sha256,
        lock::{LockedPackage, Reason},
    };

    fn lock(packages: &[(&str, &str, &str)]) -> Lock {
        let package = |(name, layer, depends): &(&str, &str, &str)| LockedPackage {
            name: (*name).to_owned(),
            version: "1".to_owned(),
            architecture: "all".to_owned(),
            source: "release".to_owned(),
            path: String::new(),
            size: 1,
            sha256: Sha256::of(b""),
            reason: Reason::Essential,
            depends: (*depends).to_owned(),
            provides: if *name == "mawk" { "awk".to_owned() } else { String::new() },
            layer: (*layer).to_owned(),
        };
        let packages = packages.iter().map(package).collect();
        Lock { architecture: "amd64".to_owned(), packages, ..Lock::default() }
    }

    #[test]
    fn a_package_is_of_the_file_that_the_lock_names() {
        let lock = lock(&[("a", "i", ""), ("b", "p", "a"), ("c", "q", "a, b | z"), ("d", "", "")]);
        assert_eq!(grouped(&lock, &["i", "p", "q"]), [0, 1, 2, 0]);
        assert_eq!(grouped(&lock, &["i"]), [0; 4]);
    }

    #[test]
    fn what_is_needed_below_is_below_however_files_are_stacked() {
        let lock = lock(&[("libc", "q", ""), ("mawk", "p", "libc"), ("c", "q", "awk"), ("d", "r", "c")]);
        assert_eq!(grouped(&lock, &["i", "p", "q", "r"]), [1, 1, 2, 3]);
        assert_eq!(grouped(&lock, &["i", "q", "p", "r"]), [1, 1, 1, 3]);
        // `r` is not stacked: its package is the image's, with all that it needs
        assert_eq!(grouped(&lock, &["i", "p", "q"]), [0, 0, 0, 0]);
    }
}
