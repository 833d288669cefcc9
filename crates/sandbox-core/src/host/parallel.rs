//! The same work on many things at once.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// How many threads work where processors are what the work waits for.
#[must_use]
pub fn processors() -> usize {
    thread::available_parallelism().map_or(2, usize::from)
}

/// Runs a function over all items on some threads, each taking the next item when it is done with one; gives the results
/// in the order of the items. What panics on one thread panics here.
pub fn parallel<'a, T: Sync, R: Send>(
    items: &'a [T],
    threads: usize,
    work: impl Fn(&'a T) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    thread::scope(|scope| {
        for _ in 0..threads.min(items.len()) {
            scope.spawn(|| {
                while let Some((at, item)) = {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    items.get(at).map(|item| (at, item))
                } {
                    let result = work(item);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((at, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use std::{sync::Barrier, time::Duration};

    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_items() {
        let items: Vec<u64> = (0..40).collect();
        let slow = |item: &u64| {
            thread::sleep(Duration::from_micros(if item.is_multiple_of(3) { 300 } else { 0 }));
            item * 2
        };
        assert_eq!(parallel(&items, 4, slow), items.iter().map(|item| item * 2).collect::<Vec<_>>());
        assert_eq!(parallel(&[] as &[u64], 4, slow), Vec::<u64>::new());
    }

    #[test]
    fn as_many_work_at_once_as_is_said() {
        // fewer would wait here for good
        let together = Barrier::new(3);
        assert_eq!(parallel(&[1, 2, 3], 3, |_| together.wait()).len(), 3);
    }
}
