//! The program itself against archives that lie: what is refused, with which exit code, and what is left.
//!
//! Building a tree makes files of root's, so these need root; without it each says so and fails.

use std::fs;

use crate::{
    kit::{
        archive::{Archive, Signing},
        deb::{Deb, ar},
        server::Server,
        tar::Entry,
    },
    user::{User, said},
};

/// Builds of an archive, and sees it refused as untrusted.
fn refused(what: &str, archive: &Archive, include: &str) -> String {
    let server = Server::new(archive.root());
    let user = User::new(archive, server.url());
    let output = user.bootstrap(include);
    assert_eq!(output.status.code(), Some(4), "{what}: {}", said(&output));
    user.has_nothing_left(what);
    said(&output)
}

fn with(deb: &Deb) -> Archive {
    let mut archive = Archive::new();
    archive.fill();
    archive.add(deb);
    archive.publish();
    archive
}

#[test]
fn an_archive_that_lies_is_refused() {
    let archive = Archive::small();
    archive.tamper(&archive.dist("InRelease"), |bytes| {
        String::from_utf8(bytes).unwrap().replace("Label: Tests", "Label: Guests").into_bytes()
    });
    refused("a tampered InRelease", &archive, "hello");

    let mut archive = Archive::new();
    archive.fill();
    archive.signing = Signing::Nothing;
    archive.publish();
    refused("a stripped signature", &archive, "hello");

    let archive = Archive::small();
    let server = Server::new(archive.root());
    // the user trusts another archive's key
    let user = User::new(&Archive::new(), server.url());
    let output = user.bootstrap("hello");
    assert_eq!(output.status.code(), Some(4), "a wrong key: {}", said(&output));
    user.has_nothing_left("a wrong key");

    let mut archive = Archive::new();
    archive.fill();
    archive.edit_packages = Some(Box::new(|text| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for line in lines.iter_mut().filter(|line| line.starts_with("SHA256: ")) {
            *line = format!("SHA256: {}", "0".repeat(64));
        }
        lines.join("\n") + "\n"
    }));
    archive.publish();
    refused("a wrong hash in Packages", &archive, "hello");

    let archive = Archive::small();
    archive.tamper(&archive.pool("hello"), |bytes| bytes[..bytes.len() / 2].to_vec());
    refused("a truncated package", &archive, "hello");
}

#[test]
fn a_package_that_leads_out_is_refused() {
    let evil = || Deb::new("evil", "1");
    let outside = tempfile::tempdir().unwrap();
    let absolute = outside.path().to_str().unwrap();
    let climbing = "../".repeat(40) + absolute.trim_start_matches('/');
    let through = |target: &str| {
        let evil = evil().entry(Entry::symlink("./way", target));
        evil.entry(Entry::file("./way/sandbox-evil", 0o644, b"x"))
    };
    let mut cases = vec![
        ("dot-dot", evil().entry(Entry::file("./../outside/x", 0o644, b"x"))),
        ("dot-dot within", evil().entry(Entry::file("./usr/../../outside/x", 0o644, b"x"))),
        ("dot-dot from the root", evil().entry(Entry::file("/../outside/x", 0o644, b"x"))),
        ("hard link out", evil().entry(Entry::hardlink("./x", "../outside/canary"))),
        ("hard link out from the root", evil().entry(Entry::hardlink("./x", "/../outside/canary"))),
        ("through a link that climbs", through(&climbing)),
        ("through an absolute link", through(absolute)),
        (
            "a file where a folder is",
            evil().entry(Entry::folder("./usr/")).entry(Entry::file("./usr/bin", 0o644, b"x")),
        ),
    ];
    for case in &mut cases {
        case.1.md5sums = false;
    }
    for (what, deb) in cases {
        let text = refused(what, &with(&deb), "evil");
        assert!(text.contains("package `evil`"), "{what}: {text}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{what}");
    }
}

#[test]
fn a_file_that_is_not_the_package_of_the_index_is_refused() {
    // the archive signs for the bytes: what is wrong is within them
    let mut archive = Archive::new();
    archive.fill();
    let mut second = Deb::new("evil", "1").build();
    second.bytes = {
        let tar = crate::kit::tar::tar(&[Entry::file("./control", 0o644, second.control.as_bytes())]);
        let data = crate::kit::tar::tar(&[Entry::folder("./")]);
        ar(&[("debian-binary", b"2.0\n"), ("control.tar", &tar), ("control.tar", &tar), ("data.tar", &data)])
    };
    archive.add_built(second);
    let mut other = Deb::new("other", "1").build();
    let known = other.control.clone();
    other = Deb::new("good", "1").build();
    other.control = known;
    archive.add_built(other);
    archive.publish();
    let text = refused("a second control member", &archive, "evil");
    assert!(text.contains("package `evil` is malformed"), "{text}");
    let text = refused("another package's control file", &archive, "other");
    assert!(text.contains("says of itself that its Package is `good`, not `other`"), "{text}");
}

#[test]
fn nothing_is_fetched_twice() {
    let archive = Archive::small();
    let server = Server::new(archive.root());
    let user = User::new(&archive, server.url());
    // there is no dpkg in this archive: the build ends after all packages are unpacked
    let output = user.bootstrap("hello");
    assert!(said(&output).contains("could not configure"), "{}", said(&output));
    let mut asked: Vec<String> = server.log().into_iter().map(|request| request.path).collect();
    asked.sort();
    assert!(asked.iter().filter(|path| path.ends_with(".deb")).count() >= 2, "{asked:?}");
    let count = asked.len();
    asked.dedup();
    assert_eq!(asked.len(), count, "{asked:?}");
}
