//! Which version of a download is the newest.

use super::DownloadError;
use crate::host::transport::{Ask, Transport, asked};

/// The most bytes of what tells a version; what a forge's page redirects to is read, and may be long.
const LIMIT: u64 = 16 << 20;

/// Asks an address that leads to one whose last word is the version, or whose text is it.
pub(super) fn latest(url: &str, transport: &dyn Transport) -> Result<String, DownloadError> {
    let (led, bytes) = asked(transport, &Ask::at(url, LIMIT))
        .map_err(|source| DownloadError::Ask { what: "which version is its latest", source })?;
    let text = String::from_utf8_lossy(&bytes);
    let word = if last(&led) == last(url) { text.trim() } else { last(&led) };
    number(word).ok_or_else(|| DownloadError::Version {
        url: url.to_owned(),
        said: word.chars().take(60).collect::<String>().escape_default().to_string(),
    })
}

fn last(url: &str) -> &str {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    path.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

/// Reads `1.2.3`, `v1.2.3` and `name-1.2.3`: words that stand before the number are the tag's, not the version's.
fn number(word: &str) -> Option<String> {
    let word = word.replace("%2B", "+").replace("%2b", "+");
    let at = word.find(|first: char| first.is_ascii_digit())?;
    let before = &word[..at];
    let fits = before.is_empty() || before.ends_with(['v', 'V', '-', '_']);
    let plain = |text: &str| text.chars().all(|one| one.is_ascii_alphanumeric() || "+-_.~".contains(one));
    (fits && plain(&word)).then(|| word[at..].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_begins_with_its_number() {
        for (word, version) in [
            ("1.2.3", Some("1.2.3")),
            ("v0.44.1", Some("0.44.1")),
            ("jq-1.8.1", Some("1.8.1")),
            ("bun-v1.3", Some("1.3")),
            ("v1.34.1%2Bk3s1", Some("1.34.1+k3s1")),
            ("releases", None),
            ("<html>1", None),
            ("1.0\n2.0", None),
            ("../../1", None),
            ("", None),
        ] {
            assert_eq!(number(word).as_deref(), version, "{word}");
        }
    }
}
