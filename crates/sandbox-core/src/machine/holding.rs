//! Machines claimed: waited for where another process holds them, or taken from it.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{
    journal::Intent,
    life::Machines,
    record::{Claim, Doing, Error, Hold, Holder, Record},
    settle::Unsettled,
};
use crate::{Result, error::Context as _, name::MachineName, report::Event};

/// After what time a user learns what is waited for.
const NOTE: Duration = Duration::from_secs(1);

/// How long an interrupted operation may clean up before it is killed; what it leaves then is recovered here.
const GRACE: Duration = Duration::from_secs(10);

/// How long the kernel may take to end a killed process, and how long a process that inherited a lock may be on its way
/// to a program of its own.
const SOON: Duration = Duration::from_secs(2);

/// How often a lock is tried.
const PAUSE: Duration = Duration::from_millis(20);

/// A wait for a machine that another process holds.
pub(super) struct Wait<'a> {
    machines: &'a Machines<'a>,
    name: &'a MachineName,
    verb: &'static str,
    /// The machine is to end: what may be interrupted is.
    takes: bool,
    begun: Instant,
    noted: bool,
    /// The process that was asked to end, what it did, and when.
    asked: Option<(Holder, Instant)>,
    /// A process that inherited the lock, and since when it was seen to have it.
    heir: Option<(i32, Instant)>,
}

impl Machines<'_> {
    /// Claims a whole machine to change it; a process that holds it is waited for as long as the records say.
    ///
    /// # Errors
    /// As [`Records::claim_as`](super::record::Records::claim_as).
    pub fn claim(&self, name: &MachineName, holder: &str, verb: &'static str) -> Result<(Claim, Record)> {
        self.claim_as(name, holder, Hold::Exclusive, verb)
    }

    /// Claims a whole machine, and notes what other processes may do about that.
    ///
    /// # Errors
    /// As [`Self::claim`].
    pub fn claim_as(
        &self,
        name: &MachineName,
        holder: &str,
        hold: Hold,
        verb: &'static str,
    ) -> Result<(Claim, Record)> {
        self.acquire(Wait::new(self, name, verb), holder, hold)
    }

    /// Claims a whole machine to end it. An operation that may be interrupted is, others are waited for.
    ///
    /// # Errors
    /// As [`Self::claim`]; also where the process that holds it cannot be ended.
    pub fn take_over(&self, name: &MachineName, holder: &str, verb: &'static str) -> Result<(Claim, Record)> {
        self.acquire(Wait { takes: true, ..Wait::new(self, name, verb) }, holder, Hold::Exclusive)
    }

    /// Claims the name of a new machine; what a dead maker left of one is undone, and the removal of one is waited for.
    ///
    /// # Errors
    /// As [`Records::claim_new`](super::record::Records::claim_new).
    pub(super) fn claim_name(
        &self,
        name: &MachineName,
        holder: &str,
        undo: impl Fn(Claim) -> Result<(), Unsettled>,
    ) -> Result<Claim, Unsettled> {
        let mut wait = Wait::new(self, name, "create");
        loop {
            match self.records.claim_new(name, holder, &undo) {
                Err(Unsettled::Record(busy @ Error::Busy { doing: Doing::Removing, .. }))
                    if !wait.is_over() =>
                {
                    wait.note(&busy);
                }
                claimed => return claimed,
            }
            thread::sleep(PAUSE);
        }
    }

    fn acquire(&self, mut wait: Wait<'_>, holder: &str, hold: Hold) -> Result<(Claim, Record)> {
        let (name, verb) = (wait.name, wait.verb);
        loop {
            match self.records.claim_as(name, holder, hold) {
                // what makes it goes on until it is whole: the caller is told how to end that
                Err(busy @ Error::Busy { doing: Doing::Making, .. }) if wait.takes => {
                    return Err(busy).during(verb, subject(name));
                }
                Err(busy @ Error::Busy { .. }) => {
                    // a snapshot of the schedule is no reason to fail what a person wants, only what waits as it does
                    let takes = wait.takes || (hold != Hold::Background && wait.is_for_background());
                    if (takes && wait.end_holder().is_err()) || wait.is_over() {
                        return Err(busy).during(verb, subject(name));
                    }
                    wait.note(&busy);
                }
                // nothing that an earlier operation left may keep a machine from being ended
                Err(Error::Unfinished { .. }) if wait.takes || wait.asked.is_some() => {
                    self.end_interrupted(name).map_err(|error| error.during(verb, subject(name)))?;
                }
                claimed => return claimed.during(verb, subject(name)),
            }
            thread::sleep(PAUSE);
        }
    }

    /// Cleans up after an operation that was interrupted here, unless its own process does.
    fn end_interrupted(&self, name: &MachineName) -> Result<(), Unsettled> {
        match self.records.claim_unfinished(name)? {
            Some(claim) => self.settle(claim).map(drop),
            None => Ok(()),
        }
    }
}

impl<'a> Wait<'a> {
    pub(super) fn new(machines: &'a Machines<'a>, name: &'a MachineName, verb: &'static str) -> Self {
        let begun = Instant::now();
        Self { machines, name, verb, takes: false, begun, noted: false, asked: None, heir: None }
    }

    /// Notes what is waited for, once.
    pub(super) fn note(&mut self, busy: &Error) {
        if self.noted || self.asked.is_some() || self.begun.elapsed() < NOTE {
            return;
        }
        self.noted = true;
        if let Error::Busy { name, holder, doing } = busy {
            let does = match doing {
                Doing::Making => "makes",
                Doing::Changing => "holds",
                Doing::Removing => "removes",
            };
            let text = format!("waiting for {holder}, which {does} machine `{name}`");
            self.machines.reporter.report(Event::Notice { text });
        }
    }

    /// Tells whether it is time to end an operation for which no person waits.
    fn is_for_background(&self) -> bool {
        let is_background =
            || self.machines.records.holder(self.name).is_some_and(|holder| holder.hold == Hold::Background);
        self.asked.is_some() || (self.begun.elapsed() >= self.machines.records.wait() && is_background())
    }

    /// Tells whether the time is over: that of the records, and that of a process that was asked to end.
    pub(super) fn is_over(&self) -> bool {
        let ends = match (&self.asked, &self.heir) {
            (Some((_, since)), _) => since.elapsed() > GRACE + 2 * SOON,
            (None, Some((_, since))) => since.elapsed() > 2 * SOON,
            (None, None) => true,
        };
        let wait = self.machines.records.wait();
        let begun = self.begun.elapsed();
        // one that has just released it is not in the way
        ends && begun >= wait && (begun > wait + SOON || self.machines.records.holder(self.name).is_some())
    }

    /// Goes one step further in ending the process that holds the machine, where that may be.
    ///
    /// # Errors
    /// Where it was killed, and is still there.
    fn end_holder(&mut self) -> Result<(), ()> {
        if let Some((asked, since)) = &self.asked
            && since.elapsed() < GRACE
            && !asked.inherited
        {
            return Ok(());
        }
        let Some(holder) = self.machines.records.holder(self.name) else { return Ok(()) };
        if holder.hold == Hold::Exclusive && !holder.inherited {
            return Ok(());
        }
        if let Some((asked, since)) = &self.asked
            && asked.pid == holder.pid
        {
            let limit = if asked.inherited { SOON } else { GRACE + SOON };
            return if since.elapsed() > limit { Err(()) } else { holder.kill().map_err(drop) };
        }
        if holder.inherited {
            return self.end_heir(holder);
        }
        let text = format!("interrupted {} of machine `{}`: {}", self.operation(), self.name, holder.words);
        self.machines.reporter.report(Event::Notice { text });
        holder.interrupt().map_err(drop)?;
        self.asked = Some((holder, Instant::now()));
        Ok(())
    }

    /// Kills a process that inherited the lock of one that is dead, once it has kept it for a while.
    fn end_heir(&mut self, holder: Holder) -> Result<(), ()> {
        match self.heir {
            Some((pid, since)) if pid == holder.pid => {
                if since.elapsed() > SOON {
                    holder.kill().map_err(drop)?;
                    self.asked = Some((holder, Instant::now()));
                }
            }
            _ => self.heir = Some((holder.pid, Instant::now())),
        }
        Ok(())
    }

    /// Names what was begun with the machine: the snapshot `s1`.
    fn operation(&self) -> String {
        match self.machines.records.intent(self.name) {
            Some(Intent::Snapshot(taking)) => {
                let name = taking.place.file_name().unwrap_or_default().to_string_lossy().into_owned();
                format!("the snapshot `{name}`")
            }
            Some(intent) => format!("a `{}`", intent.verb()),
            None => "a copy".to_owned(),
        }
    }
}

fn subject(name: &MachineName) -> String {
    format!("machine `{name}`")
}
