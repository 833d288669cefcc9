//! Relations: what is written is read again as the same, and nothing is read that could mean more than a name.

use sandbox_core::deb::relation::{is_name, parse};

use crate::memory::bounded;

/// Takes the bytes as a field of relations.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(groups) = bounded(256 * data.len() + 4096, || parse(text, "amd64")) else { return };
    let written = groups
        .iter()
        .map(|group| group.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | "))
        .collect::<Vec<_>>()
        .join(", ");
    let again = parse(&written, "amd64").unwrap_or_else(|problem| panic!("{written:?}: {problem}"));
    assert_eq!(again, groups, "{written:?}");
    for relation in groups.iter().flatten() {
        assert!(is_name(relation.name) && !relation.name.contains('/'), "{relation}");
        if let Some((operator, version)) = &relation.bound {
            assert_eq!(relation.admits(version), operator.holds(version, version));
        }
    }
    assert!(groups.iter().all(|group| !group.is_empty()));
}
