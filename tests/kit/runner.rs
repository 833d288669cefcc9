//! A small runner: in order, one at a time, with the summary line that `cargo test` prints.
//!
//! libtest has no end of the run to clean up at, and runs in parallel what here shares one host.

use std::{
    io::Write as _,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::Instant,
};

/// A test: its name and what it does.
pub type Test<L> = (&'static str, fn(&L));

/// What a test panics with to be skipped.
struct Skipped(String);

/// Ends the running test as skipped.
pub fn skip(reason: impl Into<String>) -> ! {
    resume_unwind(Box::new(Skipped(reason.into())))
}

/// Which tests run, as `cargo test -- …` says it.
pub struct Choice {
    words: Vec<String>,
    skipped: Vec<String>,
    exact: bool,
    list: bool,
    /// Whether to wait for a line of input before the end, for whoever wants to look around.
    hold: bool,
    /// Whether a skipped test that `skips` does not name fails.
    strict: bool,
    skips: &'static str,
}

impl Choice {
    /// Reads libtest's arguments as far as they mean something here.
    pub fn of(mut arguments: impl Iterator<Item = String>, strict: bool, skips: &'static str) -> Self {
        let (mut words, mut skipped) = (Vec::new(), Vec::new());
        let (mut exact, mut list, mut hold) = (false, false, false);
        while let Some(argument) = arguments.next() {
            match &*argument {
                "--skip" => skipped.extend(arguments.next()),
                "--exact" => exact = true,
                "--list" => list = true,
                "--hold" => hold = true,
                word if !word.starts_with('-') => words.push(argument),
                _ => {}
            }
        }
        Self { words, skipped, exact, list, hold, strict, skips }
    }

    fn wants(&self, name: &str) -> bool {
        let fits = |word: &String| if self.exact { name == word } else { name.contains(word.as_str()) };
        (self.words.is_empty() || self.words.iter().any(fits)) && !self.skipped.iter().any(fits)
    }

    fn may_skip(&self, name: &str) -> bool {
        // names have `::` in them
        let named = |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(": "));
        !self.strict || self.skips.lines().any(named)
    }
}

/// Runs the tests that are wanted; tells whether all went well. `end` runs last whatever happened, as a
/// test of its own.
pub fn run<L>(choice: &Choice, tests: &[Test<L>], lab: &L, end: Test<L>) -> bool {
    let mut wanted: Vec<&Test<L>> = tests.iter().filter(|(name, _)| choice.wants(name)).collect();
    if choice.list {
        wanted.iter().for_each(|(name, _)| line(&format!("{name}: test")));
        return true;
    }
    if !wanted.is_empty() {
        wanted.push(&end);
    }
    line(&format!("\nrunning {} tests", wanted.len()));
    let begun = Instant::now();
    let (mut passed, mut failed, mut skipped) = (0, Vec::new(), 0);
    for (name, test) in wanted {
        if choice.hold && *name == end.0 {
            line("everything is as the tests left it until a line comes");
            let _ = std::io::stdin().read_line(&mut String::new());
        }
        let begun = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| test(lab)));
        let took = begun.elapsed().as_secs_f64();
        match outcome {
            Ok(()) => {
                passed += 1;
                line(&format!("test {name} ... ok ({took:.1} s)"));
            }
            Err(thrown) => match thrown.downcast_ref::<Skipped>() {
                Some(Skipped(reason)) if choice.may_skip(name) => {
                    skipped += 1;
                    line(&format!("test {name} ... ignored, {reason}"));
                }
                Some(Skipped(reason)) => {
                    failed.push(*name);
                    line(&format!(
                        "test {name} ... FAILED: skipped ({reason}), and tests/skips.txt does not say so"
                    ));
                }
                None => {
                    failed.push(*name);
                    line(&format!("test {name} ... FAILED ({took:.1} s)"));
                }
            },
        }
    }
    if !failed.is_empty() {
        line("\nfailures:");
        failed.iter().for_each(|name| line(&format!("    {name}")));
    }
    line(&format!(
        "\ntest result: {}. {passed} passed; {} failed; {skipped} ignored; 0 measured; finished in {:.2}s\n",
        if failed.is_empty() { "ok" } else { "FAILED" },
        failed.len(),
        begun.elapsed().as_secs_f64(),
    ));
    failed.is_empty()
}

/// Prints a line; a closed stdout is nobody's failure.
pub fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}
