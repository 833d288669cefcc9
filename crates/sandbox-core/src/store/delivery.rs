//! Packages handed on as they come, so that they can be unpacked while others are still on their way.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    path::{Path, PathBuf},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use super::{
    Entry,
    recoded::{Recoder, Recoding},
};
use crate::deb::archive::Deb;

/// The place where packages of a lock lie between the store and whoever unpacks them.
///
/// Those that are there are given in the order in which they are wanted, whichever came first.
#[derive(Debug)]
pub struct Delivery {
    /// The packages by place in the lock, as they are wanted.
    order: Vec<usize>,
    /// Recoded forms will do.
    recoded: bool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// What waits, by its place in `order`.
    ready: BinaryHeap<Reverse<(usize, Delivered)>>,
    /// No more will come.
    ended: bool,
    /// No more is wanted.
    stopped: bool,
}

/// A package whose file was just seen to be right. Only the store makes one.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Delivered {
    at: usize,
    path: PathBuf,
    recoding: Option<Recoding>,
}

impl Delivered {
    /// Gives its place in the lock.
    #[must_use]
    pub const fn at(&self) -> usize {
        self.at
    }

    /// Gives the path of its file. It is for reading only.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Begins with the recoded form of it, which is to get what is decoded of it now; none where none is wanted.
    #[must_use]
    pub fn recoder(&self, deb: &Deb<'_>) -> Option<Recoder> {
        self.recoding.as_ref()?.begin(deb)
    }
}

impl Delivery {
    /// Makes one for packages that are wanted in this order, each named by its place in the lock.
    #[must_use]
    pub fn new(order: Vec<usize>) -> Self {
        Self { order, recoded: false, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Takes packages in the form that is decoded fastest: for whoever unpacks them here, not for dpkg, which
    /// may be too old for it.
    #[must_use]
    pub fn recoded(self) -> Self {
        Self { recoded: true, ..self }
    }

    /// Waits for the next package; none where no more comes or none is wanted.
    pub fn next(&self) -> Option<Delivered> {
        self.take(|_rank| true)
    }

    /// Waits for the package that is wanted first, whatever else is there.
    pub fn first(&self) -> Option<Delivered> {
        self.take(|rank| rank == 0)
    }

    /// Waits until what is wanted most of all that is there will do.
    fn take(&self, will_do: impl Fn(usize) -> bool) -> Option<Delivered> {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return None;
            }
            if state.ready.peek().is_some_and(|Reverse((rank, _))| will_do(*rank)) {
                let Reverse((_, delivered)) = state.ready.pop()?;
                return Some(delivered);
            }
            if state.ended {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Says that nothing more is wanted.
    pub fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    pub(super) const fn takes_recoded(&self) -> bool {
        self.recoded
    }

    pub(super) fn order(&self) -> &[usize] {
        &self.order
    }

    pub(super) fn put(&self, rank: usize, entry: &Entry, recoding: Option<Recoding>) {
        let delivered = Delivered { at: self.order[rank], path: entry.path().to_owned(), recoding };
        self.lock().ready.push(Reverse((rank, delivered)));
        self.changed.notify_all();
    }

    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
