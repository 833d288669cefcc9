//! Packages straight into a tree, once, in parallel, and the package database as dpkg would have written it.
//!
//! Every package is left `install ok unpacked`; [`crate::configure`] runs its scripts. [`Unpacking`] does it as
//! packages come, batch by batch, so that earlier ones can be configured meanwhile. Where packages share a path
//! (vim-tiny and vim-runtime do, by a diversion), those that come second are left to the tree's own dpkg.

mod again;
mod below;
mod database;
mod error;
mod merge;
mod overlap;
mod package;
mod plan;
mod predepends;
mod shared;
mod skeleton;
mod tree;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

pub use database::asked_for;
pub use error::UnpackError;
pub use overlap::{Halt, Unpacking};
use package::{Contents, Package};
use plan::BOTTOM;
pub use plan::{Batch, Plan};
use tree::{Folders, Writer};

use crate::{
    deb::archive::Deb,
    host::{
        parallel::{parallel, processors},
        root::{Links, Meta, Root},
    },
    lock::LockedPackage,
    report::{Event, Phase, Reporter, Unit},
    store::Filled,
    store::Recoder,
};

/// The folder of a tree in which packages lie until those before them are configured. It is there while
/// [`Unpacking`] is at work, and no part of the tree: whoever copies one meanwhile leaves it out.
pub const BESIDE: &str = ".sandbox-rest";

/// What is particular to a build.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The time of what no package has a time for, in seconds since 1970.
    pub epoch: i64,
}

/// A tree with every package unpacked and none configured.
#[derive(Clone, Debug)]
pub struct Unpacked {
    pub(crate) tree: PathBuf,
    /// Packages with a preinst, in install order.
    pub(crate) preinsts: Vec<Scripted>,
    /// Packages that dpkg is to unpack.
    pub(crate) deferred: Vec<PathBuf>,
    /// What is owned by names that the tree may know later.
    pub(crate) named: Vec<Named>,
    /// How many packages there are.
    pub(crate) packages: usize,
}

/// A path whose owner or group a package names, and the tree did not know.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    /// Its path in the tree.
    pub(crate) path: String,
    /// Its owner's name.
    pub(crate) user: Option<String>,
    /// Its group's name.
    pub(crate) group: Option<String>,
    /// The numbers that it was given meanwhile.
    pub(crate) owner: (u32, u32),
}

/// A package whose scripts are to run.
#[derive(Clone, Debug)]
pub(crate) struct Scripted {
    pub(crate) name: String,
    pub(crate) architecture: String,
    /// Its control members, as `tmp.ci` has them while a preinst runs.
    pub(crate) members: BTreeMap<String, (Vec<u8>, u32)>,
    /// Packages of the same batch that are to be configured before its preinst runs.
    pub(crate) after: Vec<String>,
}

/// Unpacks every package of a filled lock into an empty folder, in one batch.
///
/// # Errors
/// [`UnpackError`] of the first package that fails; the tree is then of no use.
pub fn unpack(
    filled: &Filled,
    tree: &Path,
    options: &Options,
    reporter: &dyn Reporter,
) -> Result<Unpacked, UnpackError> {
    let begun = Instant::now();
    let total = filled.lock().packages.len();
    reporter.report(Event::Started { phase: Phase::Unpack, unit: Unit::Packages, total: total as u64 });
    let packages = read(filled)?;
    let (direct, deferred) = shared::split(&packages, &|_, _| false)?;

    let root = Root::open(tree, Links::Refused).map_err(UnpackError::tree(tree))?;
    let architecture = &filled.lock().architecture;
    let contents = write(&root, &direct, architecture, options, reporter)?;
    let contents: Vec<&Contents> = contents.iter().collect();
    let bytes = contents.iter().map(|contents| contents.bytes).sum::<u64>();
    let all: Vec<&LockedPackage> = filled.lock().packages.iter().collect();
    database::write(&root, &all, &direct, &contents, architecture, options.epoch)?;
    reporter.report(Event::Finished {
        phase: Phase::Unpack,
        elapsed: begun.elapsed(),
        summary: format!("{total} packages, {:.0} MB", bytes as f64 / 1e6),
    });
    Ok(Unpacked {
        tree: tree.to_owned(),
        preinsts: preinsts(&direct),
        deferred: deferred.iter().map(|package| package.path.clone()).collect(),
        named: named(&contents),
        packages: total,
    })
}

fn named(contents: &[&Contents]) -> Vec<Named> {
    contents.iter().flat_map(|contents| contents.named.iter().cloned()).collect()
}

fn preinsts(packages: &[&Package<'_>]) -> Vec<Scripted> {
    let scripted = packages.iter().filter(|package| package.control.members.contains_key("preinst"));
    scripted
        .map(|package| {
            // those of the distribution are made to be unpacked before anything is configured
            let is_foreign = package.locked.is_foreign();
            let after = if is_foreign { predepends::of(package, packages) } else { Vec::new() };
            Scripted { after, ..package.scripted() }
        })
        .collect()
}

/// Reads every package's control archive and its list of paths, on all processors.
fn read(filled: &Filled) -> Result<Vec<(Package<'_>, Vec<shared::Claim>)>, UnpackError> {
    let sources: Vec<(&LockedPackage, &Path)> = filled.packages().collect();
    let read = parallel(&sources, processors(), |(locked, path)| {
        with_deb(locked, path, |deb| {
            let package = Package::read(locked, path, deb)?;
            let claims = shared::claims(&package, deb)?;
            Ok((package, claims))
        })
    });
    read.into_iter().collect()
}

/// Unpacks: base-files alone, because its links are others' folders; then the largest first.
fn write(
    root: &Root,
    packages: &[&Package<'_>],
    architecture: &str,
    options: &Options,
    reporter: &dyn Reporter,
) -> Result<Vec<Contents>, UnpackError> {
    let folders = Folders::default();
    let one = |(at, package): &(usize, &Package<'_>)| {
        reporter.report(Event::At { phase: Phase::Unpack, subject: package.locked.name.clone() });
        let write = |deb: &Deb<'_>| {
            let mut writer = Writer::new(root, &folders, *at);
            write_one(package, deb, &mut writer, options.epoch, None)
        };
        let contents = with_deb(package.locked, &package.path, write);
        reporter.report(Event::Advanced { phase: Phase::Unpack, delta: 1 });
        contents.map(|contents| (*at, contents))
    };
    let mut order: Vec<(usize, &Package<'_>)> = packages.iter().copied().enumerate().collect();
    order.sort_by_key(|(_, package)| (package.locked.name != BOTTOM, std::cmp::Reverse(package.locked.size)));
    let first = order.iter().take_while(|(_, package)| package.locked.name == BOTTOM).count();
    let (bottom, others) = order.split_at(first);
    let brings = bottom.iter().try_fold(false, |_, (_, package)| {
        with_deb(package.locked, &package.path, |deb| skeleton::brings_links(package.locked, deb))
    })?;
    skeleton::make(root, brings, architecture, options.epoch)?;
    let info = Path::new(database::INFO);
    root.make_folders(info, Meta::of_root(0o755, options.epoch)).map_err(UnpackError::tree(info))?;
    let mut written = Vec::with_capacity(packages.len());
    for package in bottom {
        written.push(one(package)?);
    }
    for result in parallel(others, processors(), one) {
        written.push(result?);
    }
    folders.finish(root, options.epoch)?;
    written.sort_by_key(|(at, _)| *at);
    Ok(written.into_iter().map(|(_, contents)| contents).collect())
}

/// Writes a package's files, and what dpkg keeps of it.
fn write_one(
    package: &Package<'_>,
    deb: &Deb<'_>,
    writer: &mut Writer<'_>,
    epoch: i64,
    recoder: Option<Recoder>,
) -> Result<Contents, UnpackError> {
    let contents = package.write(deb, writer, recoder)?;
    database::info(package, &contents, epoch, writer)?;
    Ok(contents)
}

/// Reads a package's file whole, and does something with it.
fn with_deb<T>(
    locked: &LockedPackage,
    path: &Path,
    work: impl FnOnce(&Deb<'_>) -> Result<T, UnpackError>,
) -> Result<T, UnpackError> {
    let package = || locked.name.clone();
    let bytes = fs::read(path).map_err(|source| UnpackError::Read {
        package: package(),
        path: path.to_owned(),
        source,
    })?;
    let deb = Deb::read(&bytes).map_err(|source| UnpackError::Malformed { package: package(), source })?;
    work(&deb)
}
