//! Where the time went: what `--timings` prints at the end of a run.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeVal,
};
use sandbox_core::report::Event;

use crate::progress::word;

/// The ends of phases and their parts, as they come.
#[derive(Debug)]
pub struct Timings {
    begun: Instant,
    spans: Vec<Span>,
}

/// A phase, or a part of one.
#[derive(Debug)]
struct Span {
    phase: &'static str,
    part: Option<&'static str>,
    from: Duration,
    to: Duration,
}

impl Timings {
    /// Begins at this moment.
    pub fn begin() -> Self {
        Self { begun: Instant::now(), spans: Vec::new() }
    }

    /// Notes an event, if it is an end.
    pub fn note(&mut self, event: &Event) {
        let (phase, part, elapsed) = match event {
            Event::Finished { phase, elapsed, .. } => (phase, None, *elapsed),
            Event::Part { phase, part, elapsed } => (phase, Some(*part), *elapsed),
            _ => return,
        };
        let to = self.begun.elapsed();
        let from = to.saturating_sub(elapsed);
        self.spans.push(Span { phase: word(*phase), part, from, to });
    }

    /// Gives the table: phases as they began, each with its parts below it.
    pub fn table(&self) -> String {
        let mut text = format!("{:>24} {:>8} {:>8} {:>8}\n", "phase", "from s", "to s", "took s");
        let mut phases: Vec<&Span> = self.spans.iter().filter(|span| span.part.is_none()).collect();
        phases.sort_by_key(|span| span.from);
        for phase in phases {
            line(&mut text, phase.phase, phase);
            let of_phase = |span: &&Span| span.part.is_some() && span.phase == phase.phase;
            let mut parts: Vec<&Span> = self.spans.iter().filter(of_phase).collect();
            parts.sort_by_key(|span| span.from);
            for part in parts {
                line(&mut text, &format!("· {}", part.part.unwrap_or_default()), part);
            }
        }
        let _ = writeln!(text, "{:>24} {:>26.2}", "in all", self.begun.elapsed().as_secs_f64());
        text + &spent()
    }
}

fn line(text: &mut String, name: &str, span: &Span) {
    let Span { from, to, .. } = span;
    let took = to.saturating_sub(*from);
    let _ = writeln!(
        text,
        "{name:>24} {:>8.2} {:>8.2} {:>8.2}",
        from.as_secs_f64(),
        to.as_secs_f64(),
        took.as_secs_f64()
    );
}

/// Tells what this process and the programs that it ran have spent.
///
/// **Source**: getrusage(2).
fn spent() -> String {
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    let (Ok(own), Ok(run)) = (getrusage(UsageWho::RUSAGE_SELF), getrusage(UsageWho::RUSAGE_CHILDREN)) else {
        return String::new();
    };
    format!(
        "{:>24} {:.2} s user, {:.2} s system; its programs {:.2} s, {:.2} s\n{:>24} {} MiB\n",
        "processor",
        seconds(own.user_time()),
        seconds(own.system_time()),
        seconds(run.user_time()),
        seconds(run.system_time()),
        "most memory",
        own.max_rss() / 1024
    )
}
