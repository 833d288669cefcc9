//! The lock file: readable, one change a line, and the same bytes for the same lock.
//!
//! **Shape**: TOML; `version` stands first, so that an older program says what it cannot read. Sources and
//! packages are arrays of tables in the lock's order, which is the install order.

use std::{collections::HashSet, fmt::Write as _};

use super::{Lock, LockedPackage, LockedSource, Reason};
use crate::{
    deb::{packages, relation, version},
    digest::Sha256,
    error::{Cause, Class, Hint},
};

/// The version of the format that is written; older ones are still read.
pub const VERSION: i64 = 1;

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
    /// A value that has the right type and cannot be.
    #[error("package `{package}` of the lock file has a wrong {field}: `{value}`")]
    Package {
        /// The package's name.
        package: String,
        /// The field.
        field: &'static str,
        /// What stands in it.
        value: String,
    },
    /// A package that stands twice.
    #[error("package `{package}` stands twice in the lock file")]
    Twice {
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
            _ => Vec::new(),
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
    #[serde(default)]
    source: Vec<LockedSource>,
    #[serde(default)]
    package: Vec<Entry>,
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
}

/// Writes a lock; the same lock gives the same bytes.
#[must_use]
pub fn write(lock: &Lock) -> String {
    let mut text = format!(
        "version = {VERSION}\nimage = {}\narchitecture = {}\nepoch = {}\n",
        quoted(&lock.image),
        quoted(&lock.architecture),
        lock.epoch
    );
    lock.sources.iter().for_each(|source| write_source(&mut text, source));
    lock.packages.iter().for_each(|package| write_package(&mut text, package));
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
}

fn write_package(text: &mut String, package: &LockedPackage) {
    let reason = match &package.reason {
        Reason::Essential => "essential".to_owned(),
        Reason::Priority(word) => format!("priority {word}"),
        Reason::Requested(by) => format!("requested by {by}"),
        Reason::Dependency(of) => format!("dependency of {of}"),
    };
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
        quoted(&reason),
    );
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn list(texts: &[String]) -> String {
    format!("[{}]", texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", "))
}

/// Reads a lock, and checks what later stages build paths and commands of.
///
/// # Errors
/// [`Error`] with the first thing that is wrong.
pub fn read(text: &str) -> Result<Lock, Error> {
    match toml::from_str::<Head>(text)?.version {
        None => return Err(Error::NoVersion),
        Some(version) if version > VERSION => return Err(Error::Newer { version }),
        Some(_) => {}
    }
    let file: File = toml::from_str(text)?;
    let mut known = HashSet::new();
    let sources: HashSet<&str> = file.source.iter().map(|source| source.id.as_str()).collect();
    let mut packages = Vec::with_capacity(file.package.len());
    for entry in file.package {
        check(&entry, &file.architecture, &sources)?;
        if !known.insert(entry.name.clone()) {
            return Err(Error::Twice { package: entry.name });
        }
        packages.push(package(entry)?);
    }
    let File { image, architecture, epoch, source, .. } = file;
    Ok(Lock { image, architecture, epoch, sources: source, packages })
}

fn check(entry: &Entry, native: &str, sources: &HashSet<&str>) -> Result<(), Error> {
    let wrong = |field, value: &str| {
        Err(Error::Package { package: entry.name.clone(), field, value: value.to_owned() })
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
    if !packages::is_path(&entry.path) {
        return wrong("path", &entry.path);
    }
    Ok(())
}

fn package(entry: Entry) -> Result<LockedPackage, Error> {
    let Some(reason) = reason(&entry.reason) else {
        return Err(Error::Package { package: entry.name, field: "reason", value: entry.reason });
    };
    let Entry { name, version, architecture, source, path, size, sha256, .. } = entry;
    Ok(LockedPackage { name, version, architecture, source, path, size, sha256, reason })
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
    use super::*;

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
        };
        Lock {
            image: "trixie".into(),
            architecture: "amd64".into(),
            epoch: 1_700_000_000,
            sources: vec![LockedSource {
                id: "release".into(),
                mirrors: vec!["http://one.example/debian".into(), "http://two.example/debian".into()],
                suite: "trixie".into(),
                components: vec!["main".into()],
                date: 1_700_000_000,
                release: Sha256::of(b"release"),
                signed_by: "AB".repeat(20),
            }],
            packages: vec![
                package("a", Reason::Essential),
                package("b", Reason::Priority("required".into())),
                package("c", Reason::Requested("profile `x` (\"p\\q\".toml:3)".into())),
                package("d", Reason::Dependency("c".into())),
            ],
        }
    }

    #[test]
    fn reads_back_what_it_writes_byte_for_byte() {
        let text = write(&lock());
        let read = read(&text).unwrap();
        assert_eq!(read, lock());
        assert_eq!(write(&read), text);
        assert!(text.starts_with("version = 1\n") && text.ends_with("\n"));
    }

    #[test]
    fn refuses_other_versions_and_shapes() {
        let text = write(&lock());
        assert!(matches!(read(&text.replacen("version = 1\n", "", 1)), Err(Error::NoVersion)));
        let newer = text.replacen("version = 1", "version = 2\nunknown = 1", 1);
        assert!(matches!(read(&newer), Err(Error::Newer { version: 2 })));
        for (from, to) in
            [("epoch =", "epoc ="), ("size = 12", "size = -1"), ("size = 12", "size = 12\nx = 1")]
        {
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
        ];
        for (from, to, field) in cases {
            let wrong = read(&text.replacen(from, to, 1)).unwrap_err();
            assert!(
                matches!(&wrong, Error::Package { field: found, .. } if *found == field),
                "{to}: {wrong}"
            );
        }
        assert!(matches!(read(&text.replacen("name = \"b\"", "name = \"a\"", 1)), Err(Error::Twice { .. })));
    }
}
