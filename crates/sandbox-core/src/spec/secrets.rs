//! Words that look like secrets, which belong into no file that is shared.

/// How tokens begin, and how many letters of their kind follow at least.
///
/// **Source**: the vendors' own descriptions of their tokens.
const SHAPES: [(&str, usize); 18] = [
    ("sk-ant-", 20),
    ("sk-proj-", 20),
    ("sk-", 32),
    ("ghp_", 30),
    ("gho_", 30),
    ("ghs_", 30),
    ("github_pat_", 30),
    ("glpat-", 18),
    ("npm_", 30),
    ("pypi-", 40),
    ("hf_", 30),
    ("xoxb-", 20),
    ("xoxp-", 20),
    ("tskey-", 16),
    ("AKIA", 16),
    ("AIza", 30),
    ("dckr_pat_", 20),
    ("tk_", 28),
];

/// Finds the first word of a text that has a token's shape; gives the part that says which.
#[must_use]
pub fn shape_of(text: &str) -> Option<&'static str> {
    if text.contains("-----BEGIN") && text.contains("PRIVATE KEY-----") {
        return Some("-----BEGIN … PRIVATE KEY-----");
    }
    let of_token = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
    let mut words = text.split(|letter| !of_token(letter));
    words.find_map(|word| {
        let shape = SHAPES.iter().find(|(begin, least)| {
            word.strip_prefix(begin).is_some_and(|rest| {
                // a token is no sentence of hyphened words
                rest.len() >= *least && rest.bytes().any(|byte| byte.is_ascii_digit())
            })
        });
        shape.map(|(begin, _)| *begin)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_told_from_words() {
        let token = |begin: &str| format!("KEY={begin}{}", "a1B2".repeat(10));
        for begin in ["sk-ant-", "ghp_", "github_pat_", "tskey-", "AKIA"] {
            assert_eq!(shape_of(&token(begin)), Some(begin), "{begin}");
        }
        assert!(shape_of("-----BEGIN OPENSSH PRIVATE KEY-----\nx\n").is_some());
        for plain in [
            "sk-learn",
            "npm_config_registry",
            "ghp_",
            "task-list-of-many-words-and-then-some-more-of-them",
            "",
        ] {
            assert_eq!(shape_of(plain), None, "{plain}");
        }
    }
}
