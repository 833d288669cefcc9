//! The catalogue: every profile of services and tools is installed for real, boots, and is seen to work by its
//! own health checks, as the user that it is for.
//!
//! Packages come from the distribution's archive and from npm's registry; vendors that cannot be reached from
//! where tests run have their sites served from here, with programs of ours in place of theirs. Machines hold as
//! many profiles as do not clash. They need root and a network.

mod agents;
mod interpreter;
#[path = "../kit/mod.rs"]
mod kit;
#[allow(dead_code, reason = "the tests of machines use the rest")]
#[path = "../host/lab.rs"]
mod lab;
mod machines;
mod promises;
#[path = "../kit/runner.rs"]
mod runner;
mod stack;
mod table;
#[allow(dead_code, reason = "the tests of machines use the rest")]
#[path = "../host/traces.rs"]
mod traces;
mod vendors;

use std::process::ExitCode;

use kit::process;
use machines::Place;
use runner::{Choice, Test};

const TESTS: &[Test<Place>] = &[
    ("table::no_profile_is_forgotten", table::no_profile_is_forgotten),
    ("promises::android_is_refused_without_kvm", promises::android_is_refused_without_kvm),
    ("machines::services_are_well", machines::services_are_well),
    ("promises::keys_of_hosts_are_in_no_layer", promises::keys_of_hosts_are_in_no_layer),
    ("promises::ssh_lets_in_by_the_owners_key_alone", promises::ssh_lets_in_by_the_owners_key_alone),
    ("promises::tailscale_joins_by_a_credential_alone", promises::tailscale_joins_by_a_credential_alone),
    ("promises::tailscale_serves_the_table", promises::tailscale_serves_the_table),
    ("promises::netbird_joins_by_a_credential_alone", promises::netbird_joins_by_a_credential_alone),
    ("promises::ntfy_tells_of_a_failed_unit", promises::ntfy_tells_of_a_failed_unit),
    ("promises::nothing_but_ssh_listens_outside", promises::nothing_but_ssh_listens_outside),
    ("stack::lab_is_well", stack::lab_is_well),
    ("stack::every_value_of_it_is_explained", stack::every_value_of_it_is_explained),
    ("stack::a_second_one_costs_little_beyond_its_boot", stack::a_second_one_costs_little_beyond_its_boot),
    ("machines::agents_are_well", machines::agents_are_well),
    ("agents::every_agent_knows_the_servers", agents::every_agent_knows_the_servers),
    ("agents::every_agent_is_told_and_skilled", agents::every_agent_is_told_and_skilled),
    (
        "agents::claude_state_is_added_to_and_never_replaced",
        agents::claude_state_is_added_to_and_never_replaced,
    ),
    (
        "agents::remote_control_waits_for_a_login_and_does_not_hammer",
        agents::remote_control_waits_for_a_login_and_does_not_hammer,
    ),
    ("agents::remote_control_refuses_what_breaks_it", agents::remote_control_refuses_what_breaks_it),
    ("agents::remote_control_that_fails_is_told_of", agents::remote_control_that_fails_is_told_of),
    ("agents::remote_control_runs_behind_its_walls", agents::remote_control_runs_behind_its_walls),
    ("machines::tools_are_well", machines::tools_are_well),
    ("machines::the_desktop_is_well", machines::the_desktop_is_well),
    ("machines::bookworm_is_well", machines::bookworm_is_well),
];

fn main() -> ExitCode {
    let choice = Choice::of(std::env::args().skip(1), is_ci(), include_str!("../skips.txt"));
    let place = Place::new();
    let end = ("the_run_leaves_nothing", machines::the_run_leaves_nothing as fn(&Place));
    if runner::run(&choice, TESTS, &place, end) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::disallowed_methods, reason = "CI=true makes a skipped test a failure")]
fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}
