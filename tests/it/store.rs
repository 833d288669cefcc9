//! How packages come into the cache, and what does not.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use sandbox_core::{
    Class,
    archive::{Options, open},
    digest::Sha256,
    error::Cause as _,
    host::transport::{Http, HttpOptions},
    lock::{Lock, LockedPackage, LockedSource, Reason},
    report::Silent,
    store::{Checksum, Filled, Store, StoreError, Wanted, fill},
};
use tempfile::TempDir;

use crate::kit::{
    archive::Archive,
    cache, now,
    server::{Fault, Server},
};

fn transport() -> Http {
    Http::new(&HttpOptions { idle_timeout: Duration::from_secs(1), ..HttpOptions::default() }).unwrap()
}

/// Locks every package of the archive's index, as a resolver would that wants them all.
fn lock(archive: &Archive, server: &Server, mirrors: &[&str]) -> Lock {
    let cache = tempfile::tempdir().unwrap();
    let store = Store::open(cache.path()).unwrap();
    let sources = [archive.source(&[server.url()])];
    let opened = open(&sources, &Options::default(), &store, &transport(), now(), &Silent).unwrap();
    server.log();
    let text = String::from_utf8(opened.indexes[0].bytes.clone()).unwrap();
    let packages = text.split("\n\n").filter(|stanza| !stanza.trim().is_empty()).map(locked).collect();
    Lock {
        image: "trixie".to_owned(),
        architecture: "amd64".to_owned(),
        epoch: archive.date,
        sources: vec![LockedSource {
            id: "release".to_owned(),
            mirrors: mirrors.iter().map(|&mirror| mirror.to_owned()).collect(),
            suite: "trixie".to_owned(),
            components: vec!["main".to_owned()],
            date: archive.date,
            release: opened.releases[0].digest,
            signed_by: opened.releases[0].signer.clone(),
            snapshot: None,
        }],
        packages,
        ..Lock::default()
    }
}

fn locked(stanza: &str) -> LockedPackage {
    let get = |name: &str| {
        let line = stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_else(|| panic!("{name} in {stanza}")).to_owned()
    };
    LockedPackage {
        name: get("Package"),
        version: get("Version"),
        architecture: get("Architecture"),
        source: "release".to_owned(),
        path: get("Filename"),
        size: get("Size").parse().unwrap(),
        sha256: get("SHA256").parse().unwrap(),
        reason: Reason::Essential,
        depends: String::new(),
        provides: String::new(),
        layer: String::new(),
    }
}

struct Case {
    archive: Archive,
    server: Server,
    cache: TempDir,
}

impl Case {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Archive)) -> Self {
        let mut archive = Archive::new();
        archive.fill();
        change(&mut archive);
        archive.publish();
        let server = Server::new(archive.root());
        Self { archive, server, cache: tempfile::tempdir().unwrap() }
    }

    fn lock(&self) -> Lock {
        lock(&self.archive, &self.server, &[self.server.url()])
    }

    fn fill(&self, lock: &Lock) -> Result<Filled, StoreError> {
        fill(lock, &Store::open(self.cache.path()).unwrap(), &transport(), 4, &Silent)
    }

    fn cached(&self, package: &LockedPackage) -> PathBuf {
        let digits = package.sha256.to_string();
        self.cache.path().join("sha256").join(&digits[..2]).join(digits)
    }
}

fn named<'a>(lock: &'a Lock, name: &str) -> &'a LockedPackage {
    lock.packages.iter().find(|package| package.name == name).unwrap()
}

fn assert_filled(case: &Case, filled: &Filled) {
    assert_eq!(cache::sound(case.cache.path()).len(), 3);
    for (package, path) in filled.packages() {
        assert_eq!(fs::read(path).unwrap(), fs::read(case.archive.path(&package.path)).unwrap());
    }
}

#[test]
fn all_packages_come_and_a_second_time_none_does() {
    let case = Case::new();
    let lock = case.lock();
    let filled = case.fill(&lock).unwrap();
    assert_filled(&case, &filled);
    assert_eq!(filled.fetched(), lock.packages.iter().map(|package| package.size).sum::<u64>());
    assert_eq!(case.server.log().len(), 3);
    let again = case.fill(&lock).unwrap();
    assert_filled(&case, &again);
    assert_eq!((again.fetched(), case.server.log().len()), (0, 0), "the second run needs no network");
}

#[test]
fn a_wrong_digest_in_the_index_refuses_the_package() {
    let case = Case::with(|archive| {
        archive.edit_packages = Some(Box::new(|text| {
            let at = text.rfind("SHA256: ").unwrap() + 8;
            let mut text = text;
            let other = if &text[at..=at] == "0" { "1" } else { "0" };
            text.replace_range(at..=at, other);
            text
        }));
    });
    let problem = case.fill(&case.lock()).unwrap_err();
    assert!(matches!(problem, StoreError::Digest { .. }));
    assert_eq!(problem.class(), Class::Untrusted);
    cache::sound(case.cache.path());
}

#[test]
fn a_wrong_size_in_the_index_refuses_the_package() {
    for delta in [-1_i64, 1] {
        let case = Case::new();
        let mut lock = case.lock();
        lock.packages[2].size = lock.packages[2].size.checked_add_signed(delta).unwrap();
        let problem = case.fill(&lock).unwrap_err();
        assert!(matches!(problem, StoreError::Size { .. }), "{problem:?}");
        assert_eq!(problem.class(), Class::Untrusted);
        cache::sound(case.cache.path());
    }
}

#[test]
fn a_transfer_that_breaks_off_is_resumed_where_it_was() {
    for fault in [Fault::Cut(100_000), Fault::Reset(100_000), Fault::Stall(100_000, 2500)] {
        let case = Case::new();
        let lock = case.lock();
        case.server.fault("/big_", fault, 1);
        let filled = case.fill(&lock).unwrap();
        assert_filled(&case, &filled);
        let asked: Vec<_> =
            case.server.log().into_iter().filter(|request| request.path.contains("/big_")).collect();
        assert_eq!(asked.len(), 2, "{fault:?}");
        assert!(asked[1].offset.is_some_and(|offset| offset > 0 && offset <= 100_000), "{fault:?} {asked:?}");
    }
}

#[test]
fn what_an_earlier_process_left_is_taken_up_if_it_fits() {
    for honest in [true, false] {
        let case = Case::new();
        let lock = case.lock();
        let big = named(&lock, "big");
        let mut start = fs::read(case.archive.path(&big.path)).unwrap();
        start.truncate(200_000);
        if !honest {
            start[0] ^= 1;
        }
        Store::open(case.cache.path()).unwrap();
        fs::write(case.cache.path().join("partial").join(format!("sha256-{}", big.sha256)), start).unwrap();
        let filled = case.fill(&lock).unwrap();
        assert_filled(&case, &filled);
        let offsets: Vec<_> = case
            .server
            .log()
            .into_iter()
            .filter(|request| request.path.contains("/big_"))
            .map(|request| request.offset)
            .collect();
        assert_eq!(offsets, if honest { vec![Some(200_000)] } else { vec![Some(200_000), None] });
    }
}

#[test]
fn a_server_without_ranges_gives_the_whole_again() {
    let case = Case::new();
    let lock = case.lock();
    case.server.fault("/big_", Fault::Cut(100_000), 1);
    case.server.fault("/big_", Fault::NoRange, 9);
    let filled = case.fill(&lock).unwrap();
    assert_filled(&case, &filled);
    assert_eq!(case.server.log().iter().filter(|request| request.path.contains("/big_")).count(), 2);
}

#[test]
fn a_package_that_is_short_on_the_mirror_is_refused() {
    let case = Case::new();
    let lock = case.lock();
    case.archive.tamper(&case.archive.pool("big"), |mut bytes| {
        bytes.truncate(1000);
        bytes
    });
    let problem = case.fill(&lock).unwrap_err();
    assert!(matches!(problem, StoreError::Size { found: 1000, .. }), "{problem:?}");
    assert_eq!(problem.class(), Class::Untrusted);
    cache::sound(case.cache.path());
}

#[test]
fn a_transfer_that_always_breaks_off_is_given_up() {
    let case = Case::new();
    let lock = case.lock();
    case.server.fault("/big_", Fault::Cut(0), 99);
    let problem = case.fill(&lock).unwrap_err();
    assert_eq!(problem.class(), Class::Unreachable);
    cache::sound(case.cache.path());
    assert!(!case.cached(named(&lock, "big")).exists());
}

#[test]
fn wrong_bytes_once_are_fetched_again_and_always_are_refused() {
    let case = Case::new();
    let lock = case.lock();
    case.server.fault("/hello_", Fault::Wrong, 1);
    let filled = case.fill(&lock).unwrap();
    assert_filled(&case, &filled);

    let case = Case::new();
    let lock = case.lock();
    case.server.fault("/hello_", Fault::Wrong, 99);
    let problem = case.fill(&lock).unwrap_err();
    assert!(matches!(problem, StoreError::Digest { .. }));
    assert_eq!(problem.class(), Class::Untrusted);
    cache::sound(case.cache.path());
}

#[test]
fn a_damaged_entry_of_the_cache_is_healed() {
    let case = Case::new();
    let lock = case.lock();
    case.fill(&lock).unwrap();
    let (big, hello, base) = (named(&lock, "big"), named(&lock, "hello"), named(&lock, "base-files"));
    let mut bytes = fs::read(case.cached(big)).unwrap();
    bytes[5] ^= 1;
    fs::write(case.cached(big), bytes).unwrap();
    fs::write(case.cached(hello), b"short").unwrap();
    fs::remove_file(case.cached(base)).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", case.cached(base)).unwrap();
    let filled = case.fill(&lock).unwrap();
    assert_filled(&case, &filled);
    assert!(!case.cached(base).is_symlink());
}

#[test]
fn mirrors_are_tried_in_order_and_the_gravest_problem_is_told() {
    let case = Case::new();
    let other = Server::new(case.archive.root());
    let lock = lock(&case.archive, &case.server, &["http://127.0.0.1:9", other.url(), case.server.url()]);
    other.fault("/hello_", Fault::Status(404), 99);
    other.fault("/big_", Fault::Wrong, 99);
    let filled = case.fill(&lock).unwrap();
    assert_filled(&case, &filled);

    let case = Case { cache: tempfile::tempdir().unwrap(), ..case };
    case.server.fault("/big_", Fault::Status(404), 99);
    let problem = case.fill(&lock).unwrap_err();
    assert_eq!(problem.class(), Class::Untrusted, "{problem:?}");
    cache::sound(case.cache.path());
}

#[test]
fn all_packages_that_are_gone_are_told_at_once() {
    let case = Case::new();
    let lock = case.lock();
    for name in ["hello", "big"] {
        fs::remove_file(case.archive.path(&case.archive.pool(name))).unwrap();
    }
    let problem = case.fill(&lock).unwrap_err();
    assert!(problem.is_missing());
    assert_eq!(problem.class(), Class::Unreachable);
    let StoreError::Gone { gone, .. } = &problem else { panic!("{problem:?}") };
    assert_eq!(gone, &["hello:amd64=2.10-3", "big:amd64=1:1.0"]);
    assert_eq!(cache::sound(case.cache.path()).len(), 1, "the third is there for the next time");
}

#[test]
fn where_nobody_answers_the_cache_alone_is_asked_for_the_rest() {
    let case = Case::new();
    let mut lock = case.lock();
    case.fill(&lock).unwrap();
    fs::remove_file(case.cached(named(&lock, "big"))).unwrap();
    lock.sources[0].mirrors = vec!["http://127.0.0.1:9".to_owned()];
    let problem = case.fill(&lock).unwrap_err();
    let StoreError::Gone { gone, source } = &problem else { panic!("{problem:?}") };
    assert_eq!(gone, &["big:amd64=1:1.0"]);
    assert!(matches!(**source, StoreError::Transport { .. }), "{source:?}");
    assert_eq!(problem.class(), Class::Unreachable);
}

#[test]
fn a_silent_mirror_is_waited_for_once() {
    let case = Case::new();
    let silent = Server::new(case.archive.root());
    let lock = lock(&case.archive, &case.server, &[silent.url(), case.server.url()]);
    silent.fault(".deb", Fault::Stall(0, 3000), u32::MAX);
    let store = Store::open(case.cache.path()).unwrap();
    let filled = fill(&lock, &store, &transport(), 1, &Silent).unwrap();
    assert_filled(&case, &filled);
    assert_eq!(silent.log().len(), 1, "the others came from the mirror that answers");
}

#[test]
fn two_that_want_the_same_fetch_it_once() {
    let case = Case::new();
    let lock = case.lock();
    case.server.fault("/big_", Fault::Stall(1000, 200), 1);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(case.fill(&lock).unwrap().packages().len(), 3));
        }
    });
    let asked = case.server.log();
    assert_eq!(asked.len(), 3, "{asked:?}");
    cache::sound(case.cache.path());
}

#[test]
fn an_unlisted_size_is_limited() {
    let case = Case::new();
    let store = Store::open(case.cache.path()).unwrap();
    let path = case.archive.pool("big");
    let urls = [format!("{}/{path}", case.server.url())];
    let sha256 = Sha256::of(&fs::read(case.archive.path(&path)).unwrap());
    let wanted = Wanted { urls: &urls, checksum: Checksum::Sha256(sha256), size: None, limit: 1000 };
    let problem = store.fetch(&wanted, &transport(), &|_| {}).unwrap_err();
    assert_eq!(problem.class(), Class::Untrusted);
    let entry = store.fetch(&Wanted { limit: 1 << 20, ..wanted }, &transport(), &|_| {}).unwrap();
    assert!(entry.fetched() > 300_000);
    fs::remove_file(entry.path()).unwrap();
    fs::create_dir_all(entry.path().join("a folder in its place")).unwrap();
    let entry = store.fetch(&Wanted { limit: 1 << 20, ..wanted }, &transport(), &|_| {}).unwrap();
    assert!(entry.path().is_file());
    cache::sound(case.cache.path());
}

#[test]
fn npm_integrity_is_kept_apart() {
    let case = Case::new();
    let store = Store::open(case.cache.path()).unwrap();
    case.archive.write("abc", b"abc");
    let urls = [format!("{}/abc", case.server.url())];
    let integrity =
        "sha512-3a81oZNherrMQXNJriBBMRLm+k6JqX6iCp7u5ktV05ohkpkqJ0/BqDa6PCOj/uu9RU1EI2Q86A4qmslPpUyknw==";
    let checksum = Checksum::from_integrity(integrity).unwrap();
    let wanted = Wanted { urls: &urls, checksum, size: None, limit: 100 };
    let entry = store.fetch(&wanted, &transport(), &|_| {}).unwrap();
    assert!(entry.path().starts_with(case.cache.path().join("sha512")));
    case.archive.write("abc", b"abd");
    assert_eq!(store.fetch(&wanted, &transport(), &|_| {}).unwrap().fetched(), 0);
    fs::remove_file(entry.path()).unwrap();
    let problem = store.fetch(&wanted, &transport(), &|_| {}).unwrap_err();
    assert_eq!(problem.class(), Class::Untrusted);
}

#[test]
fn without_an_address_only_the_cache_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let wanted = Wanted { urls: &[], checksum: Checksum::Sha256(Sha256::of(b"")), size: Some(0), limit: 0 };
    let problem = store.fetch(&wanted, &transport(), &|_| {}).unwrap_err();
    assert_eq!(problem.class(), Class::Unavailable);
    assert!(Path::new(store.root()).join("partial").read_dir().unwrap().next().is_none());
}
