//! What an index says of packages: their files, with digests.
//!
//! **Source**: the Python packaging specifications, "Simple repository API" (PEP 503, PEP 592, PEP 658, PEP 691).

use std::collections::HashMap;

use serde_json::Value;

use super::{
    PythonError,
    requirement::normal,
    version::{Specifiers, Version},
    wheel::{Fit, Tree, Wheel},
};
use crate::{
    digest::Sha256,
    host::{
        address,
        transport::{Ask, Transport, TransportError, asked},
    },
    layer::parts::npm_tree::at_once,
};

const ACCEPT: &str =
    "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1";

/// The most bytes of a package's list of files.
const LIMIT: u64 = 256 << 20;

/// How many packages are asked for at once.
const JOBS: usize = 8;

/// A file of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub file: String,
    pub url: String,
    pub sha256: Option<Sha256>,
    requires_python: String,
    withdrawn: bool,
    /// Whether its metadata is to be had beside it.
    pub described: bool,
}

/// A version of a package, with the file that fits a tree best.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub version: Version,
    pub withdrawn: bool,
    pub wheel: Listed,
}

impl Candidate {
    /// Creates one that no index has, for comparisons.
    pub(super) fn plain(name: &str, version: &str, withdrawn: bool) -> Option<Self> {
        let wheel = Listed {
            file: format!("{name}-{version}-py3-none-any.whl"),
            url: String::new(),
            sha256: None,
            requires_python: String::new(),
            withdrawn,
            described: false,
        };
        Some(Self { version: Version::parse(version)?, withdrawn, wheel })
    }
}

/// An index, and what it has said so far.
pub(super) struct Index<'a> {
    url: &'a str,
    transport: &'a dyn Transport,
    tree: &'a Tree,
    known: HashMap<String, Vec<Candidate>>,
}

impl<'a> Index<'a> {
    pub(super) fn new(url: &'a str, transport: &'a dyn Transport, tree: &'a Tree) -> Self {
        Self { url, transport, tree, known: HashMap::new() }
    }

    pub(super) fn transport(&self) -> &'a dyn Transport {
        self.transport
    }

    /// Asks for packages that were not asked for yet, several at once.
    pub(super) fn learn(&mut self, mut names: Vec<String>) -> Result<(), PythonError> {
        names.retain(|name| !self.known.contains_key(name));
        names.sort();
        names.dedup();
        let found = at_once(&names, JOBS, |name| self.ask(name))?;
        self.known.extend(names.into_iter().zip(found));
        Ok(())
    }

    /// Gives the versions of a package that run in the tree, the highest first.
    pub(super) fn of(&self, name: &str) -> &[Candidate] {
        self.known.get(name).map_or(&[], Vec::as_slice)
    }

    fn ask(&self, name: &str) -> Result<Vec<Candidate>, PythonError> {
        let url = format!("{}/{name}/", self.url);
        let ask = Ask { accept: Some(ACCEPT), ..Ask::at(&url, LIMIT) };
        let (from, bytes) = match asked(self.transport, &ask) {
            Ok(answer) => answer,
            // whether it is needed is told later
            Err(TransportError::Missing { .. }) => return Ok(Vec::new()),
            Err(source) => return Err(PythonError::Ask { package: name.to_owned(), source }),
        };
        let text = String::from_utf8_lossy(&bytes);
        let files =
            if text.trim_start().starts_with('{') { of_json(&text, &from) } else { of_html(&text, &from) };
        let files = files.ok_or_else(|| PythonError::Document { url: url.clone() })?;
        Ok(candidates(name, files, self.tree))
    }
}

/// Picks the best file of each version.
fn candidates(name: &str, files: Vec<Listed>, tree: &Tree) -> Vec<Candidate> {
    let interpreter = Version::parse(&tree.environment.full);
    let mut best: Vec<(Version, Fit, Listed)> = Vec::new();
    for listed in files {
        let fitting = Wheel::parse(&listed.file).filter(|wheel| wheel.name == name);
        let Some((version, rank)) =
            fitting.and_then(|wheel| Some((Version::parse(wheel.version)?, wheel.fits(tree)?)))
        else {
            continue;
        };
        // a condition that cannot be read is one that nobody keeps
        let wanted = Specifiers::parse(&listed.requires_python).unwrap_or_default();
        if interpreter.as_ref().is_some_and(|interpreter| !wanted.admit(interpreter)) {
            continue;
        }
        match best.iter_mut().find(|(known, ..)| *known == version) {
            Some(known) if known.1 >= rank => {}
            Some(known) => *known = (version, rank, listed),
            None => best.push((version, rank, listed)),
        }
    }
    best.sort_by(|(a, ..), (b, ..)| b.cmp(a));
    best.into_iter()
        .map(|(version, _, wheel)| Candidate { version, withdrawn: wheel.withdrawn, wheel })
        .collect()
}

fn of_json(text: &str, from: &str) -> Option<Vec<Listed>> {
    let value: Value = serde_json::from_str(text).ok()?;
    let one = |file: &Value| {
        let metadata = ["core-metadata", "dist-info-metadata", "data-dist-info-metadata"];
        Some(Listed {
            file: file["filename"].as_str()?.to_owned(),
            url: joined(from, file["url"].as_str()?)?,
            sha256: file["hashes"]["sha256"].as_str().and_then(|digest| digest.parse().ok()),
            requires_python: file["requires-python"].as_str().unwrap_or_default().to_owned(),
            withdrawn: !matches!(file["yanked"], Value::Null | Value::Bool(false)),
            described: metadata.iter().any(|key| !matches!(file[*key], Value::Null | Value::Bool(false))),
        })
    };
    Some(value["files"].as_array()?.iter().filter_map(one).collect())
}

/// Reads the links of a page.
fn of_html(text: &str, from: &str) -> Option<Vec<Listed>> {
    let lower = text.to_ascii_lowercase();
    if !lower.contains("<html") && !lower.contains("<a ") && !lower.contains("<!doctype html") {
        return None;
    }
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(begin) = lower[at..].find("<a ").map(|begin| at + begin + 3) {
        let Some(end) = lower[begin..].find('>').map(|end| begin + end) else { break };
        at = end;
        let attribute = |name: &str| attribute(&text[begin..end], name);
        let Some(reference) = attribute("href") else { continue };
        let (url, fragment) = reference.split_once('#').unwrap_or((&reference, ""));
        let file = url.split('?').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
        let Some(url) = joined(from, url) else { continue };
        let metadata = ["data-core-metadata", "data-dist-info-metadata"];
        found.push(Listed {
            file: file.replace("%2B", "+").replace("%2b", "+"),
            url,
            sha256: fragment.split('&').find_map(|word| word.strip_prefix("sha256=")?.parse().ok()),
            requires_python: attribute("data-requires-python").unwrap_or_default(),
            withdrawn: attribute("data-yanked").is_some(),
            described: metadata.iter().any(|name| attribute(name).is_some_and(|value| value != "false")),
        });
    }
    Some(found)
}

/// Finds an attribute of a tag; an empty text where it has no value.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let mut rest = tag;
    while let Some(at) = rest.to_ascii_lowercase().find(name) {
        let before = rest[..at].chars().next_back();
        let after = &rest[at + name.len()..];
        rest = after;
        if before.is_some_and(|one| !one.is_whitespace()) {
            continue;
        }
        let Some(value) = after.trim_start().strip_prefix('=') else { return Some(String::new()) };
        let value = value.trim_start();
        let value = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => value[1..].split(quote).next().unwrap_or_default(),
            _ => value.split_whitespace().next().unwrap_or_default(),
        };
        let plain = value.replace("&gt;", ">").replace("&lt;", "<").replace("&quot;", "\"");
        return Some(plain.replace("&#39;", "'").replace("&amp;", "&"));
    }
    None
}

/// Makes a whole address of one that may be relative to another.
fn joined(from: &str, url: &str) -> Option<String> {
    let joined = reqwest::Url::parse(from).ok()?.join(url).ok()?;
    // some indexes repeat the user's password in their links, which are in the lock
    let plain = address::without_user(joined.as_str()).0;
    matches!(joined.scheme(), "http" | "https" | "file").then_some(plain)
}

/// Gives the name that an index has a package under.
pub(super) fn name_of(package: &str) -> String {
    normal(package.split('[').next().unwrap_or(package).trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::parts::python::requirement::Environment;

    #[test]
    fn both_forms_say_the_same() {
        let digest = Sha256::of(b"x");
        let html = format!(
            "<!DOCTYPE html><html><body><a href=\"../../files/a-1.0-py3-none-any.whl#sha256={digest}\" \
             data-requires-python=\"&gt;=3.7\" data-yanked=\"\" data-core-metadata='sha256=00'>x</a><br/>\n\
             <A HREF='a-0.9.tar.gz'>y</A></body></html>"
        );
        let json = format!(
            "{{\"files\": [{{\"filename\": \"a-1.0-py3-none-any.whl\", \"url\": \"/files/a-1.0-py3-none-any.whl\", \
             \"hashes\": {{\"sha256\": \"{digest}\"}}, \"requires-python\": \">=3.7\", \"yanked\": \"why\", \
             \"core-metadata\": {{\"sha256\": \"00\"}}}}]}}"
        );
        let from = "https://x.invalid/simple/a/";
        let (of_html, of_json) = (of_html(&html, from).unwrap(), of_json(&json, from).unwrap());
        assert_eq!(of_html[0], of_json[0]);
        assert_eq!(of_html[0].url, "https://x.invalid/files/a-1.0-py3-none-any.whl");
        assert!(of_html[0].withdrawn && of_html[0].described && of_html[0].sha256 == Some(digest));
        assert_eq!((of_html.len(), of_html[1].file.as_str()), (2, "a-0.9.tar.gz"));
        assert!(super::of_html("sign in", from).is_none() && super::of_json("{}", from).is_none());
    }

    #[test]
    fn each_version_has_its_best_file_and_the_highest_comes_first() {
        let listed = |file: &str, python: &str| Listed {
            file: file.to_owned(),
            url: String::new(),
            sha256: None,
            requires_python: python.to_owned(),
            withdrawn: false,
            described: false,
        };
        let environment = Environment { full: "3.13.5".to_owned(), machine: "x86_64".to_owned() };
        let tree = Tree { environment, minor: 13, glibc: 41 };
        let files = vec![
            listed("a-1.9-py3-none-any.whl", ""),
            listed("a-1.10-py3-none-any.whl", ""),
            listed("a-1.10-cp313-cp313-manylinux1_x86_64.whl", ""),
            listed("a-2.0-py3-none-any.whl", "<3.13"),
            listed("a-3.0.tar.gz", ""),
            listed("other-4.0-py3-none-any.whl", ""),
        ];
        let found: Vec<_> = candidates("a", files, &tree).into_iter().map(|one| one.wheel.file).collect();
        assert_eq!(found, ["a-1.10-cp313-cp313-manylinux1_x86_64.whl", "a-1.9-py3-none-any.whl"]);
    }
}
