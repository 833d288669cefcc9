//! A tree made of layers: those that are kept are laid out, the others built on them and kept.

use std::{path::Path, thread, time::Instant};

use super::{
    Doors, Image, Order, agents, assemble, id,
    id::Named,
    kept::{Claim, Held, Id, LaidOut, Layers, Made, Walk},
    locking, parts,
    prefetch::{self, Prefetch},
    scan,
};
use crate::{
    Result,
    configure::{self, Rootfs},
    error::Context as _,
    host::clonable,
    lock::Lock,
    output,
    report::{Event, Phase, Timed, Unit},
};

/// The host name of a tree that is no machine's yet.
const NOBODYS: &str = "localhost";

/// Where layers are kept.
#[derive(Clone, Copy, Debug)]
pub struct Keeping<'a> {
    /// Their folder.
    pub layers: &'a Layers,
    /// Who builds, in words, for others who want the same.
    pub holder: &'a str,
}

/// A tree that was made of layers.
#[derive(Debug)]
pub struct Layered {
    /// What it is made of.
    pub image: Image,
    /// Its layers, the image's first.
    pub layers: Vec<Id>,
    /// They are not removed while this is there.
    pub held: Vec<Held>,
}

/// Makes a tree in an empty folder of the layers of an order, and builds and keeps those that are missing.
///
/// # Errors
/// Of the stage that failed; the folder is then of no use and the caller's to remove.
pub fn build_of_layers(
    order: &Order,
    tree: &Path,
    keeping: Keeping<'_>,
    doors: &Doors<'_>,
) -> Result<Layered> {
    super::runs_here(order, doors).during("build for", format!("architecture `{}`", order.architecture))?;
    output::programs_run(tree, false).during("build in", tree.display().to_string())?;
    let lock = locked(order, keeping, doors)?;
    let sources = lock.sources.clone();
    let problem = match of_lock(order, lock, tree, keeping, doors) {
        Err(problem) if order.locked.is_none() && locking::may_have_moved(&problem) => problem,
        outcome => return outcome,
    };
    // The archive may have been updated since its Release file was read: once more, of a new one.
    let anew = locking::lock(order, doors)?;
    if anew.sources == sources {
        return Err(problem);
    }
    let text = format!("the archive of {} changed while packages were fetched: once more", order.spec.image);
    doors.reporter.report(Event::Notice { text });
    assemble::empty(tree).during("empty", "the tree that was begun")?;
    of_lock(order, anew, tree, keeping, doors)
}

/// Gives an order's lock: the one that it has, or a new one. While it is made, what every tree has is fetched, where
/// no layer is kept that could have it.
///
/// # Errors
/// Of the stage that failed.
pub fn locked(order: &Order, keeping: Keeping<'_>, doors: &Doors<'_>) -> Result<Lock> {
    if let Some(locked) = &order.locked {
        return locking::held(order, locked);
    }
    if !keeping.layers.is_empty() {
        return locking::lock(order, doors);
    }
    let prefetch = Prefetch::new(doors, order.variant);
    thread::scope(|scope| {
        for _ in 0..prefetch::JOBS {
            scope.spawn(|| prefetch.work());
        }
        prefetch.during(|| locking::locked_by(order, Some(&prefetch), doors))
    })
}

fn of_lock(
    order: &Order,
    lock: Lock,
    tree: &Path,
    keeping: Keeping<'_>,
    doors: &Doors<'_>,
) -> Result<Layered> {
    let subject = || format!("suite `{}`", order.spec.image);
    let named = id::ids(order, &lock);
    let begun = begin(order, &named, keeping, doors)?;
    if let Some(top) = begun.held.last() {
        lay_out(&begun.held, top, tree, keeping, doors)?;
    }
    let (held, rootfs) = if begun.claims.is_empty() {
        let rootfs = Rootfs::again(tree).during("open", "the tree of layers")?;
        agents::put(&order.spec.layer, &rootfs, lock.epoch, doors)?;
        (begun.held, rootfs)
    } else {
        let mut building = Building {
            order,
            lock: &lock,
            named: &named,
            tree,
            keeping,
            doors,
            begun,
            walk: Walk::default(),
        };
        let rootfs = building.build()?;
        (building.begun.held, rootfs)
    };
    let options = super::options(order, &lock);
    configure::identify(&rootfs, &options, doors.reporter).during("finish the tree of", subject())?;
    let mirrors = lock.sources.iter().flat_map(|source| source.mirrors.iter().take(1).cloned()).collect();
    Ok(Layered { image: Image { lock, mirrors }, layers: named.iter().map(|named| named.id).collect(), held })
}

/// The layers that are there, and the right to build the others.
struct Begun {
    held: Vec<Held>,
    /// In the order of the layers; empty where none is missing.
    claims: Vec<Claim>,
}

/// Holds the layers that are there and claims the others, the lowest first: of two that want the same, one builds
/// it, and the other waits and goes on with what the first has made.
fn begin(order: &Order, named: &[Named], keeping: Keeping<'_>, doors: &Doors<'_>) -> Result<Begun> {
    let Keeping { layers, holder } = keeping;
    let ids: Vec<Id> = named.iter().map(|named| named.id).collect();
    let subject = || format!("the layers of `{}`", order.spec.image);
    loop {
        let (count, held) = layers.hold_longest(&ids).during("open", subject())?;
        let mut claims = Vec::new();
        for (id, file) in ids.iter().zip(order.stack()).skip(count) {
            let mut waited = false;
            let claim = layers
                .claim(*id, holder, &mut |by| {
                    waited = true;
                    let text = format!("waiting for layer `{}`, which {by} builds", file.name);
                    doors.reporter.report(Event::Notice { text });
                })
                .during("claim", format!("layer `{}`", file.name))?;
            claims.push(claim);
            if waited {
                break;
            }
        }
        // one that was waited for, or that was made between the look and the claim
        if count == ids.len() || !layers.has(ids[count]) && claims.len() == ids.len() - count {
            return Ok(Begun { held, claims });
        }
    }
}

/// Makes the tree of a stack of layers.
fn lay_out(held: &[Held], top: &Held, tree: &Path, keeping: Keeping<'_>, doors: &Doors<'_>) -> Result<()> {
    let begun = Instant::now();
    doors.reporter.report(Event::Started { phase: Phase::Layers, unit: Unit::Steps, total: 0 });
    let made = keeping.layers.lay_out(held, tree).during("lay out", format!("layer `{}`", top.made.name))?;
    let how = match made {
        LaidOut::Snapshot => "a snapshot".to_owned(),
        LaidOut::Ahead => "made ahead".to_owned(),
        LaidOut::Shared => "bytes shared".to_owned(),
        LaidOut::Copied { bytes } => format!("{} MB copied", bytes / 1_000_000),
    };
    if matches!(made, LaidOut::Copied { .. }) && clonable::shares_extents(keeping.layers.folder()) {
        let text = format!(
            "the tree is on another file system than {}: its layers are copied, not cloned",
            keeping.layers.folder().display()
        );
        doors.reporter.report(Event::Notice { text });
    }
    doors.reporter.report(Event::Finished {
        phase: Phase::Layers,
        elapsed: begun.elapsed(),
        summary: format!("{} laid out, {how}", counted(held.len())),
    });
    Ok(())
}

fn counted(count: usize) -> String {
    if count == 1 { "1 layer".to_owned() } else { format!("{count} layers") }
}

/// The layers that are missing, under way.
struct Building<'a> {
    order: &'a Order,
    lock: &'a Lock,
    named: &'a [Named],
    tree: &'a Path,
    keeping: Keeping<'a>,
    doors: &'a Doors<'a>,
    begun: Begun,
    /// The tree as the last layer left it.
    walk: Walk,
}

impl Building<'_> {
    fn build(&mut self) -> Result<Rootfs> {
        let done = self.begun.held.len();
        if done > 0 {
            self.walk = self.keeping.layers.walk(self.tree).during("look at", "the tree of layers")?;
        }
        // what scripts write down of the host they run on is of nobody's
        let order = Order { hostname: NOBODYS.to_owned(), ..self.order.clone() };
        let (lock, tree, doors) = (self.lock, self.tree, self.doors);
        super::build_from(&order, lock, tree, done, &mut |at, rootfs| self.keep(at, rootfs), doors)
    }

    /// Looks through what a file has added to the tree, and keeps it as a layer.
    fn keep(&mut self, at: usize, rootfs: &Rootfs) -> Result<()> {
        let begun = Instant::now();
        let (files, named) = (self.order.stack(), &self.named[at]);
        let file = &files[at];
        let subject = || format!("{} `{}`", file.kind.word(), file.name);
        let layers = self.keeping.layers;
        let parent = self.begun.held.last().map(|below| below.made.id);
        let epoch =
            self.begun.held.last().map_or(self.lock.epoch, |below| below.made.epoch.max(self.lock.epoch));
        configure::settle(rootfs, epoch).during("settle", subject())?;
        let now = layers.walk(self.tree).during("keep", subject())?;
        {
            let _timed = Timed::begin(self.doors.reporter, Phase::Layers, "look for logins");
            // a later profile may touch what an earlier one fetched
            let below = files[..=at].iter();
            let public: Vec<_> = below
                .flat_map(|file| parts::fetched::places(self.lock, &file.layer, &self.order.architecture))
                .collect();
            scan::scan(self.tree, &now.files_since(&self.walk), &public).during("keep", subject())?;
        }
        let made = Made {
            version: 1,
            id: named.id,
            parent,
            kind: file.kind.word().to_owned(),
            name: file.name.clone(),
            image: self.order.spec.image.clone(),
            created: self.doors.now,
            epoch,
            bytes: 0,
            paths: 0,
            of: named.of.clone(),
        };
        let claim = self.begun.claims.remove(0);
        let timed = Timed::begin(self.doors.reporter, Phase::Layers, "keep");
        layers.commit(&claim, &made, self.tree, (&self.walk, &now)).during("keep", subject())?;
        drop(timed);
        self.walk = now;
        self.begun.held.extend(layers.hold(named.id).during("keep", subject())?);
        self.doors.reporter.report(Event::Finished {
            phase: Phase::Layers,
            elapsed: begun.elapsed(),
            summary: format!("{} kept as {}", subject(), named.id.short()),
        });
        Ok(())
    }
}
