//! Whether a lock still does for a spec: told of the lock and the spec alone, without a network.
//!
//! It is told by satisfaction, not by a digest of what was asked: every wish must be met by what is in the lock,
//! what is in the lock by request must still be wished for, and the packages' dependencies must be closed.

use std::collections::HashMap;

use super::{Lock, LockedPackage, LockedSource, Reason};
use crate::{
    deb::{
        relation::{self, Relation},
        version::Version,
    },
    error::{Cause, Class, Hint},
};

/// A package asked for by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// **Shape**: `name`, `name:architecture`, `name=version`, `name:architecture=version`, or one with `/suite`.
    pub name: String,
    /// Who asks.
    pub by: String,
}

/// A suite that packages are to come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceWish {
    /// The pocket's name.
    pub id: String,
    /// The folder below `dists/`.
    pub suite: String,
    /// The components.
    pub components: Vec<String>,
    /// The fingerprints of which one must have signed.
    pub signers: Vec<String>,
}

/// A part from elsewhere that a profile asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartWish {
    /// Its kind, as [`LockedPart::kind`](super::LockedPart::kind) has it.
    pub kind: &'static str,
    /// What it is called.
    pub name: String,
    /// A version, or a word such as `latest`, which any version meets.
    pub version: String,
    /// What else must be so, as [`LockedPart::fact`](super::LockedPart::fact) has it.
    pub facts: Vec<(&'static str, String)>,
}

/// What a spec asks of a lock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// The image's name.
    pub image: String,
    /// Debian architecture.
    pub architecture: String,
    /// The variant's word.
    pub variant: String,
    /// Whether recommended packages are wanted.
    pub recommends: bool,
    /// The suites, in the image's order.
    pub sources: Vec<SourceWish>,
    /// Packages that must be there.
    pub install: Vec<Wish>,
    /// Packages that are taken where the archive has them.
    pub optional: Vec<Wish>,
    /// Packages that must not be there.
    pub exclude: Vec<String>,
    /// What profiles take from elsewhere.
    pub parts: Vec<PartWish>,
}

/// One wish that a lock does not meet, or one thing in it that nobody wishes for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize)]
#[serde(tag = "unmet", rename_all = "kebab-case")]
pub enum Unmet {
    /// Image, architecture, variant or recommended packages are others.
    #[error("{what} is `{found}` in the lock, `{wanted}` is wanted")]
    Other {
        /// `image`, `architecture`, `variant`, `recommends`.
        what: &'static str,
        /// What is wanted.
        wanted: String,
        /// What the lock has.
        found: String,
    },
    /// A suite is not in the lock.
    #[error("pocket `{id}` ({suite}) is not in the lock")]
    NoSource {
        /// The pocket.
        id: String,
        /// Its suite.
        suite: String,
    },
    /// A suite of the lock is not wanted.
    #[error("pocket `{id}` ({suite}) is in the lock, and is not wanted")]
    SourceUnasked {
        /// The pocket.
        id: String,
        /// Its suite.
        suite: String,
    },
    /// A suite is in the lock under the same name and is another.
    #[error("pocket `{id}`: {what} is `{found}` in the lock, `{wanted}` is wanted")]
    SourceOther {
        /// The pocket.
        id: String,
        /// `suite`, `components`, `signed_by`.
        what: &'static str,
        /// What is wanted.
        wanted: String,
        /// What the lock has.
        found: String,
    },
    /// A package is wanted and not there.
    #[error("package `{name}`, wanted by {by}, is not in the lock")]
    NoPackage {
        /// As it is asked for.
        name: String,
        /// Who asks.
        by: String,
    },
    /// A package is there in another version or for another architecture.
    #[error("package `{name}`, wanted by {by}, is in the lock as {found}")]
    OtherPackage {
        /// As it is asked for.
        name: String,
        /// Who asks.
        by: String,
        /// `name:architecture=version` of what is there.
        found: String,
    },
    /// A package is there that must not be.
    #[error("package `{name}` is in the lock, and is excluded")]
    Excluded {
        /// The package.
        name: String,
    },
    /// A package is there because it was asked for, and is not asked for any more.
    #[error("package `{name}` is in the lock as requested by {by}, and nobody wants it any more")]
    Unasked {
        /// The package.
        name: String,
        /// Who asked.
        by: String,
    },
    /// A package needs one that is not there.
    #[error("package `{name}` of the lock depends on `{on}`, which nothing in the lock is")]
    Dependency {
        /// The package.
        name: String,
        /// The group of relations.
        on: String,
    },
    /// A profile's part is not there.
    #[error("{kind} `{name}` {version} is not in the lock")]
    NoPart {
        /// Its kind.
        kind: String,
        /// What it is called.
        name: String,
        /// What is asked for.
        version: String,
    },
    /// A profile's part is there in another version, or otherwise another.
    #[error("{kind} `{name}` {wanted} is in the lock as {found}")]
    OtherPart {
        /// Its kind.
        kind: String,
        /// What it is called.
        name: String,
        /// What is asked for.
        wanted: String,
        /// What is there.
        found: String,
    },
    /// A part is there that no profile asks for.
    #[error("{kind} `{name}` is in the lock, and nobody wants it any more")]
    PartUnasked {
        /// Its kind.
        kind: String,
        /// What it is called.
        name: String,
    },
}

/// A lock that does not do for a spec.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} of the spec {} by it:\n{}", count(.unmet.len()), if .unmet.len() == 1 { "is not met" } else { "are not met" }, lines(.unmet))]
pub struct Unsatisfied {
    /// What is missing or too much, never empty.
    pub unmet: Vec<Unmet>,
    /// The command that makes a lock that does.
    pub command: String,
}

fn count(wishes: usize) -> String {
    if wishes == 1 { "one wish".to_owned() } else { format!("{wishes} wishes") }
}

fn lines(unmet: &[Unmet]) -> String {
    unmet.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl Cause for Unsatisfied {
    fn class(&self) -> Class {
        Class::Unavailable
    }

    fn hints(&self) -> Vec<Hint> {
        vec![Hint::run("lock what is wanted now", self.command.clone())]
    }
}

/// Tells what of some wishes a lock does not meet; nothing where it still does.
#[must_use]
pub fn unmet(lock: &Lock, wishes: &Wishes) -> Vec<Unmet> {
    let held = Held::of(lock);
    let mut unmet = others(lock, wishes);
    sources(lock, wishes, &mut unmet);
    unmet.extend(wishes.install.iter().filter_map(|wish| held.package(wish)));
    for name in wishes.exclude.iter().filter(|name| held.named(name).is_some()) {
        unmet.push(Unmet::Excluded { name: name.clone() });
    }
    unasked(lock, wishes, &held, &mut unmet);
    parts(lock, wishes, &mut unmet);
    unmet.extend(lock.packages.iter().flat_map(|package| held.open(package)));
    unmet
}

fn others(lock: &Lock, wishes: &Wishes) -> Vec<Unmet> {
    let word = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let pairs = [
        ("image", &wishes.image, &lock.image),
        ("architecture", &wishes.architecture, &lock.architecture),
        ("variant", &wishes.variant, &lock.asked.variant),
        ("recommends", &word(wishes.recommends), &word(lock.asked.recommends)),
    ];
    let differ = pairs.into_iter().filter(|(_, wanted, found)| wanted != found);
    differ
        .map(|(what, wanted, found)| Unmet::Other { what, wanted: wanted.clone(), found: found.clone() })
        .collect()
}

fn sources(lock: &Lock, wishes: &Wishes, unmet: &mut Vec<Unmet>) {
    for wish in &wishes.sources {
        let Some(found) = lock.sources.iter().find(|source| source.id == wish.id) else {
            unmet.push(Unmet::NoSource { id: wish.id.clone(), suite: wish.suite.clone() });
            continue;
        };
        let other = |what, wanted: String, found: String| Unmet::SourceOther {
            id: wish.id.clone(),
            what,
            wanted,
            found,
        };
        if found.suite != wish.suite {
            unmet.push(other("suite", wish.suite.clone(), found.suite.clone()));
        }
        if found.components != wish.components {
            unmet.push(other("components", wish.components.join(" "), found.components.join(" ")));
        }
        if !wish.signers.is_empty() && !wish.signers.contains(&found.signed_by) {
            unmet.push(other("signed_by", wish.signers.join(" or "), found.signed_by.clone()));
        }
    }
    for LockedSource { id, suite, .. } in &lock.sources {
        if !wishes.sources.iter().any(|wish| wish.id == *id) {
            unmet.push(Unmet::SourceUnasked { id: id.clone(), suite: suite.clone() });
        }
    }
}

fn unasked(lock: &Lock, wishes: &Wishes, held: &Held<'_>, unmet: &mut Vec<Unmet>) {
    let wished: Vec<&str> =
        wishes.install.iter().chain(&wishes.optional).map(|wish| parted(&wish.name).name).collect();
    for package in &lock.packages {
        let Reason::Requested(by) = &package.reason else { continue };
        // What a variant has by name is told by the variant's own word.
        let meant = |name: &&&str| held.provided(name).any(|(provider, _)| provider.name == package.name);
        if by.starts_with("variant ")
            || wished.contains(&package.name.as_str())
            || wished.iter().any(|name| meant(&name))
        {
            continue;
        }
        unmet.push(Unmet::Unasked { name: package.name.clone(), by: by.clone() });
    }
}

fn parts(lock: &Lock, wishes: &Wishes, unmet: &mut Vec<Unmet>) {
    for wish in &wishes.parts {
        let (kind, name, version) = (wish.kind.to_owned(), wish.name.clone(), wish.version.clone());
        let Some(found) = lock.parts.iter().find(|part| part.kind() == kind && part.name == name) else {
            unmet.push(Unmet::NoPart { kind, name, version });
            continue;
        };
        // A version begins with a digit; a dist-tag must not look like one.
        let exact = version.starts_with(|first: char| first.is_ascii_digit()) && wish.kind != "git";
        if exact && found.version != version {
            unmet.push(Unmet::OtherPart { kind, name, wanted: version, found: found.version.clone() });
            continue;
        }
        for (fact, wanted) in &wish.facts {
            let is = found.fact(fact).unwrap_or_default();
            if is != *wanted {
                unmet.push(Unmet::OtherPart {
                    kind: kind.clone(),
                    name: name.clone(),
                    wanted: format!("with {fact} `{wanted}`"),
                    found: format!("one with `{is}`"),
                });
            }
        }
    }
    for part in &lock.parts {
        if !wishes.parts.iter().any(|wish| wish.kind == part.kind() && wish.name == part.name) {
            unmet.push(Unmet::PartUnasked { kind: part.kind().to_owned(), name: part.name.clone() });
        }
    }
}

/// A wish's name taken apart.
struct Parted<'a> {
    name: &'a str,
    architecture: Option<&'a str>,
    version: Option<&'a str>,
}

/// A suite after a slash says which version is meant when the lock is made, and nothing of the lock.
fn parted(text: &str) -> Parted<'_> {
    let text = text.split_once('/').map_or(text, |(wanted, _suite)| wanted);
    let (full, version) = text.split_once('=').map_or((text, None), |(full, version)| (full, Some(version)));
    let (name, architecture) = full.split_once(':').map_or((full, None), |(name, word)| (name, Some(word)));
    Parted { name, architecture, version }
}

/// The packages of a lock by what they are and provide.
struct Held<'a> {
    native: &'a str,
    named: HashMap<&'a str, &'a LockedPackage>,
    provided: HashMap<&'a str, Vec<(&'a LockedPackage, Option<Version<'a>>)>>,
}

impl<'a> Held<'a> {
    fn of(lock: &'a Lock) -> Self {
        let mut provided: HashMap<_, Vec<_>> = HashMap::new();
        for package in &lock.packages {
            let groups = relation::parse(&package.provides, &lock.architecture).unwrap_or_default();
            for relation in groups.into_iter().flatten() {
                provided
                    .entry(relation.name)
                    .or_default()
                    .push((package, relation.bound.map(|(_, version)| version)));
            }
        }
        let named = lock.packages.iter().map(|package| (package.name.as_str(), package)).collect();
        Self { native: &lock.architecture, named, provided }
    }

    fn named(&self, name: &str) -> Option<&'a LockedPackage> {
        self.named.get(name).copied()
    }

    fn provided(&self, name: &str) -> impl Iterator<Item = &(&'a LockedPackage, Option<Version<'a>>)> {
        self.provided.get(name).into_iter().flatten()
    }

    fn package(&self, wish: &Wish) -> Option<Unmet> {
        let Parted { name, architecture, version } = parted(&wish.name);
        let Some(found) = self.named(name) else {
            let virtually = version.is_none() && self.provided(name).next().is_some();
            return (!virtually).then(|| Unmet::NoPackage { name: wish.name.clone(), by: wish.by.clone() });
        };
        let fits = version.is_none_or(|version| version == found.version)
            && architecture.is_none_or(|word| [self.native, "native", "any", "all"].contains(&word));
        (!fits).then(|| Unmet::OtherPackage {
            name: wish.name.clone(),
            by: wish.by.clone(),
            found: format!("{}:{}={}", found.name, found.architecture, found.version),
        })
    }

    /// Gives the dependencies of a package that nothing in the lock meets.
    fn open(&self, package: &LockedPackage) -> Vec<Unmet> {
        let groups = relation::parse(&package.depends, self.native).unwrap_or_default();
        let open = groups.into_iter().filter(|group| !group.iter().any(|relation| self.meets(relation)));
        open.map(|group| Unmet::Dependency {
            name: package.name.clone(),
            on: group.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | "),
        })
        .collect()
    }

    fn meets(&self, relation: &Relation<'_>) -> bool {
        let own = self.named(relation.name).and_then(|package| Version::parse(&package.version).ok());
        own.is_some_and(|version| relation.admits(&version))
            || self.provided(relation.name).any(|(_, version)| match version {
                Some(version) => relation.admits(version),
                None => relation.bound.is_none(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        digest::Sha256,
        lock::{Asked, Fetched, LockedPart},
    };

    fn package(name: &str, reason: Reason, depends: &str, provides: &str) -> LockedPackage {
        LockedPackage {
            name: name.into(),
            version: "2.0-1".into(),
            architecture: "amd64".into(),
            source: "release".into(),
            path: "pool/x".into(),
            size: 1,
            sha256: Sha256::of(b""),
            reason,
            depends: depends.into(),
            provides: provides.into(),
            layer: String::new(),
        }
    }

    fn lock() -> Lock {
        let requested = |by: &str| Reason::Requested(by.into());
        Lock {
            image: "trixie".into(),
            architecture: "amd64".into(),
            asked: Asked { variant: "minbase".into(), ..Asked::default() },
            sources: vec![LockedSource {
                id: "release".into(),
                mirrors: Vec::new(),
                suite: "trixie".into(),
                components: vec!["main".into()],
                date: 0,
                release: Sha256::of(b""),
                signed_by: "AA".into(),
                snapshot: None,
            }],
            packages: vec![
                package("libc6", Reason::Essential, "", ""),
                package("apt", requested("variant minbase"), "libc6 (>= 2)", ""),
                package(
                    "vim",
                    requested("--include"),
                    "libc6 (>= 1:1) | libc6 (= 2.0-1), editor (= 3)",
                    "editor (= 3)",
                ),
                package("postfix", requested("a profile"), "", "mail-transport-agent"),
            ],
            parts: vec![LockedPart {
                name: "agent".into(),
                version: "1.2.3".into(),
                what: Fetched::Npm {
                    tarball: "agent-linux".into(),
                    tarball_version: "1.2.3".into(),
                    path: "x".into(),
                    url: None,
                    sha512: String::new(),
                },
            }],
            ..Lock::default()
        }
    }

    fn wish(name: &str) -> Wish {
        Wish { name: name.into(), by: "--include".into() }
    }

    fn wishes() -> Wishes {
        Wishes {
            image: "trixie".into(),
            architecture: "amd64".into(),
            variant: "minbase".into(),
            recommends: false,
            sources: vec![SourceWish {
                id: "release".into(),
                suite: "trixie".into(),
                components: vec!["main".into()],
                signers: vec!["BB".into(), "AA".into()],
            }],
            install: vec![wish("vim"), wish("mail-transport-agent")],
            optional: vec![wish("docker-cli")],
            exclude: vec!["emacs".into()],
            parts: vec![PartWish {
                kind: "npm",
                name: "agent".into(),
                version: "latest".into(),
                facts: vec![("tarball", "agent-linux".into())],
            }],
        }
    }

    fn of(change: impl FnOnce(&mut Lock, &mut Wishes)) -> Vec<String> {
        let (mut lock, mut wishes) = (lock(), wishes());
        change(&mut lock, &mut wishes);
        unmet(&lock, &wishes).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_lock_that_meets_every_wish_has_nothing_to_tell() {
        assert_eq!(of(|_, _| {}), [] as [String; 0]);
        assert_eq!(of(|_, wishes| wishes.install.push(wish("libc6:amd64=2.0-1"))), [] as [String; 0]);
        assert_eq!(of(|_, wishes| wishes.parts[0].version = "1.2.3".into()), [] as [String; 0]);
    }

    #[test]
    fn each_wish_that_is_not_met_is_a_line() {
        let one = |change: fn(&mut Lock, &mut Wishes), line: &str| {
            assert_eq!(of(change), line.lines().collect::<Vec<_>>())
        };
        one(
            |_, wishes| wishes.install.push(wish("htop")),
            "package `htop`, wanted by --include, is not in the lock",
        );
        one(
            |_, wishes| wishes.install.push(wish("libc6=9")),
            "package `libc6=9`, wanted by --include, is in the lock as libc6:amd64=2.0-1",
        );
        one(|_, wishes| wishes.exclude.push("apt".into()), "package `apt` is in the lock, and is excluded");
        one(
            |_, wishes| drop(wishes.install.remove(0)),
            "package `vim` is in the lock as requested by --include, and nobody wants it any more",
        );
        one(
            |_, wishes| drop(wishes.install.remove(1)),
            "package `postfix` is in the lock as requested by a profile, and nobody wants it any more",
        );
        one(|_, wishes| wishes.variant = "apt".into(), "variant is `minbase` in the lock, `apt` is wanted");
        one(|_, wishes| wishes.recommends = true, "recommends is `no` in the lock, `yes` is wanted");
        one(
            |lock, _| lock.packages[2].depends = "libc6 (>= 3) | nothing, vim".into(),
            "package `vim` of the lock depends on `libc6 (>= 3) | nothing`, which nothing in the lock is",
        );
        one(
            |_, wishes| wishes.parts[0].version = "1.2.4".into(),
            "npm `agent` 1.2.4 is in the lock as 1.2.3",
        );
        one(
            |_, wishes| wishes.parts[0].facts[0].1 = "agent-arm".into(),
            "npm `agent` with tarball `agent-arm` is in the lock as one with `agent-linux`",
        );
        one(
            |_, wishes| wishes.parts[0].kind = "npm-tree",
            "npm-tree `agent` latest is not in the lock\nnpm `agent` is in the lock, and nobody wants it any more",
        );
        one(|_, wishes| wishes.parts.clear(), "npm `agent` is in the lock, and nobody wants it any more");
        one(|lock, _| lock.parts.clear(), "npm `agent` latest is not in the lock");
        one(
            |_, wishes| wishes.sources[0].signers = vec!["CC".into()],
            "pocket `release`: signed_by is `AA` in the lock, `CC` is wanted",
        );
        one(
            |_, wishes| {
                let other =
                    SourceWish { id: "updates".into(), suite: "t-u".into(), ..wishes.sources[0].clone() };
                wishes.sources.push(other);
            },
            "pocket `updates` (t-u) is not in the lock",
        );
        one(
            |_, wishes| wishes.sources.clear(),
            "pocket `release` (trixie) is in the lock, and is not wanted",
        );
    }
}
