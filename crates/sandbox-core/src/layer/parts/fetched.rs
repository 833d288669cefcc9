//! Parts that come from elsewhere than the distribution: found once, when they are locked, and from then on
//! fetched by their digests.

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use super::{PartError, download, files::make_link, git, known, npm, npm_tree, python};
use crate::{
    Result,
    configure::Rootfs,
    error::{Class, Context as _},
    layer::{Doors, Order},
    lock::{Lock, LockedPart, PartWish},
    report::{Phase, Timed},
    spec::Layer,
    store::{Checksum, Entry, StoreError, Wanted},
};

/// How many parts are looked for at once.
const JOBS: usize = 8;

/// What parts are put in with.
#[derive(Clone, Copy)]
pub(super) struct Into<'a> {
    pub order: &'a Order,
    pub rootfs: &'a Rootfs,
    pub lock: &'a Lock,
    pub doors: &'a Doors<'a>,
}

impl Into<'_> {
    /// Finds what a lock has for a part.
    pub fn locked(&self, kind: &str, name: &str) -> Result<&LockedPart> {
        let found = find(self.lock, kind, name);
        found
            .ok_or_else(|| PartError::Unlocked { package: name.to_owned() })
            .during("find", format!("`{name}`"))
    }

    /// Gives a file: from the cache, or fetched and checked.
    pub fn fetch(&self, urls: &[String], checksum: Checksum, limit: u64) -> Result<Entry, StoreError> {
        let wanted = Wanted { urls, checksum, size: None, limit };
        self.doors.store.fetch(&wanted, self.doors.transport, &|_: u64| {})
    }

    /// Links a part's programs.
    pub fn link<'a>(
        &self,
        into: &Path,
        bin: impl Iterator<Item = (&'a PathBuf, String)>,
    ) -> Result<(), PartError> {
        for (link, target) in bin {
            let target = if target.is_empty() { into.to_owned() } else { into.join(target) };
            make_link(self.rootfs.root(), link, &target.to_string_lossy(), self.lock.epoch)?;
        }
        Ok(())
    }
}

fn find<'a>(lock: &'a Lock, kind: &str, name: &str) -> Option<&'a LockedPart> {
    lock.parts.iter().find(|part| part.kind() == kind && part.name == name)
}

/// Finds out what every part is, exactly. Of the lock, the packages are read.
///
/// Where a vendor or a registry cannot be asked, a part is what it was found to be the last time: `old` is given the
/// version of such a part, with the moment it was found, in words.
///
/// # Errors
/// Of the first part that cannot be had.
pub(in crate::layer) fn lock(
    order: &Order,
    lock: &Lock,
    old: &mut Vec<String>,
    doors: &Doors<'_>,
) -> Result<Vec<LockedPart>> {
    let mut found: Vec<LockedPart> = Vec::new();
    let mut put = |part: LockedPart| match found.iter().find(|known| same(known, &part)) {
        Some(known) if *known == part => Ok(()),
        Some(known) => Err(PartError::Twice {
            name: part.name.clone(),
            versions: [known.version.clone(), part.version.clone()],
        })
        .during("lock", format!("`{}`", part.name)),
        None => {
            found.push(part);
            Ok(())
        }
    };
    let finders = finders(order, lock, doors);
    let _timed = (!finders.is_empty()).then(|| Timed::begin(doors.reporter, Phase::Resolve, "find parts"));
    // what npm packages run by is known before they are chosen
    let (first, then): (Vec<_>, Vec<_>) = finders.into_iter().enumerate().partition(|(_, one)| one.first);
    let mut all = Vec::new();
    let mut engines = Vec::new();
    for finders in [first, then] {
        let (places, finders): (Vec<usize>, Vec<Finder<'_>>) = finders.into_iter().unzip();
        let mut parts = Vec::new();
        for (part, finder) in all_of(&finders, &engines).into_iter().zip(&finders) {
            parts.push(or_known(part, finder, old, doors)?);
        }
        engines.extend(parts.iter().cloned());
        all.extend(places.into_iter().zip(parts));
    }
    all.sort_by_key(|(place, _)| *place);
    for (_, part) in all {
        put(part)?;
    }
    Ok(found)
}

/// Keeps what a part was found to be; where its vendor or registry cannot be asked, gives what it was the last time.
fn or_known(
    part: Result<LockedPart>,
    finder: &Finder<'_>,
    old: &mut Vec<String>,
    doors: &Doors<'_>,
) -> Result<LockedPart> {
    match part {
        Ok(part) => {
            known::keep(doors.store, &finder.key, &part, doors.now);
            Ok(part)
        }
        Err(problem) if problem.class() == Class::Unreachable => {
            let Some(known) = known::recall(doors.store, &finder.key) else { return Err(problem) };
            let day = jiff::Timestamp::from_second(known.found).unwrap_or_default().strftime("%Y-%m-%d");
            old.push(format!("{} {} of {day}", known.part.name, known.part.version));
            Ok(known.part)
        }
        Err(problem) => Err(problem),
    }
}

type Find<'a> = Box<dyn Fn(&[LockedPart]) -> Result<LockedPart> + Send + Sync + 'a>;

/// What finds out what one part is, exactly.
struct Finder<'a> {
    /// Whether others are chosen by what it finds.
    first: bool,
    /// All that what it finds depends on, but for the time.
    key: String,
    /// Of the parts that were found before, those that it may depend on are read.
    find: Find<'a>,
}

impl<'a> Finder<'a> {
    fn new(
        key: String,
        first: bool,
        find: impl Fn(&[LockedPart]) -> Result<LockedPart> + Send + Sync + 'a,
    ) -> Self {
        Self { first, key, find: Box::new(find) }
    }
}

fn finders<'a>(order: &'a Order, lock: &'a Lock, doors: &'a Doors<'_>) -> Vec<Finder<'a>> {
    let layer = &order.spec.layer;
    let key = |kind: &str, part: serde_json::Value, from: &str| {
        format!("{kind} {part}\nfor {} {}\nfrom {from}", order.spec.image, order.architecture)
    };
    let mut finders: Vec<Finder<'a>> = Vec::new();
    for part in &layer.npm {
        let is_tree = part.platform.is_empty();
        let first = !is_tree && npm_tree::brings_engine(part.bin.keys());
        let key = key("npm", serde_json::json!(part), &order.npm_registry);
        finders.push(Finder::new(key, first, move |parts| {
            let subject = || format!("`{}`", part.package);
            if is_tree {
                npm_tree::lock(part, order, lock, parts, doors).during("find", subject())
            } else {
                npm::lock(part, order, doors.transport).during("find", subject())
            }
        }));
    }
    for part in &layer.python {
        let on = serde_json::json!([part, python::facts(part, lock)]);
        finders.push(Finder::new(key("python", on, &order.python_index), false, move |_| {
            python::lock(part, order, lock, doors).during("find", format!("`{}`", part.package))
        }));
    }
    for part in layer.download.iter().filter(|part| download::is_wanted(part, lock)) {
        let first = npm_tree::brings_engine(part.bin.keys());
        let key = key("download", serde_json::json!(part), "");
        finders.push(Finder::new(key, first, move |_| {
            download::lock(part, order, doors).during("find", format!("`{}`", part.name))
        }));
    }
    for part in &layer.git {
        finders.push(Finder::new(key("git", serde_json::json!(part), ""), false, move |_| {
            git::lock(part, doors).during("find", format!("`{}`", part.url))
        }));
    }
    finders
}

/// Asks for several at once, since most of it is waiting for answers, and gives what came of them in their order. Once
/// one has failed no more are begun.
fn all_of(finders: &[Finder<'_>], known: &[LockedPart]) -> Vec<Result<LockedPart>> {
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let found = Mutex::new(Vec::new());
    let work = || {
        while !failed.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(finder) = finders.get(at) else { return };
            let part = (finder.find)(known);
            failed.fetch_or(part.is_err(), Ordering::Relaxed);
            found.lock().unwrap_or_else(PoisonError::into_inner).push((at, part));
        }
    };
    thread::scope(|scope| {
        for _ in 0..JOBS.min(finders.len()) {
            scope.spawn(work);
        }
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_by_key(|(at, _)| *at);
    // they are begun in order, so that all before the first that failed are there
    found.into_iter().map(|(_, part)| part).collect()
}

fn same(one: &LockedPart, other: &LockedPart) -> bool {
    one.kind() == other.kind() && one.name == other.name
}

/// Lists what an order asks of a lock's parts.
pub(in crate::layer) fn wishes(order: &Order, lock: &Lock) -> Vec<PartWish> {
    let layer = &order.spec.layer;
    let wish = |kind: &'static str, name: &str, version: &str, facts| PartWish {
        kind,
        name: name.to_owned(),
        version: version.to_owned(),
        facts,
    };
    let mut wishes = Vec::new();
    for part in &layer.npm {
        if part.platform.is_empty() {
            wishes.push(wish("npm-tree", &part.package, &part.version, Vec::new()));
            continue;
        }
        let tarball = part.platform.get(&order.architecture).map(|platform| platform.package.clone());
        wishes.push(wish(
            "npm",
            &part.package,
            &part.version,
            vec![("tarball", tarball.unwrap_or_default())],
        ));
    }
    for part in &layer.python {
        let facts = python::facts(part, lock);
        wishes.push(wish("python", python::name(&part.package), &part.version, facts));
    }
    for part in layer.download.iter().filter(|part| download::is_wanted(part, lock)) {
        let version = find(lock, "download", &part.name).map_or("", |found| found.version.as_str());
        wishes.push(wish("download", &part.name, &part.version, download::facts(part, version, order)));
    }
    for part in &layer.git {
        wishes.push(wish("git", &part.url, &part.revision, vec![("revision", part.revision.clone())]));
    }
    wishes
}

/// Counts what [`put`] will put in.
pub(super) fn count(layer: &Layer) -> usize {
    layer.npm.len() + layer.python.len() + layer.download.len() + layer.git.len()
}

/// Puts a layer's fetched parts in, interpreters before what runs by them.
pub(super) fn put(layer: &Layer, to: Into<'_>, step: &dyn Fn(&str)) -> Result<()> {
    for part in &layer.download {
        step(&part.name);
        if !download::is_wanted(part, to.lock) {
            continue;
        }
        download::put(part, to)?;
    }
    let (trees, tarballs): (Vec<_>, Vec<_>) = layer.npm.iter().partition(|part| part.platform.is_empty());
    for part in tarballs {
        step(&part.package);
        npm::put(part, to)?;
    }
    for part in &layer.git {
        step(&part.url);
        git::put(part, to)?;
    }
    for part in trees {
        step(&part.package);
        npm_tree::put(part, to)?;
    }
    for part in &layer.python {
        step(&part.package);
        python::put(part, to)?;
    }
    Ok(())
}

/// Lists a layer's parts of a lock, in the layer's order.
pub(in crate::layer) fn of<'a>(lock: &'a Lock, layer: &Layer) -> Vec<&'a LockedPart> {
    let npm = layer
        .npm
        .iter()
        .map(|part| (if part.platform.is_empty() { "npm-tree" } else { "npm" }, part.package.as_str()));
    let python = layer.python.iter().map(|part| ("python", python::name(&part.package)));
    let download = layer.download.iter().map(|part| ("download", part.name.as_str()));
    let git = layer.git.iter().map(|part| ("git", part.url.as_str()));
    npm.chain(python).chain(download).chain(git).filter_map(|(kind, name)| find(lock, kind, name)).collect()
}

/// Lists the places of a layer's parts, below the tree: what everybody has who asks for the same.
pub(in crate::layer) fn places(lock: &Lock, layer: &Layer, architecture: &str) -> Vec<PathBuf> {
    let download = layer.download.iter().map(|part| {
        let version = find(lock, "download", &part.name).map_or("", |found| found.version.as_str());
        let word = part.architectures.get(architecture).map_or("", |build| build.word.as_str());
        let path = part.into.to_string_lossy().replace("{version}", version).replace("{arch}", word);
        PathBuf::from(path)
    });
    let npm = layer.npm.iter().map(|part| part.into.clone());
    let python = layer.python.iter().map(|part| part.into.clone());
    let git = layer.git.iter().map(|part| part.into.clone());
    let all = npm.chain(python).chain(git).chain(download);
    all.map(|path| path.strip_prefix("/").map(Path::to_owned).unwrap_or(path)).collect()
}
