//! Versions: the order is a total one, and is that of Policy §5.6.12 as it was written down a second time.

use std::cmp::Ordering;

use sandbox_core::deb::version::Version;

/// Takes lines as versions, three by three.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let versions: Vec<_> = text.split('\n').take(3).filter_map(|line| Version::parse(line).ok()).collect();
    for a in &versions {
        assert_eq!(a.to_string(), a.as_str());
        assert_eq!(a.cmp(a), Ordering::Equal);
        for b in &versions {
            assert_eq!(a.cmp(b), reference(a.as_str(), b.as_str()), "{a} and {b}");
            assert_eq!(a.cmp(b), b.cmp(a).reverse(), "{a} and {b}");
            assert_eq!(a == b, a.cmp(b).is_eq());
            for c in &versions {
                if a <= b && b <= c {
                    assert!(a <= c, "{a}, {b}, {c}");
                }
            }
        }
    }
}

/// Compares versions by taking them apart into lists first.
#[must_use]
pub fn reference(a: &str, b: &str) -> Ordering {
    let split = |text: &str| {
        let (epoch, rest) = text.split_once(':').unwrap_or(("0", text));
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
        (epoch.parse::<u64>().unwrap(), parts(upstream), parts(revision))
    };
    let ((a0, a1, a2), (b0, b1, b2)) = (split(a), split(b));
    a0.cmp(&b0).then_with(|| compare(&a1, &b1)).then_with(|| compare(&a2, &b2))
}

/// A stretch without digits, each character by its weight and ended by that of the end; then a number, by its
/// length and its digits.
type Part = (Vec<u32>, (usize, String));

fn parts(mut text: &str) -> Vec<Part> {
    let mut found = Vec::new();
    while !text.is_empty() {
        let (words, rest) = text.split_at(text.find(|c: char| c.is_ascii_digit()).unwrap_or(text.len()));
        let (digits, rest) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()));
        let weight = |c: char| match c {
            '~' => 0,
            c if c.is_ascii_alphabetic() => u32::from(c) + 1,
            c => u32::from(c) + 1000,
        };
        let digits = digits.trim_start_matches('0');
        found.push((words.chars().map(weight).chain([1]).collect(), (digits.len(), digits.to_owned())));
        text = rest;
    }
    found
}

fn compare(a: &[Part], b: &[Part]) -> Ordering {
    let nothing = (vec![1], (0, String::new()));
    (0..a.len().max(b.len()))
        .map(|at| a.get(at).unwrap_or(&nothing).cmp(b.get(at).unwrap_or(&nothing)))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}
