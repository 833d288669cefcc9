//! Where the time went: what `--timings` prints at the end of a run.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeVal,
};
use sandbox_core::report::Event;

use crate::progress::word;

/// The ends of phases and their parts, as they come, of all that reports in this process.
#[derive(Clone, Debug)]
pub struct Timings(Arc<Mutex<Log>>);

#[derive(Debug)]
struct Log {
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
    took: Duration,
}

/// All spans of one name: with layers, a phase comes once for each.
#[derive(Clone, Copy, Debug)]
struct Sum {
    times: usize,
    from: Duration,
    to: Duration,
    took: Duration,
}

impl Timings {
    /// Begins at this moment.
    pub fn begin() -> Self {
        Self(Arc::new(Mutex::new(Log { begun: Instant::now(), spans: Vec::new() })))
    }

    /// Notes an event, if it is an end.
    pub fn note(&self, event: &Event) {
        let (phase, part, elapsed) = match event {
            Event::Finished { phase, elapsed, .. } => (phase, None, *elapsed),
            Event::Part { phase, part, elapsed } => (phase, Some(*part), *elapsed),
            _ => return,
        };
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let to = log.begun.elapsed();
        let from = to.saturating_sub(elapsed);
        log.spans.push(Span { phase: word(*phase), part, from, to, took: elapsed });
    }

    /// Gives the table: phases as they began first, each with its parts below it.
    pub fn table(&self) -> String {
        let log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text =
            format!("{:>24} {:>5} {:>8} {:>8} {:>8}\n", "phase", "times", "from s", "to s", "took s");
        for (phase, sum) in sums(log.spans.iter().filter(|span| span.part.is_none()), |span| span.phase) {
            line(&mut text, phase, sum);
            let parts = log.spans.iter().filter(|span| span.part.is_some() && span.phase == phase);
            for (part, sum) in sums(parts, |span| span.part.unwrap_or_default()) {
                line(&mut text, &format!("· {part}"), sum);
            }
        }
        let _ = writeln!(text, "{:>24} {:>32.2}", "in all", log.begun.elapsed().as_secs_f64());
        text + &spent()
    }
}

/// Adds up spans by a name, those first that began first.
fn sums<'a>(
    spans: impl Iterator<Item = &'a Span>,
    name: impl Fn(&Span) -> &'static str,
) -> Vec<(&'static str, Sum)> {
    let mut all: Vec<(&'static str, Sum)> = Vec::new();
    for span in spans {
        let one = Sum { times: 1, from: span.from, to: span.to, took: span.took };
        match all.iter_mut().find(|(known, _)| *known == name(span)) {
            Some((_, sum)) => {
                *sum = Sum {
                    times: sum.times + 1,
                    from: sum.from.min(one.from),
                    to: sum.to.max(one.to),
                    took: sum.took + one.took,
                };
            }
            None => all.push((name(span), one)),
        }
    }
    all.sort_by_key(|(_, sum)| sum.from);
    all
}

fn line(text: &mut String, name: &str, sum: Sum) {
    let [from, to, took] = [sum.from, sum.to, sum.took].map(|time| time.as_secs_f64());
    let _ = writeln!(text, "{name:>24} {:>5} {from:>8.2} {to:>8.2} {took:>8.2}", sum.times);
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

#[cfg(test)]
mod tests {
    use sandbox_core::report::Phase;

    use super::*;

    #[test]
    fn a_phase_of_many_layers_is_one_line() {
        let timings = Timings::begin();
        let elapsed = Duration::from_millis(250);
        for _ in 0..3 {
            timings.note(&Event::Part { phase: Phase::Unpack, part: "write", elapsed });
            timings.note(&Event::Finished { phase: Phase::Unpack, elapsed, summary: String::new() });
        }
        // another that reports in this process
        timings.clone().note(&Event::Finished { phase: Phase::Boot, elapsed, summary: String::new() });
        let text = timings.table();
        let words: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        let of = |name: &str| words.iter().filter(|line| line.contains(&name)).collect::<Vec<_>>();
        assert_eq!(of("phase").len(), 1, "{text}");
        let [unpack] = of("unpack")[..] else { panic!("{text}") };
        assert_eq!((unpack[1], unpack[4]), ("3", "0.75"), "{text}");
        let [write] = of("write")[..] else { panic!("{text}") };
        assert_eq!((write[2], write[5]), ("3", "0.75"), "{text}");
        assert_eq!(of("boot").len(), 1, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }
}
