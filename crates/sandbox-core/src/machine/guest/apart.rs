//! Work in another network: a network namespace is a thread's, and ends with it.

use std::{panic::resume_unwind, thread};

/// Does something on a thread of its own, which may go where it wants.
pub(super) fn apart<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    let done = thread::scope(|scope| scope.spawn(work).join());
    done.unwrap_or_else(|panic| resume_unwind(panic))
}
