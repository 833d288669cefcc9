//! Vendors' files of digests.
//!
//! **Source**: sha256sum(1), `--tag` for the lines of BSD.

use crate::digest::Sha256;

/// Finds the SHA-256 of a file: on the line with its name, or as the only thing there is.
pub(super) fn find(text: &str, file: &str) -> Option<Sha256> {
    let lines: Vec<(Sha256, Option<&str>)> = text.lines().filter_map(line).collect();
    let named = lines.iter().find(|(_, name)| name.is_some_and(|name| last(name) == file));
    match (named, lines.as_slice()) {
        (Some((digest, _)), _) | (None, [(digest, None)]) => Some(*digest),
        _ => None,
    }
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Reads `DIGEST  NAME`, `DIGEST *NAME`, `SHA256 (NAME) = DIGEST` and `DIGEST` alone.
fn line(line: &str) -> Option<(Sha256, Option<&str>)> {
    let line = line.trim();
    if let Some(rest) = line.strip_prefix("SHA256 (") {
        let (name, digest) = rest.rsplit_once(") = ")?;
        return Some((digest.parse().ok()?, Some(name)));
    }
    // a backslash in front says that the name has some, which none of ours has
    let line = line.trim_start_matches('\\');
    let (digest, name) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let digest = digest.strip_prefix("sha256:").unwrap_or(digest).parse().ok()?;
    let name = name.trim_start();
    let name = name.strip_prefix('*').unwrap_or(name);
    Some((digest, (!name.is_empty() && name != "-").then_some(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_read_and_a_name_is_whole() {
        let (one, two) = (Sha256::of(b"1"), Sha256::of(b"2"));
        for text in [
            format!("{one}  a\n{two}  b\n"),
            format!("{two} *dist/b\n{one} *dist/a\n"),
            format!("SHA256 (a) = {one}\nSHA512 (a) = 00\nSHA256 (b) = {two}\n"),
            format!("# digests\n{}  ./b\r\n", two.to_string().to_uppercase()),
            format!("{two}\n"),
            format!("sha256:{two}"),
            format!("{two}  -\n"),
        ] {
            assert_eq!(find(&text, "b"), Some(two), "{text}");
        }
        for text in [
            format!("{one}  a\n"),
            format!("{one}  ab\n{two}  b.sig\n"),
            format!("{one}\n{two}\n"),
            "<html>".to_owned(),
            String::new(),
        ] {
            assert_eq!(find(&text, "b"), None, "{text}");
        }
    }
}
