//! A guest's environment.d(5): what is set are variables, in bounded memory, and reading what was read changes nothing.

use sandbox_core::machine::guest::readers::variables;

use crate::memory::bounded;

/// Takes the bytes as a file.
pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let before = vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())];
    let all = bounded(64 * data.len() + (1 << 20), || variables(&text, before.clone()));
    let mut keys: Vec<&str> = all.iter().map(|(key, _)| key.as_str()).collect();
    for (key, value) in &all {
        let mut letters = key.chars();
        assert!(letters.next().is_some_and(|first| first == '_' || first.is_ascii_alphabetic()), "{key:?}");
        assert!(letters.all(|letter| letter == '_' || letter.is_ascii_alphanumeric()), "{key:?}");
        // execve(2) would end it there, and a second line would be another variable
        assert!(!value.contains(['\0', '\n']), "{key:?}={value:?}");
    }
    keys.sort_unstable();
    let count = keys.len();
    keys.dedup();
    assert_eq!(keys.len(), count, "a variable is set twice");
    let quoted = |value: &str| value.chars().flat_map(|letter| ['\\', letter]).collect::<String>();
    let written: String = all.iter().map(|(key, value)| format!("{key}=\"{}\"\n", quoted(value))).collect();
    assert_eq!(variables(&written, Vec::new()), all, "{written:?}");
}
