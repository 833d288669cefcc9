//! Builds a tree of a spec: the whole arrow from the archive to a configured tree with its profiles' parts.

mod agents;
mod assemble;
mod by_sha512;
mod id;
pub mod kept;
mod locking;
mod order;
mod pack;
pub(crate) mod parts;
mod prefetch;
pub mod scan;
mod sources;
mod stacked;
mod unmet;

use std::{
    collections::BTreeMap,
    path::Path,
    thread,
    time::{Duration, Instant},
};

pub use id::{Named, ids};
pub use locking::{changed, lock, unmet};
use order::INCLUDE;
pub use order::OrderError;
pub use pack::{PackError, Packing, image, pack, stream};
pub use parts::{
    PartError, download::DownloadError, git, git::GitError, npm::NpmError, npm_tree, npm_tree::TreeError,
    python, python::PythonError, unarchive::UnarchiveError,
};
use prefetch::Prefetch;
pub use stacked::{Keeping, Layered, build_of_layers, locked};

use crate::{
    Result, archive, configure,
    deb::packages::{Catalog, Origin},
    error::Context as _,
    host::{foreign, runner::Runner, transport::Transport},
    lock::{self as locks, Asked, Lock, LockedSource},
    output,
    report::{Event, Phase, Reporter, Timed, Unit},
    resolve,
    spec::{Layer, Spec, Stacked, mirrors::Mirrors},
    store::{self, Store},
    unpack,
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
    /// Addresses that may be mirrors, by the name of the archive: asked first, and used where their Release file is
    /// signed by the distribution.
    pub guesses: Mirrors,
    /// Pockets beside `release`; none takes those that the image file does not call optional.
    pub pockets: Option<Vec<String>>,
    /// Components; none takes the image file's.
    pub components: Option<Vec<String>>,
    /// Certificates trusted beside the suite's own.
    pub keyrings: Vec<Vec<u8>>,
    /// Certificates trusted instead of the suite's own.
    pub keyrings_only: Vec<Vec<u8>>,
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
    /// The simple index that Python tools are asked for at, without a trailing slash.
    pub python_index: String,
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

/// Builds a tree in an empty folder.
///
/// # Errors
/// Of the stage that failed; the folder is then of no use and the caller's to remove.
pub fn build(order: &Order, tree: &Path, doors: &Doors<'_>) -> Result<Image> {
    runs_here(order, doors).during("build for", format!("architecture `{}`", order.architecture))?;
    output::programs_run(tree, false).during("build in", tree.display().to_string())?;
    if let Some(locked) = &order.locked {
        let lock = locking::held(order, locked)?;
        return installed(order, lock, tree, doors);
    }
    let prefetch = Prefetch::new(doors, order.variant);
    let problem = thread::scope(|scope| {
        for _ in 0..prefetch::JOBS {
            scope.spawn(|| prefetch.work());
        }
        let lock = prefetch.during(|| locking::locked_by(order, Some(&prefetch), doors))?;
        let sources = lock.sources.clone();
        match installed(order, lock, tree, doors) {
            Err(problem) if locking::may_have_moved(&problem) => Ok(Err((problem, sources))),
            outcome => outcome.map(Ok),
        }
    });
    let (problem, sources) = match problem? {
        Ok(image) => return Ok(image),
        Err(moved) => moved,
    };
    // The archive may have been updated since its Release file was read: once more, of a new one.
    let anew = lock(order, doors)?;
    if anew.sources == sources {
        return Err(problem);
    }
    let text = format!("the archive of {} changed while packages were fetched: once more", order.spec.image);
    doors.reporter.report(Event::Notice { text });
    assemble::empty(tree).during("empty", "the tree that was begun")?;
    installed(order, anew, tree, doors)
}

fn installed(order: &Order, lock: Lock, tree: &Path, doors: &Doors<'_>) -> Result<Image> {
    let mirrors = lock.sources.iter().flat_map(|source| source.mirrors.iter().take(1).cloned()).collect();
    install(order, &lock, tree, doors)?;
    Ok(Image { lock, mirrors })
}

/// Opens the archive and chooses the packages of an order: of the archive, indexes alone are fetched.
///
/// # Errors
/// Of the stage that failed.
pub fn resolve(order: &Order, doors: &Doors<'_>) -> Result<Lock> {
    let (lock, old) = choose(order, None, doors)?;
    locking::report_old(&old, doors);
    Ok(lock)
}

/// Chooses the packages of an order; gives in words which lists are of the cache because no mirror could be asked.
fn choose(
    order: &Order,
    early: Option<&dyn archive::Early>,
    doors: &Doors<'_>,
) -> Result<(Lock, Vec<String>)> {
    let subject = || format!("suite `{}`", order.spec.image);
    let sources = sources::sources(order).during("open", subject())?;
    let options = archive::Options {
        early,
        ignore_valid_until: order.ignore_valid_until,
        allow_older_release: order.allow_older_release,
        offline: false,
    };
    let archive = archive::open(&sources, &options, doors.store, doors.transport, doors.now, doors.reporter)
        .during("open", subject())?;
    let old = archive.old();
    Ok((resolve_packages(order, archive, doors)?, old.into_iter().collect()))
}

/// Makes a tree of a lock and what profiles have beside packages.
fn install(order: &Order, lock: &Lock, tree: &Path, doors: &Doors<'_>) -> Result<()> {
    let rootfs = build_from(order, lock, tree, 0, &mut |_, _| Ok(()), doors)?;
    configure::finish(&rootfs, &options(order, lock), doors.reporter)
        .during("finish the tree of", format!("suite `{}`", order.spec.image))
}

fn options(order: &Order, lock: &Lock) -> configure::Options {
    configure::Options {
        hostname: order.hostname.clone(),
        sources: sources::of_tree(order, lock),
        epoch: lock.epoch,
    }
}

/// Puts the image and the profiles of an order, or those that are missing, into a tree: for each its packages of
/// the lock, configured, then its parts.
///
/// `done` of the files of the spec are in the tree, in their order; where it is none, the folder is empty. It is
/// called out after each file, with its place and with the tree as it is without the files above, but for
/// [`unpack::BESIDE`], which lies in it meanwhile. What is built is the same whether it was begun with an empty
/// folder, or with a copy of the tree that was called out earlier. What depends on the whole stack is put on top,
/// and [`configure::finish`] is still to be done.
///
/// # Errors
/// Of the stage that failed, or what `called` says; the tree is then of no use.
pub fn build_from(
    order: &Order,
    lock: &Lock,
    tree: &Path,
    done: usize,
    called: &mut assemble::Between<'_>,
    doors: &Doors<'_>,
) -> Result<configure::Rootfs> {
    let files = order.stack();
    let names: Vec<&str> = files.iter().map(|file| &*file.name).collect();
    let groups = locks::grouped(lock, &names);
    let subject = || format!("suite `{}`", order.spec.image);
    let options = options(order, lock);
    let sources = sources::sources(order).during("open", subject())?;
    let snapshots =
        archive::Snapshots::new(&sources, doors.transport, doors.store, doors.now, doors.reporter);
    let ways = store::Ways {
        transport: doors.transport,
        // What a mirror has just listed and does not have is a matter of its update, not of old states.
        elsewhere: if order.locked.is_some() { Some(&snapshots) } else { None },
    };
    let mut reachable = locking::reachable(lock, &sources);
    let mut missing = groups.iter().map(|&group| group >= done);
    reachable.packages.retain(|_| missing.next().unwrap_or(true));
    let work = assemble::Work {
        lock: reachable,
        groups: groups.into_iter().filter(|&group| group >= done).collect(),
        done,
        files: files.iter().map(|file| (file.name.clone(), parts::paths(&file.layer))).collect(),
        tree,
        options: &options,
        doors,
        ways,
        subject: subject(),
    };
    let mut spent = Duration::ZERO;
    let total = files.iter().skip(done).map(|file| parts::count(&file.layer)).sum();
    if total > 0 {
        doors.reporter.report(Event::Started { phase: Phase::Customize, unit: Unit::Steps, total });
    }
    let rootfs = work.assemble(&mut |at, rootfs| {
        let begun = Instant::now();
        customize(order, &files[at].layer, rootfs, lock, doors)?;
        spent += begun.elapsed();
        called(at, rootfs)
    })?;
    agents::put(&order.spec.layer, &rootfs, lock.epoch, doors)?;
    if total > 0 {
        doors.reporter.report(Event::Finished {
            phase: Phase::Customize,
            elapsed: spent,
            summary: format!("{total} parts of {} profiles", order.spec.profiles.len()),
        });
    }
    Ok(rootfs)
}

/// Puts in what one file of the spec has beside packages.
fn customize(
    order: &Order,
    layer: &Layer,
    rootfs: &configure::Rootfs,
    lock: &Lock,
    doors: &Doors<'_>,
) -> Result<()> {
    let asked = layer.packages.install.iter().chain(&layer.packages.if_available).map(String::as_str);
    unpack::asked_for(rootfs.root(), &asked.collect(), lock.epoch)
        .during("note the packages of", format!("`{}`", layer.name))?;
    parts::put(layer, order, rootfs, lock, doors).or_else(|problem| {
        let Some(shortage) = configure::ran_out(&problem, rootfs.path()) else { return Err(problem) };
        let path = rootfs.path().to_owned();
        let full = parts::PartError::Full { path, shortage, source: Box::new(problem) };
        Err(full).during("build", format!("profile `{}`", layer.name))
    })
}

/// Sees that the tree's programs can be run, before anything is fetched for it.
fn runs_here(order: &Order, doors: &Doors<'_>) -> std::result::Result<(), OrderError> {
    let architecture = &order.architecture;
    if architecture == foreign::NATIVE || !order.spec.layer.architectures.contains(architecture) {
        return Ok(());
    }
    foreign::try_program(architecture, doors.runner)
        .map_err(|source| OrderError::Foreign { architecture: architecture.clone(), source })
}

fn resolve_packages(order: &Order, archive: archive::Archive, doors: &Doors<'_>) -> Result<Lock> {
    let begun = Instant::now();
    let spec = &order.spec;
    let subject = || format!("image `{}`", spec.image);
    let by: BTreeMap<&str, &str> =
        spec.wanted_by.iter().map(|(package, file)| (package.as_str(), file.as_str())).collect();
    let wanted = |package: &String, otherwise: &str, layer| resolve::Wanted {
        name: package.clone(),
        by: by.get(package.as_str()).map_or_else(|| otherwise.to_owned(), |file| (*file).to_owned()),
        layer,
    };
    let packages = &spec.layer.packages;
    let listed = |package: &String, otherwise: &str| {
        let lists = |file: &Stacked| {
            let packages = &file.layer.packages;
            packages.install.contains(package) || packages.if_available.contains(package)
        };
        wanted(package, otherwise, spec.files.iter().position(lists).unwrap_or(0))
    };
    let layers: Vec<_> = order.stack().into_iter().map(|file| file.name).collect();
    let last = layers.len() - 1;
    let request = resolve::Request {
        architecture: order.architecture.clone(),
        variant: order.variant,
        install: packages
            .install
            .iter()
            .map(|package| listed(package, "a profile"))
            .chain(order.include.iter().map(|package| wanted(package, INCLUDE, last)))
            .collect(),
        optional: packages.if_available.iter().map(|package| listed(package, "a profile")).collect(),
        exclude: packages.exclude.iter().chain(&order.exclude).cloned().collect(),
        recommends: order.recommends,
        layers,
    };
    let origins: BTreeMap<String, Origin> = archive
        .releases
        .iter()
        .map(|release| {
            let mut names = release.names.clone();
            names.push(release.suite.clone());
            let id = release.source.clone();
            let is_foreign = sources::is_foreign(&id);
            (id.clone(), Origin { id, names, priority: release.priority, is_foreign })
        })
        .collect();
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
    let origin = |id: String| origins.get(&id).cloned().unwrap_or_else(|| Origin::new(id));
    let indexes = archive.indexes.into_iter().map(|index| (origin(index.source), index.bytes)).collect();
    let timed = Timed::begin(doors.reporter, Phase::Resolve, "read indexes");
    let catalog = Catalog::of(indexes, &order.architecture).during("read", subject())?;
    drop(timed);
    sources::report_left_out(&catalog, doors.reporter);
    let timed = Timed::begin(doors.reporter, Phase::Resolve, "choose");
    let opened: Vec<&str> = origins.keys().map(String::as_str).collect();
    let chosen = resolve::resolve(&catalog, &request);
    if let Err(resolve::Error::Unknown { name, .. }) = &chosen
        && let Some(problem) = sources::left_out(&catalog, name)
    {
        return Err(problem).during("read", subject());
    }
    let resolve::Resolved { mut packages, by_sha512, skipped } =
        chosen.map_err(|error| unmet::Unmet::new(error, spec, &opened)).during("resolve", subject())?;
    drop(timed);
    by_sha512::learn(&mut packages, &by_sha512, &sources, doors)?;
    for resolve::Skipped { wanted, why } in skipped {
        let text = format!("left out `{}`, which {} would like: {why}", wanted.name, wanted.by);
        doors.reporter.report(Event::Notice { text });
    }
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
