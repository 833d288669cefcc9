//! The host's own mirrors: what its apt uses, where it is of the image's distribution.

use std::collections::BTreeMap;

use super::apt::{Entry, entries};
use crate::host::foreign::NATIVE;

/// Base URLs by the name of the archive in the image file: `main`, `security`.
pub type Mirrors = BTreeMap<String, Vec<String>>;

/// What the sources of the host's apt say of a distribution's mirrors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfHost {
    /// Mirrors that apt accepts the distribution's signatures of alone.
    pub mirrors: Mirrors,
    /// Addresses that may be mirrors: their Release file decides, by its signature.
    ///
    /// An archive that has mirrors for certain has none.
    pub candidates: Mirrors,
}

/// Pockets of a suite, behind its codename. `bookworm-debug` and `bookworm-pgdg` are none.
const POCKETS: [&str; 6] = ["", "-updates", "-security", "-backports", "-proposed-updates", "-proposed"];

/// Reads the host's apt sources and returns the mirrors of a distribution.
///
/// A suite that ends in `-security` gives mirrors of the archive `security`, every other one of `main`.
///
/// Third parties name their suites after the distribution's too, and their component `main`, on hosts whose
/// administrators followed instructions without `Signed-By`. So a source is a mirror for certain only where it names
/// the distribution's keyring, by which apt itself checks it. One that names another keyring is none. The Release file
/// of any other is asked for, and has to be signed by the distribution: [`crate::archive::Source::guesses`].
///
/// **Source**: os-release(5), sources.list(5).
#[must_use]
pub fn of_host(os_release: &str, sources: &[(String, String)], distribution: &str) -> OfHost {
    let mut found = OfHost::default();
    let field = |key: &str| {
        let pairs = os_release.lines().filter_map(|line| line.split_once('='));
        pairs.filter(|(name, _)| *name == key).map(|(_, value)| value.trim_matches(['"', '\''])).next()
    };
    let (Some(id), Some(codename)) = (field("ID"), field("VERSION_CODENAME")) else { return found };
    if id != distribution {
        return found;
    }
    let key = format!("/{distribution}-archive-");
    for entry in sources.iter().flat_map(|(file, text)| entries(file, text)) {
        let Some(pocket) = entry.suite.strip_prefix(codename).filter(|pocket| POCKETS.contains(pocket))
        else {
            continue;
        };
        if !is_usable(&entry) {
            continue;
        }
        let mirrors = match &entry.signed_by {
            Some(keyring) if keyring.starts_with('/') && keyring.contains(&key) => &mut found.mirrors,
            Some(_) => continue,
            None => &mut found.candidates,
        };
        let archive = if pocket == "-security" { "security" } else { "main" };
        let urls = mirrors.entry(archive.to_owned()).or_default();
        let uri = entry.uri.trim_end_matches('/').to_owned();
        if !urls.contains(&uri) {
            urls.push(uri);
        }
    }
    let OfHost { mirrors, candidates } = &mut found;
    candidates.retain(|archive, _| !mirrors.contains_key(archive));
    found
}

/// Tells whether a source is reached over HTTP, has the distribution's first component, and packages for this host.
fn is_usable(entry: &Entry) -> bool {
    (entry.uri.starts_with("http://") || entry.uri.starts_with("https://"))
        && entry.components.iter().any(|component| component == "main")
        && (entry.architectures.is_empty() || entry.architectures.iter().any(|name| name == NATIVE))
        && !entry.uri.contains("://ppa.launchpad")
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

    /// Lines of a `.list` file of a bookworm host, and whether each is a mirror for certain, a candidate or none.
    #[test]
    fn a_source_is_a_mirror_for_certain_by_the_distributions_keyring_alone() {
        let own = "signed-by=/usr/share/keyrings/debian-archive-keyring.gpg";
        for (line, certain, candidate) in [
            (format!("deb [{own}] http://m.invalid/debian/ bookworm main"), Some("main"), None),
            (format!("deb [{own}] http://m.invalid/s bookworm-security main"), Some("security"), None),
            (format!("deb [{own}] http://m.invalid/d bookworm-debug main"), None, None),
            (format!("deb [{own} arch=riscv64] http://m.invalid/debian bookworm main"), None, None),
            ("deb http://m.invalid/debian bookworm-updates main".to_owned(), None, Some("main")),
            ("deb http://m.invalid/s bookworm-security main".to_owned(), None, Some("security")),
            ("deb https://third.invalid/apt bookworm main".to_owned(), None, Some("main")),
            ("deb https://third.invalid/apt bookworm-pgdg main".to_owned(), None, None),
            ("deb [signed-by=/k.asc] https://third.invalid/debian bookworm main".to_owned(), None, None),
            ("deb https://third.invalid/linux/debian bookworm stable".to_owned(), None, None),
            ("deb https://third.invalid/apt stable main".to_owned(), None, None),
            ("deb https://ppa.launchpadcontent.net/x/y/ubuntu bookworm main".to_owned(), None, None),
            ("deb file:/srv/mirror bookworm main".to_owned(), None, None),
            ("deb-src http://m.invalid/debian bookworm main".to_owned(), None, None),
        ] {
            let found = of_host(OS, &[("a.list".to_owned(), line.clone())], "debian");
            let archive = |mirrors: &Mirrors| mirrors.keys().next().cloned();
            assert_eq!(archive(&found.mirrors).as_deref(), certain, "{line}");
            assert_eq!(archive(&found.candidates).as_deref(), candidate, "{line}");
        }
    }

    #[test]
    fn where_one_is_certain_no_other_is_asked() {
        let text = "Types: deb\nURIs: http://m.invalid/debian/\nSuites: bookworm bookworm-updates\nComponents: main\n\
                    Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n";
        let sources = [
            ("debian.sources".to_owned(), text.to_owned()),
            (
                "x.list".to_owned(),
                "deb http://n.invalid bookworm main\ndeb http://s.invalid bookworm-security main\n"
                    .to_owned(),
            ),
        ];
        let found = of_host(OS, &sources, "debian");
        assert_eq!(found.mirrors["main"], ["http://m.invalid/debian"]);
        assert_eq!(found.candidates.keys().collect::<Vec<_>>(), ["security"]);
        assert_eq!(of_host(OS, &sources, "ubuntu"), OfHost::default());
        assert_eq!(of_host("ID=linuxmint\nVERSION_CODENAME=wilma\n", &sources, "debian"), OfHost::default());
    }
}
