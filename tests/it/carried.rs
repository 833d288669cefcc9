//! A folder in which machines are made of files, and what can be seen of their trees.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;

use crate::kit::{
    compress::Compression,
    process::{self, Output},
    tar::{Entry, tar},
};

/// How long a verb may take on a busy machine.
const SOON: Duration = Duration::from_secs(120);

/// The folder, with something beside the machines that must stay as it is.
pub struct Place {
    folder: TempDir,
}

impl Place {
    pub fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(place.path("outside")).unwrap();
        fs::write(place.path("outside/canary"), "alive").unwrap();
        place
    }

    /// Gives a path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Gives the same as a word.
    pub fn word(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Gives the tree of a machine.
    pub fn tree(&self, name: &str) -> PathBuf {
        self.path(&format!("state/machines/{name}/rootfs"))
    }

    /// Runs the program on bytes as its stdin.
    #[track_caller]
    pub fn on(&self, input: Vec<u8>, words: &[&str]) -> Output {
        let (state, cache) = (self.word("state"), self.word("cache"));
        let fixed = [env!("CARGO_BIN_EXE_sandbox"), "--state-dir", &state, "--cache-dir", &cache];
        process::run(&[&fixed[..], words].concat(), input, SOON)
    }

    /// Runs the program.
    #[track_caller]
    pub fn run(&self, words: &[&str]) -> Output {
        self.on(Vec::new(), words)
    }

    /// Imports a file.
    #[track_caller]
    pub fn import(&self, source: &str, name: &str, more: &[&str]) -> Output {
        let fixed = ["import", source, name, "--backend", "direct", "--no-start"];
        self.run(&[&fixed[..], more].concat())
    }

    /// Imports a tar file of entries.
    #[track_caller]
    pub fn import_entries(&self, entries: &[Entry], name: &str, more: &[&str]) -> Output {
        let file = self.word("in.tar.zst");
        fs::write(&file, Compression::Zst.pack(&tar(entries))).unwrap();
        self.import(&file, name, more)
    }

    /// Sees that nothing is left of a refused import, and nothing was done elsewhere.
    #[track_caller]
    pub fn has_no_machine(&self, what: &str) {
        let machines = fs::read_dir(self.path("state/machines")).into_iter().flatten();
        let left: Vec<_> = machines.map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.is_empty(), "{what}: {left:?}");
        let volumes = fs::read_dir(self.path("state/volumes")).into_iter().flatten().count();
        assert_eq!(volumes, 0, "{what}");
        assert_eq!(fs::read_to_string(self.path("outside/canary")).unwrap(), "alive", "{what}");
        assert_eq!(fs::read_dir(self.path("outside")).unwrap().count(), 1, "{what}");
    }
}

/// A program that is none, for this processor: enough to be taken for an init.
pub fn init() -> Entry {
    let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0".to_vec();
    bytes.extend(if cfg!(target_arch = "aarch64") { [183, 0] } else { [62, 0] });
    Entry::file("./sbin/init", 0o755, &bytes)
}

/// Tells of everything in a tree what an export must not change.
pub fn facts(tree: &Path) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    below(tree, tree, &mut facts);
    facts
}

fn below(top: &Path, folder: &Path, facts: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let found = fs::symlink_metadata(&path).unwrap();
        let kind = found.file_type();
        let content = if kind.is_file() {
            let bytes = fs::read(&path).unwrap();
            format!(
                "{} {:x}",
                bytes.len(),
                bytes.iter().fold(0_u64, |sum, byte| { sum.wrapping_mul(31).wrapping_add(u64::from(*byte)) })
            )
        } else if kind.is_symlink() {
            fs::read_link(&path).unwrap().display().to_string()
        } else if kind.is_char_device() {
            format!("device {}", found.rdev())
        } else {
            format!("folder {} pipe {}", kind.is_dir(), kind.is_fifo())
        };
        let links = if kind.is_dir() { 0 } else { found.nlink() };
        // what is made in a folder changes its time
        let time = if kind.is_dir() { 0 } else { found.mtime() };
        let name = path.strip_prefix(top).unwrap().display().to_string();
        let fact = format!(
            "{:o} {}:{} {time} {links} {content} {}",
            found.mode(),
            found.uid(),
            found.gid(),
            attributes(&path)
        );
        facts.insert(name, fact);
        if kind.is_dir() {
            below(top, &path, facts);
        }
    }
}

fn attributes(path: &Path) -> String {
    let mut names = vec![0; 4096];
    let length = rustix::fs::llistxattr(path, names.as_mut_slice()).unwrap_or(0);
    let mut all: Vec<String> = names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let name = std::str::from_utf8(name).unwrap();
            let mut value = vec![0; 4096];
            let length = rustix::fs::lgetxattr(path, name, value.as_mut_slice()).unwrap();
            format!("{name}={:?}", &value[..length])
        })
        .collect();
    all.sort();
    all.join(",")
}
