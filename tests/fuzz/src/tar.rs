//! Data archives: whatever one says, nothing is made outside of the tree.

use std::{
    fs,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use sandbox_core::{
    deb::strict::Strict,
    digest::Sha256,
    host::{
        root::remove_tree,
        transport::{Get, Got, Transport, TransportError},
    },
    lock::{Lock, LockedPackage, Reason},
    report::Silent,
    store::{self, Store},
    unpack,
};

use crate::{ar::ar, memory::bounded};

const CONTROL: &[u8] = b"Package: a\nVersion: 1\nArchitecture: amd64\nMaintainer: x\nDescription: x\n";

/// Takes the bytes as a data archive: reads it, and unpacks it as a package's.
pub fn check(data: &[u8]) {
    bounded(4 * data.len() + (4 << 20), || heads(data));
    let folder = Folder::new();
    // what is refused is as good as what is taken: the canary is what counts
    let _ = bounded(8 * data.len() + (8 << 20), || folder.unpack(data));
    folder.is_sound();
}

/// What passes has no entry that says more than its head.
fn heads(data: &[u8]) {
    let mut archive = ::tar::Archive::new(Strict::new(data));
    let Ok(entries) = archive.entries() else { return };
    for mut entry in entries.map_while(Result::ok) {
        assert!(!entry.header().entry_type().is_gnu_sparse());
        assert!(!entry.header().entry_type().is_pax_global_extensions());
        assert_eq!(entry.size(), entry.header().entry_size().unwrap());
        assert!(entry.path_bytes().len() <= 64 << 10);
        let most = entry.size();
        assert!(
            io::copy(&mut entry.by_ref().take(most + 1), &mut io::sink()).is_ok_and(|n| n <= most)
                || most > 0
        );
    }
}

/// A folder with a tree, a cache, and something beside them that must stay as it is.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let folder = Self(made.unwrap());
        fs::create_dir(folder.path("tree")).unwrap();
        fs::create_dir(folder.path("outside")).unwrap();
        fs::write(folder.path("outside/canary"), "alive").unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn unpack(&self, data: &[u8]) -> Option<()> {
        let file = ar(&[("debian-binary", b"2.0\n"), ("control.tar", &control()), ("data.tar", data)]);
        let sha256 = Sha256::of(&file);
        let store = Store::open(&self.path("cache")).ok()?;
        let digits = sha256.to_string();
        let shelf = self.path("cache/sha256").join(&digits[..2]);
        fs::create_dir(&shelf).unwrap();
        fs::write(shelf.join(&digits), &file).unwrap();
        let lock = lock(sha256, file.len());
        let filled = store::fill(&lock, &store, &Nowhere, 1, &Silent).unwrap();
        let options = unpack::Options { epoch: 1_700_000_000 };
        unpack::unpack(&filled, &self.path("tree"), &options, &Silent).ok().map(|_| ())
    }

    fn is_sound(&self) {
        let names = |path: PathBuf| {
            let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|one| one.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(self.path("")), ["cache", "outside", "tree"]);
        assert_eq!(names(self.path("outside")), ["canary"]);
        assert_eq!(fs::read(self.path("outside/canary")).unwrap(), b"alive");
        assert_eq!(fs::metadata(self.path("outside/canary")).unwrap().nlink(), 1);
        remove_tree(&self.path("tree")).unwrap();
    }
}

fn control() -> Vec<u8> {
    let mut header = ::tar::Header::new_gnu();
    header.set_size(CONTROL.len() as u64);
    header.set_mode(0o644);
    let mut builder = ::tar::Builder::new(Vec::new());
    builder.append_data(&mut header, "control", CONTROL).unwrap();
    builder.into_inner().unwrap()
}

fn lock(sha256: Sha256, size: usize) -> Lock {
    let package = LockedPackage {
        name: "a".to_owned(),
        version: "1".to_owned(),
        architecture: "amd64".to_owned(),
        source: "release".to_owned(),
        path: "pool/a.deb".to_owned(),
        size: size as u64,
        sha256,
        reason: Reason::Essential,
        depends: String::new(),
        provides: String::new(),
        layer: String::new(),
    };
    Lock {
        image: "x".to_owned(),
        architecture: "amd64".to_owned(),
        epoch: 1_700_000_000,
        packages: vec![package],
        ..Lock::default()
    }
}

/// Nothing is fetched: the package is in the cache.
struct Nowhere;

impl Transport for Nowhere {
    fn get(&self, request: &Get<'_>) -> Result<Got, TransportError> {
        Err(TransportError::Missing { url: request.url.to_owned() })
    }
}
