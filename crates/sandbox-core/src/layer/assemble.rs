//! A lock made a configured tree: fetching, unpacking and configuring at once, as far as one allows the other.

use std::{
    fs::File,
    path::{Path, PathBuf},
    thread,
};

use super::{Doors, JOBS};
use crate::{
    Result,
    configure::{self, ConfigureError, Configuring, Rootfs},
    error::{Context as _, Error},
    host::root::{Links, Root},
    lock::Lock,
    store::{self, Delivery, StoreError, Ways},
    unpack::{self, Halt, Plan, UnpackError, Unpacked, Unpacking},
};

/// What is called when a stacked file's packages are configured, with the file's place, and with the tree as it is
/// without those of the files above.
pub type Between<'a> = dyn FnMut(usize, &Rootfs) -> Result<()> + 'a;

/// The packages that are to come into a tree.
pub struct Work<'a> {
    /// Those that the tree has not yet, dependencies first.
    pub lock: Lock,
    /// The place of the stacked file that each of them belongs to.
    pub groups: Vec<usize>,
    /// How many of the stacked files are in the tree; the folder is empty where it is none.
    pub done: usize,
    /// For each stacked file its name, and the paths that it puts into the tree beside packages.
    pub files: Vec<(String, Vec<PathBuf>)>,
    /// The tree.
    pub tree: &'a Path,
    /// What is particular to it.
    pub options: &'a configure::Options,
    /// The doors.
    pub doors: &'a Doors<'a>,
    /// How packages are fetched.
    pub ways: Ways<'a>,
    /// What errors call it.
    pub subject: String,
}

/// Why an overlapped assembly ended.
enum Stop {
    Fetch(StoreError),
    Unpack(Halt),
    Configure(ConfigureError),
    Between(Error),
}

impl Work<'_> {
    /// Fetches, unpacks and configures the packages, those of one stacked file after those of the other.
    ///
    /// # Errors
    /// Of the stage that failed; the tree is then of no use.
    pub fn assemble(&self, between: &mut Between<'_>) -> Result<Rootfs> {
        let plan = if self.done == 0 {
            Plan::of(&self.lock, &self.groups)
        } else {
            Plan::onto(&self.lock, &self.groups)
        };
        match self.overlapped(&plan, between) {
            // the first batch is to be seen by dpkg side by side with others: all of the first file at once
            Err(Stop::Unpack(Halt::Entangled)) => {
                empty(self.tree).during("unpack the packages of", &*self.subject)?;
                self.in_one()?;
                let (lock, groups) = self.part(|group| group > 0);
                let files = self.files.clone();
                let subject = self.subject.clone();
                let work = Work { lock, groups, done: 1, files, subject, ..*self };
                work.told(work.first_again(between))
            }
            made => self.told(made),
        }
    }

    /// Words what went wrong.
    fn told(&self, made: Result<Rootfs, Stop>) -> Result<Rootfs> {
        let subject = &*self.subject;
        made.map_err(|stop| match stop {
            Stop::Fetch(source) => Error::new("fetch the packages of", subject, source),
            Stop::Unpack(Halt::Failed(source)) => Error::new("unpack the packages of", subject, source),
            Stop::Unpack(Halt::Entangled | Halt::Undelivered) => {
                unreachable!("dpkg sees to the one, and the other is told by what did not come")
            }
            Stop::Configure(source) => Error::new("configure the packages of", subject, source),
            Stop::Between(error) => error,
        })
    }

    /// Goes on where the packages of the first file are in the tree and nothing else.
    fn first_again(&self, between: &mut Between<'_>) -> Result<Rootfs, Stop> {
        let mut configuring = self.configuring()?;
        between(0, configuring.settled().map_err(Stop::Configure)?).map_err(Stop::Between)?;
        self.overlapped(&Plan::onto(&self.lock, &self.groups), between)
    }

    fn configuring(&self) -> Result<Configuring<'_>, Stop> {
        let Doors { runner, reporter, .. } = *self.doors;
        Configuring::new(self.tree, runner, self.options, reporter).map_err(Stop::Configure)
    }

    /// Gives the packages of some files.
    fn part(&self, is_wanted: impl Fn(usize) -> bool) -> (Lock, Vec<usize>) {
        let chosen = |at: &usize| is_wanted(self.groups[*at]);
        let places: Vec<usize> = (0..self.groups.len()).filter(chosen).collect();
        let groups = places.iter().map(|&at| self.groups[at]).collect();
        (self.some(places), groups)
    }

    fn some(&self, places: impl IntoIterator<Item = usize>) -> Lock {
        let packages = places.into_iter().map(|at| self.lock.packages[at].clone()).collect();
        Lock { packages, sources: self.lock.sources.clone(), ..self.head() }
    }

    fn head(&self) -> Lock {
        let Lock { image, architecture, epoch, .. } = &self.lock;
        Lock { image: image.clone(), architecture: architecture.clone(), epoch: *epoch, ..Lock::default() }
    }

    /// Does all stages at once.
    fn overlapped(&self, plan: &Plan, between: &mut Between<'_>) -> Result<Rootfs, Stop> {
        let Doors { store, reporter, .. } = *self.doors;
        let lock = &self.lock;
        let workers = thread::available_parallelism().map_or(2, usize::from);
        let delivery = Delivery::new(plan.order(lock)).recoded();
        let options = unpack::Options { epoch: lock.epoch };
        let unpacking = Unpacking::new((lock, plan), &delivery, self.tree, options, workers, reporter)
            .map_err(|source| Stop::Unpack(Halt::Failed(source)))?;
        thread::scope(|scope| {
            let fetching = scope.spawn(|| store::deliver(lock, store, self.ways, JOBS, &delivery, reporter));
            for _ in 0..workers {
                scope.spawn(|| unpacking.work());
            }
            // while the last scripts run most of the tree is written to the disk, and the sync at the end is short
            let write_back = || drop(scope.spawn(|| File::open(self.tree).map(rustix::fs::syncfs)));
            let mut made = self.batches(plan, &unpacking, between, &write_back);
            if matches!(made, Err(Stop::Configure(_)))
                && let Err(halt) = self.proved(plan, &unpacking)
            {
                made = Err(Stop::Unpack(halt));
            }
            delivery.stop();
            let fetched = fetching.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            // a disk that is full is not for this to tell
            let _ = store.trim_recoded();
            match (made, fetched) {
                // what did not come is why the rest could not be done
                (Err(Stop::Unpack(Halt::Undelivered) | Stop::Configure(_)), Err(source)) => {
                    Err(Stop::Fetch(source))
                }
                (made, _) => made,
            }
        })
    }

    /// Brings batch by batch into the tree, has its scripts run, and says when a file's packages are done.
    fn batches(
        &self,
        plan: &Plan,
        unpacking: &Unpacking<'_>,
        between: &mut Between<'_>,
        before_last: &dyn Fn(),
    ) -> Result<Rootfs, Stop> {
        let mut files = Files { work: self, unpacking, between, next: self.done };
        files.reserve();
        let mut configuring = self.configuring()?;
        for (number, batch) in plan.batches().iter().enumerate() {
            files.done_below(batch.group, &mut configuring)?;
            let unpacked = match unpacking.batch(number) {
                Err(Halt::Entangled) if !plan.is_straight(number) => self.again(plan, number, unpacking)?,
                unpacked => unpacked.map_err(Stop::Unpack)?,
            };
            if plan.is_straight(number) {
                configuring.begin().map_err(Stop::Configure)?;
            }
            if number + 1 == plan.batches().len() {
                before_last();
            }
            configuring.batch(&unpacked).map_err(Stop::Configure)?;
        }
        files.done_below(self.files.len(), &mut configuring)?;
        configuring.end().map_err(Stop::Configure)
    }

    /// Sees whether a package lies that was not yet needed: that is told before a script that fails, whichever
    /// was faster.
    fn proved(&self, plan: &Plan, unpacking: &Unpacking<'_>) -> Result<(), Halt> {
        let Doors { store, reporter, .. } = *self.doors;
        let batches = match unpacking.finished() {
            // what did not come is told elsewhere
            Err(Halt::Entangled | Halt::Undelivered) => return Ok(()),
            batches => batches?,
        };
        for number in batches {
            let lock = self.some(plan.members(number));
            let Ok(filled) = store::fill_by(&lock, store, self.ways, JOBS, reporter) else { continue };
            unpacking.proved(number, &filled).map_err(Halt::Failed)?;
        }
        Ok(())
    }

    /// Does a batch whose packages share paths with others.
    fn again(&self, plan: &Plan, number: usize, unpacking: &Unpacking<'_>) -> Result<Unpacked, Stop> {
        let lock = self.some(plan.members(number));
        let Doors { store, reporter, .. } = *self.doors;
        let filled = store::fill_by(&lock, store, self.ways, JOBS, reporter).map_err(Stop::Fetch)?;
        unpacking.again(number, &filled).map_err(|problem| Stop::Unpack(Halt::Failed(problem)))
    }

    /// Does one stage after the other, for the packages of the first file, which dpkg itself must see side by side.
    fn in_one(&self) -> Result<()> {
        let subject = &*self.subject;
        let Doors { store, reporter, runner, .. } = *self.doors;
        let (lock, _) = self.part(|group| group == 0);
        let filled = store::fill_by(&lock, store, self.ways, JOBS, reporter)
            .during("fetch the packages of", subject)?;
        let unpacked = unpack::unpack(&filled, self.tree, &unpack::Options { epoch: lock.epoch }, reporter)
            .during("unpack the packages of", subject)?;
        configure::configure(&unpacked, runner, self.options, reporter)
            .during("configure the packages of", subject)?;
        Ok(())
    }
}

/// The stacked files, as they are done one after the other.
struct Files<'a, 'b, 'c> {
    work: &'a Work<'a>,
    unpacking: &'a Unpacking<'b>,
    between: &'a mut Between<'c>,
    /// The first that is not done.
    next: usize,
}

impl Files<'_, '_, '_> {
    /// Says that all packages of the files below one are configured.
    fn done_below(&mut self, file: usize, configuring: &mut Configuring<'_>) -> Result<(), Stop> {
        while self.next < file.min(self.work.files.len()) {
            let rootfs = configuring.settled().map_err(Stop::Configure)?;
            (self.between)(self.next, rootfs).map_err(Stop::Between)?;
            self.next += 1;
            self.reserve();
        }
        Ok(())
    }

    /// Keeps later packages from what the files that are done have put into the tree.
    fn reserve(&self) {
        for (name, paths) in &self.work.files[..self.next] {
            self.unpacking.reserve(name, paths.iter().cloned());
        }
    }
}

/// Takes away what was begun in a tree.
///
/// # Errors
/// [`UnpackError::Tree`].
pub fn empty(tree: &Path) -> Result<(), UnpackError> {
    let emptied = Root::open(tree, Links::Refused).and_then(|root| root.empty(Path::new("")));
    emptied.map_err(|source| UnpackError::Tree { path: tree.to_owned(), source })
}
