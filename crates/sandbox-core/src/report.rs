//! Progress as data. The command line turns it into bars, plain lines or JSON.

use std::time::{Duration, Instant};

/// A part of the work that a user would name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Release files and indexes are fetched, verified and read.
    Archive,
    /// The package set is chosen.
    Resolve,
    /// Packages and other parts are fetched and checked.
    Fetch,
    /// Packages are unpacked into the tree.
    Unpack,
    /// Maintainer scripts run.
    Configure,
    /// Profile parts (files, users, tarballs, steps) are put in.
    Customize,
    /// A tree is made of layers that are kept, or what was built is looked through and kept as one.
    Layers,
    /// The tree gets its identity, loses what no two builds share, and is written to disk.
    Finish,
    /// The tree is packed into an archive file.
    Pack,
    /// The machine's configuration is written.
    Define,
    /// The machine boots.
    Boot,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A phase began; `total` is in `unit`s and 0 where it is not known.
    Started {
        /// Which.
        phase: Phase,
        /// What the numbers count.
        unit: Unit,
        /// How many there will be.
        total: u64,
    },
    /// A phase went on by `delta` units.
    Advanced {
        /// Which.
        phase: Phase,
        /// By how many units.
        delta: u64,
    },
    /// What a phase is at now: a package, a file, a unit.
    At {
        /// Which phase.
        phase: Phase,
        /// The subject.
        subject: String,
    },
    /// A phase ended well.
    Finished {
        /// Which.
        phase: Phase,
        /// How long it took, in seconds and nanoseconds.
        #[serde(serialize_with = "seconds")]
        elapsed: Duration,
        /// One line of result: `78 packages, 32.1 MB`.
        summary: String,
    },
    /// A part of a phase ended. Parts of several phases run at once.
    Part {
        /// Of which phase.
        phase: Phase,
        /// What was done: `decode`.
        part: &'static str,
        /// How long it took, in seconds and nanoseconds.
        #[serde(serialize_with = "seconds")]
        elapsed: Duration,
    },
    /// Something the user should know, that stops nothing.
    Notice {
        /// One sentence.
        text: String,
    },
    /// Something the user should worry about, that stops nothing.
    Warning {
        /// One sentence.
        text: String,
    },
}

/// What a phase's numbers count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Packages.
    Packages,
    /// Steps.
    Steps,
}

fn seconds<S: serde::Serializer>(elapsed: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(elapsed.as_secs_f64())
}

/// Receives events, from any thread.
pub trait Reporter: Send + Sync {
    /// Takes one event. It must not block for long.
    fn report(&self, event: Event);
}

/// A part of a phase under way: it is reported when this goes.
pub struct Timed<'a> {
    reporter: &'a dyn Reporter,
    phase: Phase,
    part: &'static str,
    begun: Instant,
}

impl<'a> Timed<'a> {
    /// Begins a part.
    #[must_use]
    pub fn begin(reporter: &'a dyn Reporter, phase: Phase, part: &'static str) -> Self {
        Self { reporter, phase, part, begun: Instant::now() }
    }
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        let Self { phase, part, begun, .. } = *self;
        self.reporter.report(Event::Part { phase, part, elapsed: begun.elapsed() });
    }
}

/// A reporter that drops everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Reporter for Silent {
    fn report(&self, _event: Event) {}
}
