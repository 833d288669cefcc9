//! Words that look like secrets, which belong into no file that is shared and into no layer.
//!
//! Each begins with a few characters that its maker chose so that it can be found; what follows them must be of the
//! right characters, long enough, and look drawn by chance: documentation is full of `ghp_xxxx`.

use memchr::memmem;

/// How a maker's tokens begin, and what follows.
#[derive(Debug)]
pub struct Shape {
    /// The beginning.
    pub begin: &'static str,
    /// Whose it is, in words.
    pub kind: &'static str,
    /// The fewest characters that follow.
    least: usize,
    of: fn(u8) -> bool,
}

const fn word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

/// Tells whether a character is one of tokens with hyphens in them.
pub(crate) const fn dashed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

const fn upper(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit()
}

const fn shape(begin: &'static str, kind: &'static str, least: usize, of: fn(u8) -> bool) -> Shape {
    Shape { begin, kind, least, of }
}

/// Every shape; of two that begin alike, the longer first.
///
/// **Source**: the makers' documentation of their tokens; GitHub's and gitleaks' lists of shapes.
pub const SHAPES: &[Shape] = &[
    shape("sk-ant-", "Anthropic key", 32, dashed),
    shape("sk-", "OpenAI key", 32, dashed),
    shape("ghp_", "GitHub token", 36, word),
    shape("gho_", "GitHub token", 36, word),
    shape("ghu_", "GitHub token", 36, word),
    shape("ghs_", "GitHub token", 36, word),
    shape("ghr_", "GitHub token", 36, word),
    shape("github_pat_", "GitHub token", 60, dashed),
    shape("glpat-", "GitLab token", 20, dashed),
    shape("AIza", "Google key", 35, dashed),
    shape("ya29.", "Google login", 40, dashed),
    shape("AKIA", "AWS key", 16, upper),
    shape("ASIA", "AWS key", 16, upper),
    shape("xoxb-", "Slack token", 24, dashed),
    shape("xoxp-", "Slack token", 24, dashed),
    shape("xapp-", "Slack token", 24, dashed),
    shape("tskey-", "Tailscale key", 20, dashed),
    shape("npm_", "npm token", 36, word),
    shape("pypi-", "PyPI token", 80, dashed),
    shape("hf_", "Hugging Face token", 34, word),
    shape("dckr_pat_", "Docker token", 24, dashed),
    shape("tk_", "ntfy token", 29, word),
    shape("AGE-SECRET-KEY-1", "age key", 50, upper),
];

/// How the names of variables end whose values are secrets, after `_` or as the whole name.
const ENDS: [&str; 12] = [
    "KEY",
    "APIKEY",
    "TOKEN",
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "PASS",
    "PAT",
    "CREDENTIAL",
    "CREDENTIALS",
    "AUTH",
];

/// Returns whether the value of a variable is likely a secret, by its name: `OPENAI_API_KEY`, `GH_TOKEN`.
#[must_use]
pub fn names_a_secret(variable: &str) -> bool {
    let name = variable.to_ascii_uppercase();
    let last = name.rsplit('_').next().unwrap_or(&name);
    ENDS.contains(&last) && !name.ends_with("PUBLIC_KEY")
}

/// Returns whether a value begins with a token of a known maker.
#[must_use]
pub fn is_a_token(value: &str) -> bool {
    SHAPES.iter().any(|shape| value.starts_with(shape.begin) && shape.token(value.as_bytes(), 0).is_some())
}

impl Shape {
    /// Gives the token whose beginning is at a place of a text, if there is one.
    #[must_use]
    pub fn token<'a>(&self, text: &'a [u8], at: usize) -> Option<&'a [u8]> {
        // `task-…` is no key that begins with `sk-`
        if at > 0 && dashed(text[at - 1]) {
            return None;
        }
        let rest = text.get(at + self.begin.len()..)?;
        let length = rest.iter().take_while(|byte| (self.of)(**byte)).count();
        let drawn = by_chance(&rest[..length], if self.least < 20 { 8 } else { 14 });
        let mixed = self.begin != "sk-" || mixed(&rest[..length]);
        (length >= self.least && drawn && mixed).then(|| &text[at..at + self.begin.len() + length])
    }
}

/// Tells whether characters look drawn by chance: many different ones, digits and letters, and no word that
/// says that this is none.
pub(crate) fn by_chance(token: &[u8], distinct: usize) -> bool {
    let mut seen = [false; 256];
    token.iter().for_each(|byte| seen[usize::from(*byte)] = true);
    let lower = token.to_ascii_lowercase();
    let said = |word: &str| memmem::find(&lower, word.as_bytes()).is_some();
    seen.iter().filter(|seen| **seen).count() >= distinct
        && token.iter().any(u8::is_ascii_digit)
        && token.iter().any(u8::is_ascii_alphabetic)
        && !["example", "xxxx", "123456", "abcdef", "placeholder", "your", "dummy", "fake", "test"]
            .into_iter()
            .any(said)
}

/// Tells whether there are capitals and small letters: `sk-` begins names of styles and programs too.
fn mixed(token: &[u8]) -> bool {
    token.iter().any(u8::is_ascii_uppercase) && token.iter().any(u8::is_ascii_lowercase)
}

/// Finds the first of a text's tokens, or a private key; gives the part that says which.
#[must_use]
pub fn shape_of(text: &str) -> Option<&'static str> {
    if text.contains("-----BEGIN") && text.contains("PRIVATE KEY-----") {
        return Some("-----BEGIN … PRIVATE KEY-----");
    }
    let text = text.as_bytes();
    let has = |shape: &&Shape| {
        memmem::find_iter(text, shape.begin.as_bytes()).any(|at| shape.token(text, at).is_some())
    };
    SHAPES.iter().find(has).map(|shape| shape.begin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_secrets_are_told_by_their_names() {
        for name in
            ["OPENAI_API_KEY", "GH_TOKEN", "TOKEN", "aws_secret", "DB_PASSWORD", "X_APIKEY", "NPM_AUTH"]
        {
            assert!(names_a_secret(name), "{name}");
        }
        for name in
            ["KEYBOARD", "PATH", "SSH_PUBLIC_KEY", "TOKENIZERS_PARALLELISM", "HTTP_PROXY", "MONKEY", "KEYS"]
        {
            assert!(!names_a_secret(name), "{name}");
        }
        let token = format!("{}{}", "ghp", "_aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5");
        assert!(is_a_token(&token) && !is_a_token("ghp_xxxx") && !is_a_token("a value"));
    }

    #[test]
    fn tokens_are_told_from_words() {
        // characters as of a token, which are none
        let drawn = "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5";
        let long = drawn.repeat(3);
        for shape in SHAPES {
            let rest = if (shape.of)(b'a') { long.clone() } else { long.to_ascii_uppercase() };
            let text = format!("KEY={}{rest}\n", shape.begin);
            assert_eq!(shape_of(&text), Some(shape.begin));
            let short = &rest[..shape.least - 1];
            let found = shape_of(&format!("KEY={}{short}", shape.begin));
            // too short for one, it may still be another whose beginning is shorter
            assert!(found.is_none_or(|found| found.len() < shape.begin.len()), "{}", shape.begin);
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

    #[test]
    fn of_two_that_begin_alike_the_longer_is_first() {
        for (at, shape) in SHAPES.iter().enumerate() {
            let hidden = SHAPES[..at].iter().find(|before| shape.begin.starts_with(before.begin));
            assert!(hidden.is_none(), "{} is never told", shape.begin);
        }
    }
}
