//! Snapshots that are taken by themselves, and thinned out.

use std::{fs, io};

use super::{SnapshotError, retention::Keep, take::Wanted};
use crate::{
    Error, Result,
    error::{Class, Context as _},
    machine::{
        life::Machines,
        record::{self, Hold, Record},
    },
    name::MachineName,
};

/// When snapshots are taken, and which are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Schedule {
    /// Seconds between two of them.
    pub every: u64,
    /// Which of them are kept.
    pub keep: Keep,
}

/// The schedules of machines.
pub type Schedules = Vec<(MachineName, Schedule)>;

/// What a run did for one machine.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Ran {
    /// The machine.
    pub name: MachineName,
    /// The snapshot that was taken.
    pub taken: Option<String>,
    /// Those that were removed.
    pub removed: Vec<String>,
    /// Why it was left to the next run: another operation holds the machine.
    pub skipped: Option<String>,
    /// Why it failed.
    pub problem: Option<String>,
}

impl Ran {
    /// Returns a run that has done nothing yet.
    #[must_use]
    pub const fn new(name: MachineName) -> Self {
        Self { name, taken: None, removed: Vec::new(), skipped: None, problem: None }
    }

    /// Tells whether there is anything to report.
    #[must_use]
    pub const fn is_nothing(&self) -> bool {
        self.taken.is_none() && self.removed.is_empty() && self.skipped.is_none() && self.problem.is_none()
    }
}

/// The last run of a machine's schedule that did something, failed, or was skipped.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LastRun {
    /// When, in seconds since 1970.
    pub at: i64,
    /// What became of it.
    pub ran: Ran,
}

impl LastRun {
    /// The file of it in a machine's directory.
    const FILE: &str = "schedule.json";

    /// Returns the outcome in words: `took auto-1`, `skipped: machine …`.
    #[must_use]
    pub fn words(&self) -> String {
        let Ran { taken, removed, skipped, problem, .. } = &self.ran;
        let done = taken.as_ref().map(|name| format!("took {name}"));
        let done = done.or_else(|| (!removed.is_empty()).then(|| format!("removed {}", removed.join(", "))));
        let skipped = skipped.as_ref().map(|why| format!("skipped: {why}"));
        let problem = problem.as_ref().map(|why| format!("failed: {why}"));
        problem.or(skipped).or(done).unwrap_or_else(|| "nothing was due".to_owned())
    }
}

/// Reads an interval: `30m`, `1h`, `1d`.
///
/// # Errors
/// [`SnapshotError::Interval`].
pub fn interval(text: &str) -> Result<u64, SnapshotError> {
    let wrong = || SnapshotError::Interval { text: text.to_owned() };
    let letter = text.chars().next_back().ok_or_else(wrong)?;
    let unit = match letter {
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    number.checked_mul(unit).filter(|seconds| *seconds > 0).ok_or_else(wrong)
}

/// Writes an interval as it is read.
#[must_use]
pub fn interval_text(seconds: u64) -> String {
    let units = [(604_800, "w"), (86_400, "d"), (3600, "h"), (60, "m")];
    let unit = units.into_iter().find(|(unit, _)| seconds.is_multiple_of(*unit));
    unit.map_or_else(|| format!("{seconds}s"), |(unit, letter)| format!("{}{letter}", seconds / unit))
}

impl Schedule {
    /// Tells whether another is due. A run that comes a little early counts: timers are not exact, and one that is a
    /// second short would else be put off by a whole interval.
    #[must_use]
    pub fn is_due(&self, last: Option<i64>, now: i64) -> bool {
        let early = i64::try_from(self.every / 20).unwrap_or(0).min(60);
        let every = i64::try_from(self.every).unwrap_or(i64::MAX);
        // a clock that was set back does not stop it for ever
        last.is_none_or(|last| now.saturating_sub(last) >= every - early || last > now + every)
    }
}

impl Machines<'_> {
    /// Sets a machine's schedule, or takes it away, with what its last run did.
    ///
    /// # Errors
    /// Where it cannot be written down.
    pub fn set_schedule(&self, name: &MachineName, schedule: Option<Schedule>, holder: &str) -> Result<()> {
        let subject = || format!("machine `{name}`");
        let (claim, record) = self.claim(name, holder, "schedule")?;
        let ends = schedule.is_none();
        claim.commit(&Record { schedule, ..record }).during("schedule", subject())?;
        if ends {
            // it is shown for machines that have a schedule alone
            let _ = fs::remove_file(self.records.folder(name).join(LastRun::FILE));
        }
        Ok(())
    }

    /// Lists the schedules; a machine whose record cannot be read is warned of, and the class of that is returned.
    ///
    /// # Errors
    /// Where the records' directory cannot be read.
    pub fn schedules(&self) -> Result<(Schedules, Option<Class>)> {
        let (records, worst) = self.readable("list")?;
        let scheduled = |record: Record| Some((record.definition.name, record.schedule?));
        Ok((records.into_iter().filter_map(scheduled).collect(), worst))
    }

    /// Records what a run did for a machine. The lock is not needed for that: the run may have been skipped for it.
    pub fn note_run(&self, last: &LastRun) {
        let folder = self.records.folder(&last.ran.name);
        let new = folder.join(format!("{}.{}", LastRun::FILE, std::process::id()));
        let written =
            serde_json::to_vec(last).map_err(io::Error::from).and_then(|text| fs::write(&new, text));
        // a run that is not recorded has been one all the same
        let _ = written.and_then(|()| fs::rename(&new, folder.join(LastRun::FILE)));
    }

    /// Reads what became of the last run of a machine's schedule.
    #[must_use]
    pub fn last_run(&self, name: &MachineName) -> Option<LastRun> {
        let text = fs::read(self.records.folder(name).join(LastRun::FILE)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Takes a machine's snapshot where one is due, and removes those that are not to be kept. `ran` says at any time
    /// what has been done.
    ///
    /// A machine that another operation holds is left to the next run.
    ///
    /// # Errors
    /// Where the snapshot cannot be taken, or one cannot be removed.
    pub fn run_schedule(&self, ran: &mut Ran, now: i64, holder: &str) -> Result<()> {
        let name = ran.name.clone();
        let subject = || format!("machine `{name}`");
        let schedule = match self.records.read(&name) {
            // it has been removed since the run began
            Err(record::Error::Missing { .. }) => return Ok(()),
            Err(busy @ record::Error::Busy { .. }) => {
                ran.skipped = Some(busy.to_string());
                return Ok(());
            }
            read => read.during("snapshot", subject())?.schedule,
        };
        let Some(schedule) = schedule else { return Ok(()) };
        match self.run_due(ran, schedule, now, holder) {
            Err(error) if is_busy(&error) => {
                let cause: &dyn std::error::Error = error.cause();
                ran.skipped = Some(cause.to_string());
                Ok(())
            }
            ended => ended,
        }
    }

    fn run_due(&self, ran: &mut Ran, schedule: Schedule, now: i64, holder: &str) -> Result<()> {
        let name = ran.name.clone();
        let own = |name| -> Result<Vec<_>> {
            Ok(self.snapshots(name)?.into_iter().filter(|snapshot| snapshot.scheduled).collect())
        };
        let last = own(&name)?.last().map(|snapshot| snapshot.created);
        if schedule.is_due(last, now) {
            let wanted = Wanted { name: None, scheduled: true, now, holder: holder.to_owned() };
            ran.taken = Some(self.take_snapshot(&name, &wanted)?.name);
        }
        let snapshots = own(&name)?;
        let moments: Vec<i64> = snapshots.iter().map(|snapshot| snapshot.created).collect();
        let kept = schedule.keep.kept(&moments);
        let gone: Vec<String> =
            snapshots.into_iter().zip(kept).filter(|(_, kept)| !kept).map(|(one, _)| one.name).collect();
        if !gone.is_empty() {
            self.remove_snapshots(&name, &gone, holder, Hold::Background)?;
            ran.removed = gone;
        }
        Ok(())
    }
}

/// Tells whether an error says that another process holds the machine.
fn is_busy(error: &Error) -> bool {
    let cause: &(dyn std::error::Error + 'static) = error.cause();
    matches!(cause.downcast_ref(), Some(record::Error::Busy { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_read_and_written() {
        for (text, seconds) in [("1m", 60), ("90m", 5400), ("1h", 3600), ("2d", 172_800), ("1w", 604_800)] {
            assert_eq!(interval(text).unwrap(), seconds);
            assert_eq!(interval_text(seconds), text);
        }
        for wrong in ["", "h", "0h", "1s", "1", "-1h", "1ä", "99999999999999999w"] {
            interval(wrong).unwrap_err();
        }
    }

    #[test]
    fn one_is_due_when_the_interval_is_over_and_after_a_clock_that_was_wrong() {
        let schedule = Schedule { every: 3600, keep: Keep::parse("1h").unwrap() };
        assert!(schedule.is_due(None, 0));
        assert!(!schedule.is_due(Some(0), 3000));
        assert!(schedule.is_due(Some(0), 3595) && schedule.is_due(Some(0), 3600));
        assert!(!schedule.is_due(Some(100), 0), "a clock that went back a little");
        assert!(schedule.is_due(Some(1_000_000), 0), "one from the future");
    }
}
