//! Release files: what an archive says of one of its suites.

use std::collections::BTreeMap;

use jiff::fmt::rfc2822::DateTimeParser;

use crate::digest::{Sha256, parse_sha512};

/// The priority that apt gives to versions of an ordinary suite.
///
/// **Source**: apt_preferences(5).
pub const AUTOMATIC: u16 = 500;

/// A parsed Release file.
///
/// **Source**: <https://wiki.debian.org/DebianRepository/Format>, "Release" files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Release {
    /// `Origin`: who made the archive.
    pub origin: Option<String>,
    /// `Suite`: `stable`; for Ubuntu the pocket, `noble-updates`.
    pub suite: Option<String>,
    /// `Codename`: `trixie`; for Debian with the pocket, `trixie-security`.
    pub codename: Option<String>,
    /// `Version`: `13.7`.
    pub version: Option<String>,
    /// `Date`, in seconds since 1970; 0 where [`Release::parse_foreign`] could not read one.
    pub date: i64,
    /// `Valid-Until`, in seconds since 1970; most stable suites have none.
    pub valid_until: Option<i64>,
    /// `Acquire-By-Hash: yes`.
    pub by_hash: bool,
    /// `NotAutomatic: yes`: nothing of it is installed unless asked for.
    pub not_automatic: bool,
    /// `ButAutomaticUpgrades: yes`: what was installed of it is upgraded.
    pub but_automatic_upgrades: bool,
    /// `Architectures`.
    pub architectures: Vec<String>,
    /// `Components`, as written: security archives write `updates/main` for the folder `main`.
    pub components: Vec<String>,
    /// Whether `binary-all` must be read beside each architecture's index.
    ///
    /// True where `all` is an architecture and `No-Support-for-Architecture-all: Packages` is not said.
    pub separate_all: bool,
    /// `SHA256`, or `SHA512` where it alone is there: the listed files by their path below the suite's directory.
    pub files: BTreeMap<String, Listed>,
}

/// What a Release file says of another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Bytes.
    pub size: u64,
    /// Digest.
    pub digest: Digest,
}

/// A digest that a Release file gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digest {
    /// Of the field `SHA256`.
    Sha256(Sha256),
    /// Of the field `SHA512`.
    Sha512([u8; 64]),
}

/// What is wrong with a Release file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// It is not UTF-8.
    #[error("the Release file is not UTF-8 text")]
    NotText,
    /// A line is neither a field nor the continuation of one.
    #[error("line {line} of the Release file is not a field")]
    Line {
        /// Counted from 1.
        line: usize,
    },
    /// A field is there twice.
    #[error("the Release file has the field {field} twice")]
    Twice {
        /// Its name as written.
        field: String,
    },
    /// A field that must be there is not.
    #[error("the Release file has no field {field}")]
    Without {
        /// Its name.
        field: &'static str,
    },
    /// A date that cannot be read.
    #[error("the Release file's {field} is not a date: `{value}`")]
    Date {
        /// The field's name.
        field: &'static str,
        /// Its value.
        value: String,
    },
    /// A line of `SHA256` that is not digest, size and path.
    #[error("the Release file lists a file in a way that cannot be read: `{line}`")]
    File {
        /// The line.
        line: String,
    },
}

impl Release {
    /// Reads a Release file's text, without the signature.
    ///
    /// # Errors
    /// [`Malformed`] says what is wrong first.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        Self::read(bytes, &|date| date)
    }

    /// Reads the Release file of a foreign archive as apt does: without a `Date`, or with one that cannot be read.
    ///
    /// # Errors
    /// [`Malformed`] says what is wrong first.
    pub fn parse_foreign(bytes: &[u8]) -> Result<Self, Malformed> {
        Self::read(bytes, &|date| date.or(Ok(0)))
    }

    fn read(
        bytes: &[u8],
        dated: &dyn Fn(Result<i64, Malformed>) -> Result<i64, Malformed>,
    ) -> Result<Self, Malformed> {
        let fields = fields(std::str::from_utf8(bytes).map_err(|_| Malformed::NotText)?)?;
        let get = |name: &str| fields.get(name).map(String::as_str).filter(|value| !value.trim().is_empty());
        let yes = |name| get(name).is_some_and(|value| value.eq_ignore_ascii_case("yes"));
        let words =
            |name| get(name).unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect();
        let architectures: Vec<String> = words("architectures");
        let merged = get("no-support-for-architecture-all").is_some_and(|value| value == "Packages");
        Ok(Self {
            origin: get("origin").map(str::to_owned),
            suite: get("suite").map(str::to_owned),
            codename: get("codename").map(str::to_owned),
            version: get("version").map(str::to_owned),
            date: dated(
                get("date").ok_or(Malformed::Without { field: "Date" }).and_then(|value| date("Date", value)),
            )?,
            valid_until: get("valid-until").map(|value| date("Valid-Until", value)).transpose()?,
            by_hash: yes("acquire-by-hash"),
            not_automatic: yes("notautomatic"),
            but_automatic_upgrades: yes("butautomaticupgrades"),
            separate_all: !merged && architectures.iter().any(|architecture| architecture == "all"),
            architectures,
            components: words("components"),
            files: match (get("sha256"), get("sha512")) {
                (Some(lines), _) => files(lines, sha256)?,
                (None, Some(lines)) => files(lines, sha512)?,
                (None, None) => return Err(Malformed::Without { field: "SHA256" }),
            },
        })
    }

    /// Gives the priority that apt gives to its versions: those of backports stand behind all others.
    ///
    /// **Source**: apt_preferences(5), "APT's Default Priority Assignments".
    #[must_use]
    pub const fn priority(&self) -> u16 {
        match (self.not_automatic, self.but_automatic_upgrades) {
            (true, true) => 100,
            (true, false) => 1,
            (false, _) => AUTOMATIC,
        }
    }
}

/// Unfolds the one stanza into values by lower-case name.
fn fields(text: &str) -> Result<BTreeMap<String, String>, Malformed> {
    let mut fields: BTreeMap<String, String> = BTreeMap::new();
    let mut name: Option<String> = None;
    for (at, line) in text.lines().enumerate() {
        if line.starts_with([' ', '\t']) {
            let name = name.as_ref().ok_or(Malformed::Line { line: at + 1 })?;
            let value = fields.entry(name.clone()).or_default();
            value.push('\n');
            value.push_str(line.trim());
        } else if line.trim().is_empty() {
            // A second stanza has no meaning in a Release file.
            if name.is_some() {
                break;
            }
        } else {
            let (field, value) = line.split_once(':').ok_or(Malformed::Line { line: at + 1 })?;
            let lower = field.trim().to_ascii_lowercase();
            if fields.insert(lower.clone(), value.trim().to_owned()).is_some() {
                return Err(Malformed::Twice { field: field.to_owned() });
            }
            name = Some(lower);
        }
    }
    Ok(fields)
}

fn files(value: &str, digest: fn(&str) -> Option<Digest>) -> Result<BTreeMap<String, Listed>, Malformed> {
    let lines = value.lines().filter(|line| !line.is_empty());
    lines.map(|line| listed(line, digest).ok_or_else(|| Malformed::File { line: line.to_owned() })).collect()
}

fn sha256(text: &str) -> Option<Digest> {
    Sha256::parse(text.as_bytes()).map(Digest::Sha256)
}

fn sha512(text: &str) -> Option<Digest> {
    parse_sha512(text.as_bytes()).map(Digest::Sha512)
}

fn listed(line: &str, digest: fn(&str) -> Option<Digest>) -> Option<(String, Listed)> {
    let mut words = line.split_ascii_whitespace();
    let digest = digest(words.next()?)?;
    let size = words.next()?.parse().ok()?;
    let path = words.next()?.to_owned();
    words.next().is_none().then_some((path, Listed { size, digest }))
}

/// Reads `Sat, 12 Sep 2026 07:55:41 UTC`: RFC 2822 but for the zone's name.
fn date(field: &'static str, value: &str) -> Result<i64, Malformed> {
    static PARSER: DateTimeParser = DateTimeParser::new();
    let numeric = ["UTC", "GMT", "Z"]
        .iter()
        .find_map(|zone| value.strip_suffix(zone))
        .map_or_else(|| value.to_owned(), |moment| format!("{} +0000", moment.trim_end()));
    let wrong = || Malformed::Date { field, value: value.to_owned() };
    // an hour of one digit, which apt reads too
    let padded = |word: &str| if word.find(':') == Some(1) { format!("0{word}") } else { word.to_owned() };
    let numeric = numeric.split(' ').map(padded).collect::<Vec<_>>().join(" ");
    PARSER.parse_timestamp(&numeric).map(jiff::Timestamp::as_second).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIXIE: &str = "\
Origin: Debian
Suite: stable
Version: 13.7
Codename: trixie
Date: Sat, 12 Sep 2026 07:55:41 UTC
Acquire-By-Hash: yes
No-Support-for-Architecture-all: Packages
Architectures: all amd64 arm64
Components: main contrib
MD5Sum:
 3e498904a30e240573dac8ddac594e6f  1961125 contrib/Contents-all
SHA256:
 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855        0 main/binary-amd64/Packages
";

    #[test]
    fn reads_what_debian_writes() {
        let release = Release::parse(TRIXIE.as_bytes()).unwrap();
        assert_eq!(release.codename.as_deref(), Some("trixie"));
        assert_eq!(release.date, 1_789_199_741);
        assert_eq!(release.valid_until, None);
        assert!(release.by_hash && !release.separate_all);
        assert_eq!(release.components, ["main", "contrib"]);
        let listed = release.files["main/binary-amd64/Packages"];
        assert_eq!((listed.size, listed.digest), (0, Digest::Sha256(Sha256::of(b""))));
        assert_eq!(release.files.len(), 1, "only the SHA256 list counts");
    }

    #[test]
    fn reads_dates_as_archives_write_them() {
        for (text, seconds) in [
            ("Thu, 01 Jan 1970 00:00:10 UTC", 10),
            ("Thu, 1 Jan 1970 00:00:10 GMT", 10),
            ("Thu, 01 Jan 1970 00:00:10 Z", 10),
            ("Thu, 01 Jan 1970 01:00:10 +0100", 10),
            ("Thu, 01 Jan 1970 0:00:10 UTC", 10),
        ] {
            assert_eq!(date("Date", text), Ok(seconds), "{text}");
        }
        assert!(date("Date", "yesterday").is_err());
        assert!(date("Date", "Thu, 01 Jan 1970 00:00:10").is_err());
    }

    #[test]
    fn refuses_what_could_be_read_in_two_ways() {
        let twice = TRIXIE.replace("Suite: stable", "Suite: stable\nsuite: sid");
        assert!(matches!(Release::parse(twice.as_bytes()), Err(Malformed::Twice { .. })));
        let without = TRIXIE.replace("SHA256:", "SHA1:");
        assert_eq!(Release::parse(without.as_bytes()), Err(Malformed::Without { field: "SHA256" }));
        let odd = TRIXIE.replace("        0 main/", " main/");
        assert!(matches!(Release::parse(odd.as_bytes()), Err(Malformed::File { .. })));
        assert!(matches!(Release::parse(b" x\n"), Err(Malformed::Line { line: 1 })));
        assert_eq!(Release::parse(&[0xff]), Err(Malformed::NotText));
    }

    #[test]
    fn a_foreign_archive_may_leave_out_its_date_and_have_sha512_alone() {
        for (date, seconds) in [
            ("", 0),
            ("Date: Mon, Jan 08 2024 15:24:22 +0000\n", 0),
            ("Date: 2016-09-29 13:22:30 UTC\n", 0),
            ("Date: Thu, 01 Jan 1970 00:00:10 UTC\n", 10),
        ] {
            let text = TRIXIE.replace("Date: Sat, 12 Sep 2026 07:55:41 UTC\n", date);
            assert_eq!(Release::parse(text.as_bytes()).is_ok(), seconds == 10, "{date}");
            assert_eq!(Release::parse_foreign(text.as_bytes()).unwrap().date, seconds, "{date}");
        }
        let digits = "0f".repeat(64);
        let list = TRIXIE.split("SHA256:").next().unwrap();
        let text = format!("{list}SHA512:\n {digits} 7 Packages\n");
        let release = Release::parse(text.as_bytes()).unwrap();
        assert_eq!(release.files["Packages"], Listed { size: 7, digest: Digest::Sha512([15; 64]) });
        assert!(Release::parse(text.replace("0f", "0").as_bytes()).is_err());
    }

    #[test]
    fn backports_stand_behind() {
        let with = |fields: &str| {
            let text = TRIXIE.replace("Acquire-By-Hash: yes\n", &format!("Acquire-By-Hash: yes\n{fields}"));
            Release::parse(text.as_bytes()).unwrap().priority()
        };
        assert_eq!(with(""), 500);
        assert_eq!(with("NotAutomatic: yes\nButAutomaticUpgrades: yes\n"), 100);
        assert_eq!(with("NotAutomatic: yes\n"), 1, "as experimental is");
        assert_eq!(with("ButAutomaticUpgrades: yes\n"), 500);
    }

    #[test]
    fn asks_for_the_index_of_all_only_where_it_is_separate() {
        let apart = TRIXIE.replace("No-Support-for-Architecture-all: Packages\n", "");
        assert!(Release::parse(apart.as_bytes()).unwrap().separate_all);
    }
}
