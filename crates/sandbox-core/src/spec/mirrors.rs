//! The host's own mirrors: what its apt uses, where it is of the image's distribution.

use std::collections::BTreeMap;

/// Base URLs by the name of the archive in the image file: `main`, `security`.
pub type Mirrors = BTreeMap<String, Vec<String>>;

/// Reads the host's apt sources and gives the mirrors of a distribution.
///
/// A suite that ends in `-security` gives mirrors of the archive `security`, every other one of `main`.
/// Sources of third parties are told apart by their suites, which are none of the distribution's: a source
/// counts only where its suite begins with the host's own codename.
///
/// **Source**: os-release(5), sources.list(5).
#[must_use]
pub fn of_host(os_release: &str, sources: &[(String, String)], distribution: &str) -> Mirrors {
    let mut mirrors = Mirrors::new();
    let field = |key: &str| {
        os_release
            .lines()
            .filter_map(|line| line.split_once('='))
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value.trim_matches('"').to_owned())
    };
    let (Some(id), Some(codename)) = (field("ID"), field("VERSION_CODENAME")) else { return mirrors };
    if id != distribution {
        return mirrors;
    }
    for (file, text) in sources {
        let entries = if file.ends_with(".sources") { stanzas(text) } else { lines(text) };
        for (uri, suite) in entries {
            if suite != codename && !suite.starts_with(&format!("{codename}-")) {
                continue;
            }
            let archive = if suite.ends_with("-security") { "security" } else { "main" };
            let urls = mirrors.entry(archive.to_owned()).or_default();
            let uri = uri.trim_end_matches('/').to_owned();
            if !urls.contains(&uri) {
                urls.push(uri);
            }
        }
    }
    mirrors
}

fn is_remote(uri: &str) -> bool {
    uri.starts_with("http://") || uri.starts_with("https://")
}

/// One-line style: `deb [options] uri suite component …`.
fn lines(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for line in text.lines() {
        let Some(rest) = line.trim().strip_prefix("deb ") else { continue };
        let rest = rest.trim_start();
        let rest =
            if rest.starts_with('[') { rest.split_once(']').map_or("", |(_, rest)| rest) } else { rest };
        let mut words = rest.split_whitespace();
        if let (Some(uri), Some(suite)) = (words.next(), words.next())
            && is_remote(uri)
        {
            found.push((uri.to_owned(), suite.to_owned()));
        }
    }
    found
}

/// deb822 style.
fn stanzas(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for stanza in text.split("\n\n") {
        let mut fields: BTreeMap<String, String> = BTreeMap::new();
        let mut last = String::new();
        for line in stanza.lines().filter(|line| !line.starts_with('#')) {
            if line.starts_with([' ', '\t']) {
                let value = fields.entry(last.clone()).or_default();
                value.push(' ');
                value.push_str(line.trim());
            } else if let Some((key, value)) = line.split_once(':') {
                last = key.to_ascii_lowercase();
                fields.insert(last.clone(), value.trim().to_owned());
            }
        }
        let get = |key: &str| fields.get(key).map_or("", String::as_str);
        if get("enabled").eq_ignore_ascii_case("no")
            || !get("types").split_whitespace().any(|kind| kind == "deb")
        {
            continue;
        }
        for uri in get("uris").split_whitespace().filter(|uri| is_remote(uri)) {
            for suite in get("suites").split_whitespace() {
                found.push((uri.to_owned(), suite.to_owned()));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const OS: &str = "ID=debian\nVERSION_CODENAME=bookworm\n";

    #[test]
    fn both_styles_are_read_and_third_parties_left_out() {
        let sources = [
            (
                "debian.sources".to_owned(),
                "# c\nTypes: deb\nURIs: http://m.invalid/debian/\nSuites: bookworm bookworm-updates\n\n\
                 Types: deb\nURIs: http://m.invalid/sec\nSuites: bookworm-security\nEnabled: yes\n\n\
                 Types: deb\nEnabled: no\nURIs: http://off.invalid/\nSuites: bookworm\n"
                    .to_owned(),
            ),
            (
                "other.list".to_owned(),
                "deb [signed-by=/k] https://third.invalid/apt stable main\ndeb http://n.invalid/debian bookworm main\n"
                    .to_owned(),
            ),
        ];
        let mirrors = of_host(OS, &sources, "debian");
        assert_eq!(mirrors["main"], ["http://m.invalid/debian", "http://n.invalid/debian"]);
        assert_eq!(mirrors["security"], ["http://m.invalid/sec"]);
        assert!(of_host(OS, &sources, "ubuntu").is_empty());
    }
}
