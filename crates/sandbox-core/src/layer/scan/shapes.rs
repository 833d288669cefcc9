//! Texts that look like tokens, keys and signed tokens.

use memchr::memmem::Finder;

use crate::spec::secrets::{SHAPES, Shape, by_chance, dashed};

/// What can be looked for in texts.
pub struct Shapes {
    tokens: Vec<(Finder<'static>, &'static Shape)>,
    key: Finder<'static>,
    jwt: Finder<'static>,
}

impl Shapes {
    /// Prepares the searches.
    pub fn new() -> Self {
        Self {
            tokens: SHAPES.iter().map(|shape| (Finder::new(shape.begin), shape)).collect(),
            key: Finder::new("PRIVATE KEY-----"),
            jwt: Finder::new("eyJ"),
        }
    }

    /// Finds the first of each kind.
    pub fn find<'a>(&self, text: &'a [u8]) -> Vec<(&'static str, &'a [u8])> {
        let mut found: Vec<(&'static str, &[u8])> = Vec::new();
        for (finder, shape) in &self.tokens {
            let known = |found: &[(&str, &[u8])]| found.iter().any(|(kind, _)| *kind == shape.kind);
            let mut tokens = finder.find_iter(text).filter_map(|at| shape.token(text, at));
            if !known(&found)
                && let Some(token) = tokens.next()
                && !found.iter().any(|(_, other)| other.as_ptr() == token.as_ptr())
            {
                found.push((shape.kind, token));
            }
        }
        found.extend(self.key.find_iter(text).find_map(|at| private_key(text, at)));
        found.extend(self.jwt.find_iter(text).find_map(|at| json_web_token(text, at)));
        found
    }
}

/// A PEM block with a key in it: the line alone is in many a program that looks for such.
fn private_key(text: &[u8], at: usize) -> Option<(&'static str, &[u8])> {
    let begin = text[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |before| before + 1);
    let from = memchr::memmem::find(&text[begin..at], b"-----BEGIN ")?;
    let rest = &text[at + b"PRIVATE KEY-----".len()..];
    // in a text in quotes, lines end with a backslash and an n
    let rest = rest
        .strip_prefix(b"\r\n")
        .or_else(|| rest.strip_prefix(b"\n"))
        .or_else(|| rest.strip_prefix(b"\\n"))?;
    let base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    let line = rest.iter().take_while(|byte| base64(byte)).count();
    (line >= 40).then(|| ("private key", &text[begin + from..at]))
}

/// A signed JSON Web Token: three parts, the first two of which are JSON.
fn json_web_token(text: &[u8], at: usize) -> Option<(&'static str, &[u8])> {
    if at > 0 && dashed(text[at - 1]) {
        return None;
    }
    let rest = &text[at..];
    let length = rest.iter().take_while(|byte| dashed(**byte) || **byte == b'.').count();
    let parts: Vec<&[u8]> = rest[..length].split(|byte| *byte == b'.').collect();
    let [head, body, signature] = parts.as_slice() else { return None };
    let whole = head.len() >= 16 && body.len() >= 16 && signature.len() >= 32 && body.starts_with(b"eyJ");
    (whole && by_chance(signature, 14)).then_some(("JSON Web Token", &rest[..length]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<&'static str> {
        Shapes::new().find(text.as_bytes()).into_iter().map(|(kind, _)| kind).collect()
    }

    /// Characters as of a token, which are none.
    const DRAWN: &str = "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5hJ7kL9nP1rS3uV5x";

    #[test]
    fn tokens_are_told_by_their_maker() {
        for (begin, kind) in [
            ("sk-ant-api03-", "Anthropic key"),
            ("sk-proj-", "OpenAI key"),
            ("ghp_", "GitHub token"),
            ("glpat-", "GitLab token"),
            ("AIza", "Google key"),
            ("xoxb-", "Slack token"),
            ("tskey-auth-", "Tailscale key"),
            ("npm_", "npm token"),
            ("dckr_pat_", "Docker token"),
            ("tk_", "ntfy token"),
        ] {
            assert_eq!(kinds(&format!("KEY={begin}{DRAWN}\n")), [kind], "{begin}");
        }
        assert_eq!(kinds(&format!("id = {}{}", "AKIA", "Q3EGRTUVNM5K7WXY")), ["AWS key"]);
    }

    #[test]
    fn what_documentation_has_is_none() {
        for text in [
            format!("ghp_{}", "x".repeat(36)),
            "AKIAIOSFODNN7EXAMPLE".to_owned(),
            "sk-ant-your-key-here-000000000000000000000000000".to_owned(),
            format!("task-{DRAWN}"),
            "sk-toggleable-content-of-some-style-sheet-1".to_owned(),
            "-----BEGIN RSA PRIVATE KEY-----".to_owned(),
            "if line == '-----BEGIN PRIVATE KEY-----':".to_owned(),
            "eyJhbGciOiJIUzI1NiJ9".to_owned(),
        ] {
            assert_eq!(kinds(&text), [""; 0], "{text}");
        }
    }

    #[test]
    fn keys_and_signed_tokens_are_told() {
        let key = format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{DRAWN}\n");
        assert_eq!(kinds(&key), ["private key"]);
        assert_eq!(kinds(&key.replace('\n', "\\n")), ["private key"]);
        let token = format!("bearer eyJhbGciOiJIUzI1NiJ9xx.eyJzdWIiOiIxMjMifQxx.{DRAWN}");
        assert_eq!(kinds(&token), ["JSON Web Token"]);
    }
}
