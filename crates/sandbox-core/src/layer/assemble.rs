//! A lock made a configured tree: fetching, unpacking and configuring at once, as far as one allows the other.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use super::{Doors, JOBS};
use crate::{
    Result,
    configure::{self, Configuring, Rootfs},
    error::{Context as _, Error},
    host::root::{Links, Root},
    lock::Lock,
    store::{self, Delivery, Store, StoreError, Ways},
    unpack::{self, Halt, UnpackError, Unpacking},
};

/// The priority of what nobody waits for.
const LOWEST: i32 = 19;

/// Fetches, unpacks and configures the packages of a lock in an empty folder.
///
/// # Errors
/// Of the stage that failed; the folder is then of no use.
pub fn assemble(
    lock: &Lock,
    tree: &Path,
    options: &configure::Options,
    doors: &Doors<'_>,
    ways: Ways<'_>,
    subject: &str,
) -> Result<Rootfs> {
    match overlapped(lock, tree, options, doors, ways) {
        Ok(rootfs) => Ok(rootfs),
        Err(Stop::Fetch(source)) => Err(Error::new("fetch the packages of", subject, source)),
        Err(Stop::Unpack(Halt::Failed(source))) => Err(Error::new("unpack the packages of", subject, source)),
        Err(Stop::Unpack(Halt::Entangled | Halt::Undelivered)) => {
            empty(tree).during("unpack the packages of", subject)?;
            in_one(lock, tree, options, doors, ways, subject)
        }
        Err(Stop::Configure(source)) => Err(Error::new("configure the packages of", subject, source)),
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

/// Why an overlapped assembly ended.
enum Stop {
    Fetch(StoreError),
    Unpack(Halt),
    Configure(configure::ConfigureError),
}

/// Does all stages at once.
fn overlapped(
    lock: &Lock,
    tree: &Path,
    options: &configure::Options,
    doors: &Doors<'_>,
    ways: Ways<'_>,
) -> Result<Rootfs, Stop> {
    let workers = thread::available_parallelism().map_or(2, usize::from);
    let delivery = Delivery::new(unpack::order(lock)).recoded();
    let idle = Idle::default();
    let unpack_options = unpack::Options { epoch: lock.epoch };
    let unpacking = Unpacking::new(lock, &delivery, tree, unpack_options, workers, doors.reporter)
        .map_err(|source| Stop::Unpack(Halt::Failed(source)))?;
    thread::scope(|scope| {
        let fetching =
            scope.spawn(|| store::deliver(lock, doors.store, ways, JOBS, &delivery, doors.reporter));
        for _ in 0..workers {
            scope.spawn(|| {
                unpacking.work();
                idle.recode(lock, doors.store);
            });
        }
        let mut made = batches(&unpacking, options, doors);
        if matches!(made, Err(Stop::Configure(_))) {
            // a package that lies is told before a script that fails, whichever was faster
            if let Err(halt @ (Halt::Failed(_) | Halt::Entangled)) = unpacking.finished() {
                made = Err(Stop::Unpack(halt));
            }
        }
        delivery.stop();
        idle.ended.store(true, Ordering::Relaxed);
        let fetched = fetching.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match (made, fetched) {
            // what did not come is why the rest could not be done
            (Err(Stop::Unpack(Halt::Undelivered) | Stop::Configure(_)), Err(source)) => {
                Err(Stop::Fetch(source))
            }
            (made, _) => made,
        }
    })
}

/// What a thread does that has nothing else to do while scripts run.
#[derive(Default)]
struct Idle {
    begun: AtomicBool,
    ended: AtomicBool,
}

impl Idle {
    /// Recodes packages for the next build that uses them, until this one has ended. One thread does it.
    fn recode(&self, lock: &Lock, store: &Store) {
        let ended = || self.ended.load(Ordering::Relaxed);
        if self.begun.swap(true, Ordering::Relaxed) {
            return;
        }
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), LOWEST);
        for package in &lock.packages {
            // a disk that is full is not for this to tell
            if ended() || store.recode(&package.sha256, &ended).is_err() {
                return;
            }
        }
        let _ = store.trim_recoded();
    }
}

fn batches(
    unpacking: &Unpacking<'_>,
    options: &configure::Options,
    doors: &Doors<'_>,
) -> Result<Rootfs, Stop> {
    let first = unpacking.first().map_err(Stop::Unpack)?;
    let mut configuring =
        Configuring::begin(&first, doors.runner, options, doors.reporter).map_err(Stop::Configure)?;
    configuring.batch(&first).map_err(Stop::Configure)?;
    let rest = unpacking.rest().map_err(Stop::Unpack)?;
    configuring.batch(&rest).map_err(Stop::Configure)?;
    configuring.end().map_err(Stop::Configure)
}

/// Does one stage after the other, for packages that dpkg itself must see side by side.
fn in_one(
    lock: &Lock,
    tree: &Path,
    options: &configure::Options,
    doors: &Doors<'_>,
    ways: Ways<'_>,
    subject: &str,
) -> Result<Rootfs> {
    let filled = store::fill_by(lock, doors.store, ways, JOBS, doors.reporter)
        .during("fetch the packages of", subject)?;
    let unpacked = unpack::unpack(&filled, tree, &unpack::Options { epoch: lock.epoch }, doors.reporter)
        .during("unpack the packages of", subject)?;
    configure::configure(&unpacked, doors.runner, options, doors.reporter)
        .during("configure the packages of", subject)
}
