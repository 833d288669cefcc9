//! Builds a tree of a spec: the whole arrow from the archive to a configured tree with its profiles' parts.

mod assemble;
mod locking;
mod npm;
mod pack;
mod parts;

use std::{collections::BTreeMap, path::Path, time::Instant};

pub use locking::{changed, lock, unmet};
pub use npm::{NpmError, Tarball};
pub use pack::{PackError, Packed, pack};
pub use parts::PartError;

use crate::{
    Result, archive, configure,
    error::{Cause, Class, Context as _, Hint},
    host::{runner::Runner, transport::Transport},
    keyring::{Fingerprint, Keyring, KeyringError, shipped},
    lock::{Asked, Lock, LockedSource},
    report::{Event, Phase, Reporter, Timed, Unit},
    resolve,
    spec::{Pocket, Spec, mirrors::Mirrors},
    store::{self, Store},
};

/// How many downloads run at once.
const JOBS: usize = 8;

/// What is to be built, and from where.
#[derive(Clone, Debug)]
pub struct Order {
    /// The image with its profiles.
    pub spec: Spec,
    /// Debian architecture.
    pub architecture: String,
    /// The package set at the bottom.
    pub variant: resolve::Variant,
    /// Packages asked for beside it.
    pub include: Vec<String>,
    /// Packages that must not be there.
    pub exclude: Vec<String>,
    /// Recommended packages too.
    pub recommends: bool,
    /// Mirrors that go before the image file's, by archive.
    pub mirrors: Mirrors,
    /// Pockets beside `release`; none takes those that the image file does not call optional.
    pub pockets: Option<Vec<String>>,
    /// Components; none takes the image file's.
    pub components: Option<Vec<String>>,
    /// Certificates trusted beside the suite's own.
    pub keyrings: Vec<Vec<u8>>,
    /// Indexes past their date are taken.
    pub ignore_valid_until: bool,
    /// A Release file older than one seen before is taken.
    pub allow_older_release: bool,
    /// What was asked for as it was typed, for the lock.
    pub asked: Asked,
    /// Exactly this is built, and no index is read.
    pub locked: Option<Lock>,
    /// The tree's host name.
    pub hostname: String,
    /// Where npm parts are asked for, without a trailing slash.
    pub npm_registry: String,
}

/// The doors that building goes through.
#[derive(Clone, Copy)]
pub struct Doors<'a> {
    /// Bytes behind URLs.
    pub transport: &'a dyn Transport,
    /// Programs.
    pub runner: &'a dyn Runner,
    /// What was fetched before.
    pub store: &'a Store,
    /// Who listens.
    pub reporter: &'a dyn Reporter,
    /// Seconds since 1970.
    pub now: i64,
}

/// A built tree.
#[derive(Clone, Debug)]
pub struct Image {
    /// What it is made of.
    pub lock: Lock,
    /// The mirrors that served it.
    pub mirrors: Vec<String>,
}

/// What is wrong with an order.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// The image is not for this architecture.
    #[error("image `{image}` is for {}, not for {architecture}", known.join(" and "))]
    Architecture {
        /// The image.
        image: String,
        /// What was asked for.
        architecture: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The image has no such pocket.
    #[error("image `{image}` has no pocket `{pocket}`; it has {}", known.join(", "))]
    Pocket {
        /// The image.
        image: String,
        /// What was asked for.
        pocket: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The program ships no such keyring.
    #[error("there is no keyring `{name}` in this program")]
    Keyring {
        /// The name in the image file.
        name: String,
    },
    /// A keyring cannot be read.
    #[error("a keyring cannot be used")]
    Certificates {
        /// Why.
        #[source]
        source: KeyringError,
    },
    /// A signer is not a fingerprint.
    #[error("pocket `{pocket}`: `{signer}` is not a fingerprint")]
    Signer {
        /// The pocket.
        pocket: String,
        /// What the image file says.
        signer: String,
    },
}

impl Cause for OrderError {
    fn class(&self) -> Class {
        match self {
            Self::Architecture { .. } => Class::Unavailable,
            Self::Pocket { .. } => Class::Usage,
            _ => Class::File,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        Vec::new()
    }
}

/// Builds a tree in an empty folder.
///
/// # Errors
/// Of the stage that failed; the folder is then of no use and the caller's to remove.
pub fn build(order: &Order, tree: &Path, doors: &Doors<'_>) -> Result<Image> {
    let lock = locking::chosen(order, doors)?;
    let (rootfs, options, lock) = match assembled(order, &lock, tree, doors) {
        Ok((rootfs, options)) => (rootfs, options, lock),
        Err(problem) if order.locked.is_none() && locking::may_have_moved(&problem) => {
            // The archive may have been updated since its Release file was read: once more, of a new one.
            let anew = self::lock(order, doors)?;
            if anew.sources == lock.sources {
                return Err(problem);
            }
            let text =
                format!("the archive of {} changed while packages were fetched: once more", order.spec.image);
            doors.reporter.report(Event::Notice { text });
            assemble::empty(tree).during("empty", "the tree that was begun")?;
            let (rootfs, options) = assembled(order, &anew, tree, doors)?;
            (rootfs, options, anew)
        }
        Err(problem) => return Err(problem),
    };
    let mirrors = lock.sources.iter().flat_map(|source| source.mirrors.iter().take(1).cloned()).collect();
    customize(order, &rootfs, &lock, doors)?;
    configure::finish(&rootfs, &options, doors.reporter)
        .during("finish the tree of", format!("suite `{}`", order.spec.image))?;
    Ok(Image { lock, mirrors })
}

/// Makes a configured tree of a lock.
fn assembled(
    order: &Order,
    lock: &Lock,
    tree: &Path,
    doors: &Doors<'_>,
) -> Result<(configure::Rootfs, configure::Options)> {
    let spec = &order.spec;
    let subject = format!("suite `{}`", spec.image);
    let options = configure::Options {
        hostname: order.hostname.clone(),
        sources: configure::Sources {
            file: spec.apt.sources.clone(),
            text: apt_sources(lock, &spec.apt.signed_by),
        },
        epoch: lock.epoch,
    };
    let sources = sources(order).during("open", &subject)?;
    let snapshots =
        archive::Snapshots::new(&sources, doors.transport, doors.store, doors.now, doors.reporter);
    let ways = store::Ways {
        transport: doors.transport,
        // What a mirror has just listed and does not have is a matter of its update, not of old states.
        elsewhere: order.locked.is_some().then_some(&snapshots),
    };
    let reachable = locking::reachable(lock, &sources);
    let rootfs = assemble::assemble(&reachable, tree, &options, doors, ways, &subject)?;
    Ok((rootfs, options))
}

/// Makes sources of the image's pockets.
fn sources(order: &Order) -> Result<Vec<archive::Source>, OrderError> {
    let layer = &order.spec.layer;
    let image = || order.spec.image.clone();
    if !layer.architectures.contains(&order.architecture) {
        return Err(OrderError::Architecture {
            image: image(),
            architecture: order.architecture.clone(),
            known: layer.architectures.clone(),
        });
    }
    for pocket in order.pockets.iter().flatten() {
        if !layer.pocket.iter().any(|known| known.name == *pocket) {
            return Err(OrderError::Pocket {
                image: image(),
                pocket: pocket.clone(),
                known: layer.pocket.iter().map(|known| known.name.clone()).collect(),
            });
        }
    }
    let name = &order.spec.keyring;
    let bytes = shipped(name).ok_or_else(|| OrderError::Keyring { name: name.clone() })?;
    let wanted = |pocket: &&Pocket| match &order.pockets {
        Some(pockets) => pocket.name == "release" || pockets.contains(&pocket.name),
        None => !pocket.optional,
    };
    layer.pocket.iter().filter(wanted).map(|pocket| source(order, pocket, bytes)).collect()
}

fn source(order: &Order, pocket: &Pocket, keyring: &[u8]) -> Result<archive::Source, OrderError> {
    let layer = &order.spec.layer;
    let certificates = |source| OrderError::Certificates { source };
    let mut signers = Vec::new();
    for signer in &pocket.signers {
        let fingerprint: Fingerprint = signer
            .parse()
            .map_err(|_| OrderError::Signer { pocket: pocket.name.clone(), signer: signer.clone() })?;
        signers.push(fingerprint);
    }
    let mut all = keyring.to_vec();
    for bytes in &order.keyrings {
        let added = Keyring::read(bytes).map_err(certificates)?;
        signers.extend(added.fingerprints());
        all.extend_from_slice(bytes);
    }
    let mut mirrors = order.mirrors.get(&pocket.archive).cloned().unwrap_or_default();
    if mirrors.is_empty() {
        mirrors.extend(layer.archive.get(&pocket.archive).map(|archive| archive.mirror.clone()));
    }
    Ok(archive::Source {
        id: pocket.name.clone(),
        mirrors,
        suite: pocket.suite.clone(),
        expect_codename: pocket.codename.clone(),
        expect_suite: pocket.release_suite.clone(),
        components: order.components.clone().unwrap_or_else(|| layer.components.clone()),
        architecture: order.architecture.clone(),
        keyring: Keyring::read(&all).and_then(|keyring| keyring.pinned(&signers)).map_err(certificates)?,
        snapshot: layer.archive.get(&pocket.archive).and_then(|archive| archive.snapshot.clone()),
    })
}

fn resolve_packages(order: &Order, archive: archive::Archive, doors: &Doors<'_>) -> Result<Lock> {
    let begun = Instant::now();
    let spec = &order.spec;
    let subject = || format!("image `{}`", spec.image);
    let by: BTreeMap<&str, &str> =
        spec.wanted_by.iter().map(|(package, file)| (package.as_str(), file.as_str())).collect();
    let wanted = |package: &String, otherwise: &str| resolve::Wanted {
        name: package.clone(),
        by: by.get(package.as_str()).map_or_else(|| otherwise.to_owned(), |file| (*file).to_owned()),
    };
    let packages = &spec.layer.packages;
    let request = resolve::Request {
        architecture: order.architecture.clone(),
        variant: order.variant,
        install: packages
            .install
            .iter()
            .chain(&order.include)
            .map(|package| wanted(package, "--include"))
            .collect(),
        optional: packages.if_available.iter().map(|package| wanted(package, "a profile")).collect(),
        exclude: packages.exclude.iter().chain(&order.exclude).cloned().collect(),
        recommends: order.recommends,
    };
    let sources: Vec<LockedSource> = archive
        .releases
        .into_iter()
        .map(|release| LockedSource {
            id: release.source,
            mirrors: release.mirrors,
            suite: release.suite,
            components: release.components,
            date: release.date,
            release: release.digest,
            signed_by: release.signer,
            snapshot: release.snapshot,
        })
        .collect();
    let indexes = archive.indexes.into_iter().map(|index| (index.source, index.bytes)).collect();
    let timed = Timed::begin(doors.reporter, Phase::Resolve, "read indexes");
    let catalog =
        crate::deb::packages::Catalog::read(indexes, &order.architecture).during("read", subject())?;
    drop(timed);
    let timed = Timed::begin(doors.reporter, Phase::Resolve, "choose");
    let packages = resolve::resolve(&catalog, &request).during("resolve", subject())?;
    drop(timed);
    doors.reporter.report(Event::Finished {
        phase: Phase::Resolve,
        elapsed: begun.elapsed(),
        summary: format!("{} packages", packages.len()),
    });
    Ok(Lock {
        image: spec.image.clone(),
        architecture: order.architecture.clone(),
        epoch: sources.iter().map(|source| source.date).max().unwrap_or(0),
        asked: order.asked.clone(),
        inputs: locking::inputs(order),
        sources,
        packages,
        parts: Vec::new(),
    })
}

/// Writes the tree's own apt sources: a stanza for each archive, as the build used it.
///
/// **Source**: sources.list(5), deb822 style.
fn apt_sources(lock: &Lock, signed_by: &Path) -> String {
    let mut stanzas: Vec<(&[String], Vec<&str>, &[String])> = Vec::new();
    for source in &lock.sources {
        match stanzas.iter_mut().find(|(mirrors, _, components)| {
            *mirrors == source.mirrors.as_slice() && *components == source.components.as_slice()
        }) {
            Some((_, suites, _)) => suites.push(&source.suite),
            None => stanzas.push((&source.mirrors, vec![&source.suite], &source.components)),
        }
    }
    let stanzas: Vec<_> = stanzas
        .into_iter()
        .map(|(mirrors, suites, components)| {
            format!(
                "Types: deb\nURIs: {}\nSuites: {}\nComponents: {}\nSigned-By: {}\n",
                mirrors.join(" "),
                suites.join(" "),
                components.join(" "),
                signed_by.display()
            )
        })
        .collect();
    stanzas.join("\n")
}

/// Puts in what profiles have beside packages.
fn customize(order: &Order, rootfs: &configure::Rootfs, lock: &Lock, doors: &Doors<'_>) -> Result<()> {
    let layer = &order.spec.layer;
    let total = parts::count(layer);
    if total == 0 {
        return Ok(());
    }
    let begun = Instant::now();
    doors.reporter.report(Event::Started { phase: Phase::Customize, unit: Unit::Steps, total });
    parts::put(order, rootfs, lock, doors)?;
    doors.reporter.report(Event::Finished {
        phase: Phase::Customize,
        elapsed: begun.elapsed(),
        summary: format!("{total} parts of {} profiles", order.spec.profiles.len()),
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Sha256;

    #[test]
    fn suites_of_one_mirror_share_a_stanza() {
        let source = |mirror: &str, suite: &str| LockedSource {
            id: suite.to_owned(),
            mirrors: vec![mirror.to_owned()],
            suite: suite.to_owned(),
            components: vec!["main".to_owned()],
            date: 0,
            release: Sha256::of(b""),
            signed_by: String::new(),
            snapshot: None,
        };
        let lock = Lock {
            image: "trixie".to_owned(),
            architecture: "amd64".to_owned(),
            epoch: 0,
            sources: vec![
                source("http://m", "trixie"),
                source("http://m", "trixie-updates"),
                source("http://s", "trixie-security"),
            ],
            ..Lock::default()
        };
        assert_eq!(
            apt_sources(&lock, Path::new("/k.gpg")),
            "Types: deb\nURIs: http://m\nSuites: trixie trixie-updates\nComponents: main\nSigned-By: /k.gpg\n\n\
             Types: deb\nURIs: http://s\nSuites: trixie-security\nComponents: main\nSigned-By: /k.gpg\n"
        );
    }
}
