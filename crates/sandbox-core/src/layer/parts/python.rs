//! Python tools with all they depend on, each in a virtual environment of its own.
//!
//! What a tool needs is found out when it is locked, of what the index says and the packages say of themselves, for
//! the Python that the lock's packages bring. When it is built, the files are fetched by their digests, and the pip
//! of the tree installs them, without a network.

mod index;
mod install;
mod requirement;
mod solve;
mod version;
mod wheel;

use std::{cmp::Ordering, collections::HashMap, fs::File, io::Read as _, path::PathBuf};

use index::{Candidate, Index, name_of};
use requirement::{Environment, Requirement};
use wheel::Tree;

use super::{PartError, fetched::Into, npm_tree::at_once};
use crate::{
    Result,
    error::{Cause, Class, Context as _, Hint},
    host::{
        runner::RunnerError,
        transport::{Ask, TransportError, asked},
    },
    layer::{Doors, Order},
    lock::{Fetched, Lock, LockedPart, PythonFile},
    report::Event,
    spec::Python,
    store::{Checksum, StoreError, Wanted},
};

/// The most bytes of one file.
const LIMIT: u64 = 4 << 30;

/// The most bytes of what a package says of itself.
const METADATA: u64 = 64 << 20;

/// How many files are fetched at once.
const JOBS: usize = 8;

/// Why a Python tool is not there.
#[derive(Debug, thiserror::Error)]
pub enum PythonError {
    /// Nothing in the tree makes it.
    #[error("`{package}` is installed by Python, and the tree lacks {lacking}")]
    NoPython {
        /// The tool.
        package: String,
        /// The package that is missing.
        lacking: &'static str,
    },
    /// The index cannot be asked.
    #[error("the Python index does not tell of `{package}`")]
    Ask {
        /// The package.
        package: String,
        /// Why.
        #[source]
        source: TransportError,
    },
    /// What came is no list of files.
    #[error("{url} is no list of a package's files")]
    Document {
        /// The address.
        url: String,
    },
    /// What the profile says is no requirement.
    #[error("`{text}` is no requirement on a Python package")]
    Requirement {
        /// What it says.
        text: String,
    },
    /// A dependency is not of the index.
    #[error("`{package}` needs `{wanted}`, which the index does not have")]
    Foreign {
        /// Who needs it.
        package: String,
        /// What it needs.
        wanted: String,
    },
    /// No versions go together.
    #[error("no version of `{package}` with a wheel for this tree fulfils {}", wishes.join(" and "))]
    Conflict {
        /// The package.
        package: String,
        /// What is wished, and by whom.
        wishes: Vec<String>,
    },
    /// Wishes contradict each other through several packages.
    #[error("no versions with wheels for this tree fulfil all of {}", wishes.join(" and "))]
    Together {
        /// What is wished, and by whom.
        wishes: Vec<String>,
    },
    /// A file has no digest.
    #[error("the Python index gives no sha256 of `{file}`")]
    Digest {
        /// The file.
        file: String,
    },
    /// A file is not what it should be.
    #[error("`{file}` is damaged, or describes no package")]
    Wheel {
        /// The file.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file cannot be had.
    #[error("`{file}` cannot be had")]
    Fetch {
        /// The file.
        file: String,
        /// Why.
        source: StoreError,
    },
    /// Python or its pip failed.
    #[error("pip does not install `{package}`")]
    Pip {
        /// The tool.
        package: String,
        /// Its story.
        #[source]
        source: Box<RunnerError>,
    },
    /// The tree cannot be written.
    #[error("{} cannot be written in the tree", path.display())]
    Write {
        /// The path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Cause for PythonError {
    fn class(&self) -> Class {
        match self {
            Self::Ask { source, .. } => source.class(),
            Self::Fetch { source, .. } => source.class(),
            Self::Pip { source, .. } => source.class(),
            Self::NoPython { .. } | Self::Requirement { .. } => Class::File,
            Self::Document { .. } | Self::Foreign { .. } | Self::Digest { .. } | Self::Wheel { .. } => {
                Class::Untrusted
            }
            Self::Conflict { .. } | Self::Together { .. } => Class::Unavailable,
            Self::Write { .. } => Class::Host,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::NoPython { .. } => {
                vec![Hint::Note("the profile needs `packages.install = [\"python3-venv\"]`".into())]
            }
            Self::Ask { .. } | Self::Document { .. } => {
                vec![Hint::run("name another index", "--python-index URL")]
            }
            Self::Conflict { .. } | Self::Together { .. } => vec![Hint::Note(
                "another `version`, or a condition in `with`, may help; source archives are not built".into(),
            )],
            Self::Fetch { source, .. } => source.hints(),
            _ => Vec::new(),
        }
    }
}

/// Gives the name of a tool in the lock, without its extras.
pub(super) fn name(package: &str) -> &str {
    package.split('[').next().unwrap_or(package).trim()
}

/// What a lock must have for a tool beside its version.
pub(super) fn facts(part: &Python, lock: &Lock) -> Vec<(&'static str, String)> {
    let python = interpreter(part, lock).map(|full| Environment { full, machine: String::new() });
    let short = python.as_ref().map_or("", Environment::short);
    vec![("python", short.to_owned()), ("asked", asked_for(part).join(", "))]
}

fn asked_for(part: &Python) -> Vec<String> {
    std::iter::once(&part.package).chain(&part.with).cloned().collect()
}

/// Gives the version of the tool's Python: as the profile says, or as the tree's packages have it (`3.13.5`).
fn interpreter(part: &Python, lock: &Lock) -> Option<String> {
    part.python.as_ref().map(|python| python.version.clone()).or_else(|| upstream(lock, "python3"))
}

/// Gives the numbers that a package's version begins with, without its epoch.
pub(super) fn upstream(lock: &Lock, name: &str) -> Option<String> {
    let version = &lock.packages.iter().find(|package| package.name == name)?.version;
    let version = version.split_once(':').map_or(version.as_str(), |(_, version)| version);
    let end = version.find(|one: char| !one.is_ascii_digit() && one != '.').unwrap_or(version.len());
    Some(version[..end].trim_end_matches('.').to_owned())
}

fn tree_of(part: &Python, lock: &Lock) -> std::result::Result<Tree, PythonError> {
    let lacking = |lacking| PythonError::NoPython { package: part.package.clone(), lacking };
    let full = interpreter(part, lock).ok_or_else(|| lacking("python3"))?;
    if part.python.is_none() {
        upstream(lock, "python3-venv").ok_or_else(|| lacking("python3-venv"))?;
    }
    let second = |version: &str| version.split('.').nth(1).and_then(|number| number.parse().ok());
    let minor = second(&full).ok_or_else(|| lacking("python3"))?;
    let glibc = upstream(lock, "libc6").as_deref().and_then(second).unwrap_or(17);
    let machine = match lock.architecture.as_str() {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        "i386" => "i686",
        other => other,
    };
    Ok(Tree { environment: Environment { full, machine: machine.to_owned() }, minor, glibc })
}

/// Finds out which files a tool needs.
pub(super) fn lock(
    part: &Python,
    order: &Order,
    lock: &Lock,
    doors: &Doors<'_>,
) -> std::result::Result<LockedPart, PythonError> {
    let tree = tree_of(part, lock)?;
    let read = |text: &String| {
        Requirement::parse(text).ok_or_else(|| PythonError::Requirement { text: text.clone() })
    };
    let wanted = match part.version.as_str() {
        "latest" => part.package.clone(),
        version => format!("{}=={version}", part.package),
    };
    let mut wishes = vec![read(&wanted)?];
    for with in &part.with {
        wishes.push(read(with)?);
    }
    wishes.retain(|wish| wish.counts(&tree.environment, &[]));
    let index = Index::new(&order.python_index, doors.transport, &tree);
    let mut packages = Known { index, doors, needs: HashMap::new() };
    let chosen = solve::solve(&wishes, &tree.environment, &mut packages)?;
    let own = name_of(&part.package);
    let version = chosen.iter().find(|(name, _)| *name == own).map(|(_, one)| one.version.to_string());
    let mut files =
        chosen.into_iter().map(|(_, one)| locked(one)).collect::<std::result::Result<Vec<_>, _>>()?;
    files.sort();
    Ok(LockedPart {
        name: name(&part.package).to_owned(),
        version: version.unwrap_or_default(),
        what: Fetched::Python { python: tree.environment.short().to_owned(), asked: asked_for(part), files },
    })
}

/// What the index says of versions, and what they say of themselves.
struct Known<'a> {
    index: Index<'a>,
    doors: &'a Doors<'a>,
    /// By file: what it needs.
    needs: HashMap<String, Vec<String>>,
}

impl solve::Packages for Known<'_> {
    fn versions(&mut self, names: &[String]) -> std::result::Result<Vec<Vec<Candidate>>, PythonError> {
        self.index.learn(names.to_vec())?;
        Ok(names.iter().map(|name| self.index.of(name).to_vec()).collect())
    }

    fn needs(&mut self, candidate: &Candidate) -> std::result::Result<Vec<String>, PythonError> {
        let file = &candidate.wheel.file;
        if let Some(known) = self.needs.get(file) {
            return Ok(known.clone());
        }
        let found = requires(&metadata(candidate, self.doors, self.index.transport())?);
        self.needs.insert(file.clone(), found.clone());
        Ok(found)
    }
}

fn locked(candidate: Candidate) -> std::result::Result<PythonFile, PythonError> {
    let wheel = candidate.wheel;
    match wheel.sha256 {
        Some(sha256) => Ok(PythonFile { file: wheel.file, url: wheel.url, sha256 }),
        None => Err(PythonError::Digest { file: wheel.file }),
    }
}

/// Reads what a wheel says of itself: beside it where the index has that, or in it.
fn metadata(
    candidate: &Candidate,
    doors: &Doors<'_>,
    transport: &dyn crate::host::transport::Transport,
) -> std::result::Result<String, PythonError> {
    let wheel = &candidate.wheel;
    if wheel.described {
        let url = format!("{}.metadata", wheel.url);
        // one that the index promised and does not have is in the wheel all the same
        if let Ok((_, bytes)) = asked(transport, &Ask::at(&url, METADATA)) {
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    let sha256 = wheel.sha256.ok_or_else(|| PythonError::Digest { file: wheel.file.clone() })?;
    let wanted = Wanted {
        urls: std::slice::from_ref(&wheel.url),
        checksum: Checksum::Sha256(sha256),
        size: None,
        limit: LIMIT,
    };
    let entry = doors
        .store
        .fetch(&wanted, transport, &|_: u64| {})
        .map_err(|source| PythonError::Fetch { file: wheel.file.clone(), source })?;
    let broken = |source| PythonError::Wheel { file: wheel.file.clone(), source };
    let odd = |problem: zip::result::ZipError| broken(std::io::Error::other(problem.to_string()));
    let mut archive = zip::ZipArchive::new(File::open(entry.path()).map_err(broken)?).map_err(odd)?;
    let mut at = None;
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(odd)?;
        let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
        if name.ends_with(".dist-info/METADATA") && name.matches('/').count() == 1 {
            at = Some(index);
        }
    }
    let at = at.ok_or_else(|| broken(std::io::ErrorKind::NotFound.into()))?;
    let mut text = String::new();
    let entry = archive.by_index(at).map_err(odd)?;
    entry.take(METADATA).read_to_string(&mut text).map_err(broken)?;
    Ok(text)
}

/// Lists the `Requires-Dist` of a package's metadata.
///
/// **Source**: the Python packaging specifications, "Core metadata".
fn requires(metadata: &str) -> Vec<String> {
    let heads = metadata.lines().take_while(|line| !line.trim().is_empty());
    heads.filter_map(|line| line.strip_prefix("Requires-Dist:")).map(|wish| wish.trim().to_owned()).collect()
}

/// Fetches a tool's files, and has the tree's pip install them.
pub(super) fn put(part: &Python, to: Into<'_>) -> Result<()> {
    let subject = || format!("`{}`", part.package);
    let locked = to.locked("python", name(&part.package))?;
    let Fetched::Python { files, .. } = &locked.what else {
        return Err(PartError::Unlocked { package: part.package.clone() }).during("find", subject());
    };
    let one = |file| fetch(file, to);
    let entries = at_once(files, JOBS, one).during("fetch", subject())?;
    install::install(part, &entries, to).during("install", subject())?;
    let text = format!("{} {}: {} Python packages", locked.name, locked.version, files.len());
    to.doors.reporter.report(Event::Notice { text });
    to.link(&part.into, part.bin.iter().map(|(link, target)| (link, target.clone())))
        .during("link", subject())
}

fn fetch<'a>(
    file: &'a PythonFile,
    to: Into<'_>,
) -> std::result::Result<(&'a PythonFile, crate::store::Entry), PythonError> {
    let checksum = Checksum::Sha256(file.sha256);
    let entry = to
        .fetch(std::slice::from_ref(&file.url), checksum, LIMIT)
        .map_err(|source| PythonError::Fetch { file: file.file.clone(), source })?;
    Ok((file, entry))
}

/// A version of a package and what it needs, for [`choose`].
#[derive(Clone, Debug)]
pub struct Offer {
    /// The package.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it needs, in the words of its metadata.
    pub needs: Vec<String>,
}

impl solve::Packages for &[Offer] {
    fn versions(&mut self, names: &[String]) -> std::result::Result<Vec<Vec<Candidate>>, PythonError> {
        let of = |name: &String| {
            let offers = self.iter().filter(|offer| offer.name == *name);
            let mut all: Vec<_> =
                offers.filter_map(|offer| Candidate::plain(name, &offer.version, false)).collect();
            all.sort_by(|a, b| b.version.cmp(&a.version));
            all
        };
        Ok(names.iter().map(of).collect())
    }

    fn needs(&mut self, candidate: &Candidate) -> std::result::Result<Vec<String>, PythonError> {
        let is_it = |offer: &&Offer| {
            Candidate::plain(&offer.name, &offer.version, false)
                .is_some_and(|one| one.wheel.file == candidate.wheel.file)
        };
        Ok(self.iter().find(is_it).map(|offer| offer.needs.clone()).unwrap_or_default())
    }
}

/// Chooses of offers what meets some wishes, for comparison with other resolvers; none where nothing does.
#[must_use]
pub fn choose(offers: &[Offer], wanted: &[String]) -> Option<Vec<(String, String)>> {
    let wanted = wanted.iter().map(|text| Requirement::parse(text)).collect::<Option<Vec<_>>>()?;
    let environment = Environment { full: "3.13.5".to_owned(), machine: "x86_64".to_owned() };
    let mut offers = offers;
    let chosen = solve::solve(&wanted, &environment, &mut offers).ok()?;
    Some(chosen.into_iter().map(|(name, one)| (name, one.version.to_string())).collect())
}

/// Finds which of some wheels pip would take in a tree of CPython 3.`minor` and glibc 2.`glibc`, for comparison with
/// pip itself; none where it takes none of them.
#[must_use]
pub fn best_wheel<'a>(files: &[&'a str], minor: u32, glibc: u32, machine: &str) -> Option<&'a str> {
    let environment = Environment { full: format!("3.{minor}.0"), machine: machine.to_owned() };
    let tree = Tree { environment, minor, glibc };
    let fitting = files.iter().filter_map(|file| Some((wheel::Wheel::parse(file)?.fits(&tree)?, *file)));
    fitting.max_by(|(a, _), (b, _)| a.cmp(b)).map(|(_, file)| file)
}

/// Compares two versions as PEP 440 does; none where one is none.
#[must_use]
pub fn order(one: &str, other: &str) -> Option<Ordering> {
    Some(version::Version::parse(one)?.cmp(&version::Version::parse(other)?))
}

/// Tells whether conditions admit a version; none where one of them is none.
#[must_use]
pub fn admits(conditions: &str, version: &str) -> Option<bool> {
    Some(version::Specifiers::parse(conditions)?.admit(&version::Version::parse(version)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_ends_where_its_text_begins() {
        let text = "Metadata-Version: 2.1\nRequires-Dist: a>=1\nRequires-Dist: b; extra == 'x'\n\nRequires-Dist: c\n";
        assert_eq!(requires(text), ["a>=1", "b; extra == 'x'"]);
    }
}
