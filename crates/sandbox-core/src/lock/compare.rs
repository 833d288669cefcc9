//! What two locks differ in.

use std::{cmp::Ordering, collections::BTreeMap};

use super::{Lock, LockedPackage};
use crate::deb::version::Version;

/// Whether a version moved up or down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// To a later version.
    Up,
    /// To an earlier version.
    Down,
    /// The same version with other bytes, or one that has no order.
    Sideways,
}

/// One thing that is in one lock, or otherwise in the other.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    /// Only in the second.
    Added {
        /// The name.
        name: String,
        /// Its version.
        version: String,
    },
    /// Only in the first.
    Removed {
        /// The name.
        name: String,
        /// Its version.
        version: String,
    },
    /// In both, and not the same.
    Moved {
        /// The name.
        name: String,
        /// Its version in the first.
        from: String,
        /// Its version in the second.
        to: String,
        /// Which way.
        direction: Direction,
    },
}

/// All that two locks differ in; each list by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// Packages.
    pub packages: Vec<Change>,
    /// What profiles take from elsewhere, and what is within, by kind and name: `npm @openai/codex`.
    pub parts: Vec<Change>,
    /// Suites; their version is the `Date` of the Release file, RFC 3339.
    pub sources: Vec<Change>,
    /// What was asked for, and of which image: `variant`, `include vim`.
    pub asked: Vec<Change>,
}

impl Difference {
    /// Tells whether both locks build the same of the same wishes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.packages.is_empty() && self.parts.is_empty() && self.sources.is_empty() && self.asked.is_empty()
    }
}

/// Compares two locks.
#[must_use]
pub fn compare(before: &Lock, after: &Lock) -> Difference {
    let debian = |from: &str, to: &str| match (Version::parse(from), Version::parse(to)) {
        (Ok(from), Ok(to)) => direction(from.cmp(&to)),
        _ => Direction::Sideways,
    };
    let date = |from: &str, to: &str| direction(from.cmp(to));
    Difference {
        packages: changes(&packages(before), &packages(after), debian),
        parts: changes(&parts(before), &parts(after), debian),
        sources: changes(&sources(before), &sources(after), date),
        asked: changes(&asked(before), &asked(after), |_, _| Direction::Sideways),
    }
}

const fn direction(order: Ordering) -> Direction {
    match order {
        Ordering::Less => Direction::Up,
        Ordering::Greater => Direction::Down,
        Ordering::Equal => Direction::Sideways,
    }
}

/// By name: the version that is shown, and what tells whether it is the same thing.
type Things = BTreeMap<String, (String, String)>;

fn changes(before: &Things, after: &Things, order: impl Fn(&str, &str) -> Direction) -> Vec<Change> {
    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
    names.sort();
    names.dedup();
    let change = |name: &String| match (before.get(name), after.get(name)) {
        (None, Some((version, _))) => Some(Change::Added { name: name.clone(), version: version.clone() }),
        (Some((version, _)), None) => Some(Change::Removed { name: name.clone(), version: version.clone() }),
        (Some((from, this)), Some((to, other))) if this != other => Some(Change::Moved {
            name: name.clone(),
            from: from.clone(),
            to: to.clone(),
            direction: order(from, to),
        }),
        _ => None,
    };
    names.into_iter().filter_map(change).collect()
}

fn packages(lock: &Lock) -> Things {
    let one = |package: &LockedPackage| {
        let LockedPackage { name, version, architecture, sha256, .. } = package;
        (name.clone(), (version.clone(), format!("{architecture} {version} {sha256}")))
    };
    lock.packages.iter().map(one).collect()
}

/// Parts, and what is within them, by kind and name.
fn parts(lock: &Lock) -> Things {
    let mut things = Things::new();
    for part in &lock.parts {
        // a tree has the kind of a package: that it is one is told by what is within
        let kind = part.kind().trim_end_matches("-tree");
        let own = if part.within().is_empty() { format!("{:?}", part.what) } else { part.version.clone() };
        things.insert(format!("{kind} {}", part.name), (part.version.clone(), own));
        for (name, version, own) in part.within() {
            things.insert(format!("{kind} {}: {name}", part.name), (version, own));
        }
    }
    things
}

fn sources(lock: &Lock) -> Things {
    let moment = |seconds| {
        jiff::Timestamp::from_second(seconds)
            .map_or_else(|_| format!("@{seconds}"), |moment| moment.to_string())
    };
    let sources = lock.sources.iter();
    sources
        .map(|source| {
            (format!("{} {}", source.id, source.suite), (moment(source.date), source.release.to_string()))
        })
        .collect()
}

fn asked(lock: &Lock) -> Things {
    let mut things = Things::new();
    let mut put = |name: String, value: String| things.insert(name, (value.clone(), value));
    put("image".to_owned(), lock.image.clone());
    put("architecture".to_owned(), lock.architecture.clone());
    put("variant".to_owned(), lock.asked.variant.clone());
    put("recommends".to_owned(), lock.asked.recommends.to_string());
    for (word, names) in [
        ("profile", &lock.asked.profiles),
        ("include", &lock.asked.include),
        ("exclude", &lock.asked.exclude),
    ] {
        for name in names {
            put(format!("{word} {name}"), String::new());
        }
    }
    things
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{digest::Sha256, lock::Reason};

    fn lock(packages: &[(&str, &str)]) -> Lock {
        let package = |(name, version): &(&str, &str)| LockedPackage {
            name: (*name).to_owned(),
            version: (*version).to_owned(),
            architecture: "amd64".to_owned(),
            source: "release".to_owned(),
            path: String::new(),
            size: 1,
            sha256: Sha256::of(version.as_bytes()),
            reason: Reason::Essential,
            depends: String::new(),
            provides: String::new(),
            layer: String::new(),
        };
        Lock { packages: packages.iter().map(package).collect(), ..Lock::default() }
    }

    #[test]
    fn versions_move_by_dpkgs_order_and_names_come_and_go() {
        let before = lock(&[("a", "1.9"), ("b", "1:0.1"), ("c", "1"), ("d", "2")]);
        let mut after = lock(&[("a", "1.10"), ("b", "9"), ("d", "2"), ("e", "1~rc1")]);
        assert!(compare(&before, &before).is_empty());
        let own = str::to_owned;
        let moved = |name, from, to, direction| Change::Moved {
            name: own(name),
            from: own(from),
            to: own(to),
            direction,
        };
        let difference = compare(&before, &after);
        assert_eq!(
            difference.packages,
            [
                moved("a", "1.9", "1.10", Direction::Up),
                moved("b", "1:0.1", "9", Direction::Down),
                Change::Removed { name: own("c"), version: own("1") },
                Change::Added { name: own("e"), version: own("1~rc1") },
            ]
        );
        assert!(difference.parts.is_empty() && difference.sources.is_empty() && difference.asked.is_empty());
        after = before.clone();
        after.packages[3].sha256 = Sha256::of(b"rebuilt in place");
        after.asked.include.push(own("f"));
        let difference = compare(&before, &after);
        assert_eq!(difference.packages, [moved("d", "2", "2", Direction::Sideways)]);
        assert_eq!(difference.asked, [Change::Added { name: own("include f"), version: String::new() }]);
    }
}
