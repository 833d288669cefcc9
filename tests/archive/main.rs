//! Tests of the archive side on the real archive: what apt would choose, what mmdebstrap would build, and the
//! same bytes twice.
//!
//! They need root and a network, and no machine is started. They run in order and share one cache.

mod apt;
mod choices;
mod compare;
mod foreign;
mod lab;
mod layers;
mod parts;
mod pockets;
#[allow(dead_code, reason = "each test program uses its part of the kit")]
#[path = "../kit/process.rs"]
mod process;
mod reference;
mod reproducible;
mod resolve;
#[path = "../kit/runner.rs"]
mod runner;
mod substitutes;
mod suites;
mod tree;
mod variants;

use std::process::ExitCode;

use lab::Lab;
use runner::{Choice, Test};

const TESTS: &[Test<Lab>] = &[
    ("reference::the_comparison_sees_each_kind", reference::the_comparison_sees_each_kind),
    (
        "reference::mmdebstrap_is_itself_and_not_debootstrap",
        reference::mmdebstrap_is_itself_and_not_debootstrap,
    ),
    ("reference::trixie_is_mmdebstraps", reference::trixie_is_mmdebstraps),
    ("reference::bookworm_is_mmdebstraps", reference::bookworm_is_mmdebstraps),
    ("reference::trixie_with_includes_is_mmdebstraps", reference::trixie_with_includes_is_mmdebstraps),
    ("reproducible::trixie_is_the_same_bytes_twice", reproducible::trixie_is_the_same_bytes_twice),
    ("reproducible::bookworm_is_the_same_bytes_twice", reproducible::bookworm_is_the_same_bytes_twice),
    (
        "reproducible::trixie_with_the_base_profile_is_the_same_bytes_twice",
        reproducible::trixie_with_the_base_profile_is_the_same_bytes_twice,
    ),
    (
        "reproducible::bookworm_with_the_base_profile_is_the_same_bytes_twice",
        reproducible::bookworm_with_the_base_profile_is_the_same_bytes_twice,
    ),
    (
        "reproducible::a_folder_has_the_times_of_a_packed_tree",
        reproducible::a_folder_has_the_times_of_a_packed_tree,
    ),
    ("tree::a_diverted_file_is_where_dpkg_puts_it", tree::a_diverted_file_is_where_dpkg_puts_it),
    ("substitutes::each_does_what_the_program_does", substitutes::each_does_what_the_program_does),
    ("layers::a_stack_is_the_same_bytes_from_any_layer", layers::a_stack_is_the_same_bytes_from_any_layer),
    ("tree::nothing_of_the_work_is_left", tree::nothing_of_the_work_is_left),
    ("resolve::the_choice_of_trixie_is_apts", resolve::the_choice_of_trixie_is_apts),
    ("resolve::the_choice_of_bookworm_is_apts", resolve::the_choice_of_bookworm_is_apts),
    ("pockets::pockets_stand_behind_as_apt_pins_them", pockets::pockets_stand_behind_as_apt_pins_them),
    ("variants::the_variants_of_trixie_are_mmdebstraps", variants::the_variants_of_trixie_are_mmdebstraps),
    (
        "variants::the_variants_of_bookworm_are_mmdebstraps",
        variants::the_variants_of_bookworm_are_mmdebstraps,
    ),
    ("tree::a_packed_tree_is_the_folder", tree::a_packed_tree_is_the_folder),
    (
        "choices::python_versions_go_together_where_pips_resolver_finds_some",
        choices::python_versions_go_together_where_pips_resolver_finds_some,
    ),
    (
        "choices::python_conditions_are_met_as_packaging_says",
        choices::python_conditions_are_met_as_packaging_says,
    ),
    ("choices::wheels_are_taken_as_pip_takes_them", choices::wheels_are_taken_as_pip_takes_them),
    ("choices::npm_ranges_are_read_as_semver_reads_them", choices::npm_ranges_are_read_as_semver_reads_them),
    ("choices::npm_picks_the_same_versions", choices::npm_picks_the_same_versions),
    ("parts::an_npm_tool_runs_with_its_tree", parts::an_npm_tool_runs_with_its_tree),
    ("parts::a_python_tool_runs_in_its_environment", parts::a_python_tool_runs_in_its_environment),
    ("suites::sid_is_built", suites::sid_is_built),
    ("suites::forky_is_built", suites::forky_is_built),
    ("suites::bullseye_is_built", suites::bullseye_is_built),
    ("foreign::it_is_built_under_emulation", foreign::it_is_built_under_emulation),
    (
        "foreign::without_an_emulator_it_says_what_to_install",
        foreign::without_an_emulator_it_says_what_to_install,
    ),
];

fn main() -> ExitCode {
    let choice = Choice::of(std::env::args().skip(1), is_ci(), include_str!("../skips.txt"));
    let lab = Lab::new();
    let end = ("the_run_leaves_nothing", lab::the_run_leaves_nothing as fn(&Lab));
    if runner::run(&choice, TESTS, &lab, end) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::disallowed_methods, reason = "CI=true makes a skipped test a failure")]
fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}
