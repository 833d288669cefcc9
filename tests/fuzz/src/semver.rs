//! Versions and ranges of npm packages: the order is a total one, and ranges admit what their signs say.

use sandbox_core::layer::npm_tree::{admits, order};

use crate::pep440::total;

/// Takes lines as versions, three by three, and as ranges.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let lines: Vec<&str> = text.split('\n').take(4).collect();
    let versions: Vec<&str> = lines.iter().copied().filter(|line| order(line, line).is_some()).collect();
    total(&versions, order);
    for a in &versions {
        for (one, other) in lines.iter().zip(lines.iter().skip(1)) {
            // these would make another sign of `||`
            if one.ends_with('|') || other.starts_with('|') {
                continue;
            }
            if let (Some(one_met), Some(other_met)) = (admits(one, a), admits(other, a)) {
                let either = admits(&format!("{one}||{other}"), a);
                // npm takes `RANGE||*` for `*`, which has no pre-release that RANGE may name
                let is_met = if is_plain(a) { one_met || other_met } else { either == Some(true) };
                assert_eq!(either, Some(is_met), "{a} of {one} or {other}");
                assert!(!is_met || one_met || other_met, "{a} of {one} or {other}");
            }
        }
        for b in versions.iter().filter(|b| !b.contains(['v', '=', ' ', '\t', '\r'])) {
            let order = order(a, b).unwrap();
            let met = |sign: &str| admits(&format!("{sign}{b}"), a);
            assert_eq!(met(""), Some(order.is_eq()), "{a} and {b}");
            // a pre-release is only where one of its own version is named
            if is_plain(a) {
                assert_eq!(met(">="), Some(order.is_ge()), "{a} and {b}");
                assert_eq!(met("<="), Some(order.is_le()), "{a} and {b}");
                assert_eq!(met(">"), Some(order.is_gt()), "{a} and {b}");
                assert_eq!(met("<"), Some(order.is_lt()), "{a} and {b}");
            }
            for sign in ["^", "~"] {
                assert!(met(sign) == Some(false) || order.is_ge(), "{a} and {b}");
            }
        }
    }
}

/// Returns whether a version is no pre-release, whose hyphen may be missing: `1.2.3beta`.
fn is_plain(version: &str) -> bool {
    let start = |letter: char| letter == 'v' || letter == '=' || letter.is_whitespace();
    let numbers = version.trim_start_matches(start).split('+').next().unwrap_or_default();
    numbers.trim_end().chars().all(|letter| letter.is_ascii_digit() || letter == '.')
}
