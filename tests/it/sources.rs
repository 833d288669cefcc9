//! Archives beside the image's, and who is trusted for which.
//!
//! These packages hold no dpkg: a build that got all of them ends where the tree is to be configured.

use std::{fs, process::Output};

use sandbox_core::digest::{Sha256, hex};
use sha2::Digest as _;
use tempfile::TempDir;

use crate::{
    kit::{
        archive::{Archive, Edit, date},
        compress::Compression,
        deb::{Built, Deb},
        key::{Key, sign_inline},
        now,
        server::Server,
    },
    user::{BOOTSTRAP, User, said},
};

/// Somebody else's archive with one package, `third`.
fn third() -> Archive {
    let archive = third_unpublished();
    archive.publish();
    archive
}

fn third_unpublished() -> Archive {
    let mut archive = Archive::new();
    archive.codename = "stable".to_owned();
    archive.add(&Deb::new("third", "3").file("usr/bin/third", 0o755, b"#!/bin/sh\n"));
    archive
}

/// An armored key as the continuation lines of a field.
fn inline(key: &Key) -> String {
    let line = |line: &str| format!("\n {}", if line.is_empty() { "." } else { line });
    key.armored().lines().map(line).collect()
}

fn stanza(url: &str, signed_by: &str) -> String {
    format!("Types: deb\nURIs: {url}\nSuites: stable\nComponents: main\nSigned-By: {signed_by}\n")
}

/// Builds with more arguments than every build of the test archive has.
fn build(user: &User, more: &[&str]) -> Output {
    user.sandbox(&[&BOOTSTRAP[..], more].concat())
}

/// A build that came to where only dpkg is missing.
fn came_through(output: &Output) {
    let code = output.status.code();
    assert!(matches!(code, Some(1 | 6)) && said(output).contains("dpkg"), "{code:?}: {}", said(output));
}

fn holds(user: &User, built: &Built) -> bool {
    let digest = Sha256::of(&built.bytes).to_string();
    user.path("cache/sha256").join(&digest[..2]).join(digest).exists()
}

#[test]
fn an_extra_source_is_read_and_trusted_by_its_own_key_alone() {
    let (archive, third) = (Archive::small(), third());
    let (server, other) = (Server::new(archive.root()), Server::new(third.root()));
    let user = User::new(&archive, server.url());
    let extra = ["--include", "third", "--extra-source", "outside/third.sources"];
    let with = |text: String| {
        fs::write(user.path("outside/third.sources"), text).unwrap();
        build(&user, &extra)
    };
    came_through(&with(stanza(other.url(), &inline(&third.keys[0]))));
    assert!(holds(&user, &Deb::new("third", "3").file("usr/bin/third", 0o755, b"#!/bin/sh\n").build()));
    assert!(other.log().iter().any(|request| request.path == "/dists/stable/InRelease"));

    // by path, binary
    let path = user.path("outside/third.gpg");
    fs::write(&path, third.keys[0].certificate()).unwrap();
    came_through(&with(stanza(other.url(), path.to_str().unwrap())));

    // the archive's key is not good for somebody else's archive, and the other way round
    let refused = with(stanza(other.url(), &inline(&archive.keys[0])));
    assert_eq!(refused.status.code(), Some(4), "{}", said(&refused));
    assert!(said(&refused).contains(other.url()), "{}", said(&refused));
    for words in ["the archive of source `third` cannot be used", "take the present key of source `third`"] {
        assert!(said(&refused).contains(words), "{words}: {}", said(&refused));
    }
    assert!(!said(&refused).contains("newer version of this program"), "{}", said(&refused));
    fs::write(user.path("key"), third.keys[0].certificate()).unwrap();
    let text = stanza(server.url(), &inline(&archive.keys[0])).replace("stable", &archive.codename);
    fs::write(user.path("outside/t.sources"), text).unwrap();
    let refused = build(&user, &["--extra-source", "outside/t.sources"]);
    fs::write(user.path("key"), archive.keys[0].certificate()).unwrap();
    assert_eq!(refused.status.code(), Some(4), "{}", said(&refused));

    // without a key, or with a file that is no key, nothing is asked for
    other.log();
    let text = stanza(other.url(), "x").replace("Signed-By: x\n", "");
    for (text, word) in [
        (text, "Signed-By: it is missing"),
        (stanza(other.url(), "relative.gpg"), "absolute path"),
        (stanza(other.url(), "/nowhere/key.gpg"), "/nowhere/key.gpg"),
        (stanza(other.url(), "/etc/hostname"), "the key of source `third` (/etc/hostname) cannot be used"),
    ] {
        let refused = with(text);
        assert_eq!(refused.status.code(), Some(3), "{word}: {}", said(&refused));
        assert!(said(&refused).contains(word), "{word}: {}", said(&refused));
    }
    assert_eq!(other.log(), []);
}

/// Changes one word of a text.
fn edit(from: &'static str, to: &'static str) -> Option<Edit> {
    Some(Box::new(move |text: String| {
        assert!(text.contains(from), "{from} is not in {text}");
        text.replacen(from, to, 1)
    }))
}

/// Changes what a Release file calls its suite.
fn named(suite: &'static str, codename: &'static str) -> Option<Edit> {
    let change =
        move |text: String| text.replace("Codename: stable\n", codename).replace("Suite: stable\n", suite);
    Some(Box::new(change))
}

/// Adds a stanza to an index.
fn stanza_of(lines: &'static str) -> Option<Edit> {
    let sum = "0".repeat(64);
    Some(Box::new(move |text: String| {
        format!("{text}\nPackage: odd\n{lines}\nFilename: pool/odd.deb\nSize: 1\nSHA256: {sum}\n")
    }))
}

/// An archive beside the distribution's, and what a build says of it with `third` and with `odd` included.
struct Odd {
    what: &'static str,
    release: Option<Edit>,
    packages: Option<Edit>,
    formats: Vec<Compression>,
    /// What is said where it is accepted.
    says: &'static str,
}

impl Odd {
    fn release(what: &'static str, edit: Option<Edit>, says: &'static str) -> Self {
        Self { what, release: edit, packages: None, formats: vec![Compression::Gz], says }
    }

    fn packages(what: &'static str, edit: Option<Edit>, says: &'static str) -> Self {
        Self { packages: edit, ..Self::release(what, None, says) }
    }
}

/// Lists the package `third` by SHA-512 alone.
fn by_sha512(text: String) -> String {
    let built = Deb::new("third", "3").file("usr/bin/third", 0o755, b"#!/bin/sh\n").build();
    let digest = hex(&sha2::Sha512::digest(&built.bytes));
    text.replace(&format!("SHA256: {}", Sha256::of(&built.bytes)), &format!("SHA512: {digest}"))
}

fn odd_archives() -> Vec<Odd> {
    let left = "left out a package that cannot be read";
    let of = |lines| stanza_of(lines);
    vec![
        Odd::release("neither Suite nor Codename", named("", ""), ""),
        Odd::release(
            "another Suite",
            named("Suite: a\n", "Codename: b\n"),
            "is of the suite `a`, `b`, not `stable`",
        ),
        Odd::release("no Date", edit("Date: ", "X-Date: "), "has no date that can be read"),
        Odd { formats: vec![Compression::Bz2], ..Odd::release("bzip2 alone", None, "") },
        Odd::packages("`_` in a version", of("Version: 10.0.1_1\nArchitecture: amd64"), left),
        Odd::packages("an empty revision", of("Version: 2.0-\nArchitecture: amd64"), left),
        Odd::packages(
            "a variable in Provides",
            of("Version: 1\nArchitecture: amd64\nProvides: ${x:Y}"),
            left,
        ),
        Odd::packages("a field twice", of("Version: 1\nArchitecture: all\nDepends: a\nDepends: b"), left),
        Odd::packages("no field", of("Version: 1\nArchitecture: all\nno field"), left),
        Odd::packages("no version", of("Architecture: all"), left),
        Odd::packages("odd elsewhere", of("Version: 1_1\nArchitecture: i386"), ""),
        Odd::packages("carriage returns", Some(Box::new(|text: String| text.replace('\n', "\r\n"))), ""),
        Odd::packages("SHA-512 alone", Some(Box::new(by_sha512)), ""),
        Odd::packages("slashes that say nothing", edit("pool/main/t/third/", "/pool//main/t/third/"), ""),
    ]
}

#[test]
fn a_foreign_archive_is_read_as_apt_reads_it() {
    let archive = Archive::small();
    let server = Server::new(archive.root());
    let user = User::new(&archive, server.url());
    for Odd { what, release, packages, formats, says } in odd_archives() {
        let mut third = third_unpublished();
        (third.edit_release, third.edit_packages, third.formats) = (release, packages, formats);
        third.publish();
        let text = stanza(&format!("file://{}", third.root().display()), &inline(&third.keys[0]));
        fs::write(user.path("outside/third.sources"), text).unwrap();
        let extra = ["--extra-source", "outside/third.sources", "--include"];
        let built = build(&user, &[&extra[..], &["third"]].concat());
        let code = built.status.code();
        assert!(matches!(code, Some(1 | 6)) && said(&built).contains("dpkg"), "{what}: {}", said(&built));
        assert!(said(&built).contains(says), "{what}: {}", said(&built));
        if says.starts_with("left out") {
            let refused = build(&user, &[&extra[..], &["odd"]].concat());
            assert_eq!(refused.status.code(), Some(4), "{what}: {}", said(&refused));
            assert!(said(&refused).contains("package `odd`"), "{what}: {}", said(&refused));
        }
    }
}

#[test]
fn two_archives_of_one_signer_are_two() {
    let archive = Archive::small();
    let server = Server::new(archive.root());
    let user = User::new(&archive, server.url());
    let (newer, mut older) = (third(), third_unpublished());
    older.keys = vec![newer.keys[0].clone()];
    older.date -= 2 * 86_400;
    older.publish();
    for one in [&newer, &older] {
        let text = stanza(&format!("file://{}", one.root().display()), &inline(&one.keys[0]));
        fs::write(user.path("outside/third.sources"), text).unwrap();
        came_through(&build(&user, &["--extra-source", "outside/third.sources", "--include", "third"]));
    }
    // of one archive, an older state is still refused
    newer.tamper("dists/stable/InRelease", |_| fs::read(older.path("dists/stable/InRelease")).unwrap());
    let text = stanza(&format!("file://{}", newer.root().display()), &inline(&newer.keys[0]));
    fs::write(user.path("outside/third.sources"), text).unwrap();
    let refused = build(&user, &["--extra-source", "outside/third.sources", "--include", "third"]);
    assert_eq!(refused.status.code(), Some(4), "{}", said(&refused));
    assert!(said(&refused).contains("was seen before"), "{}", said(&refused));
}

#[test]
fn a_password_of_an_address_is_for_the_transport_alone() {
    let archive = Archive::small();
    let server = Server::new(archive.root());
    let user = User::new(&archive, server.url());
    let url = server.url().replace("http://", "http://user:s3cret@");
    let lock = user.path("outside/a.lock");
    let mirror = format!("--mirror={url}");
    let mut arguments: Vec<&str> =
        BOOTSTRAP[1..].iter().copied().filter(|word| !word.starts_with('/')).collect();
    arguments.retain(|word| *word != "tree");
    let output = user.sandbox(&[&["lock", "-o", lock.to_str().unwrap(), &mirror], &arguments[..]].concat());
    assert!(output.status.success(), "{}", said(&output));
    let text = fs::read_to_string(&lock).unwrap();
    assert!(!text.contains("s3cret") && text.contains(server.url()), "{text}");
    assert!(!said(&output).contains("s3cret"), "{}", said(&output));
}

#[test]
fn a_profile_brings_its_own_source() {
    let (archive, third) = (Archive::small(), third());
    let (server, other) = (Server::new(archive.root()), Server::new(third.root()));
    let user = User::new(&archive, server.url());
    fs::create_dir(user.path("outside/profiles")).unwrap();
    let text = |more: &str| {
        format!(
            "schema = 1\nname = \"p\"\n[packages]\ninstall = [\"third\"]\n[[source]]\nname = \"third\"\n\
             uris = [\"{}\"]\nsuites = [\"stable\"]\ncomponents = [\"main\"]\n{more}signed-by = \"\"\"{}\"\"\"\n",
            other.url(),
            third.keys[0].armored()
        )
    };
    let with = |more: &str| {
        fs::write(user.path("outside/p.toml"), text(more)).unwrap();
        build(&user, &["--profile", "outside/p.toml"])
    };
    came_through(&with(""));
    assert!(!other.log().is_empty());
    // one that has nothing for this architecture is left out, and with it the package
    let without = with("architectures = [\"riscv64\"]\n");
    assert_eq!(without.status.code(), Some(1), "{}", said(&without));
    assert_eq!(other.log(), []);
    let unknown = with("suite = \"stable\"\n");
    assert_eq!(unknown.status.code(), Some(3), "{}", said(&unknown));
    assert!(said(&unknown).contains("did you mean `suites`?"), "{}", said(&unknown));
}

#[test]
fn a_flat_archive_is_a_source_too() {
    let archive = Archive::small();
    let server = Server::new(archive.root());
    let user = User::new(&archive, server.url());
    for (folder, suite) in [("", "./"), ("sub/", "sub/")] {
        let (flat, key) = (tempfile::tempdir().unwrap(), Key::new());
        let built = Deb::new("third", if folder.is_empty() { "3" } else { "4" }).build();
        publish_flat(&flat, folder, &built, &key);
        let text = format!(
            "Types: deb\nURIs: file://{}\nSuites: {suite}\nSigned-By: {}\n",
            flat.path().display(),
            inline(&key)
        );
        fs::write(user.path("outside/flat.sources"), text).unwrap();
        came_through(&build(&user, &["--include", "third", "--extra-source", "outside/flat.sources"]));
        assert!(holds(&user, &built), "{suite}");
    }
}

/// Writes what `dpkg-scanpackages` and a signature make.
fn publish_flat(flat: &TempDir, folder: &str, built: &Built, key: &Key) {
    let place = flat.path().join(folder);
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join(&built.file_name), &built.bytes).unwrap();
    let packages = format!(
        "{}Filename: ./{folder}{}\nSize: {}\nSHA256: {}\n\n",
        built.control,
        built.file_name,
        built.bytes.len(),
        Sha256::of(&built.bytes)
    );
    fs::write(place.join("Packages"), &packages).unwrap();
    let listed = format!(" {} {} Packages\n", Sha256::of(packages.as_bytes()), packages.len());
    let release = format!("Date: {}\nSHA256:\n{listed}", date(now() - 60));
    fs::write(place.join("InRelease"), sign_inline(std::slice::from_ref(key), &release)).unwrap();
}

#[test]
fn keyrings_add_and_replace() {
    let archive = Archive::small();
    let server = Server::new(archive.root());
    let user = User::new(&archive, server.url());
    fs::write(user.path("outside/own.asc"), archive.keys[0].armored()).unwrap();
    fs::write(user.path("outside/other.asc"), Key::new().armored()).unwrap();
    let build = |more: &[&str]| {
        user.sandbox(&[&["bootstrap", "kit", "tree", "--variant", "essential"], more].concat())
    };
    let refused = |more: &[&str]| {
        let output = build(more);
        assert_eq!(output.status.code(), Some(4), "{more:?}: {}", said(&output));
    };
    let (own, other) = ("outside/own.asc", "outside/other.asc");
    refused(&[]);
    refused(&["--keyring", other]);
    refused(&["--keyring-only", other]);
    came_through(&build(&["--keyring", own]));
    came_through(&build(&["--keyring", other, "--keyring", own]));
    came_through(&build(&["--keyring-only", own]));
    came_through(&build(&["--keyring-only", other, "--keyring", own]));
    fs::write(user.path("outside/none.asc"), "no key\n").unwrap();
    let output = build(&["--keyring-only", "outside/none.asc"]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
}

#[test]
fn a_pinned_key_that_is_nowhere_does_not_hinder_a_given_one() {
    let archive = Archive::small();
    let server = Server::new(archive.root());
    let user = User::new(&archive, server.url());
    let image = fs::read_to_string(user.path("images/kit.toml")).unwrap();
    let pinned = image.replace("signers = []", "signers = [\"0000000000000000000000000000000000000000\"]");
    fs::write(user.path("images/kit.toml"), pinned).unwrap();
    let build =
        |option: &str| user.sandbox(&["bootstrap", "kit", "tree", "--variant", "essential", option, "key"]);
    came_through(&build("--keyring"));
    came_through(&build("--keyring-only"));
    let none = user.sandbox(&["bootstrap", "kit", "tree", "--variant", "essential"]);
    assert_eq!(none.status.code(), Some(3), "{}", said(&none));
}

#[test]
fn components_pockets_and_exclusions_are_the_users_choice() {
    let mut archive = Archive::new();
    archive.fill();
    archive.add(&Deb::new("needy", "1").field("Depends", "hello | big"));
    archive.publish();
    let server = Server::new(archive.root());
    let user = User::new(&archive, server.url());
    let ends = |more: &[&str], code: i32, word: &str| {
        let output = build(&user, more);
        assert_eq!(output.status.code(), Some(code), "{more:?}: {}", said(&output));
        assert!(said(&output).contains(word), "{more:?}: {}", said(&output));
    };
    ends(&["--component", "main,contrib"], 1, "`contrib`");
    ends(&["--pocket", "backports"], 2, "it has release");
    ends(&["--include", "hello", "--exclude", "hello"], 1, "hello");
    came_through(&build(&user, &["--component", "main", "--pocket", "none"]));
    let fetched = |server: &Server| {
        let log = server.log();
        let debs = log.iter().filter_map(|request| request.path.strip_suffix(".deb"));
        debs.filter_map(|path| path.rsplit('/').next()).map(str::to_owned).collect::<Vec<_>>()
    };
    fetched(&server);
    came_through(&build(&user, &["--include", "needy", "--exclude", "hello"]));
    let mut fetched = fetched(&server);
    fetched.sort();
    assert_eq!(fetched, ["big_1.0_amd64", "needy_1_amd64"], "the other alternative");
}

#[test]
fn an_architecture_that_cannot_run_here_is_said_before_anything_is_fetched() {
    let archive = Archive::small();
    let server = Server::new(archive.root());
    let user = User::new(&archive, server.url());
    let ends = |args: &[&str], code: i32, word: &str| user.ends(args, code, word);
    ends(&["bootstrap", "kit", "tree", "--arch", "vax", "--keyring", "key"], 1, "is for amd64");
    let image = fs::read_to_string(user.path("images/kit.toml")).unwrap();
    fs::write(user.path("images/kit.toml"), image.replace("\"amd64\"", "\"amd64\", \"vax\"")).unwrap();
    let build = ["bootstrap", "kit", "tree", "--arch", "vax", "--keyring", "key"];
    ends(&build, 6, "hint: install the emulator");
    ends(&["create", "mine", "--release", "kit", "--arch", "vax", "--keyring", "key"], 6, "processor");
    assert_eq!(server.log(), []);
    user.has_nothing_left("an architecture that cannot run here");
}
