//! The end of a machine that is on its way down, which its next start waits for.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::LifeError;
use crate::{
    Result,
    error::Context as _,
    machine::{
        Backend, Leader,
        guest::{self, GuestState},
        processes,
    },
    name::MachineName,
};

/// How long after a look at a machine that is to be started comes the next one.
const LOOK: Duration = Duration::from_millis(50);

/// Waits for the end of a machine that is on its way down.
///
/// # Errors
/// Where it runs, or is still there at the deadline.
pub(super) fn wait_for_end(backend: &dyn Backend, name: &MachineName, deadline: Duration) -> Result<()> {
    let begun = Instant::now();
    let mut ran = false;
    while let Some(leader) = backend.leader(name)? {
        let runs = !processes::is_ending(leader.pid) && says_it_runs(&leader);
        // seen twice: a guest that shuts down loses its bus some moments before it keeps users out
        if (runs && ran) || begun.elapsed() >= deadline {
            return Err(LifeError::Running).during("start", format!("machine `{name}`"));
        }
        ran = runs;
        thread::sleep(LOOK);
    }
    Ok(())
}

/// Returns whether a guest has booted and does not shut down.
fn says_it_runs(leader: &Leader) -> bool {
    matches!(
        guest::state(leader),
        Ok(GuestState::Running | GuestState::Degraded { .. } | GuestState::Maintenance)
    )
}
