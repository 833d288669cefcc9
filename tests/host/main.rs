//! Tests on real hosts: this machine with the backend `direct`, and a systemd host, made by the program
//! itself, in which the rest of the product runs as its users run it.
//!
//! They need root and a network. They run in order, on shared machines, and the last one looks at what is
//! left.

mod create;
mod direct;
mod docker;
mod exec;
mod filter;
#[path = "../kit/mod.rs"]
mod kit;
mod lab;
mod life;
mod lxc;
mod mounts;
mod moving;
mod network;
mod noble;
mod profile;
#[path = "../kit/runner.rs"]
mod runner;
mod shell;
mod show;
mod snapshot;
mod terminal;
mod traces;
mod verbs;

use std::process::ExitCode;

use kit::process;
use lab::Lab;
use runner::{Choice, Test};

const TESTS: &[Test<Lab>] = &[
    ("direct::trixie_boots_and_runs_commands", direct::trixie_boots_and_runs_commands),
    ("direct::bookworm_boots_and_runs_commands", direct::bookworm_boots_and_runs_commands),
    ("direct::a_new_process_finds_the_machine", direct::a_new_process_finds_the_machine),
    ("direct::the_supervisor_inherits_nothing", direct::the_supervisor_inherits_nothing),
    ("direct::shell_on_a_terminal", direct::shell_on_a_terminal),
    ("direct::the_console_is_the_supervisors", direct::the_console_is_the_supervisors),
    (
        "direct::network_reaches_the_mirror_and_not_this_machine",
        direct::network_reaches_the_mirror_and_not_this_machine,
    ),
    ("direct::stop_and_start_keep_what_was_written", direct::stop_and_start_keep_what_was_written),
    ("filter::it_holds_under_a_supervisor", filter::it_holds_under_a_supervisor),
    ("direct::the_verbs_without_machined", direct::the_verbs_without_machined),
    ("direct::a_killed_supervisor_leaves_it_stopped", direct::a_killed_supervisor_leaves_it_stopped),
    ("snapshot::a_running_machine_is_forked", snapshot::a_running_machine_is_forked),
    ("snapshot::a_killed_fork_lets_the_machine_go_on", snapshot::a_killed_fork_lets_the_machine_go_on),
    ("direct::killed_create_leaves_nothing", direct::killed_create_leaves_nothing),
    ("moving::a_machine_goes_through_a_file", moving::a_machine_goes_through_a_file),
    ("direct::remove_leaves_nothing", direct::remove_leaves_nothing),
    ("profile::settings_count_for_everybody", profile::settings_count_for_everybody),
    ("profile::health_is_told", profile::health_is_told),
    ("profile::volumes_outlive_the_machine", profile::volumes_outlive_the_machine),
    ("noble::noble_boots_and_updates", noble::noble_boots_and_updates),
    (
        "noble::jammy_is_merged_though_its_base_files_are_not",
        noble::jammy_is_merged_though_its_base_files_are_not,
    ),
    ("create::the_test_host_is_running", create::the_test_host_is_running),
    ("create::agents_is_running", create::agents_is_running),
    ("create::a_taken_name_is_refused", create::a_taken_name_is_refused),
    ("create::agents_of_npm_run_as_agent", create::agents_of_npm_run_as_agent),
    ("exec::exit_codes_are_the_payloads", exec::exit_codes_are_the_payloads),
    ("exec::a_user_without_a_home_is_in_the_root", exec::a_user_without_a_home_is_in_the_root),
    ("exec::streams_are_apart", exec::streams_are_apart),
    ("exec::bytes_pass_unchanged", exec::bytes_pass_unchanged),
    ("exec::environment_folder_and_user", exec::environment_folder_and_user),
    ("exec::a_killed_client_leaves_no_payload", exec::a_killed_client_leaves_no_payload),
    ("exec::signals_end_what_waits", exec::signals_end_what_waits),
    ("exec::a_file_is_not_handed_over", exec::a_file_is_not_handed_over),
    ("exec::a_frozen_cgroup_of_the_guest_holds_nothing", exec::a_frozen_cgroup_of_the_guest_holds_nothing),
    ("exec::nothing_of_the_callers_comes_along", exec::nothing_of_the_callers_comes_along),
    ("shell::is_a_login_shell_that_follows_the_window", shell::is_a_login_shell_that_follows_the_window),
    ("show::list_and_status", show::list_and_status),
    ("show::a_machine_is_asked_by_two_doors", show::a_machine_is_asked_by_two_doors),
    ("show::logs", show::logs),
    ("docker::run_of_an_imported_tree", docker::run_of_an_imported_tree),
    ("docker::build", docker::build),
    ("docker::nested_user_namespaces", docker::nested_user_namespaces),
    ("profile::volumes_and_health_under_machined", profile::volumes_and_health_under_machined),
    ("network::the_archive_is_reached", network::the_archive_is_reached),
    ("network::the_wall_stands_anew", network::the_wall_stands_anew),
    ("network::another_firewall_is_named_with_its_cure", network::another_firewall_is_named_with_its_cure),
    ("network::the_host_is_not_reached", network::the_host_is_not_reached),
    ("network::the_lan_is_not_reached", network::the_lan_is_not_reached),
    ("network::another_machine_is_not_reached", network::another_machine_is_not_reached),
    ("network::the_walls_outlive_a_flush", network::the_walls_outlive_a_flush),
    ("network::no_network_of_the_host_is_reached", network::no_network_of_the_host_is_reached),
    ("network::no_answer_is_forged", network::no_answer_is_forged),
    ("network::the_link_is_hardened", network::the_link_is_hardened),
    ("verbs::copies_keep_owners_and_kinds", verbs::copies_keep_owners_and_kinds),
    ("verbs::copies_follow_no_guest_out", verbs::copies_follow_no_guest_out),
    ("verbs::signals_reach_whom_they_should", verbs::signals_reach_whom_they_should),
    ("verbs::a_port_is_waited_for", verbs::a_port_is_waited_for),
    ("verbs::what_is_set_counts", verbs::what_is_set_counts),
    ("verbs::it_starts_with_the_host_and_again", verbs::it_starts_with_the_host_and_again),
    ("verbs::a_folder_of_the_host_is_mounted", verbs::a_folder_of_the_host_is_mounted),
    ("verbs::it_is_looked_at", verbs::it_is_looked_at),
    ("verbs::what_others_made_is_left_alone", verbs::what_others_made_is_left_alone),
    ("verbs::troubles_of_machined_are_got_over", verbs::troubles_of_machined_are_got_over),
    ("verbs::polkit_is_asked", verbs::polkit_is_asked),
    ("verbs::sessions_at_once", verbs::sessions_at_once),
    ("verbs::names_are_completed", verbs::names_are_completed),
    ("lxc::a_machine_is_a_container", lxc::a_machine_is_a_container),
    ("lxc::it_is_started_and_stopped_by_whom_you_like", lxc::it_is_started_and_stopped_by_whom_you_like),
    ("filter::it_holds_under_machined_and_lxc", filter::it_holds_under_machined_and_lxc),
    ("lxc::what_cannot_be_is_refused", lxc::what_cannot_be_is_refused),
    ("lxc::agents_move_to_it", lxc::agents_move_to_it),
    ("lxc::docker_works_in_it", lxc::docker_works_in_it),
    ("lxc::its_walls_stand", lxc::its_walls_stand),
    ("lxc::the_verbs_work_on_it", lxc::the_verbs_work_on_it),
    ("lxc::it_reboots_and_starts_with_the_host", lxc::it_reboots_and_starts_with_the_host),
    ("lxc::it_is_forked_kept_and_renamed", lxc::it_is_forked_kept_and_renamed),
    ("lxc::it_has_what_profiles_ask_for", lxc::it_has_what_profiles_ask_for),
    ("lxc::machines_move_back", lxc::machines_move_back),
    ("moving::a_killed_move_leaves_one_machine", moving::a_killed_move_leaves_one_machine),
    ("life::stop_start_and_restart", life::stop_start_and_restart),
    ("life::of_two_creates_one_wins", life::of_two_creates_one_wins),
    ("life::killed_create_leaves_nothing", life::killed_create_leaves_nothing),
    (
        "snapshot::a_machine_of_machined_is_forked_and_renamed",
        snapshot::a_machine_of_machined_is_forked_and_renamed,
    ),
    ("snapshot::killed_verbs_leave_whole_machines", snapshot::killed_verbs_leave_whole_machines),
    ("snapshot::a_schedule_has_a_timer", snapshot::a_schedule_has_a_timer),
    ("life::machines_come_back_with_their_host", life::machines_come_back_with_their_host),
    ("life::remove_leaves_nothing", life::remove_leaves_nothing),
];

fn main() -> ExitCode {
    let choice = Choice::of(std::env::args().skip(1), is_ci(), include_str!("../skips.txt"));
    let lab = Lab::new();
    let end = ("the_run_leaves_nothing", life::the_run_leaves_nothing as fn(&Lab));
    if runner::run(&choice, TESTS, &lab, end) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::disallowed_methods, reason = "CI=true makes a skipped test a failure")]
fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}
