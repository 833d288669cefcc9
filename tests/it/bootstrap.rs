//! The program itself against archives that lie: what is refused, with which exit code, and what is left.
//!
//! Building a tree makes files of root's, so these need root; without it each says so and fails.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

use crate::kit::{
    archive::{Archive, Signing},
    cache,
    deb::{Deb, ar},
    key::Key,
    server::{Fault, Server},
    tar::Entry,
};

/// A user's folder with an image of the test archive, and something beside it that must stay as it is.
struct User {
    folder: TempDir,
}

impl User {
    fn new(archive: &Archive, url: &str) -> Self {
        let user = Self { folder: tempfile::tempdir().unwrap() };
        let image = format!(
            "schema = 1\nname = \"kit\"\ndistribution = \"kit\"\narchitectures = [\"amd64\"]\n\
             components = [\"main\"]\nkeyring = \"debian-archive-keyring\"\n\
             [archive]\nmain = {{ mirror = \"{url}\" }}\n\
             [[pocket]]\nname = \"release\"\narchive = \"main\"\nsuite = \"{codename}\"\ncodename = \"{codename}\"\n\
             signers = []\n[apt]\nsources = \"debian.sources\"\nsigned-by = \"/k\"\n",
            codename = archive.codename
        );
        fs::create_dir(user.path("images")).unwrap();
        fs::write(user.path("images/kit.toml"), image).unwrap();
        let trusted: Vec<u8> = archive.keys.iter().flat_map(Key::certificate).collect();
        fs::write(user.path("key"), trusted).unwrap();
        fs::create_dir(user.path("outside")).unwrap();
        fs::write(user.path("outside/canary"), "alive").unwrap();
        user
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    #[expect(clippy::disallowed_methods, reason = "the program is what is tested")]
    fn sandbox(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_sandbox"))
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
            .args(["--cache-dir", "cache", "--state-dir", "state"])
            .args(args)
            .output()
            .unwrap()
    }

    fn bootstrap(&self, include: &str) -> Output {
        self.sandbox(&[
            "bootstrap",
            "kit",
            "tree",
            "--variant",
            "essential",
            "--keyring",
            "key",
            "--include",
            include,
        ])
    }

    /// Sees that nothing is left of a refused build.
    fn has_nothing_left(&self, what: &str) {
        let mut names: Vec<_> = fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "cache")
            .collect();
        names.sort();
        assert_eq!(names, ["images", "key", "outside"], "{what}");
        let outside: Vec<_> = fs::read_dir(self.path("outside")).unwrap().collect();
        assert_eq!(outside.len(), 1, "{what}");
        assert_eq!(fs::read_to_string(self.path("outside/canary")).unwrap(), "alive", "{what}");
        cache::sound(&self.path("cache"));
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

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
    let mut cases = vec![
        ("dot-dot", evil().entry(Entry::file("./../outside/x", 0o644, b"x"))),
        ("dot-dot within", evil().entry(Entry::file("./usr/../../outside/x", 0o644, b"x"))),
        ("absolute", evil().entry(Entry::file("/tmp/sandbox-evil", 0o644, b"x"))),
        ("hard link out", evil().entry(Entry::hardlink("./x", "../outside/canary"))),
        ("hard link out, absolute", evil().entry(Entry::hardlink("./x", "/etc/passwd"))),
        (
            "through a link that climbs",
            evil().entry(Entry::symlink("./way", "../../../../../../../../tmp")).entry(Entry::file(
                "./way/sandbox-evil",
                0o644,
                b"x",
            )),
        ),
        (
            "through an absolute link",
            evil().entry(Entry::symlink("./way", "/tmp")).entry(Entry::file(
                "./way/sandbox-evil",
                0o644,
                b"x",
            )),
        ),
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
        assert!(!Path::new("/tmp/sandbox-evil").exists(), "{what}");
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
fn what_is_asked_for_wrongly_is_said_so() {
    let archive = Archive::small();
    let server = Server::new(archive.root());
    let user = User::new(&archive, server.url());
    let ends = |args: &[&str], code: i32, word: &str| {
        let output = user.sandbox(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", said(&output));
        assert!(said(&output).contains(word), "{args:?}: {}", said(&output));
    };
    ends(&["bootstrap", "kitt", "tree"], 2, "did you mean `kit`?");
    ends(&["bootstrap", "kit", "tree", "--variant", "tiny"], 2, "minbase");
    ends(&["bootstrap", "kit", "outside"], 1, "is there already");
    ends(&["create", "../x", "--release", "kit"], 2, "position 1");
    ends(&["bootstrap", "kit", "tree", "--profile", "dokcer"], 2, "did you mean `docker`?");
    assert!(server.log().is_empty(), "something was fetched for a command that makes no sense");
    ends(
        &["bootstrap", "kit", "tree", "--variant", "essential", "--keyring", "key", "--include", "helo"],
        1,
        "helo",
    );
    user.has_nothing_left("an unknown package");
}

#[test]
fn packages_come_from_the_cache_and_an_unreachable_archive_says_so() {
    let archive = Archive::small();
    let server = Server::new(archive.root());
    let user = User::new(&archive, server.url());
    // it gets as far as the tree's own dpkg, which these packages do not have
    let first = user.bootstrap("hello");
    assert!(server.log().iter().any(|request| request.path.ends_with(".deb")), "{}", said(&first));
    let second = user.bootstrap("hello");
    assert!(!server.log().iter().any(|request| request.path.ends_with(".deb")), "{}", said(&second));
    user.has_nothing_left("a build that fails late");
    server.fault("InRelease", Fault::Status(503), u32::MAX);
    server.fault("Release", Fault::Status(503), u32::MAX);
    let third = user.bootstrap("hello");
    assert_eq!(third.status.code(), Some(5), "{}", said(&third));
}

#[test]
fn help_completions_and_manual_are_there() {
    let archive = Archive::small();
    let user = User::new(&archive, "http://127.0.0.1:9");
    let text = |args: &[&str]| {
        let output = user.sandbox(args);
        assert!(output.status.success(), "{args:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    for verb in ["create", "bootstrap", "exec"] {
        assert!(text(&[verb, "--help"]).contains("Examples:"), "{verb}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(text(&["completions", shell]).contains("bootstrap"), "{shell}");
    }
    assert!(text(&["man"]).contains(".TH sandbox"));
    assert!(text(&["profiles", "--json"]).contains("\"docker\""));
}
