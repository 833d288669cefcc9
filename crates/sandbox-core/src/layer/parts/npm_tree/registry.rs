//! What a registry says of packages.
//!
//! **Source**: npm's registry documentation, "package metadata", the abbreviated form.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{
    TreeError,
    range::{Range, Version},
};
use crate::host::transport::{Ask, Transport, asked};

/// The form that has what installing needs, and the whole where a registry does not know that.
const ACCEPT: &str = "application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8";

/// The most bytes that one package's list of versions may have.
const LIMIT: u64 = 256 << 20;

/// How many packages are asked for at once.
const JOBS: usize = 8;

/// All versions of a package.
#[derive(Debug, Deserialize)]
pub(super) struct Packument {
    #[serde(rename = "dist-tags", default)]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    versions: BTreeMap<String, Manifest>,
}

/// One version.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Manifest {
    pub version: String,
    #[serde(deserialize_with = "texts")]
    pub dependencies: BTreeMap<String, String>,
    #[serde(deserialize_with = "texts")]
    pub optional_dependencies: BTreeMap<String, String>,
    #[serde(deserialize_with = "texts")]
    pub peer_dependencies: BTreeMap<String, String>,
    pub peer_dependencies_meta: Value,
    #[serde(alias = "bundledDependencies")]
    pub bundle_dependencies: Value,
    #[serde(deserialize_with = "words")]
    pub os: Vec<String>,
    #[serde(deserialize_with = "words")]
    pub cpu: Vec<String>,
    #[serde(deserialize_with = "words")]
    pub libc: Vec<String>,
    pub deprecated: Value,
    pub engines: Value,
    pub bin: Value,
    pub dist: Dist,
}

/// Where a version's tarball is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Dist {
    pub tarball: String,
    pub integrity: String,
}

/// Old packages have anything where names and ranges ought to be.
fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let pairs = value.as_object().into_iter().flatten();
    Ok(pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect())
}

fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(word) => vec![word],
        Value::Array(words) => words.iter().filter_map(|word| word.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    })
}

impl Manifest {
    /// Tells whether a peer need not be there.
    pub(super) fn is_optional_peer(&self, name: &str) -> bool {
        self.peer_dependencies_meta[name]["optional"].as_bool().unwrap_or(false)
    }

    /// Tells whether a dependency is in the package's own tarball.
    pub(super) fn bundles(&self, name: &str) -> bool {
        match &self.bundle_dependencies {
            Value::Bool(all) => *all,
            Value::Array(names) => names.iter().any(|one| one.as_str() == Some(name)),
            _ => false,
        }
    }

    /// Tells whether it runs on Linux of an architecture, with Debian's C library.
    pub(super) fn runs_on(&self, architecture: &str) -> bool {
        let cpu = match architecture {
            "amd64" => "x64",
            "i386" => "ia32",
            other => other,
        };
        admits(&self.os, "linux") && admits(&self.cpu, cpu) && admits(&self.libc, "glibc")
    }

    fn is_deprecated(&self) -> bool {
        !matches!(&self.deprecated, Value::Null | Value::Bool(false)) && self.deprecated.as_str() != Some("")
    }
}

/// Reads a list of words of which some may be refused: `!win32`.
fn admits(list: &[String], word: &str) -> bool {
    let refused = list.iter().any(|one| one.strip_prefix('!') == Some(word));
    let wanted: Vec<&String> = list.iter().filter(|one| !one.starts_with('!')).collect();
    !refused && (wanted.is_empty() || wanted.iter().any(|one| *one == word || *one == "any"))
}

/// The Node.js and npm of the tree, as far as they are known.
#[derive(Clone, Debug, Default)]
pub(super) struct Engines {
    pub node: Option<Version>,
    pub npm: Option<Version>,
}

impl Engines {
    /// Tells whether a version says that it runs by them.
    ///
    /// **Source**: npm's `npm-install-checks`, `checkEngine`.
    fn run(&self, manifest: &Manifest) -> bool {
        let runs = |version: &Option<Version>, name: &str| {
            let wanted = match &manifest.engines[name] {
                Value::Null | Value::Bool(false) => return true,
                Value::String(wanted) if wanted.is_empty() => return true,
                wanted => wanted.as_str().and_then(Range::parse_strict),
            };
            version.as_ref().is_none_or(|version| wanted.is_some_and(|wanted| wanted.admits_any(version)))
        };
        runs(&self.node, "node") && runs(&self.npm, "npm")
    }
}

impl Packument {
    /// Picks a version as npm does: what a tag says; else the tagged latest where it will do, or the highest that
    /// does, of those first that are not deprecated and run by the tree's Node.js.
    ///
    /// **Source**: npm's `npm-pick-manifest`.
    pub(super) fn pick(&self, wanted: &str, engines: &Engines) -> Option<&Manifest> {
        if let Some(exact) = self.versions.get(wanted) {
            return Some(exact);
        }
        let Some(range) = Range::parse(wanted) else {
            return self.versions.get(self.tags.get(wanted)?);
        };
        let latest = self.tags.get("latest").and_then(|latest| self.versions.get(latest));
        let does = |one: &&Manifest| {
            let version = Version::parse(&one.version);
            (version.is_some_and(|version| range.admits(&version)) || matches!(wanted, "" | "*"))
                && !one.is_deprecated()
                && engines.run(one)
        };
        latest.filter(does).or_else(|| {
            let versions =
                self.versions.values().filter_map(|one| Some((Version::parse(&one.version)?, one)));
            let fitting = versions.filter(|(version, _)| range.admits(version));
            let ranked = fitting.map(|(version, one)| {
                let (valid, runs) = (!one.is_deprecated(), engines.run(one));
                ((valid && runs, runs, valid, version), one)
            });
            ranked.max_by(|(a, _), (b, _)| a.cmp(b)).map(|(_, one)| one)
        })
    }
}

/// A registry, and what it has said so far.
pub(super) struct Registry<'a> {
    url: &'a str,
    transport: &'a dyn Transport,
    /// What the packages are to run by.
    pub engines: Engines,
    known: HashMap<String, Arc<Packument>>,
}

impl<'a> Registry<'a> {
    pub(super) fn new(url: &'a str, transport: &'a dyn Transport, engines: Engines) -> Self {
        Self { url, transport, engines, known: HashMap::new() }
    }

    /// Asks for packages that were not asked for yet, several at once.
    pub(super) fn learn(&mut self, names: Vec<String>) -> Result<(), TreeError> {
        let mut names: Vec<String> =
            names.into_iter().filter(|name| !self.known.contains_key(name)).collect();
        names.sort();
        names.dedup();
        let next = AtomicUsize::new(0);
        let learnt = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..JOBS.min(names.len()) {
                scope.spawn(|| {
                    while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let answer = self.ask(name);
                        learnt.lock().unwrap_or_else(PoisonError::into_inner).push((name.clone(), answer));
                    }
                });
            }
        });
        let mut learnt = learnt.into_inner().unwrap_or_else(PoisonError::into_inner);
        learnt.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (name, answer) in learnt {
            match answer {
                // whether it is needed is told later
                Err(TreeError::Ask { source, .. }) if is_missing(&source) => {}
                answer => drop(self.known.insert(name, Arc::new(answer?))),
            }
        }
        Ok(())
    }

    fn ask(&self, name: &str) -> Result<Packument, TreeError> {
        let url = format!("{}/{}", self.url, name.replace('/', "%2f"));
        let ask = Ask { accept: Some(ACCEPT), ..Ask::at(&url, LIMIT) };
        let (_, bytes) = asked(self.transport, &ask)
            .map_err(|source| TreeError::Ask { package: name.to_owned(), source })?;
        serde_json::from_slice(&bytes).map_err(|source| TreeError::Document { url, source })
    }

    /// Gives what is known of a package.
    pub(super) fn of(&self, name: &str) -> Option<Arc<Packument>> {
        self.known.get(name).cloned()
    }
}

fn is_missing(problem: &crate::host::transport::TransportError) -> bool {
    matches!(problem, crate::host::transport::TransportError::Missing { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packument(latest: &str, versions: &[(&str, bool)]) -> Packument {
        let versions = versions.iter().map(|(version, deprecated)| {
            let manifest = Manifest {
                version: (*version).to_owned(),
                deprecated: Value::Bool(*deprecated),
                ..Manifest::default()
            };
            ((*version).to_owned(), manifest)
        });
        Packument {
            tags: BTreeMap::from([("latest".to_owned(), latest.to_owned())]),
            versions: versions.collect(),
        }
    }

    #[test]
    fn the_latest_is_preferred_and_what_is_deprecated_is_not() {
        let known =
            packument("2.0.0", &[("1.9.0", false), ("1.10.0", true), ("2.0.0", false), ("2.1.0", false)]);
        let pick = |wanted: &str| known.pick(wanted, &Engines::default()).map(|found| found.version.clone());
        assert_eq!(pick("latest").as_deref(), Some("2.0.0"));
        assert_eq!(pick(">=1").as_deref(), Some("2.0.0"));
        assert_eq!(pick("^1").as_deref(), Some("1.9.0"));
        assert_eq!(pick("1.10.x").as_deref(), Some("1.10.0"));
        assert_eq!(pick("^2.1").as_deref(), Some("2.1.0"));
        assert_eq!((pick("^3"), pick("next")), (None, None));
    }

    #[test]
    fn what_runs_by_the_trees_node_is_preferred() {
        let text = r#"{"dist-tags": {"latest": "3.0.0"}, "versions": {
            "1.0.0": {"version": "1.0.0", "engines": {"node": ">=16"}},
            "1.1.0": {"version": "1.1.0", "engines": {"node": ">=16"}, "deprecated": "no"},
            "2.0.0": {"version": "2.0.0", "engines": {"node": ">=20"}},
            "2.1.0": {"version": "2.1.0", "engines": {"node": "yes"}},
            "3.0.0": {"version": "3.0.0", "engines": {"node": ">= 20.0.0", "npm": ">=10"}},
            "3.1.0": {"version": "3.1.0", "engines": {"npm": "^9"}}}}"#;
        let known: Packument = serde_json::from_str(text).unwrap();
        let pick = |wanted: &str, node: &str, npm: &str| {
            let engines = Engines { node: Version::parse(node), npm: Version::parse(npm) };
            known.pick(wanted, &engines).map(|found| found.version.clone()).unwrap()
        };
        assert_eq!(pick(">=1", "18.20.0", ""), "3.1.0");
        assert_eq!(pick(">=1", "18.20.0", "10.0.0"), "1.0.0");
        assert_eq!(pick("<3", "18.20.0", ""), "1.0.0");
        assert_eq!(pick(">1.0.0 <3", "18.20.0", ""), "1.1.0");
        assert_eq!(pick("^2", "18.20.0", ""), "2.1.0");
        assert_eq!(pick("<3", "22.0.0", ""), "2.0.0");
        assert_eq!(pick("*", "21.0.0-nightly", "10.1.0"), "3.0.0");
        // what is named alone is taken
        assert_eq!(pick("3.0.0", "18.20.0", ""), "3.0.0");
        assert_eq!(pick("latest", "18.20.0", ""), "3.0.0");
    }

    #[test]
    fn a_platform_is_told_by_what_is_wanted_and_what_is_refused() {
        let manifest = |text: &str| serde_json::from_str::<Manifest>(text).unwrap();
        for (text, runs) in [
            ("{}", true),
            (r#"{"os": ["linux"], "cpu": "x64", "libc": ["glibc"]}"#, true),
            (r#"{"os": ["!win32"]}"#, true),
            (r#"{"os": ["!linux"]}"#, false),
            (r#"{"os": ["darwin"]}"#, false),
            (r#"{"cpu": ["arm64"]}"#, false),
            (r#"{"libc": ["musl"]}"#, false),
            (r#"{"dependencies": ["odd"], "os": {}}"#, true),
        ] {
            assert_eq!(manifest(text).runs_on("amd64"), runs, "{text}");
        }
    }
}
