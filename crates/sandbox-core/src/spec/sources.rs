//! Archives of others: read from apt's own stanzas or from profiles, each with the key that alone is trusted.

use std::{fs, path::Path};

use super::{apt::is_off, check::Error, file::ExtraSource};
use crate::deb::deb822::{self, Paragraph};

/// How an armored key begins.
const ARMOR: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";

/// An archive of somebody else's, with its key at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trusted {
    /// What it is.
    pub source: ExtraSource,
    /// The certificates that alone may sign it, armored or binary.
    pub key: Vec<u8>,
    /// The file that the key is from: its own, or the one that has it in its text.
    pub origin: String,
}

impl Trusted {
    /// Gives the path of the key in a tree.
    #[must_use]
    pub fn key_path(&self) -> String {
        let suffix = if is_armored(&self.key) { "asc" } else { "gpg" };
        format!("/etc/apt/keyrings/{}.{suffix}", self.source.name)
    }

    /// Writes the stanza for a tree's own apt.
    ///
    /// **Source**: sources.list(5), deb822 style.
    #[must_use]
    pub fn stanza(&self) -> String {
        let ExtraSource { uris, suites, components, architectures, .. } = &self.source;
        let mut text = format!("Types: deb\nURIs: {}\nSuites: {}\n", uris.join(" "), suites.join(" "));
        for (field, words) in [("Components", components), ("Architectures", architectures)] {
            if !words.is_empty() {
                text += &format!("{field}: {}\n", words.join(" "));
            }
        }
        text + &format!("Signed-By: {}\n", self.key_path())
    }
}

/// Tells whether certificates are armored, which apt tells by the file's name.
#[must_use]
pub fn is_armored(key: &[u8]) -> bool {
    key.trim_ascii_start().starts_with(ARMOR.as_bytes())
}

/// Reads the stanzas of a `.sources` file; those that are not enabled, or are of sources alone, are left out.
///
/// **Shape**: `Types`, `URIs`, `Suites`, `Components`, `Architectures`, `Signed-By`, `Enabled`. The name of each is
/// the file's, with a number from the second on.
///
/// # Errors
/// [`Error::Value`] names the file and the field.
pub fn of_stanzas(origin: &str, text: &str) -> Result<Vec<ExtraSource>, Error> {
    let value = |key: &str, problem: String| wrong(origin, key, problem);
    let file = Path::new(origin).file_name().map(|name| name.to_string_lossy().into_owned());
    let stem = file.unwrap_or_default().trim_end_matches(".sources").to_owned();
    let read = deb822::read(text.as_bytes()).map_err(|error| value("stanza", error.to_string()))?;
    let mut found = Vec::new();
    for stanza in read.iter().filter(|stanza| is_used(stanza)) {
        let name = if found.is_empty() { stem.clone() } else { format!("{stem}-{}", found.len() + 1) };
        let signed_by = stanza
            .get("Signed-By")
            .ok_or_else(|| value("Signed-By", "it is missing: no key would be trusted for it".to_owned()))?;
        let source = ExtraSource {
            name,
            uris: words(stanza, "URIs"),
            suites: words(stanza, "Suites"),
            components: words(stanza, "Components"),
            architectures: words(stanza, "Architectures"),
            signed_by: unfolded(signed_by),
        };
        sound(origin, &source)?;
        found.push(source);
    }
    if found.is_empty() {
        return Err(value("stanza", "there is no enabled one of `Types: deb`".to_owned()));
    }
    Ok(found)
}

fn is_used(stanza: &Paragraph) -> bool {
    !stanza.get("Enabled").is_some_and(is_off) && words(stanza, "Types").iter().any(|kind| kind == "deb")
}

fn words(stanza: &Paragraph, field: &str) -> Vec<String> {
    let value = stanza.get(field).unwrap_or_default();
    value.split_whitespace().map(|word| word.trim_end_matches('/').to_owned() + slash(field, word)).collect()
}

/// The slash at the end of a flat archive's suite means something, that of a URL nothing.
fn slash(field: &str, word: &str) -> &'static str {
    if field == "Suites" && word.ends_with('/') { "/" } else { "" }
}

/// Takes the leading space of each line away, and the `.` of empty ones.
fn unfolded(value: &str) -> String {
    let lines = value.trim().lines().map(str::trim);
    lines.map(|line| if line == "." { "" } else { line }).collect::<Vec<_>>().join("\n")
}

/// Sees that a source makes sense, and that its words stay words in the file that is written of them.
pub(super) fn sound(origin: &str, source: &ExtraSource) -> Result<(), Error> {
    let value = |key: &str, problem: String| Err(wrong(origin, &format!("source.{key}"), problem));
    let name = &source.name;
    if name.is_empty()
        || name.starts_with('.')
        || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    {
        return value("name", format!("`{name}` is no file name for apt: letters, digits, `.`, `_`, `-`"));
    }
    let lists = [
        ("uris", &source.uris),
        ("suites", &source.suites),
        ("components", &source.components),
        ("architectures", &source.architectures),
    ];
    for (key, words) in lists {
        if words.is_empty() && matches!(key, "uris" | "suites") {
            return value(key, "it is missing".to_owned());
        }
        for word in words {
            let climbs = key != "uris" && word.split('/').any(|part| part == "..");
            if word.is_empty() || climbs || !word.bytes().all(|byte| byte.is_ascii_graphic()) {
                return value(key, format!("`{word}` is not one word, or leads elsewhere"));
            }
        }
    }
    let flat = source.suites.iter().filter(|suite| suite.ends_with('/')).count();
    if flat > 0 && (flat < source.suites.len() || !source.components.is_empty()) {
        return value("components", "a flat archive (a suite that ends in a slash) has none".to_owned());
    }
    if flat == 0 && source.components.is_empty() {
        return value("components", "it is missing".to_owned());
    }
    Ok(())
}

/// Reads the key of a source.
///
/// # Errors
/// [`Error::Value`] where it is neither a path nor a key, [`Error::Unreadable`] where the file cannot be read.
pub fn trusted(origin: &str, source: ExtraSource) -> Result<Trusted, Error> {
    let text = source.signed_by.trim();
    let (key, origin) = if text.starts_with(ARMOR) {
        (format!("{text}\n").into_bytes(), origin.to_owned())
    } else if text.starts_with('/') && !text.contains(char::is_whitespace) {
        let path = Path::new(text);
        let key = fs::read(path).map_err(|source| Error::Unreadable { path: path.to_owned(), source })?;
        (key, text.to_owned())
    } else {
        let problem = format!("`{text}` is neither the absolute path of one keyring file nor an armored key");
        return Err(wrong(origin, "source.signed-by", problem));
    };
    Ok(Trusted { source, key, origin })
}

fn wrong(origin: &str, key: &str, problem: String) -> Error {
    Error::Value { origin: origin.to_owned(), key: key.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# a comment\nTypes: deb deb-src\nURIs: https://one.invalid/debian/ https://two.invalid/debian\n\
        Suites: stable stable-updates\nComponents: main\n extra\nArchitectures: amd64\nSigned-By:\n \
        -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n AAAA\n -----END PGP PUBLIC KEY BLOCK-----\n\n\
        Types: deb-src\nURIs: http://x\nSuites: y\nComponents: z\nSigned-By: /k\n\n\
        Enabled: no\nTypes: deb\nURIs: http://x\nSuites: y\nComponents: z\nSigned-By: /k\n\n\
        Types: deb\nURIs: http://flat.invalid\nSuites: ./\nSigned-By: /k.gpg\n";

    #[test]
    fn stanzas_are_read_as_apt_reads_them() {
        let found = of_stanzas("/x/third.sources", TEXT).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].name, "third");
        assert_eq!(found[0].uris, ["https://one.invalid/debian", "https://two.invalid/debian"]);
        assert_eq!(found[0].components, ["main", "extra"]);
        let first = trusted("x", found[0].clone()).unwrap();
        assert_eq!(
            first.key,
            b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n-----END PGP PUBLIC KEY BLOCK-----\n"
        );
        assert_eq!(
            first.stanza(),
            "Types: deb\nURIs: https://one.invalid/debian https://two.invalid/debian\n\
             Suites: stable stable-updates\nComponents: main extra\nArchitectures: amd64\n\
             Signed-By: /etc/apt/keyrings/third.asc\n"
        );
        assert_eq!((found[1].name.as_str(), found[1].suites[0].as_str()), ("third-2", "./"));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let says = |from: &str, to: &str| {
            let text = TEXT.replacen(from, to, 1);
            let read = of_stanzas("t.sources", &text).and_then(|mut found| trusted("t", found.remove(0)));
            read.unwrap_err().to_string()
        };
        assert!(says("Signed-By:\n -----BEGIN", "Other:\n -----BEGIN").contains("Signed-By: it is missing"));
        assert!(says("-----BEGIN PGP PUBLIC", "ABCD").contains("neither the absolute path"));
        assert!(says("Suites: stable", "Suites: ../stable").contains("source.suites"));
        assert!(says("Suites: stable", "Suites: stable/").contains("flat"));
        assert!(says("Components: main\n extra\n", "").contains("source.components: it is missing"));
        let hidden = of_stanzas(".sources", TEXT).unwrap_err();
        assert!(hidden.to_string().contains("no file name"), "{hidden}");
    }
}
