//! A hostile guest: programs that attack from inside a machine while the host works on it, trees that are made to break
//! what reads them, and a prober of what is denied that runs while the host changes.
//!
//! They need root, a network and a C compiler. They run in order, on shared machines of a systemd host that the program
//! makes itself, and the last one looks at what is left.

mod attacks;
mod bed;
mod confinement;
mod entered;
#[path = "../kit/mod.rs"]
mod kit;
#[allow(dead_code, reason = "the tests of machines use the rest")]
#[path = "../host/lab.rs"]
mod lab;
mod programs;
#[path = "../kit/runner.rs"]
mod runner;
#[allow(dead_code, reason = "the tests of machines use the rest")]
#[path = "../host/traces.rs"]
mod traces;
mod trees;
mod verbs;

use std::process::ExitCode;

use bed::Bed;
use kit::process;
use runner::{Choice, Test};

const TESTS: &[Test<Bed>] = &[
    ("verbs::none_is_forgotten", verbs::none_is_forgotten),
    ("entered::nothing_of_the_host_is_caught_by_nspawn", entered::nothing_of_the_host_is_caught_by_nspawn),
    ("entered::a_frozen_cgroup_holds_no_verb", entered::a_frozen_cgroup_holds_no_verb),
    ("entered::nothing_of_the_host_is_caught_by_lxc", entered::nothing_of_the_host_is_caught_by_lxc),
    ("entered::nothing_of_the_host_is_caught_by_direct", entered::nothing_of_the_host_is_caught_by_direct),
    ("trees::sparse_files", trees::sparse_files),
    ("trees::files_that_are_none", trees::files_that_are_none),
    ("trees::names", trees::names),
    ("trees::links", trees::links),
    ("trees::links_in_a_machine_that_is_stopped", trees::links_in_a_machine_that_is_stopped),
    ("attacks::each_fails_on_nspawn", attacks::each_fails_on_nspawn),
    ("attacks::each_fails_on_lxc", attacks::each_fails_on_lxc),
    ("attacks::each_fails_on_direct", attacks::each_fails_on_direct),
    ("trees::many_names_are_begun", trees::many_names_are_begun),
    ("attacks::other_packets_reach_nothing", attacks::other_packets_reach_nothing),
    ("confinement::an_open_machine_is_seen", confinement::an_open_machine_is_seen),
    (
        "confinement::nothing_denied_passes_while_the_host_changes",
        confinement::nothing_denied_passes_while_the_host_changes,
    ),
    ("trees::many_names_and_deep_directories", trees::many_names_and_deep_directories),
];

fn main() -> ExitCode {
    let choice = Choice::of(std::env::args().skip(1), is_ci(), include_str!("../skips.txt"));
    let bed = Bed::new();
    let end = ("the_run_leaves_nothing", bed::the_run_leaves_nothing as fn(&Bed));
    if runner::run(&choice, TESTS, &bed, end) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::disallowed_methods, reason = "CI=true makes a skipped test a failure")]
fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}
