//! Unpacking while packages are still on their way, and while the first of them are being configured.
//!
//! The first batch goes straight into the tree. The rest goes into a folder of its own in the tree, where no
//! script of the first batch sees it, and is moved into place when the first batch is configured: what scripts
//! find depends on the lock alone, never on who was faster.

use std::{
    path::Path,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::{
    Options, UnpackError, Unpacked, database, merge,
    package::{Contents, Package},
    plan::{self, BOTTOM, Plan},
    skeleton,
    tree::{Folders, Writer},
    with_deb,
};
use crate::{
    host::root::{Links, Meta, Root, remove_tree},
    lock::Lock,
    report::{Event, Phase, Reporter, Timed, Unit},
    store::{Delivered, Delivery},
};

/// The folder of the tree in which the rest lies until it is moved.
pub const BESIDE: &str = ".sandbox-rest";

/// How much lower the priority of those is that unpack what is not waited for.
const NICE: i32 = 10;

/// Why a batch is not in the tree.
#[derive(Debug)]
pub enum Halt {
    /// A package fails.
    Failed(UnpackError),
    /// Packages share paths, or need each other across the batches: they are to be unpacked in one.
    Entangled,
    /// Not all packages came. Whoever brings them knows why.
    Undelivered,
}

impl From<UnpackError> for Halt {
    fn from(problem: UnpackError) -> Self {
        match problem {
            UnpackError::Collision { .. } => Self::Entangled,
            problem => Self::Failed(problem),
        }
    }
}

/// The unpacking of a lock's packages in two batches, by threads that call [`Self::work`].
pub struct Unpacking<'a> {
    lock: &'a Lock,
    delivery: &'a Delivery,
    reporter: &'a dyn Reporter,
    options: Options,
    plan: Plan,
    begun: Instant,
    first: Place,
    rest: Place,
    state: Mutex<State<'a>>,
    changed: Condvar,
}

/// Where a batch is written.
struct Place {
    root: Root,
    folders: Folders,
}

impl Place {
    fn open(path: &Path) -> Result<Self, UnpackError> {
        let root = Root::open(path, Links::Refused).map_err(UnpackError::tree(path))?;
        Ok(Self { root, folders: Folders::default() })
    }
}

#[derive(Default)]
struct State<'a> {
    /// A thread has taken on what all others stand on.
    begun: bool,
    /// It is done.
    open: bool,
    /// How many threads work.
    workers: usize,
    /// How many bytes the files have that were written.
    bytes: u64,
    first: Vec<Done<'a>>,
    rest: Vec<Done<'a>>,
    halt: Option<Halt>,
}

/// A package that is unpacked, with its place in the lock.
struct Done<'a> {
    at: usize,
    package: Package<'a>,
    contents: Contents,
}

impl<'a> Unpacking<'a> {
    /// Prepares to unpack a lock's packages into an empty folder. `workers` threads must then call
    /// [`Self::work`].
    ///
    /// # Errors
    /// [`UnpackError::Tree`].
    pub fn new(
        lock: &'a Lock,
        delivery: &'a Delivery,
        tree: &Path,
        options: Options,
        workers: usize,
        reporter: &'a dyn Reporter,
    ) -> Result<Self, UnpackError> {
        let begun = Instant::now();
        let total = lock.packages.len() as u64;
        reporter.report(Event::Started { phase: Phase::Unpack, unit: Unit::Packages, total });
        let first = Place::open(tree)?;
        let rest = Path::new(BESIDE);
        first
            .root
            .make_folders(rest, Meta::of_root(0o700, options.epoch))
            .map_err(UnpackError::tree(rest))?;
        let rest = Place::open(&tree.join(BESIDE))?;
        let state = Mutex::new(State { workers, ..State::default() });
        let plan = Plan::of(lock);
        let changed = Condvar::new();
        Ok(Self { lock, delivery, reporter, options, plan, begun, first, rest, state, changed })
    }

    /// Unpacks packages as they come, until none comes any more. To be called once by each thread.
    pub fn work(&self) {
        let _leaving = Leaving(self);
        if let Err(halt) = self.bottom().and_then(|()| self.others()) {
            self.delivery.stop();
            self.state().halt.get_or_insert(halt);
        }
    }

    /// Sees that what all others stand on is there: one thread does it, the others wait for it.
    fn bottom(&self) -> Result<(), Halt> {
        let mut state = self.state();
        if std::mem::replace(&mut state.begun, true) {
            let done = |state: &mut State<'_>| !state.open && state.halt.is_none();
            drop(self.changed.wait_while(state, done).unwrap_or_else(PoisonError::into_inner));
            return Ok(());
        }
        drop(state);
        let made = self.make_bottom();
        self.state().open = true;
        self.changed.notify_all();
        made
    }

    fn make_bottom(&self) -> Result<(), Halt> {
        let (architecture, epoch) = (&self.lock.architecture, self.options.epoch);
        let bottom = if self.lock.packages.iter().any(|package| package.name == BOTTOM) {
            Some(self.delivery.first().ok_or(Halt::Undelivered)?)
        } else {
            None
        };
        let brings = bottom.as_ref().map_or(Ok(false), |delivered| {
            let locked = &self.lock.packages[delivered.at()];
            with_deb(locked, delivered.path(), |deb| skeleton::brings_links(locked, deb))
        })?;
        skeleton::make(&self.first.root, brings, architecture, epoch)?;
        self.make_info()?;
        if let Some(delivered) = &bottom {
            self.one(delivered)?;
        }
        Ok(skeleton::repeat(&self.first.root, &self.rest.root, epoch)?)
    }

    /// Makes the folder of dpkg's that every package writes into.
    fn make_info(&self) -> Result<(), UnpackError> {
        let (info, meta) = (Path::new(database::INFO), Meta::of_root(0o755, self.options.epoch));
        [&self.first, &self.rest]
            .iter()
            .try_for_each(|place| place.root.make_folders(info, meta).map_err(UnpackError::tree(info)))
    }

    fn others(&self) -> Result<(), Halt> {
        let mut polite = false;
        while let Some(delivered) = self.delivery.next() {
            if !polite && !self.plan.is_first(delivered.at()) {
                // scripts of the first batch run meanwhile, and all wait for them
                let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
                polite = true;
            }
            self.one(&delivered)?;
        }
        Ok(())
    }

    fn one(&self, delivered: &Delivered) -> Result<(), Halt> {
        let at = delivered.at();
        let locked = &self.lock.packages[at];
        self.reporter.report(Event::At { phase: Phase::Unpack, subject: locked.name.clone() });
        let place = if self.plan.is_first(at) { &self.first } else { &self.rest };
        let (package, contents) = with_deb(locked, delivered.path(), |deb| {
            let package = Package::read(locked, delivered.path(), deb)?;
            let mut writer = Writer::new(&place.root, &place.folders, at);
            let contents = package.write(deb, &mut writer)?;
            database::info(&package, &contents, self.options.epoch, &mut writer)?;
            Ok((package, contents))
        })?;
        self.reporter.report(Event::Advanced { phase: Phase::Unpack, delta: 1 });
        let mut state = self.state();
        state.bytes += contents.bytes;
        let batch = if self.plan.is_first(at) { &mut state.first } else { &mut state.rest };
        batch.push(Done { at, package, contents });
        self.changed.notify_all();
        Ok(())
    }

    /// Waits for the first batch and writes dpkg's database of it.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn first(&self) -> Result<Unpacked, Halt> {
        let timed = Timed::begin(self.reporter, Phase::Unpack, "first batch");
        let done = self.wait(self.plan.first, |state| &mut state.first)?;
        drop(timed);
        let _timed = Timed::begin(self.reporter, Phase::Unpack, "its database");
        let (packages, contents) = parted(&done);
        let architecture = &self.lock.architecture;
        let all = self.plan.first == self.lock.packages.len();
        if !all && !plan::is_closed(&packages, architecture) {
            return Err(Halt::Entangled);
        }
        let Place { root, folders } = &self.first;
        folders.finish(root, self.options.epoch)?;
        database::write(root, &self.lock.packages, &packages, &contents, architecture, self.options.epoch)?;
        let unpacked = self.unpacked(&packages);
        // what the rest is compared with when it is moved
        self.state().first = done;
        Ok(unpacked)
    }

    /// Waits for the rest, moves it into the tree, whose first batch is configured, and writes dpkg's database
    /// of it.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn rest(&self) -> Result<Unpacked, Halt> {
        let wanted = self.lock.packages.len() - self.plan.first;
        let timed = Timed::begin(self.reporter, Phase::Unpack, "wait for the rest");
        let done = self.wait(wanted, |state| &mut state.rest)?;
        drop(timed);
        let (packages, contents) = parted(&done);
        let epoch = self.options.epoch;
        let Place { root: rest, folders } = &self.rest;
        let path = rest.path();
        if !done.is_empty() {
            folders.finish(rest, epoch)?;
            // scripts have run in the tree: its links are now to be taken as after chroot(2)
            let root = Root::open(self.first.root.path(), Links::InTree).map_err(UnpackError::tree(path))?;
            let first = std::mem::take(&mut self.state().first);
            let _timed = Timed::begin(self.reporter, Phase::Unpack, "move the rest");
            merge::merge(&root, rest, &known(&first, &done))?;
            database::add(&root, &packages, &contents, epoch)?;
        }
        remove_tree(path).map_err(UnpackError::tree(path))?;
        let bytes = self.state().bytes;
        self.reporter.report(Event::Finished {
            phase: Phase::Unpack,
            elapsed: self.begun.elapsed(),
            summary: format!("{} packages, {:.0} MB", self.lock.packages.len(), bytes as f64 / 1e6),
        });
        Ok(self.unpacked(&packages))
    }

    /// Waits for the rest, and leaves it where it is.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn finished(&self) -> Result<(), Halt> {
        let wanted = self.lock.packages.len() - self.plan.first;
        self.wait(wanted, |state| &mut state.rest).map(drop)
    }

    /// Waits until so many packages of a batch are there.
    fn wait(
        &self,
        wanted: usize,
        batch: impl for<'s> Fn(&'s mut State<'a>) -> &'s mut Vec<Done<'a>>,
    ) -> Result<Vec<Done<'a>>, Halt> {
        let mut state = self.state();
        while batch(&mut state).len() < wanted && state.halt.is_none() && state.workers > 0 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(halt) = state.halt.take() {
            return Err(halt);
        }
        if batch(&mut state).len() < wanted {
            return Err(Halt::Undelivered);
        }
        let mut done = std::mem::take(batch(&mut state));
        done.sort_by_key(|done| done.at);
        Ok(done)
    }

    fn unpacked(&self, packages: &[&Package<'_>]) -> Unpacked {
        Unpacked {
            tree: self.first.root.path().to_owned(),
            preinsts: super::preinsts(packages),
            deferred: Vec::new(),
            packages: packages.len(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a thread that ends, however it ends: others wait for it.
struct Leaving<'a, 'b>(&'a Unpacking<'b>);

impl Drop for Leaving<'_, '_> {
    fn drop(&mut self) {
        self.0.state().workers -= 1;
        self.0.changed.notify_all();
    }
}

fn known<'a>(first: &'a [Done<'_>], rest: &'a [Done<'_>]) -> merge::Known<'a> {
    let listed = |done: &'a [Done<'_>]| done.iter().flat_map(|done| &done.contents.list).map(String::as_str);
    let conffiles = rest.iter().flat_map(|done| done.package.conffiles()).collect();
    merge::Known { first: listed(first).collect(), rest: listed(rest).collect(), conffiles }
}

fn parted<'b, 'a>(done: &'b [Done<'a>]) -> (Vec<&'b Package<'a>>, Vec<&'b Contents>) {
    done.iter().map(|done| (&done.package, &done.contents)).unzip()
}
