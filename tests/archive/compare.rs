//! Two packed trees, path by path: every way in which they differ, in words.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{BufReader, Read as _},
    path::Path,
};

use sandbox_core::digest::Sha256;

/// Whether times count.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Times {
    Compared,
    Ignored,
}

/// What stands at a path.
#[derive(Clone, Default)]
struct Entry {
    /// Kind, mode, owner, size, target, numbers, attributes, digest, by name.
    facts: BTreeMap<&'static str, String>,
    mtime: u64,
    /// The content of what is no large file, to show what differs.
    text: Option<String>,
}

/// A tree that was packed.
pub struct Tree(BTreeMap<String, Entry>);

impl Tree {
    /// Reads a tar file.
    pub fn read(path: &Path) -> Self {
        let mut archive = tar::Archive::new(BufReader::new(File::open(path).expect("a packed tree")));
        let mut tree: BTreeMap<String, Entry> = BTreeMap::new();
        for entry in archive.entries().expect("a tar file") {
            let mut entry = entry.expect("an entry");
            let name = clean(&entry.path().expect("a path"));
            let target = entry.link_name().expect("a target").map(|target| target.into_owned());
            if entry.header().entry_type().is_hard_link() {
                // the same file under another name: all of it must be the same
                let first = tree.get(&clean(&target.expect("a target"))).expect("its first name").clone();
                tree.insert(name, first);
                continue;
            }
            let attributes = attributes(&mut entry);
            let header = entry.header().clone();
            let mut facts = BTreeMap::from([
                ("type", format!("{:?}", header.entry_type())),
                ("mode", format!("{:o}", header.mode().expect("a mode") & 0o7777)),
                ("owner", format!("{}:{}", header.uid().expect("a uid"), header.gid().expect("a gid"))),
                ("xattr", attributes),
            ]);
            let mut text = None;
            if header.entry_type().is_file() {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).expect("a file");
                facts.insert("size", bytes.len().to_string());
                facts.insert("content", Sha256::of(&bytes).to_string());
                text = String::from_utf8(bytes).ok().filter(|text| text.len() < 1 << 20);
            } else if header.entry_type().is_symlink() {
                facts.insert("target", target.expect("a target").display().to_string());
                // the mode of a link means nothing, and writers of tar files differ in it
                facts.remove("mode");
            } else if let (Ok(Some(major)), Ok(Some(minor))) = (header.device_major(), header.device_minor())
                && !header.entry_type().is_dir()
            {
                facts.insert("device", format!("{major}:{minor}"));
            }
            let mtime = header.mtime().expect("a time");
            tree.insert(name, Entry { facts, mtime, text });
        }
        Self(tree)
    }

    /// Lists how another tree differs: `KIND PATH`, and what that is in both.
    pub fn differences(&self, other: &Self, times: Times) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let paths: BTreeSet<_> = self.0.keys().chain(other.0.keys()).collect();
        for path in paths {
            let (Some(one), Some(two)) = (self.0.get(path), other.0.get(path)) else {
                let kind = if self.0.contains_key(path) { "first" } else { "second" };
                found.insert(format!("{kind} {path}"), String::new());
                continue;
            };
            let kinds: BTreeSet<_> = one.facts.keys().chain(two.facts.keys()).collect();
            for kind in kinds {
                let (first, second) = (one.facts.get(kind), two.facts.get(kind));
                // a difference of size is one of content too, and need not be said twice
                if first != second && *kind != "size" {
                    let shown = match (&one.text, &two.text) {
                        (Some(one), Some(two)) if *kind == "content" => lines(one, two),
                        _ => format!("{first:?} {second:?}"),
                    };
                    found.insert(format!("{kind} {path}"), shown);
                }
            }
            if times == Times::Compared && one.mtime != two.mtime {
                found.insert(format!("mtime {path}"), format!("{} {}", one.mtime, two.mtime));
            }
        }
        found
    }
}

fn clean(path: &Path) -> String {
    let name = path.to_str().expect("a UTF-8 path").trim_start_matches("./").trim_end_matches('/');
    if name.is_empty() { ".".to_owned() } else { name.to_owned() }
}

fn attributes(entry: &mut tar::Entry<'_, impl std::io::Read>) -> String {
    let mut found = BTreeMap::new();
    for extension in entry.pax_extensions().expect("extensions").into_iter().flatten() {
        let extension = extension.expect("an extension");
        if let Some(name) = extension.key().ok().and_then(|key| key.strip_prefix("SCHILY.xattr.")) {
            found.insert(name.to_owned(), extension.value_bytes().to_vec());
        }
    }
    if found.is_empty() { String::new() } else { format!("{found:?}") }
}

/// Shows the lines that one text has and the other has not, a few of them.
fn lines(one: &str, two: &str) -> String {
    let (first, second): (BTreeSet<_>, BTreeSet<_>) = (one.lines().collect(), two.lines().collect());
    let only = |sign: &str, a: &BTreeSet<&str>, b: &BTreeSet<&str>| -> Vec<String> {
        a.difference(b).take(5).map(|line| format!("{sign}{line}")).collect()
    };
    let shown = [only("-", &first, &second), only("+", &second, &first)].concat();
    if shown.is_empty() { "the same lines in another order".to_owned() } else { shown.join(" | ") }
}
