//! Machines that are removed when they stop.
//!
//! A machine may stop in three ways: by a verb, which removes it at once; by itself, where its unit, its supervisor or
//! LXC's hook starts a process that removes it; with the host, after which the next look at the machines does. A guest
//! that reboots is gone for a moment: what is no verb looks for some seconds.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::life::{Machines, Volumes};
use crate::{Result, error::Context as _, machine::record::Record, name::MachineName};

/// For how long a machine must be gone to have stopped: longer than the reboot of a guest takes on any backend.
const GONE: Duration = Duration::from_secs(5);

/// The pause between two looks.
const LOOK: Duration = Duration::from_millis(100);

impl Machines<'_> {
    /// Shuts a machine down for good: one that is ephemeral is removed then. Returns whether it was.
    ///
    /// # Errors
    /// Where it is still there.
    pub fn end(&self, name: &MachineName, deadline: Duration, holder: &str) -> Result<bool> {
        let subject = || format!("machine `{name}`");
        let (claim, record) = self.take_over(name, holder, "stop")?;
        let backend = self.backend(record.definition.backend).during("stop", subject())?;
        backend.stop(&record.definition, deadline, self.reporter)?;
        if !is_ephemeral(&record) {
            return Ok(false);
        }
        self.remove_claimed(claim, &record, Volumes::Removed)?;
        Ok(true)
    }

    /// Removes an ephemeral machine that has stopped. Returns whether it was removed: one that runs, or that another
    /// process holds, is left alone.
    ///
    /// # Errors
    /// Where something of it is left; the next command goes on with it.
    pub fn reap(&self, name: &MachineName, holder: &str) -> Result<bool> {
        let begun = Instant::now();
        while self.has_stopped(name)? {
            if begun.elapsed() < GONE {
                thread::sleep(LOOK);
                continue;
            }
            let Ok((claim, record)) = self.records.claim(name, holder) else { return Ok(false) };
            // again, now that no other command can start it
            if !self.has_stopped(name)? {
                return Ok(false);
            }
            self.remove_claimed(claim, &record, Volumes::Removed)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Reports whether a machine is ephemeral and does not run.
    fn has_stopped(&self, name: &MachineName) -> Result<bool> {
        match self.records.read(name) {
            Ok(record) if is_ephemeral(&record) => Ok(self.look_at(name)?.1.is_none()),
            _ => Ok(false),
        }
    }
}

/// Reports whether a machine is to be removed when it stops; what is protected is not.
fn is_ephemeral(record: &Record) -> bool {
    let chosen = &record.definition.chosen;
    chosen.ephemeral && !chosen.protected
}
