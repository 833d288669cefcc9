//! Versions of Python packages: their order is a total one, and conditions are met as their signs say.

use std::cmp::Ordering;

use sandbox_core::layer::python::{admits, order};

/// Takes lines as versions, three by three, and as conditions.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let lines: Vec<&str> = text.split('\n').take(4).collect();
    let versions: Vec<&str> = lines.iter().copied().filter(|line| order(line, line).is_some()).collect();
    total(&versions, order);
    for a in &versions {
        for line in &lines {
            let _ = admits(line, a);
        }
        for b in &versions {
            let order = order(a, b).unwrap();
            let met = |sign: &str| admits(&format!("{sign}{b}"), a);
            // what was built here has no place in an order of what was released
            let plain = !a.contains('+') && !b.contains('+') && !b.contains(',') && !b.ends_with(".*");
            if plain {
                assert_eq!(met("=="), Some(order.is_eq()), "{a} and {b}");
                assert_eq!(met("!="), Some(order.is_ne()), "{a} and {b}");
                assert_eq!(met(">="), Some(order.is_ge()), "{a} and {b}");
                assert_eq!(met("<="), Some(order.is_le()), "{a} and {b}");
                assert!(met(">") == Some(false) || order.is_gt(), "{a} and {b}");
                assert!(met("<") == Some(false) || order.is_lt(), "{a} and {b}");
                assert!(met("~=").is_none_or(|met| !met || order.is_ge()), "{a} and {b}");
            }
        }
    }
}

/// Sees that an order is a total one.
pub fn total(versions: &[&str], order: fn(&str, &str) -> Option<Ordering>) {
    let order = |a: &str, b: &str| order(a, b).unwrap();
    for a in versions {
        assert_eq!(order(a, a), Ordering::Equal, "{a}");
        for b in versions {
            assert_eq!(order(a, b), order(b, a).reverse(), "{a} and {b}");
            for c in versions {
                if order(a, b).is_le() && order(b, c).is_le() {
                    assert!(order(a, c).is_le(), "{a}, {b}, {c}");
                }
            }
        }
    }
}
