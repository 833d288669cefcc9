//! git's objects: commits, trees and blobs, each named by the SHA-1 of what it is.
//!
//! They are kept as git hashes them, `KIND SIZE\0` and content, one after the other: the commit, then what it has in
//! the order of its trees. So the bytes are the same wherever they came from.
//!
//! **Source**: gitdatamodel(7), gitcore-tutorial(7); `sha1dc` for collisions.

use std::collections::{HashMap, HashSet};

use sha1_checked::{Digest as _, Sha1};

use super::GitError;
use crate::digest::hex;

/// An object's name.
pub(super) type Id = [u8; 20];

/// How deep folders may be.
const DEPTH: usize = 256;

/// How many paths a commit may have: a few trees that have each other several times can stand for any number.
const PATHS: usize = 4 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Commit,
    Tree,
    Blob,
    Tag,
}

impl Kind {
    /// Reads a pack's number.
    pub(super) const fn of_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Commit),
            2 => Some(Self::Tree),
            3 => Some(Self::Blob),
            4 => Some(Self::Tag),
            _ => None,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Tree => "tree",
            Self::Blob => "blob",
            Self::Tag => "tag",
        }
    }
}

pub(super) struct Object {
    pub kind: Kind,
    pub bytes: Vec<u8>,
}

impl Object {
    fn head(&self) -> String {
        format!("{} {}\0", self.kind.word(), self.bytes.len())
    }

    fn id(&self) -> Result<Id, GitError> {
        let mut hasher = Sha1::new();
        hasher.update(self.head());
        hasher.update(&self.bytes);
        finished(hasher)
    }
}

/// Hashes bytes.
pub(super) fn sha1(bytes: &[u8]) -> Result<Id, GitError> {
    let mut hasher = Sha1::new();
    hasher.update(bytes);
    finished(hasher)
}

fn finished(hasher: Sha1) -> Result<Id, GitError> {
    let result = hasher.try_finalize();
    if result.has_collision() { Err(GitError::Collision) } else { Ok((*result.hash()).into()) }
}

/// Objects by name.
#[derive(Default)]
pub(super) struct Objects(HashMap<Id, Object>);

impl Objects {
    /// Adds an object, and gives the name that it has.
    pub(super) fn add(&mut self, object: Object) -> Result<Id, GitError> {
        let id = object.id()?;
        self.0.insert(id, object);
        Ok(id)
    }

    pub(super) fn get(&self, id: &Id) -> Result<&Object, GitError> {
        self.0.get(id).ok_or_else(|| GitError::Lacking { id: hex(id) })
    }

    /// Lists the commits.
    pub(super) fn commits(&self) -> Vec<String> {
        let is_commit = |(_, object): &(&Id, &Object)| object.kind == Kind::Commit;
        self.0.iter().filter(is_commit).map(|(id, _)| hex(id)).collect()
    }

    fn of_kind(&self, id: &Id, kind: Kind) -> Result<&[u8], GitError> {
        let object = self.get(id)?;
        if object.kind == kind {
            Ok(&object.bytes)
        } else {
            Err(GitError::Damaged { what: "an object is of another kind" })
        }
    }

    /// Writes a commit and all its files in the form that is kept.
    pub(super) fn kept(&self, commit: &str) -> Result<Vec<u8>, GitError> {
        let (mut out, mut seen) = (Vec::new(), HashSet::new());
        let mut stack = vec![id_of(commit)?];
        while let Some(id) = stack.pop() {
            if !seen.insert(id) {
                continue;
            }
            let object = self.get(&id)?;
            out.extend_from_slice(object.head().as_bytes());
            out.extend_from_slice(&object.bytes);
            match object.kind {
                Kind::Commit => stack.push(tree_of(&object.bytes)?),
                Kind::Tree => {
                    let entries = entries(&object.bytes)?;
                    stack.extend(
                        entries.iter().rev().filter(|entry| entry.mode != SUBMODULE).map(|entry| entry.id),
                    );
                }
                Kind::Blob | Kind::Tag => {}
            }
        }
        Ok(out)
    }

    /// Reads what [`Self::kept`] wrote.
    pub(super) fn read(mut bytes: &[u8]) -> Result<Self, GitError> {
        let wrong = || GitError::Damaged { what: "what is kept of it cannot be read" };
        let mut objects = Self::default();
        while !bytes.is_empty() {
            let end = bytes.iter().take(32).position(|byte| *byte == 0).ok_or_else(wrong)?;
            let head = std::str::from_utf8(&bytes[..end]).map_err(|_| wrong())?;
            let (word, size) = head.split_once(' ').ok_or_else(wrong)?;
            let kind = [Kind::Commit, Kind::Tree, Kind::Blob].into_iter().find(|kind| kind.word() == word);
            let size: usize = size.parse().map_err(|_| wrong())?;
            let rest = &bytes[end + 1..];
            let content = rest.get(..size).ok_or_else(wrong)?;
            objects.add(Object { kind: kind.ok_or_else(wrong)?, bytes: content.to_vec() })?;
            bytes = &rest[size..];
        }
        Ok(objects)
    }
}

fn id_of(text: &str) -> Result<Id, GitError> {
    let digit = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..20).map(|at| digit(at * 2)).collect();
    let id = bytes.filter(|_| text.len() == 40).and_then(|bytes| bytes.try_into().ok());
    id.ok_or(GitError::Damaged { what: "an object's name is no SHA-1" })
}

fn tree_of(commit: &[u8]) -> Result<Id, GitError> {
    let line = commit.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let text = std::str::from_utf8(line).unwrap_or_default();
    id_of(text.strip_prefix("tree ").unwrap_or_default())
}

const FOLDER: u32 = 0o040_000;
const LINK: u32 = 0o120_000;
const SUBMODULE: u32 = 0o160_000;

struct Entry<'a> {
    mode: u32,
    name: &'a [u8],
    id: Id,
}

fn entries(mut tree: &[u8]) -> Result<Vec<Entry<'_>>, GitError> {
    let wrong = || GitError::Damaged { what: "a tree cannot be read" };
    let mut found = Vec::new();
    while !tree.is_empty() {
        let space = tree.iter().position(|byte| *byte == b' ').ok_or_else(wrong)?;
        let mode =
            std::str::from_utf8(&tree[..space]).ok().and_then(|mode| u32::from_str_radix(mode, 8).ok());
        let rest = &tree[space + 1..];
        let end = rest.iter().position(|byte| *byte == 0).ok_or_else(wrong)?;
        let id = rest.get(end + 1..end + 21).and_then(|id| id.try_into().ok()).ok_or_else(wrong)?;
        found.push(Entry { mode: mode.ok_or_else(wrong)?, name: &rest[..end], id });
        tree = &rest[end + 21..];
    }
    Ok(found)
}

/// Something of a commit.
pub(super) enum Walked<'a> {
    Folder(&'a str),
    File { path: &'a str, executable: bool, content: &'a [u8] },
    Link { path: &'a str, target: &'a [u8] },
}

/// Goes through the files of a commit, a folder before what is in it.
pub(super) fn walk(
    objects: &Objects,
    commit: &str,
    see: &mut dyn FnMut(Walked<'_>) -> Result<(), GitError>,
) -> Result<(), GitError> {
    let top = tree_of(objects.of_kind(&id_of(commit)?, Kind::Commit)?)?;
    let mut stack = vec![(String::new(), top, 0)];
    let mut left = PATHS;
    while let Some((folder, id, depth)) = stack.pop() {
        if depth > DEPTH {
            return Err(GitError::Damaged { what: "its folders are too deep" });
        }
        for entry in entries(objects.of_kind(&id, Kind::Tree)?)? {
            left = left.checked_sub(1).ok_or(GitError::Damaged { what: "it has too many files" })?;
            let name = named(entry.name)?;
            let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            match entry.mode {
                FOLDER => {
                    see(Walked::Folder(&path))?;
                    stack.push((path, entry.id, depth + 1));
                }
                SUBMODULE => return Err(GitError::Submodule { path }),
                LINK => see(Walked::Link { path: &path, target: objects.of_kind(&entry.id, Kind::Blob)? })?,
                mode => {
                    let content = objects.of_kind(&entry.id, Kind::Blob)?;
                    see(Walked::File { path: &path, executable: mode & 0o111 != 0, content })?;
                }
            }
        }
    }
    Ok(())
}

/// Reads the name of a file: one that leads nowhere, and is not git's own folder.
fn named(name: &[u8]) -> Result<&str, GitError> {
    let text = std::str::from_utf8(name).ok();
    let sound = |text: &&str| {
        !text.is_empty()
            && !text.contains('/')
            && *text != "."
            && *text != ".."
            && !text.eq_ignore_ascii_case(".git")
    };
    text.filter(sound)
        .ok_or_else(|| GitError::Name { name: String::from_utf8_lossy(name).escape_debug().to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes the objects of a commit whose tree has such entries, by mode and name.
    fn objects(entries: &[(u32, &str, &[u8])]) -> (Objects, String) {
        let mut objects = Objects::default();
        let mut tree = Vec::new();
        for (mode, name, content) in entries {
            let id = objects.add(Object { kind: Kind::Blob, bytes: content.to_vec() }).unwrap();
            tree.extend([format!("{mode:o} {name}\0").as_bytes(), &id].concat());
        }
        let tree = objects.add(Object { kind: Kind::Tree, bytes: tree }).unwrap();
        let bytes = format!("tree {}\nauthor A\n\nmessage\n", hex(&tree)).into_bytes();
        let commit = objects.add(Object { kind: Kind::Commit, bytes }).unwrap();
        (objects, hex(&commit))
    }

    #[test]
    fn objects_have_gits_names() {
        // git hash-object of nothing, and of `hello\n`
        let id = |bytes: &[u8]| hex(&Object { kind: Kind::Blob, bytes: bytes.to_vec() }.id().unwrap());
        assert_eq!(id(b""), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
        assert_eq!(id(b"hello\n"), "ce013625030ba8dba906f756967f9e9ca394464a");
    }

    #[test]
    fn what_is_kept_is_read_back_and_walked() {
        let (all, commit) =
            objects(&[(0o100_644, "a", b"1"), (0o100_755, "b", b"2"), (0o120_000, "c", b"a")]);
        let kept = all.kept(&commit).unwrap();
        let read = Objects::read(&kept).unwrap();
        let mut seen = Vec::new();
        walk(&read, &commit, &mut |walked| {
            seen.push(match walked {
                Walked::Folder(path) => path.to_owned(),
                Walked::File { path, executable, content } => format!("{path} {executable} {content:?}"),
                Walked::Link { path, target } => format!("{path} {target:?}"),
            });
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, ["a false [49]", "b true [50]", "c [97]"]);
        // one byte of a file is another object, which the tree does not name
        let mut other = kept.clone();
        *other.last_mut().unwrap() ^= 1;
        let walked = walk(&Objects::read(&other).unwrap(), &commit, &mut |_| Ok(()));
        assert!(matches!(walked, Err(GitError::Lacking { .. })));
        assert!(Objects::read(&kept[..kept.len() - 1]).is_err());
    }

    #[test]
    fn names_that_lead_elsewhere_and_submodules_are_refused() {
        for name in ["..", ".", "a/b", ".git", ".GIT", ""] {
            let (all, commit) = objects(&[(0o100_644, name, b"1")]);
            let walked = walk(&all, &commit, &mut |_| Ok(()));
            assert!(matches!(walked, Err(GitError::Name { .. })), "{name}");
        }
        let (all, commit) = objects(&[(SUBMODULE, "sub", b"1")]);
        assert!(matches!(walk(&all, &commit, &mut |_| Ok(())), Err(GitError::Submodule { .. })));
    }
}
