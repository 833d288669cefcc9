//! Sees that no layer has a login in it: files that are known to hold one, and tokens in texts.
//!
//! What is looked at: every file that a layer adds or changes. By its path, whoever brought it. In it, where it is a
//! text of at most [`LIMIT`] bytes, unless everybody has it: a package's file that is as its `md5sums` say, and what
//! lies in the folder of a part whose digest is locked. Documentation and test suites are full of keys that open
//! nothing.

mod names;
mod owned;
mod shapes;

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use crate::{
    error::{Cause, Class, Hint},
    host::{
        live::{self, vanished},
        root::{Links, Root},
    },
};

/// The most bytes that a text may have that is looked at.
pub const LIMIT: u64 = 1 << 20;

/// How many of a token's characters are shown.
const SHOWN: usize = 4;
/// How many findings are told.
const TOLD: usize = 10;

/// Something that looks like a login.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The path in the tree.
    pub path: PathBuf,
    /// What it looks like: `Anthropic key`.
    pub kind: &'static str,
    /// How it begins; never more than a few characters.
    pub begins: Option<String>,
}

/// Why a layer is not kept.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// There are logins in it.
    #[error("{} would be in it: {}", if found.len() == 1 { "a login" } else { "logins" }, told(found))]
    Found {
        /// What was found.
        found: Vec<Finding>,
    },
    /// A file of it cannot be read.
    #[error("{path} cannot be read", path = path.display())]
    Read {
        /// The path in the tree.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn told(found: &[Finding]) -> String {
    let mut words: Vec<String> = found
        .iter()
        .take(TOLD)
        .map(|finding| {
            let begins = finding.begins.as_ref().map_or_else(String::new, |begins| format!(", `{begins}…`"));
            format!("/{} ({}{begins})", finding.path.display(), finding.kind)
        })
        .collect();
    if found.len() > TOLD {
        words.push(format!("and {} more", found.len() - TOLD));
    }
    words.join(", ")
}

impl Cause for ScanError {
    fn class(&self) -> Class {
        match self {
            Self::Found { .. } => Class::Untrusted,
            Self::Read { source, .. } => live::class_of(source, Class::Host),
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Found { .. } => vec![Hint::Note(
                "take it out of the profile, and log in inside the machine: a layer is in every machine made of it"
                    .to_owned(),
            )],
            Self::Read { .. } => Vec::new(),
        }
    }
}

/// Looks for logins in files of a tree. `public` are folders whose files everybody has.
///
/// # Errors
/// [`ScanError::Found`] with all that was found, by path.
pub fn scan(tree: &Path, files: &[&Path], public: &[PathBuf]) -> Result<(), ScanError> {
    scan_all(tree, files, public, false)
}

/// Looks for logins in files of a tree that another process may change: what has vanished is passed over.
///
/// # Errors
/// As [`scan`].
pub fn scan_live(tree: &Path, files: &[&Path]) -> Result<(), ScanError> {
    scan_all(tree, files, &[], true)
}

fn scan_all(tree: &Path, files: &[&Path], public: &[PathBuf], live: bool) -> Result<(), ScanError> {
    let failed = |path: &Path, source| ScanError::Read { path: path.to_owned(), source };
    let root = Root::open(tree, Links::InTree).map_err(|source| failed(Path::new(""), source))?;
    let shapes = shapes::Shapes::new();
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Ok(Vec::new()));
    let work = || {
        let mut text = Vec::new();
        while let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let looked = one(&root, path, public, &shapes, &mut text);
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            match (&mut *found, looked) {
                (Ok(all), Ok(some)) => all.extend(some),
                (Ok(_), Err(source)) if live && vanished(&source) => {}
                (Ok(_), Err(source)) => *found = Err(failed(path, source)),
                (Err(_), _) => return,
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(work);
        }
        work();
    });
    let mut found: Vec<Finding> = found.into_inner().unwrap_or_else(PoisonError::into_inner)?;
    owned::forgive(&root, &mut found).map_err(|source| failed(Path::new("var/lib/dpkg"), source))?;
    found.sort();
    if found.is_empty() { Ok(()) } else { Err(ScanError::Found { found }) }
}

/// Looks for logins in a text that is no file; the path is what it is told as.
#[must_use]
pub fn text(path: &Path, text: &[u8]) -> Vec<Finding> {
    let shown = |token: &[u8]| String::from_utf8_lossy(&token[..token.len().min(SHOWN)]).into_owned();
    let found = shapes::Shapes::new().find(text);
    found.into_iter().map(|(kind, token)| finding(path, kind, Some(shown(token)))).collect()
}

fn one(
    root: &Root,
    path: &Path,
    public: &[PathBuf],
    shapes: &shapes::Shapes,
    text: &mut Vec<u8>,
) -> io::Result<Vec<Finding>> {
    let named = names::kind(path);
    let is_public = public.iter().any(|folder| path.starts_with(folder));
    if named.is_none() && is_public {
        return Ok(Vec::new());
    }
    use rustix::fs::OFlags;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(root.at(path, flags, 0)?);
    let size = file.metadata()?.len();
    if size == 0 || size > LIMIT {
        // an empty file of the name is a mark, not a login
        let large = named.filter(|_| size > LIMIT).map(|name| finding(path, name.kind, None));
        return Ok(large.into_iter().collect());
    }
    text.clear();
    file.take(LIMIT).read_to_end(text)?;
    if let Some(name) = named
        && (name.says)(text)
    {
        return Ok(vec![finding(path, name.kind, None)]);
    }
    // a NUL at the beginning is the sign of what is no text
    if is_public || memchr::memchr(0, &text[..text.len().min(8192)]).is_some() {
        return Ok(Vec::new());
    }
    let shown = |token: &[u8]| String::from_utf8_lossy(&token[..token.len().min(SHOWN)]).into_owned();
    Ok(shapes.find(text).into_iter().map(|(kind, token)| finding(path, kind, Some(shown(token)))).collect())
}

fn finding(path: &Path, kind: &'static str, begins: Option<String>) -> Finding {
    Finding { path: path.to_owned(), kind, begins }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn scanned(files: &[(&str, &[u8])], public: &[&str]) -> String {
        let tree = tempfile::tempdir().unwrap();
        for (path, bytes) in files {
            let path = tree.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let paths: Vec<&Path> = files.iter().map(|(path, _)| Path::new(*path)).collect();
        let public: Vec<PathBuf> = public.iter().map(PathBuf::from).collect();
        match scan(tree.path(), &paths, &public) {
            Ok(()) => String::new(),
            Err(problem) => problem.to_string(),
        }
    }

    /// A key that is none: it is put together here so that no tool takes this file for one that has it.
    fn key() -> Vec<u8> {
        format!("key = \"{}{}\"\n", "ghp", "_aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5").into_bytes()
    }

    #[test]
    fn a_login_is_told_by_path_and_kind_and_never_shown() {
        let told = scanned(&[("home/agent/.claude/.credentials.json", b"{\"claudeAiOauth\":{}}")], &[]);
        assert_eq!(
            told,
            "a login would be in it: /home/agent/.claude/.credentials.json (Claude Code's login)"
        );
        let told = scanned(&[("srv/a.conf", &key()), ("etc/b", &key())], &[]);
        assert_eq!(
            told,
            "logins would be in it: /etc/b (GitHub token, `ghp_…`), /srv/a.conf (GitHub token, `ghp_…`)"
        );
    }

    #[test]
    fn what_everybody_has_is_looked_at_by_name_only() {
        let files: [(&str, &[u8]); 2] = [("opt/p/test.js", &key()), ("opt/p/.netrc", b"password x")];
        assert_eq!(scanned(&files[..1], &["opt/p"]), "");
        assert_eq!(
            scanned(&files, &["opt/p"]),
            "a login would be in it: /opt/p/.netrc (passwords of machines)"
        );
    }

    #[test]
    fn a_packages_own_file_may_have_what_it_likes_until_it_is_changed() {
        use md5::Digest as _;
        let sum = |bytes: &[u8]| {
            let digest = md5::Md5::digest(bytes);
            digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        let sums = format!("{}  usr/share/doc/p/key\n", sum(&key())).into_bytes();
        let info = ("var/lib/dpkg/info/p.md5sums", &sums[..]);
        assert_eq!(scanned(&[("usr/share/doc/p/key", &key()), info], &[]), "");
        let changed = [&key()[..], b"\n"].concat();
        assert!(scanned(&[("usr/share/doc/p/key", &changed), info], &[]).contains("GitHub token"));
        // merged /usr: the package says bin/x, the tree has usr/bin/x
        let sums = format!("{}  bin/x\n", sum(&key())).into_bytes();
        assert_eq!(scanned(&[("usr/bin/x", &key()), ("var/lib/dpkg/info/p.md5sums", &sums)], &[]), "");
    }

    #[test]
    fn what_is_no_text_or_too_large_or_empty_is_left() {
        let binary = [b"\0", &key()[..]].concat();
        let large = [vec![b'\n'; 2 << 20], key()].concat();
        assert_eq!(scanned(&[("a", &binary), ("b", &large), ("root/.netrc", b"")], &[]), "");
    }
}
