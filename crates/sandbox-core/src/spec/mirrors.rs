//! The host's own mirrors: what its apt uses, where it is of the image's distribution.

use std::collections::BTreeMap;

/// Base URLs by the name of the archive in the image file: `main`, `security`.
pub type Mirrors = BTreeMap<String, Vec<String>>;

/// Reads the host's apt sources and gives the mirrors of a distribution.
///
/// A suite that ends in `-security` gives mirrors of the archive `security`, every other one of `main`.
///
/// Third parties name their suites after the distribution's too (`https://download.docker.com/linux/debian
/// trixie stable`). A source counts where its suite begins with the host's own codename, one of its components is
/// `main`, it is no personal package archive, and its `Signed-By`, where it has one, is the distribution's keyring.
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
        for Entry { uri, suite, components, signed_by } in entries {
            let own = suite == codename || suite.starts_with(&format!("{codename}-"));
            let key = format!("/{distribution}-archive-");
            if !own
                || !components.iter().any(|component| component == "main")
                || signed_by.is_some_and(|path| !path.contains(&key))
                || uri.contains("://ppa.launchpad")
            {
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

/// Guesses mirrors of the security archive beside those of the main archive: many mirrors have `debian-security`
/// beside `debian`. `usual` is the image's own mirror of it, whose name says whether it has such a name.
#[must_use]
pub fn siblings(main: &[String], usual: &str) -> Vec<String> {
    if !usual.ends_with("-security") {
        return Vec::new();
    }
    main.iter().map(|mirror| format!("{mirror}-security")).collect()
}

/// What one source says of one suite.
struct Entry {
    uri: String,
    suite: String,
    components: Vec<String>,
    signed_by: Option<String>,
}

fn is_remote(uri: &str) -> bool {
    uri.starts_with("http://") || uri.starts_with("https://")
}

/// One-line style: `deb [options] uri suite component …`.
fn lines(text: &str) -> Vec<Entry> {
    let mut found = Vec::new();
    for line in text.lines() {
        let Some(rest) = line.trim().strip_prefix("deb ") else { continue };
        let rest = rest.trim_start();
        let bracketed = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let (options, rest) = bracketed.unwrap_or(("", rest));
        let signed_by = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
        let mut words = rest.split_whitespace();
        if let (Some(uri), Some(suite)) = (words.next(), words.next())
            && is_remote(uri)
        {
            found.push(Entry {
                uri: uri.to_owned(),
                suite: suite.to_owned(),
                components: words.map(str::to_owned).collect(),
                signed_by: signed_by.map(str::to_owned),
            });
        }
    }
    found
}

/// deb822 style.
fn stanzas(text: &str) -> Vec<Entry> {
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
                found.push(Entry {
                    uri: uri.to_owned(),
                    suite: suite.to_owned(),
                    components: get("components").split_whitespace().map(str::to_owned).collect(),
                    signed_by: fields.get("signed-by").cloned(),
                });
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
    fn a_mirror_may_have_the_security_archive_beside_it() {
        let main = ["http://m.invalid/debian".to_owned()];
        assert_eq!(siblings(&main, "http://x.invalid/debian-security"), ["http://m.invalid/debian-security"]);
        assert!(siblings(&main, "http://x.invalid/ubuntu").is_empty());
    }

    #[test]
    fn both_styles_are_read_and_third_parties_left_out() {
        let sources = [
            (
                "debian.sources".to_owned(),
                "# c\nTypes: deb\nURIs: http://m.invalid/debian/\nSuites: bookworm bookworm-updates\n\
                 Components: main contrib\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n\
                 Types: deb\nURIs: http://m.invalid/sec\nSuites: bookworm-security\nComponents: main\n\
                 Enabled: yes\n\nTypes: deb\nComponents: main\nEnabled: no\nURIs: http://off.invalid/\nSuites: bookworm\n"
                    .to_owned(),
            ),
            (
                "other.list".to_owned(),
                "deb [signed-by=/k] https://third.invalid/apt stable main\ndeb http://n.invalid/debian bookworm main\n\
                 deb [arch=amd64 signed-by=/k.asc] https://third.invalid/debian bookworm main\n\
                 deb https://third.invalid/linux/debian bookworm stable\n\
                 deb https://ppa.launchpadcontent.net/x/y/ubuntu bookworm main\n"
                    .to_owned(),
            ),
        ];
        let mirrors = of_host(OS, &sources, "debian");
        assert_eq!(mirrors["main"], ["http://m.invalid/debian", "http://n.invalid/debian"]);
        assert_eq!(mirrors["security"], ["http://m.invalid/sec"]);
        assert!(of_host(OS, &sources, "ubuntu").is_empty());
    }
}
