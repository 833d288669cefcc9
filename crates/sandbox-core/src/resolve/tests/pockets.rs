//! Pockets whose versions stand behind others, and wishes for a pocket's version.

use super::*;
use crate::deb::packages::Origin;

/// A release, and its backports with apt's priority of them.
fn two(release: &[&str], backports: &[&str], priority: u16) -> Catalog {
    let names = vec!["trixie-backports".to_owned(), "stable-backports".to_owned()];
    let behind = Origin { names, priority, ..Origin::new("backports") };
    let indexes = vec![
        (behind, all_text(backports).into_bytes()),
        (Origin::new("release"), all_text(release).into_bytes()),
    ];
    Catalog::of(indexes, "amd64").unwrap()
}

#[test]
fn a_backport_is_taken_for_want_of_another_only() {
    for priority in [1, 100] {
        let all = two(&["a 1", "b: Depends: a", "c: Depends: a (>= 2)"], &["a 2", "new"], priority);
        assert_eq!(names(&all, &["b"]), "a b");
        assert_eq!(names(&all, &["c"]), "a=2 c");
        assert_eq!(names(&all, &["new"]), "new", "what no other suite has");
    }
    let all = two(&["a 1"], &["a 2"], 500);
    assert_eq!(names(&all, &["a"]), "a=2", "of one priority the newest");
}

#[test]
fn a_wish_may_ask_for_a_suites_version() {
    let all = two(&["a 1", "lib 1", "b: Depends: a"], &["a 2: Depends: lib (>= 2)", "lib 2", "a 1.5"], 100);
    assert_eq!(names(&all, &["a", "b"]), "a b");
    for suite in ["backports", "trixie-backports", "stable-backports"] {
        assert_eq!(names(&all, &[&format!("a/{suite}"), "b"]), "lib=2 a=2 b");
    }
    assert_eq!(names(&all, &["a:amd64/backports"]), "lib=2 a=2");
    assert_eq!(names(&all, &["a=1.5"]), "a=1.5");
    assert_eq!(names(&all, &["a/release"]), "a");
    assert_eq!(
        failure(&all, &["b/backports"]),
        "package `b` of suite `backports` is wanted by a test, and the archive offers `b` 1 (release)"
    );
}

/// As apt does: what a suite's package needs comes from that suite only where nothing else will do.
#[test]
fn a_suites_version_brings_no_more_of_its_suite_than_it_must() {
    let all = two(
        &["lib 1", "tool 1", "x 1", "z 1"],
        &["a 2: Depends: lib (>= 2), tool, y | z", "lib 2: Depends: x (>= 2)", "tool 2", "x 2", "y 2"],
        100,
    );
    assert_eq!(names(&all, &["a/backports"]), "x=2 lib=2 tool y=2 a=2");
}

#[test]
fn a_suites_version_may_take_a_second_alternative_of_it() {
    let all = two(&["p 1", "q 1"], &["a: Depends: p (>= 3) | q (>= 2)", "q 2"], 100);
    assert_eq!(names(&all, &["a/backports"]), "q=2 a");
}
