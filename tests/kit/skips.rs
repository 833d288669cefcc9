//! Tests that the host cannot run, in programs whose runner knows no skipping while it runs.

use std::io::Write as _;

/// Says that a test is skipped, and why; fails where CI=true and `tests/skips.txt` does not name the test.
///
/// Written past the runner, which keeps to itself what a test that passes prints.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "CI=true makes a skipped test a failure")]
pub fn skipped(test: &str, why: &str) {
    let strict = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!strict || named(test), "{test} is skipped ({why}), and tests/skips.txt does not say so");
    let _ = writeln!(std::io::stderr(), "test {test} ... skipped: {why}");
}

fn named(test: &str) -> bool {
    // names have `::` in them
    let of = |line: &str| line.strip_prefix(test).is_some_and(|rest| rest.starts_with(": "));
    include_str!("../skips.txt").lines().any(of)
}
