//! Which archives are opened, and what is left in the cache by those that are not.

use std::{error::Error as _, path::Path, time::Duration};

use sandbox_core::{
    Class,
    archive::{Archive as Opened, ArchiveError, Options, Source, open},
    error::Cause as _,
    host::transport::{Http, HttpOptions},
    report::Silent,
    store::Store,
};
use tempfile::TempDir;

use crate::kit::{
    archive::{Archive, Signing},
    cache,
    compress::Compression,
    copy,
    deb::Deb,
    key::Key,
    now,
    server::{Fault, Server},
};

struct User {
    cache: TempDir,
}

impl User {
    fn new() -> Self {
        Self { cache: tempfile::tempdir().unwrap() }
    }

    fn cache(&self) -> &Path {
        self.cache.path()
    }

    fn open_with(&self, options: &Options, sources: &[Source]) -> Result<Opened, ArchiveError> {
        let quick = HttpOptions { idle_timeout: Duration::from_secs(1), ..HttpOptions::default() };
        let store = Store::open(self.cache()).unwrap();
        open(sources, options, &store, &Http::new(&quick).unwrap(), now(), &Silent)
    }

    fn open(&self, source: Source) -> Result<Opened, ArchiveError> {
        self.open_with(&Options::default(), &[source])
    }
}

/// Opens an archive that must be refused as untrusted, and looks at what is left.
fn refused(archive: &Archive) -> String {
    let (server, user) = (Server::new(archive.root()), User::new());
    let problem = user.open(archive.source(&[server.url()])).map(|_| ()).unwrap_err();
    assert_eq!(problem.class(), Class::Untrusted, "{problem:?}");
    cache::sound(user.cache());
    assert_eq!(std::fs::read_dir(user.cache().join("release")).unwrap().count(), kept(&problem));
    let source = problem.source().map(ToString::to_string).unwrap_or_default();
    format!("{problem}: {source}")
}

/// A Release file that was good is kept, though an index was not.
fn kept(problem: &ArchiveError) -> usize {
    let after = matches!(
        problem,
        ArchiveError::Index { .. } | ArchiveError::Content { .. } | ArchiveError::Decode { .. }
    );
    usize::from(after)
}

#[test]
fn a_good_archive_is_opened_by_hash() {
    let archive = Archive::small();
    let (server, user) = (Server::new(archive.root()), User::new());
    let opened = user.open(archive.source(&[server.url()])).unwrap();
    let text = std::str::from_utf8(&opened.indexes[0].bytes).unwrap();
    assert!(
        text.contains("Package: hello\n")
            && text.contains("Filename: pool/main/h/hello/hello_2.10-3_amd64.deb")
    );
    assert_eq!(opened.releases[0].signer, archive.keys[0].fingerprint());
    assert_eq!(opened.releases[0].date, archive.date);
    let log = server.log();
    assert_eq!(log.len(), 2, "{log:?}");
    assert!(log[1].path.contains("/by-hash/SHA256/"));
    assert_eq!(cache::sound(user.cache()).len(), 2, "the index as it came, and decoded");
}

#[test]
fn a_decoded_index_is_kept_and_checked_when_it_is_used_again() {
    let archive = Archive::small();
    let (server, user) = (Server::new(archive.root()), User::new());
    let first = user.open(archive.source(&[server.url()])).unwrap();
    let listed = |name: &str| {
        let bytes = std::fs::read(archive.path(&archive.dist(name))).unwrap();
        let digits = sandbox_core::digest::Sha256::of(&bytes).to_string();
        user.cache().join("sha256").join(&digits[..2]).join(digits)
    };
    let (plain, packed) = (listed("main/binary-amd64/Packages"), listed("main/binary-amd64/Packages.xz"));
    std::fs::remove_file(&packed).unwrap();
    server.log();
    let again = user.open(archive.source(&[server.url()])).unwrap();
    assert_eq!(again.indexes[0].bytes, first.indexes[0].bytes);
    assert_eq!(server.log().len(), 1, "only the Release file");
    let mut bytes = std::fs::read(&plain).unwrap();
    bytes[0] ^= 1;
    std::fs::write(&plain, bytes).unwrap();
    let healed = user.open(archive.source(&[server.url()])).unwrap();
    assert_eq!(healed.indexes[0].bytes, first.indexes[0].bytes);
    assert_eq!(cache::sound(user.cache()).len(), 2);
}

#[test]
fn every_compression_of_an_index_is_read() {
    for format in [Compression::None, Compression::Gz, Compression::Xz, Compression::Zst] {
        let mut archive = Archive::new();
        archive.fill();
        archive.formats = vec![format];
        archive.publish();
        let server = Server::new(archive.root());
        let opened = User::new().open(archive.source(&[server.url()])).unwrap();
        assert!(opened.indexes[0].bytes.starts_with(b"Package: base-files\n"), "{format:?}");
    }
}

#[test]
fn a_detached_signature_serves_where_there_is_no_inrelease() {
    let mut archive = Archive::new();
    archive.fill();
    archive.signing = Signing::Detached;
    archive.publish();
    let (server, user) = (Server::new(archive.root()), User::new());
    user.open(archive.source(&[server.url()])).unwrap();
    archive.tamper(&archive.dist("Release"), |text| [text, b" ".to_vec()].concat());
    let problem = user.open(archive.source(&[server.url()])).unwrap_err();
    assert_eq!(problem.class(), Class::Untrusted);
}

#[test]
fn the_index_is_taken_by_name_where_it_is_not_there_by_hash() {
    let archive = Archive::small();
    let (server, user) = (Server::new(archive.root()), User::new());
    server.fault("/by-hash/", Fault::Status(404), 9);
    user.open(archive.source(&[server.url()])).unwrap();
    assert!(server.log().last().unwrap().path.ends_with("/Packages.xz"));
}

#[test]
fn another_compression_is_taken_where_a_listed_one_is_missing() {
    let archive = Archive::small();
    let (server, user) = (Server::new(archive.root()), User::new());
    let xz = sandbox_core::digest::Sha256::of(
        &std::fs::read(archive.path(&archive.dist("main/binary-amd64/Packages.xz"))).unwrap(),
    );
    server.fault(&xz.to_string(), Fault::Status(404), 9);
    server.fault("Packages.xz", Fault::Status(404), 9);
    user.open(archive.source(&[server.url()])).unwrap();
    cache::sound(user.cache());
}

#[test]
fn a_tampered_inrelease_is_refused() {
    let archive = Archive::small();
    archive.tamper(&archive.dist("InRelease"), |text| {
        String::from_utf8(text).unwrap().replace("Version: 13.7", "Version: 13.8").into_bytes()
    });
    assert!(refused(&archive).contains("does not fit the text"));
}

#[test]
fn a_stripped_signature_is_refused() {
    let mut archive = Archive::new();
    archive.fill();
    archive.signing = Signing::Nothing;
    archive.publish();
    assert!(refused(&archive).contains("signature"));
}

#[test]
fn a_wrong_key_is_refused() {
    let archive = Archive::small();
    let (server, user) = (Server::new(archive.root()), User::new());
    let mut other = Archive::new();
    other.keys = vec![Key::new()];
    let source = other.source(&[server.url()]);
    let problem = user.open(source).unwrap_err();
    assert_eq!(problem.class(), Class::Untrusted);
    assert!(matches!(problem, ArchiveError::Signature { .. }));
    assert!(cache::sound(user.cache()).is_empty());
}

#[test]
fn an_expired_release_is_refused_unless_asked_for() {
    let mut archive = Archive::new();
    archive.fill();
    archive.valid_until = Some(now() - 60);
    archive.publish();
    assert!(refused(&archive).contains("expired"));
    let server = Server::new(archive.root());
    let options = Options { ignore_valid_until: true, ..Options::default() };
    User::new().open_with(&options, &[archive.source(&[server.url()])]).unwrap();
}

#[test]
fn a_release_from_the_future_is_refused() {
    let mut archive = Archive::new();
    archive.fill();
    archive.date = now() + 7200;
    archive.publish();
    assert!(refused(&archive).contains("future"));
}

#[test]
fn another_suite_under_this_name_is_refused() {
    let mut archive = Archive::new();
    archive.fill();
    archive.edit_release = Some(Box::new(|text| text.replace("Codename: trixie", "Codename: sid")));
    archive.publish();
    assert!(refused(&archive).contains("`sid` where `trixie` is wanted"));
}

#[test]
fn without_an_expectation_the_name_itself_must_fit() {
    let archive = Archive::small();
    let server = Server::new(archive.root());
    let unnamed = |suite: &str| Source {
        expect_codename: None,
        expect_suite: suite.strip_prefix("expect-").map(str::to_owned),
        ..archive.source(&[server.url()])
    };
    User::new().open(unnamed("")).unwrap();
    User::new().open(unnamed("expect-stable")).unwrap();
    let problem = User::new().open(unnamed("expect-testing")).unwrap_err();
    assert!(matches!(problem, ArchiveError::Identity { field: "Suite", .. }));
}

#[test]
fn an_index_that_is_not_the_listed_one_is_refused() {
    for fault in [Fault::Wrong, Fault::Short(20), Fault::Long(20)] {
        let archive = Archive::small();
        let (server, user) = (Server::new(archive.root()), User::new());
        server.fault("Packages", Fault::Status(404), 0);
        server.fault("by-hash", fault, 9);
        server.fault("Packages", fault, 9);
        let problem = user.open(archive.source(&[server.url()])).unwrap_err();
        assert_eq!(problem.class(), Class::Untrusted, "{fault:?}: {problem:?}");
        assert!(cache::sound(user.cache()).is_empty());
    }
}

#[test]
fn an_index_that_decompresses_to_something_else_is_refused() {
    let archive = Archive::small();
    // The archive signs a Release file whose plain index is another than the one that was compressed.
    let mut lying = Archive::new();
    lying.keys.clone_from(&archive.keys);
    lying.fill();
    lying.edit_release = Some(Box::new(|text| {
        let plain = text.lines().find(|line| line.ends_with("/Packages")).unwrap().to_owned();
        let mut changed = plain.clone();
        changed.replace_range(1..9, "00000000");
        text.replace(&plain, &changed)
    }));
    lying.publish();
    assert!(refused(&lying).contains("decompresses"));
}

#[test]
fn a_signed_release_that_cannot_be_read_is_refused() {
    let mut archive = Archive::new();
    archive.fill();
    archive.edit_release = Some(Box::new(|text| text.replace("SHA256:", "SHA1:")));
    archive.publish();
    assert!(refused(&archive).contains("SHA256"));
}

#[test]
fn a_second_mirror_serves_where_the_first_is_away_or_lies() {
    let archive = Archive::small();
    let (good, bad) = (Server::new(archive.root()), Server::new(archive.root()));
    bad.fault("InRelease", Fault::Wrong, 9);
    User::new().open(archive.source(&[bad.url(), good.url()])).unwrap();
    assert_eq!(bad.log().len(), 1, "a mirror that lied is not asked for the index");
    User::new().open(archive.source(&["http://127.0.0.1:9", good.url()])).unwrap();
    bad.heal();
    bad.fault("Packages", Fault::Status(404), 9);
    bad.fault("by-hash", Fault::Status(404), 9);
    let user = User::new();
    user.open(archive.source(&[bad.url(), good.url()])).unwrap();
    cache::sound(user.cache());
}

#[test]
fn passing_faults_are_waited_out() {
    for fault in [Fault::Status(503), Fault::Cut(100), Fault::Reset(100), Fault::Stall(100, 2500)] {
        let archive = Archive::small();
        let (server, user) = (Server::new(archive.root()), User::new());
        server.fault("InRelease", fault, 1);
        server.fault("by-hash", fault, 1);
        user.open(archive.source(&[server.url()])).unwrap_or_else(|problem| panic!("{fault:?}: {problem:?}"));
        assert_eq!(cache::sound(user.cache()).len(), 2);
    }
}

#[test]
fn what_cannot_be_reached_is_not_called_untrusted() {
    let archive = Archive::small();
    let problem = User::new().open(archive.source(&["http://127.0.0.1:9"])).unwrap_err();
    assert_eq!(problem.class(), Class::Unreachable);
    let server = Server::new(archive.root());
    server.fault("InRelease", Fault::Status(404), 9);
    let problem = User::new().open(archive.source(&[server.url()])).unwrap_err();
    assert_eq!(problem.class(), Class::Unavailable);
}

#[test]
fn offline_the_kept_release_is_verified_anew() {
    let archive = Archive::small();
    let user = User::new();
    let offline = Options { offline: true, ..Options::default() };
    let server = Server::new(archive.root());
    let source = archive.source(&[server.url()]);
    let problem = user.open_with(&offline, std::slice::from_ref(&source)).unwrap_err();
    assert!(matches!(problem, ArchiveError::NotKept { .. }));
    user.open(source.clone()).unwrap();
    server.log();
    let opened = user.open_with(&offline, std::slice::from_ref(&source)).unwrap();
    assert!(opened.releases[0].kept);
    assert_eq!(server.log(), [], "offline asks nobody");
    let folder = std::fs::read_dir(user.cache().join("release")).unwrap().next().unwrap().unwrap().path();
    let path = folder.join("InRelease");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("13.7", "13.8")).unwrap();
    let problem = user.open_with(&offline, &[source]).unwrap_err();
    assert_eq!(problem.class(), Class::Untrusted);
}

/// An archive of two dates with the same keys: `new`, and `old` as it was before.
struct Dated {
    archive: Archive,
    old: TempDir,
}

impl Dated {
    fn new() -> Self {
        let mut archive = Archive::small();
        let old = tempfile::tempdir().unwrap();
        archive.date = now() - 7200;
        archive.publish();
        copy(archive.root(), old.path());
        archive.date = now() - 3600;
        archive.add(&Deb::new("later", "1"));
        archive.publish();
        Self { archive, old }
    }
}

#[test]
fn a_mirror_that_goes_back_in_time_is_refused_unless_asked_for() {
    let Dated { archive, old } = Dated::new();
    let (fresh, stale) = (Server::new(archive.root()), Server::new(old.path()));
    let user = User::new();
    user.open(archive.source(&[stale.url()])).unwrap();
    user.open(archive.source(&[fresh.url()])).unwrap();
    // Under whichever mirror's name: what was seen is of the archive.
    for mirrors in [&[stale.url()][..], &[stale.url(), stale.url()], &["http://127.0.0.1:9", stale.url()]] {
        let problem = user.open(archive.source(mirrors)).unwrap_err();
        assert!(matches!(problem, ArchiveError::Older { .. }), "{problem:?}");
        assert_eq!(problem.class(), Class::Untrusted);
        assert!(format!("{:?}", problem.hints()).contains("--allow-older-release"));
    }
    let opened = user.open(archive.source(&[stale.url(), fresh.url()])).unwrap();
    assert_eq!(opened.releases[0].date, archive.date, "the next mirror is up to date");
    let asked = Options { allow_older_release: true, ..Options::default() };
    let opened = user.open_with(&asked, &[archive.source(&[stale.url()])]).unwrap();
    assert!(opened.releases[0].date < archive.date);
    // And the record of the newer one has survived that.
    assert!(user.open(archive.source(&[stale.url()])).is_err());
}

#[test]
fn the_record_of_what_was_seen_outlives_its_date_and_is_itself_verified() {
    let mut archive = Archive::small();
    let (server, user) = (Server::new(archive.root()), User::new());
    let source = archive.source(&[server.url()]);
    let publish = |archive: &mut Archive, signing, date, valid_until| {
        (archive.signing, archive.date, archive.valid_until) = (signing, date, valid_until);
        for name in ["InRelease", "Release", "Release.gpg"] {
            drop(std::fs::remove_file(archive.path(&archive.dist(name))));
        }
        archive.publish();
    };
    let lax = Options { ignore_valid_until: true, ..Options::default() };
    // Seen while it was expired already, in two files; then the same in one file and older.
    publish(&mut archive, Signing::Detached, now() - 7200, Some(now() - 60));
    user.open_with(&lax, std::slice::from_ref(&source)).unwrap();
    publish(&mut archive, Signing::Inline, now() - 9000, None);
    let problem = user.open(source.clone()).unwrap_err();
    assert!(matches!(problem, ArchiveError::Older { .. }), "{problem:?}");
    // A record that somebody wrote who has no key holds nobody up.
    let folder = std::fs::read_dir(user.cache().join("release")).unwrap().next().unwrap().unwrap().path();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = String::from_utf8(std::fs::read(&path).unwrap()).unwrap();
        std::fs::write(path, text.replace("Label: Tests", "Label: Jests")).unwrap();
    }
    user.open(source).unwrap();
}

#[test]
fn an_archive_that_changes_under_the_reader_is_read_once_more() {
    for by_hash in [true, false] {
        let Dated { archive, old } = Dated::new();
        let served = tempfile::tempdir().unwrap();
        copy(old.path(), served.path());
        let server = Server::new(served.path());
        let (new, root) = (archive.root().to_owned(), served.path().to_owned());
        server.before("binary-amd64", move || {
            std::fs::remove_dir_all(root.join("dists")).unwrap();
            copy(&new, &root);
        });
        if !by_hash {
            server.fault("/by-hash/", Fault::Status(404), u32::MAX);
        }
        let opened = User::new().open(archive.source(&[server.url()])).unwrap();
        let text = std::str::from_utf8(&opened.indexes[0].bytes).unwrap();
        // A mirror keeps old files by hash: what was begun with one state is ended with it.
        assert_eq!(opened.releases[0].date == archive.date, !by_hash);
        assert_eq!(text.contains("Package: later\n"), !by_hash);
    }
}

#[test]
fn an_archive_that_is_broken_is_not_read_for_ever() {
    let archive = Archive::small();
    let server = Server::new(archive.root());
    server.fault("Packages", Fault::Wrong, u32::MAX);
    server.fault("by-hash", Fault::Wrong, u32::MAX);
    let problem = User::new().open(archive.source(&[server.url()])).unwrap_err();
    assert_eq!(problem.class(), Class::Untrusted);
    let releases = server.log().iter().filter(|request| request.path.ends_with("/InRelease")).count();
    assert_eq!(releases, 2);
}

#[test]
fn the_next_mirror_serves_where_one_misbehaves() {
    let page = tempfile::tempdir().unwrap();
    let archive = Archive::small();
    for fault in [
        Fault::Status(503),
        Fault::Status(403),
        Fault::Cut(100),
        Fault::Short(100),
        Fault::Stall(100, 2500),
        Fault::Reset(100),
        Fault::Wrong,
        Fault::Long(1 << 20),
        Fault::Redirect("/dists/"),
    ] {
        for part in ["InRelease", "binary-amd64"] {
            let (bad, good) = (Server::new(archive.root()), Server::new(archive.root()));
            bad.fault(part, fault, u32::MAX);
            let user = User::new();
            let opened = user.open(archive.source(&[bad.url(), good.url()]));
            opened.unwrap_or_else(|problem| panic!("{fault:?} {part}: {problem:?}"));
            assert!(!bad.log().is_empty());
            cache::sound(user.cache());
        }
    }
    // A portal answers everything with a page.
    for name in ["InRelease", "Release", "Release.gpg"] {
        let path = page.path().join(archive.dist(name));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "\n<!DOCTYPE html><title>Log in</title>").unwrap();
    }
    let (portal, good) = (Server::new(page.path()), Server::new(archive.root()));
    User::new().open(archive.source(&[portal.url(), good.url()])).unwrap();
    let problem = User::new().open(archive.source(&[portal.url()])).unwrap_err();
    assert!(matches!(problem, ArchiveError::Page { .. }), "{problem:?}");
    assert_eq!(problem.class(), Class::Untrusted);
}

#[test]
fn a_loop_of_redirects_is_walked_once() {
    let archive = Archive::small();
    let server = Server::new(archive.root());
    server.fault("InRelease", Fault::Redirect("/dists/trixie/InRelease"), u32::MAX);
    let problem = User::new().open(archive.source(&[server.url()])).unwrap_err();
    assert_eq!(problem.class(), Class::Unreachable);
    assert_eq!(server.log().len(), 11, "the first and ten redirects");
}

#[test]
fn a_file_address_is_a_mirror_too() {
    let archive = Archive::small();
    let url = format!("file://{}", archive.root().display());
    User::new().open(archive.source(&[&url])).unwrap();
}

#[test]
fn a_missing_component_is_named() {
    let archive = Archive::small();
    let server = Server::new(archive.root());
    let source = Source { components: vec!["contrib".to_owned()], ..archive.source(&[server.url()]) };
    let problem = User::new().open(source).unwrap_err();
    assert_eq!(problem.class(), Class::Unavailable);
    assert!(problem.to_string().contains("`contrib`"));
}
