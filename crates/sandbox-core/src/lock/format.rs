//! The lock file: readable, one change a line, and the same bytes for the same lock.
//!
//! **Shape**: TOML; `version` stands first, so that an older program says what it cannot read. Lists have one
//! item a line. Sources and packages are arrays of tables in the lock's order, which is the install order.

mod part;

use std::{collections::HashSet, fmt::Write as _};

use super::{Asked, Input, Lock, LockedPackage, LockedPart, LockedSource, Reason};
use crate::{
    deb::{packages, relation, version},
    digest::Sha256,
    error::{Cause, Class, Hint},
};

/// The version of the format that is written; older ones are still read.
pub const VERSION: i64 = 2;

/// Why a text is not a lock.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not TOML, or not of the lock's shape; the source says where.
    #[error("the lock file is malformed")]
    Malformed {
        /// What is wrong, with line and column.
        #[from]
        source: toml::de::Error,
    },
    /// The first line is missing.
    #[error("the lock file does not begin with `version = {VERSION}`")]
    NoVersion,
    /// Written by a later program.
    #[error("the lock file is of version {version}, and this program reads up to {VERSION}")]
    Newer {
        /// What stands in it.
        version: i64,
    },
    /// A version that there never was.
    #[error("the lock file is of version {version}, which does not exist")]
    Older {
        /// What stands in it.
        version: i64,
    },
    /// A value of a package that has the right type and cannot be.
    #[error("line {line} of the lock file: package `{package}` has a wrong {field}: `{value}`")]
    Package {
        /// Counted from 1.
        line: usize,
        /// The package's name.
        package: String,
        /// The field.
        field: &'static str,
        /// What stands in it.
        value: String,
    },
    /// Another value that has the right type and cannot be.
    #[error("line {line} of the lock file: {table} has a wrong {field}: `{value}`")]
    Value {
        /// Counted from 1.
        line: usize,
        /// The table: `source`, `part`, `asked`.
        table: &'static str,
        /// The field.
        field: &'static str,
        /// What stands in it.
        value: String,
    },
    /// A package that stands twice.
    #[error("line {line} of the lock file: package `{package}` stands twice")]
    Twice {
        /// Counted from 1.
        line: usize,
        /// The package's name.
        package: String,
    },
}

impl Cause for Error {
    fn class(&self) -> Class {
        Class::File
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Newer { .. } => {
                vec![Hint::Note("use the version of sandbox that wrote it, or a later one".into())]
            }
            _ => vec![Hint::run("write it again", "sandbox lock SUITE")],
        }
    }
}

#[derive(serde::Deserialize)]
struct Head {
    version: Option<i64>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "version")]
    _version: i64,
    image: String,
    architecture: String,
    epoch: i64,
    asked: Asked,
    #[serde(default)]
    input: Vec<Input>,
    #[serde(default)]
    source: Vec<LockedSource>,
    #[serde(default)]
    package: Vec<Entry>,
    #[serde(default)]
    part: Vec<LockedPart>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    version: String,
    architecture: String,
    source: String,
    path: String,
    size: u64,
    sha256: Sha256,
    reason: String,
    #[serde(default)]
    depends: String,
    #[serde(default)]
    provides: String,
    /// Since version 2.
    #[serde(default)]
    layer: String,
}

/// Writes a lock; the same lock gives the same bytes.
#[must_use]
pub fn write(lock: &Lock) -> String {
    let Asked { image, profiles, variant, include, exclude, recommends } = &lock.asked;
    let mut text = format!(
        "version = {VERSION}\nimage = {}\narchitecture = {}\nepoch = {}\n\n[asked]\nimage = {}\nprofiles = {}\n\
         variant = {}\ninclude = {}\nexclude = {}\nrecommends = {recommends}\n",
        quoted(&lock.image),
        quoted(&lock.architecture),
        lock.epoch,
        quoted(image),
        list(profiles),
        quoted(variant),
        list(include),
        list(exclude),
    );
    for Input { kind, name, sha256 } in &lock.inputs {
        let _ = write!(
            text,
            "\n[[input]]\nkind = {}\nname = {}\nsha256 = \"{sha256}\"\n",
            quoted(kind),
            quoted(name)
        );
    }
    lock.sources.iter().for_each(|source| write_source(&mut text, source));
    lock.packages.iter().for_each(|package| write_package(&mut text, package));
    lock.parts.iter().for_each(|part| part::write(&mut text, part));
    text
}

fn write_source(text: &mut String, source: &LockedSource) {
    let _ = write!(
        text,
        "\n[[source]]\nid = {}\nmirrors = {}\nsuite = {}\ncomponents = {}\ndate = {}\nrelease = \"{}\"\nsigned_by = {}\n",
        quoted(&source.id),
        list(&source.mirrors),
        quoted(&source.suite),
        list(&source.components),
        source.date,
        source.release,
        quoted(&source.signed_by),
    );
    optional(text, "snapshot", source.snapshot.as_deref().unwrap_or_default());
}

fn write_package(text: &mut String, package: &LockedPackage) {
    let _ = write!(
        text,
        "\n[[package]]\nname = {}\nversion = {}\narchitecture = {}\nsource = {}\npath = {}\nsize = {}\n\
         sha256 = \"{}\"\nreason = {}\n",
        quoted(&package.name),
        quoted(&package.version),
        quoted(&package.architecture),
        quoted(&package.source),
        quoted(&package.path),
        package.size,
        package.sha256,
        quoted(&package.reason.to_string()),
    );
    optional(text, "depends", &package.depends);
    optional(text, "provides", &package.provides);
    optional(text, "layer", &package.layer);
}

fn optional(text: &mut String, key: &str, value: &str) {
    if !value.is_empty() {
        let _ = writeln!(text, "{key} = {}", quoted(value));
    }
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// Writes one item a line, so that one more is one line more.
fn list(texts: &[String]) -> String {
    if texts.is_empty() {
        return "[]".to_owned();
    }
    let items: String = texts.iter().map(|text| format!("  {},\n", quoted(text))).collect();
    format!("[\n{items}]")
}

/// Reads a lock, and checks what later stages build paths, commands and files of.
///
/// # Errors
/// [`Error`] with the first thing that is wrong.
pub fn read(text: &str) -> Result<Lock, Error> {
    match toml::from_str::<Head>(text)?.version {
        None => return Err(Error::NoVersion),
        Some(version) if version > VERSION => return Err(Error::Newer { version }),
        Some(version) if version < 1 => return Err(Error::Older { version }),
        Some(_) => {}
    }
    let file: File = toml::from_str(text)?;
    for (at, source) in file.source.iter().enumerate() {
        check_source(text, at, source, &file.source[..at])?;
    }
    for (at, part) in file.part.iter().enumerate() {
        part::check(text, at, part)?;
    }
    let mut known = HashSet::new();
    let sources: HashSet<&str> = file.source.iter().map(|source| source.id.as_str()).collect();
    let mut packages = Vec::with_capacity(file.package.len());
    for (at, entry) in file.package.into_iter().enumerate() {
        check(text, at, &entry, &file.architecture, &sources)?;
        if !known.insert(entry.name.clone()) {
            return Err(Error::Twice { line: line_of(text, "package", at, "name"), package: entry.name });
        }
        packages.push(package(text, at, entry)?);
    }
    let File { image, architecture, epoch, asked, input, source, part, .. } = file;
    Ok(Lock { image, architecture, epoch, asked, inputs: input, sources: source, packages, parts: part })
}

/// Finds the line of a field of the `at`-th table of a name, or of the table where the field has none.
fn line_of(text: &str, table: &str, at: usize, field: &str) -> usize {
    let head = format!("[[{table}]]");
    let heads = text.lines().enumerate().filter(|(_, line)| line.trim() == head);
    let Some((begin, _)) = heads.into_iter().nth(at) else { return 1 };
    let within = text.lines().enumerate().skip(begin + 1).take_while(|(_, line)| !line.starts_with('['));
    let found = within.into_iter().find(|(_, line)| {
        line.trim_start().strip_prefix(field).is_some_and(|rest| rest.trim_start().starts_with('='))
    });
    found.map_or(begin, |(line, _)| line) + 1
}

/// Tells whether a text may stand in a line of words of another file, and in a URL.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn check_source(text: &str, at: usize, source: &LockedSource, earlier: &[LockedSource]) -> Result<(), Error> {
    let wrong = |field, value: &str| {
        let line = line_of(text, "source", at, field);
        Err(Error::Value { line, table: "source", field, value: value.to_owned() })
    };
    let named = !source.id.is_empty() && !source.id.contains(char::is_control);
    if !named || earlier.iter().any(|before| before.id == source.id) {
        return wrong("id", &source.id);
    }
    if let Some(mirror) = source.mirrors.iter().find(|mirror| !is_address(mirror)) {
        return wrong("mirrors", mirror);
    }
    // The suite of a flat archive is a folder, and ends with a slash.
    let folder = source.suite.trim_start_matches("./").trim_end_matches('/');
    if !is_word(&source.suite) || !(folder.is_empty() || packages::is_path(folder)) {
        return wrong("suite", &source.suite);
    }
    if let Some(component) = source.components.iter().find(|component| !packages::is_path(component)) {
        return wrong("components", component);
    }
    if source.signed_by.is_empty() || !source.signed_by.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return wrong("signed_by", &source.signed_by);
    }
    match source.snapshot.as_deref().filter(|url| !is_address(url) || !url.contains("{timestamp}")) {
        Some(url) => wrong("snapshot", url),
        None => Ok(()),
    }
}

fn is_address(url: &str) -> bool {
    is_word(url) && ["http://", "https://", "file://"].iter().any(|scheme| url.starts_with(scheme))
}

fn check(text: &str, at: usize, entry: &Entry, native: &str, sources: &HashSet<&str>) -> Result<(), Error> {
    let wrong = |field, value: &str| {
        let line = line_of(text, "package", at, field);
        Err(Error::Package { line, package: entry.name.clone(), field, value: value.to_owned() })
    };
    if !relation::is_name(&entry.name) {
        return wrong("name", &entry.name);
    }
    if version::Version::parse(&entry.version).is_err() {
        return wrong("version", &entry.version);
    }
    if entry.architecture != native && entry.architecture != "all" {
        return wrong("architecture", &entry.architecture);
    }
    if !sources.contains(entry.source.as_str()) {
        return wrong("source", &entry.source);
    }
    if !packages::is_file_path(&entry.path) {
        return wrong("path", &entry.path);
    }
    if entry.layer.contains(|letter: char| letter == '/' || letter.is_control()) {
        return wrong("layer", &entry.layer);
    }
    for (field, value) in [("depends", &entry.depends), ("provides", &entry.provides)] {
        if relation::parse(value, native).is_err() {
            return wrong(field, value);
        }
    }
    Ok(())
}

fn package(text: &str, at: usize, entry: Entry) -> Result<LockedPackage, Error> {
    let Some(reason) = reason(&entry.reason) else {
        let line = line_of(text, "package", at, "reason");
        return Err(Error::Package { line, package: entry.name, field: "reason", value: entry.reason });
    };
    let Entry {
        name,
        version,
        architecture,
        source,
        path,
        size,
        sha256,
        depends,
        provides,
        layer,
        reason: _,
    } = entry;
    Ok(LockedPackage {
        name,
        version,
        architecture,
        source,
        path,
        size,
        sha256,
        reason,
        depends,
        provides,
        layer,
    })
}

fn reason(text: &str) -> Option<Reason> {
    let own = str::to_owned;
    match text {
        "essential" => Some(Reason::Essential),
        _ => None
            .or_else(|| text.strip_prefix("priority ").map(|word| Reason::Priority(own(word))))
            .or_else(|| text.strip_prefix("requested by ").map(|by| Reason::Requested(own(by))))
            .or_else(|| text.strip_prefix("dependency of ").map(|of| Reason::Dependency(own(of)))),
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    use super::*;
    use crate::lock::Fetched;

    fn lock() -> Lock {
        let package = |name: &str, reason| LockedPackage {
            name: name.into(),
            version: "1:2.0-1+b1".into(),
            architecture: "amd64".into(),
            source: "release".into(),
            path: format!("pool/main/{name}.deb"),
            size: 12,
            sha256: Sha256::of(name.as_bytes()),
            reason,
            depends: if name == "c" { "d (>= 1), a | b".into() } else { String::new() },
            provides: if name == "d" { "virtual (= 2)".into() } else { String::new() },
            layer: if name == "d" { "x".into() } else { "trixie".into() },
        };
        Lock {
            image: "trixie".into(),
            architecture: "amd64".into(),
            epoch: 1_700_000_000,
            asked: Asked {
                image: "trixie".into(),
                profiles: vec!["base".into(), "./x.toml".into()],
                variant: "minbase".into(),
                include: vec!["c".into()],
                exclude: Vec::new(),
                recommends: false,
            },
            inputs: vec![Input { kind: "image".into(), name: "trixie".into(), sha256: Sha256::of(b"i") }],
            sources: vec![LockedSource {
                id: "release".into(),
                mirrors: vec!["http://one.example/debian".into(), "http://two.example/debian".into()],
                suite: "trixie".into(),
                components: vec!["main".into()],
                date: 1_700_000_000,
                release: Sha256::of(b"release"),
                signed_by: "AB".repeat(20),
                snapshot: Some("https://old.example/{timestamp}".into()),
            }],
            packages: vec![
                package("a", Reason::Essential),
                package("b", Reason::Priority("required".into())),
                package("c", Reason::Requested("profile `x` (\"p\\q\".toml:3)".into())),
                package("d", Reason::Dependency("c".into())),
            ],
            parts: vec![LockedPart {
                name: "@x/y".into(),
                version: "1.2.3".into(),
                what: Fetched::Npm {
                    tarball: "@x/y-linux".into(),
                    tarball_version: "1.2.3".into(),
                    path: "@x/y-linux/-/y-linux-1.2.3.tgz".into(),
                    url: None,
                    sha512: STANDARD.encode([7; 64]),
                },
            }],
        }
    }

    #[test]
    fn reads_back_what_it_writes_byte_for_byte() {
        let text = write(&lock());
        let read = read(&text).unwrap();
        assert_eq!(read, lock());
        assert_eq!(write(&read), text);
        assert!(text.starts_with("version = 2\n") && text.ends_with("\n"));
    }

    #[test]
    fn reads_what_the_first_version_wrote() {
        let text = write(&lock()).replacen("version = 2", "version = 1", 1);
        let older: String = text
            .lines()
            .filter(|line| !line.starts_with("layer = "))
            .fold(String::new(), |text, line| text + line + "\n");
        assert_ne!(older, text);
        let mut wanted = lock();
        wanted.packages.iter_mut().for_each(|package| package.layer.clear());
        assert_eq!(read(&older).unwrap(), wanted);
    }

    #[test]
    fn a_change_is_a_line() {
        let mut other = lock();
        other.asked.include.push("e".into());
        other.packages[0].version = "2".into();
        let (before, after) = (write(&lock()), write(&other));
        let gone: Vec<_> = before.lines().filter(|line| !after.lines().any(|other| other == *line)).collect();
        assert_eq!(after.lines().count(), before.lines().count() + 1);
        assert!(gone.is_empty(), "{gone:?}");
    }

    #[test]
    fn refuses_other_versions_and_shapes() {
        let text = write(&lock());
        assert!(matches!(read(&text.replacen("version = 2\n", "", 1)), Err(Error::NoVersion)));
        let newer = text.replacen("version = 2", "version = 3\nunknown = 1", 1);
        assert!(matches!(read(&newer), Err(Error::Newer { version: 3 })));
        let none = text.replacen("version = 2", "version = 0", 1);
        assert!(matches!(read(&none), Err(Error::Older { version: 0 })));
        for (from, to) in [
            ("epoch =", "epoc ="),
            ("size = 12", "size = -1"),
            ("size = 12", "size = 12\nx = 1"),
            ("[asked]", "[asked]\nx = 1"),
            ("variant = \"minbase\"", "variant = 1"),
        ] {
            assert!(matches!(read(&text.replacen(from, to, 1)), Err(Error::Malformed { .. })), "{to}");
        }
    }

    #[test]
    fn refuses_what_would_lead_out_of_a_folder() {
        let text = write(&lock());
        let cases = [
            ("name = \"a\"", "name = \"../a\"", "name"),
            ("path = \"pool/", "path = \"../pool/", "path"),
            ("version = \"1:2.0-1+b1\"", "version = \"/\"", "version"),
            ("architecture = \"amd64\"\nsource", "architecture = \"arm64\"\nsource", "architecture"),
            ("source = \"release\"", "source = \"other\"", "source"),
            ("reason = \"essential\"", "reason = \"whim\"", "reason"),
            ("depends = \"d (", "depends = \"d ((", "depends"),
            ("provides = \"virtual", "provides = \"/etc", "provides"),
            ("layer = \"x", "layer = \"../x", "layer"),
        ];
        for (from, to, field) in cases {
            let other = text.replacen(from, to, 1);
            assert_ne!(other, text, "{from}");
            let wrong = read(&other).unwrap_err();
            let Error::Package { line, field: found, .. } = &wrong else { panic!("{to}: {wrong}") };
            assert_eq!(*found, field, "{to}: {wrong}");
            let named = other.lines().nth(line - 1).unwrap();
            assert!(named.starts_with(&format!("{field} = ")), "line {line} is `{named}`");
        }
        let twice = read(&text.replacen("name = \"b\"", "name = \"a\"", 1));
        assert!(matches!(twice, Err(Error::Twice { line: 47.., .. })), "{twice:?}");
    }

    #[test]
    fn refuses_what_would_be_more_than_a_word_in_another_file() {
        let text = write(&lock());
        let cases = [
            ("\"http://one.example/debian\"", "\"http://one.example/ x\\nTrusted: yes\"", "mirrors"),
            ("\"http://one.example/debian\"", "\"ftp://one.example\"", "mirrors"),
            ("suite = \"trixie\"", "suite = \"../trixie\"", "suite"),
            ("\"main\"", "\"main contrib\"", "components"),
            ("signed_by = \"AB", "signed_by = \"XY", "signed_by"),
            ("/{timestamp}", "/now", "snapshot"),
            ("\"@x/y-linux/-/", "\"../@x/y-linux/-/", "path"),
            ("package = \"@x/y\"", "package = \"\"", "package"),
            ("sha512 = \"", "sha512 = \"A", "sha512"),
        ];
        for (from, to, field) in cases {
            let other = text.replacen(from, to, 1);
            assert_ne!(other, text, "{from}");
            let wrong = read(&other).unwrap_err();
            assert!(matches!(&wrong, Error::Value { field: found, .. } if *found == field), "{to}: {wrong}");
        }
    }
}
