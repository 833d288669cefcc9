//! Unpacking while packages are still on their way, and while earlier ones are being configured.
//!
//! The first batch goes straight into an empty tree. Each later one goes into a folder of its own in the tree,
//! where no script sees it, and is moved into place when those before it are configured: what scripts find
//! depends on the lock alone, never on who was faster.

use std::{
    path::{Path, PathBuf},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::{
    BESIDE, Options, UnpackError, Unpacked,
    below::Below,
    database, merge,
    package::{Contents, Package},
    plan::{self, BOTTOM, Plan},
    skeleton,
    tree::{Folders, Writer},
    with_deb, write_one,
};
use crate::{
    host::{
        priority::Thread,
        root::{Links, Meta, Root, clear_tree, remove_tree},
    },
    lock::{Lock, LockedPackage},
    report::{Event, Phase, Reporter, Timed, Unit},
    store::{Delivered, Delivery},
};

/// Why a batch is not in the tree.
#[derive(Debug)]
pub enum Halt {
    /// A package fails.
    Failed(UnpackError),
    /// Packages share paths, or need each other across the batches.
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

/// The unpacking of a lock's packages batch by batch, by threads that call [`Self::work`].
pub struct Unpacking<'a> {
    lock: &'a Lock,
    delivery: &'a Delivery,
    reporter: &'a dyn Reporter,
    pub(super) options: Options,
    plan: &'a Plan,
    begun: Instant,
    tree: PathBuf,
    /// Where each batch is written.
    pub(super) places: Vec<Place>,
    state: Mutex<State<'a>>,
    changed: Condvar,
    below: Mutex<Below>,
}

/// Where a batch is written.
pub(super) struct Place {
    pub(super) root: Root,
    pub(super) folders: Folders,
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
    /// Those of them that unpack what comes after a batch whose scripts may run.
    ahead: Vec<Thread>,
    /// What they unpack is waited for.
    waited_for: bool,
    /// How many bytes the files have that were written.
    bytes: u64,
    batches: Vec<Came<'a>>,
    halt: Option<Halt>,
}

impl State<'_> {
    /// Says whether what is unpacked ahead is waited for. Those who unpack it are alive: they take themselves off the
    /// list before they end.
    fn wait_for_ahead(&mut self, waited_for: bool) {
        self.waited_for = waited_for;
        for thread in &self.ahead {
            if waited_for { thread.competes() } else { thread.yields() }
        }
    }
}

/// What came of a batch.
#[derive(Default)]
struct Came<'a> {
    done: Vec<Done<'a>>,
    /// How many packages share a path with another of the batch.
    entangled: usize,
    /// It was asked for.
    taken: bool,
}

/// A package that is unpacked, with its place in the lock.
struct Done<'a> {
    at: usize,
    package: Package<'a>,
    contents: Contents,
}

impl<'a> Unpacking<'a> {
    /// Prepares to unpack a lock's packages into a tree, as a plan of the lock says. `workers` threads must then
    /// call [`Self::work`].
    ///
    /// # Errors
    /// [`UnpackError::Tree`].
    pub fn new(
        (lock, plan): (&'a Lock, &'a Plan),
        delivery: &'a Delivery,
        tree: &Path,
        options: Options,
        workers: usize,
        reporter: &'a dyn Reporter,
    ) -> Result<Self, UnpackError> {
        let begun = Instant::now();
        let total = lock.packages.len() as u64;
        reporter.report(Event::Started { phase: Phase::Unpack, unit: Unit::Packages, total });
        let root = Root::open(tree, Links::InTree).map_err(UnpackError::tree(tree))?;
        let beside = tree.join(BESIDE);
        clear_tree(&beside).map_err(UnpackError::tree(&beside))?;
        let mut places = Vec::new();
        for batch in 0..plan.batches().len() {
            let path = if plan.is_straight(batch) {
                PathBuf::new()
            } else {
                let path = Path::new(BESIDE).join(batch.to_string());
                root.make_folders(&path, Meta::of_root(0o700, options.epoch))
                    .map_err(UnpackError::tree(&path))?;
                path
            };
            places.push(Place::open(&tree.join(path))?);
        }
        let is_onto = !plan.is_straight(0);
        let below = Mutex::new(if is_onto { Below::read(&root)? } else { Below::default() });
        let batches = plan.batches().iter().map(|_| Came::default()).collect();
        let state = Mutex::new(State { workers, batches, ..State::default() });
        let (changed, tree) = (Condvar::new(), tree.to_owned());
        Ok(Self { lock, delivery, reporter, options, plan, begun, tree, places, state, changed, below })
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
        let mut beside = &self.places[..];
        if self.plan.is_straight(0) {
            self.make_skeleton(&self.places[0].root)?;
            beside = &self.places[1..];
        }
        let root = Root::open(&self.tree, Links::InTree).map_err(UnpackError::tree(&self.tree))?;
        for place in beside {
            skeleton::repeat(&root, &place.root, self.options.epoch)?;
            self.make_info(&place.root)?;
        }
        Ok(())
    }

    fn make_skeleton(&self, root: &Root) -> Result<(), Halt> {
        let (architecture, epoch) = (&self.lock.architecture, self.options.epoch);
        let is_bottom = |at: usize| self.plan.is_straight(self.plan.batch(at));
        let mut packages = self.lock.packages.iter().enumerate();
        let bottom = if packages.any(|(at, package)| package.name == BOTTOM && is_bottom(at)) {
            Some(self.delivery.first().ok_or(Halt::Undelivered)?)
        } else {
            None
        };
        let brings = bottom.as_ref().map_or(Ok(false), |delivered| {
            let locked = &self.lock.packages[delivered.at()];
            with_deb(locked, delivered.path(), |deb| skeleton::brings_links(locked, deb))
        })?;
        skeleton::make(root, brings, architecture, epoch)?;
        self.make_info(root)?;
        bottom.map_or(Ok(()), |delivered| self.one(&delivered))
    }

    /// Makes the folder of dpkg's that every package writes into.
    pub(super) fn make_info(&self, root: &Root) -> Result<(), UnpackError> {
        let (info, meta) = (Path::new(database::INFO), Meta::of_root(0o755, self.options.epoch));
        root.make_folders(info, meta).map_err(UnpackError::tree(info))
    }

    fn others(&self) -> Result<(), Halt> {
        let mut ahead = false;
        while let Some(delivered) = self.delivery.next() {
            if !ahead && self.plan.batch(delivered.at()) > 0 {
                self.goes_ahead();
                ahead = true;
            }
            self.one(&delivered)?;
        }
        Ok(())
    }

    /// Has the calling thread give way to scripts of earlier batches, which all wait for, unless all wait for it.
    fn goes_ahead(&self) {
        let mut state = self.state();
        state.ahead.push(Thread::this());
        if !state.waited_for {
            Thread::this().yields();
        }
    }

    fn one(&self, delivered: &Delivered) -> Result<(), Halt> {
        let at = delivered.at();
        let locked = &self.lock.packages[at];
        self.reporter.report(Event::At { phase: Phase::Unpack, subject: locked.name.clone() });
        let batch = self.plan.batch(at);
        let place = &self.places[batch];
        let written = with_deb(locked, delivered.path(), |deb| {
            let package = Package::read(locked, delivered.path(), deb)?;
            let mut writer = Writer::new(&place.root, &place.folders, at);
            let recoder = delivered.recoder(deb);
            let contents = write_one(&package, deb, &mut writer, self.options.epoch, recoder)?;
            Ok((package, contents))
        });
        self.reporter.report(Event::Advanced { phase: Phase::Unpack, delta: 1 });
        let mut state = self.state();
        match written {
            Ok((package, contents)) => {
                state.bytes += contents.bytes;
                state.batches[batch].done.push(Done { at, package, contents });
            }
            // which of the two comes second is a matter of speed: see `again`
            Err(UnpackError::Collision { .. }) if !self.plan.is_straight(batch) => {
                state.batches[batch].entangled += 1;
            }
            Err(problem) => return Err(problem.into()),
        }
        self.changed.notify_all();
        Ok(())
    }

    /// Says that profiles have put files into the tree, which no package may have.
    pub fn reserve(&self, profile: &str, paths: impl IntoIterator<Item = PathBuf>) {
        let mut below = self.below();
        for path in paths {
            let path = path.to_str().map_or_else(|| path.clone(), merge::merged);
            below.reserved.insert(path, profile.to_owned());
        }
    }

    /// Waits for a batch, brings it into the tree, whose earlier batches are configured, and writes dpkg's
    /// database of it. To be called for each batch, in order.
    ///
    /// # Errors
    /// [`Halt`]; where it is [`Halt::Entangled`] nothing of a later batch was moved, see [`Self::again`].
    pub fn batch(&self, batch: usize) -> Result<Unpacked, Halt> {
        let timed = Timed::begin(self.reporter, Phase::Unpack, waiting(batch));
        let done = self.wait(batch)?;
        drop(timed);
        let straight = self.plan.is_straight(batch);
        let part = if straight { "its database" } else { "move a batch" };
        let _timed = Timed::begin(self.reporter, Phase::Unpack, part);
        let (packages, contents) = parted(&done);
        let Place { root, folders } = &self.places[batch];
        folders.finish(root, self.options.epoch)?;
        if straight {
            let all = self.plan.batches().len() == 1;
            if !all && !plan::is_closed(&packages, &self.lock.architecture) {
                return Err(Halt::Entangled);
            }
            let own = self.members(batch);
            let (architecture, epoch) = (&self.lock.architecture, self.options.epoch);
            database::write(root, &own, &packages, &contents, architecture, epoch)?;
        } else {
            self.merge(batch, &packages, &contents)?;
        }
        self.brought(batch, &contents)?;
        Ok(self.unpacked(&packages, &contents))
    }

    /// Moves what lies beside the tree into it.
    pub(super) fn merge(
        &self,
        batch: usize,
        packages: &[&Package<'_>],
        contents: &[&Contents],
    ) -> Result<(), Halt> {
        // scripts have run in the tree: its links are now to be taken as after chroot(2)
        let root = Root::open(&self.tree, Links::InTree).map_err(UnpackError::tree(&self.tree))?;
        let paths = packages.iter().zip(contents).flat_map(|(package, contents)| {
            contents.list.iter().map(|path| (path.as_str(), package.locked.name.as_str()))
        });
        let conffiles = packages.iter().flat_map(|package| package.conffiles()).collect();
        let known = merge::Known { paths: paths.collect(), conffiles };
        let mut below = self.below();
        if std::mem::take(&mut below.stale) {
            below.owned = Below::read(&root)?.owned;
        }
        merge::merge(&root, &self.places[batch].root, &below, &known)?;
        Ok(self.note(batch, &root, packages, contents)?)
    }

    /// Adds a batch to dpkg's database, as far as dpkg itself is not to unpack it.
    pub(super) fn note(
        &self,
        batch: usize,
        root: &Root,
        packages: &[&Package<'_>],
        contents: &[&Contents],
    ) -> Result<(), UnpackError> {
        let (architecture, epoch) = (&self.lock.architecture, self.options.epoch);
        database::add(root, &self.members(batch), packages, contents, architecture, epoch)
    }

    /// Notes what a batch brought, and takes away where it lay.
    pub(super) fn brought(&self, batch: usize, contents: &[&Contents]) -> Result<(), UnpackError> {
        let last = batch + 1 == self.plan.batches().len();
        if !last {
            let listed = contents.iter().flat_map(|contents| &contents.list);
            self.below().owned.extend(listed.map(|path| merge::merged(path)));
        }
        if !self.plan.is_straight(batch) {
            let path = if last { self.tree.join(BESIDE) } else { self.places[batch].root.path().to_owned() };
            remove_tree(&path).map_err(UnpackError::tree(&path))?;
        }
        if last {
            let bytes = self.state().bytes;
            self.reporter.report(Event::Finished {
                phase: Phase::Unpack,
                elapsed: self.begun.elapsed(),
                summary: format!("{} packages, {:.0} MB", self.lock.packages.len(), bytes as f64 / 1e6),
            });
        }
        Ok(())
    }

    /// Waits for all batches that were not asked for, leaves them where they are, and gives those whose packages
    /// share paths.
    ///
    /// # Errors
    /// [`Halt`], never [`Halt::Entangled`].
    pub fn finished(&self) -> Result<Vec<usize>, Halt> {
        let mut entangled = Vec::new();
        for batch in 0..self.plan.batches().len() {
            let state = self.wait_for(batch)?;
            let Came { entangled: some, taken, .. } = state.batches[batch];
            if some > 0 && !taken {
                entangled.push(batch);
            }
        }
        Ok(entangled)
    }

    /// Takes the packages of a batch when all of them came.
    fn wait(&self, batch: usize) -> Result<Vec<Done<'a>>, Halt> {
        let mut state = self.wait_for(batch)?;
        state.batches[batch].taken = true;
        let mut done = std::mem::take(&mut state.batches[batch].done);
        if state.batches[batch].entangled > 0 {
            return Err(Halt::Entangled);
        }
        done.sort_by_key(|done| done.at);
        Ok(done)
    }

    fn wait_for(&self, batch: usize) -> Result<MutexGuard<'_, State<'a>>, Halt> {
        let wanted = self.plan.batches()[batch].packages;
        let has = |state: &State<'_>| {
            let Came { done, entangled, taken } = &state.batches[batch];
            *taken || done.len() + entangled >= wanted
        };
        let mut state = self.state();
        state.wait_for_ahead(true);
        while !has(&state) && state.halt.is_none() && state.workers > 0 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.wait_for_ahead(false);
        if let Some(halt) = state.halt.take() {
            return Err(halt);
        }
        if has(&state) { Ok(state) } else { Err(Halt::Undelivered) }
    }

    /// Gives the packages of a batch as they are in the lock.
    fn members(&self, batch: usize) -> Vec<&'a LockedPackage> {
        self.plan.members(batch).into_iter().map(|at| &self.lock.packages[at]).collect()
    }

    fn unpacked(&self, packages: &[&Package<'_>], contents: &[&Contents]) -> Unpacked {
        Unpacked {
            tree: self.tree.clone(),
            preinsts: super::preinsts(packages),
            deferred: Vec::new(),
            named: super::named(contents),
            packages: packages.len(),
        }
    }

    pub(super) fn tree(&self) -> &Path {
        &self.tree
    }

    pub(super) fn below(&self) -> MutexGuard<'_, Below> {
        self.below.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a thread that ends, however it ends: others wait for it.
struct Leaving<'a, 'b>(&'a Unpacking<'b>);

impl Drop for Leaving<'_, '_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.workers -= 1;
        // its number may soon be another's
        state.ahead.retain(|thread| *thread != Thread::this());
        drop(state);
        self.0.changed.notify_all();
    }
}

/// Says what is waited for. Few trees have more batches.
const fn waiting(batch: usize) -> &'static str {
    match batch {
        0 => "first batch",
        1 => "wait for batch 2",
        2 => "wait for batch 3",
        3 => "wait for batch 4",
        4 => "wait for batch 5",
        _ => "wait for a batch",
    }
}

fn parted<'b, 'a>(done: &'b [Done<'a>]) -> (Vec<&'b Package<'a>>, Vec<&'b Contents>) {
    done.iter().map(|done| (&done.package, &done.contents)).unzip()
}
