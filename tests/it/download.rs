//! Binaries and archives of vendors: locked, fetched by digest, and unpacked nowhere but in their folder.

use std::{
    fs,
    os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _},
    path::Path,
    time::Duration,
};

use crate::{
    kit::{
        compress::Compression,
        process,
        server::Fault,
        tar::{Entry, Kind, tar},
        vendor::sha256,
        zip::zipped,
    },
    stack::{FORGE, Stack},
    user::said,
};

/// A profile with one download, and more of its keys.
fn download(more: &str) -> String {
    format!(
        "[[download]]\nname = \"tool\"\nlatest = \"{FORGE}/o/tool/releases/latest\"\n\
         url = \"{FORGE}/o/tool/releases/download/v{{version}}/tool-{{arch}}.tar.gz\"\n\
         architectures = {{ amd64 = {{ word = \"x86_64\" }} }}\ninto = \"/opt/tool-{{version}}\"\n{more}\n"
    )
}

const LISTED: &str =
    "checksums = \"https://forge.example.invalid/o/tool/releases/download/v{version}/checksums.txt\"";

/// A tool as vendors pack theirs.
fn packed() -> Vec<u8> {
    Compression::Gz.pack(&tar(&[
        Entry::folder("tool-1/"),
        Entry::file("tool-1/bin/tool", 0o4775, b"#!/bin/sh\necho tool\n").owned(501, 20),
        Entry::file("tool-1/README", 0o600, b"read me"),
        Entry::symlink("tool-1/bin/t", "tool"),
        Entry::symlink("tool-1/bin/readme", "../README"),
        Entry::hardlink("tool-1/bin/again", "tool-1/bin/tool"),
    ]))
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn the_latest_release_is_locked_by_the_vendors_digest_and_unpacked() {
    let stack = Stack::new();
    let bytes = packed();
    stack.vendor.release("o/tool", "v1.2.3", &[("tool-x86_64.tar.gz", &bytes), ("tool-arm64.tar.gz", b"x")]);
    stack.profile(&download(&format!("{LISTED}\nstrip = 1\nbin = {{ \"/usr/bin/tool\" = \"bin/tool\" }}")));
    let lock = stack.locked();
    let part = format!(
        "[[part]]\nkind = \"download\"\nname = \"tool\"\nversion = \"1.2.3\"\n\
         url = \"{FORGE}/o/tool/releases/download/v1.2.3/tool-x86_64.tar.gz\"\nsha256 = \"{}\"\n",
        sha256(&bytes)
    );
    assert!(lock.ends_with(&part), "{lock}");
    let asked = stack.vendor.server().log();
    assert!(
        asked.iter().all(|request| !request.path.ends_with(".gz")),
        "locking fetches no archive: {asked:?}"
    );
    let output = stack.build("tree");
    assert!(output.status.success(), "{}", said(&output));
    let asked: Vec<_> = stack.vendor.server().log().into_iter().map(|request| request.path).collect();
    assert_eq!(
        asked,
        ["/o/tool/releases/download/v1.2.3/tool-x86_64.tar.gz"],
        "building asks for no version"
    );
    let tool = stack.user.path("tree/opt/tool-1.2.3");
    assert_eq!(fs::read(tool.join("bin/tool")).unwrap(), b"#!/bin/sh\necho tool\n");
    assert_eq!((mode(&tool.join("bin/tool")), mode(&tool.join("README"))), (0o755, 0o644));
    let own = fs::metadata(tool.join("bin/tool")).unwrap();
    assert_eq!((own.uid(), own.gid(), own.nlink()), (0, 0, 2));
    assert_eq!(own.mtime(), fs::metadata(tool.join("README")).unwrap().mtime());
    assert_eq!(fs::read_link(tool.join("bin/readme")).unwrap(), Path::new("../README"));
    let link = fs::read_link(stack.user.path("tree/usr/bin/tool")).unwrap();
    assert_eq!(link, Path::new("/opt/tool-1.2.3/bin/tool"));
    // a second build needs nobody
    stack.vendor.server().fault("", Fault::Status(503), u32::MAX);
    let output = stack.build("again.tar");
    assert!(output.status.success(), "{}", said(&output));
    let output = stack.build("third.tar");
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(
        sha256(&fs::read(stack.user.path("again.tar")).unwrap()),
        sha256(&fs::read(stack.user.path("third.tar")).unwrap())
    );
    assert_eq!(stack.vendor.server().log().len(), 0);
}

#[test]
fn a_sparse_file_of_a_vendors_archive_is_the_file() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    fs::create_dir_all(at("tool-1/bin")).unwrap();
    let mut bytes = b"#!/bin/sh\n".to_vec();
    bytes.resize(3 << 20, 0);
    bytes.extend(b"end");
    let file = fs::File::create(at("tool-1/bin/tool")).unwrap();
    for (offset, part) in [(0, &bytes[..10]), (3 << 20, b"end")] {
        file.write_all_at(part, offset).unwrap();
    }
    for words in ["--format=posix", "--format=posix --sparse-version=0.1", "--format=gnu"] {
        let command =
            format!("tar -C {} --sparse {words} -czf - tool-1 >{}", at("").display(), at("tar").display());
        process::run(&["sh", "-ec", &command], "", Duration::from_secs(60)).ok();
        let stack = Stack::new();
        let packed = fs::read(at("tar")).unwrap();
        stack.vendor.release("o/tool", "v1", &[("tool-x86_64.tar.gz", &packed)]);
        stack.profile(&download(&format!("{LISTED}\nstrip = 1")));
        stack.locked();
        let output = stack.build("tree");
        assert!(output.status.success(), "{words}: {}", said(&output));
        let tool = stack.user.path("tree/opt/tool-1");
        assert!(fs::read(tool.join("bin/tool")).unwrap() == bytes, "{words}");
        assert_eq!(fs::read_dir(tool.join("bin")).unwrap().count(), 1, "{words}");
    }
}

#[test]
fn a_lock_is_checked_and_compared_without_asking_anybody() {
    let stack = Stack::new();
    stack.vendor.release("o/tool", "v1.2.3", &[("tool-x86_64.tar.gz", &packed())]);
    stack.profile(&download(LISTED));
    stack.locked();
    fs::copy(stack.user.path("sandbox.lock"), stack.user.path("old.lock")).unwrap();
    stack.vendor.server().log();
    let check = || {
        let output = stack.run(&["lock", "--check", "kit"]);
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(check().0, Some(0));
    let exact = download(LISTED).replace("url =", "version = \"1.2.4\"\nurl =");
    stack.profile(&exact);
    assert_eq!(check(), (Some(1), "download `tool` 1.2.4 is in the lock as 1.2.3\n".to_owned() + CHANGED));
    stack.profile(&download(LISTED).replace("tool-{arch}", "other-{arch}"));
    let (code, text) = check();
    assert_eq!(code, Some(1));
    assert!(
        text.starts_with(
            "download `tool` with url `https://forge.example.invalid/o/tool/releases/download/v1.2.3/other-"
        ),
        "{text}"
    );
    stack.profile("");
    assert_eq!(
        check().1,
        "download `tool` is in the lock, and nobody wants it any more\n".to_owned() + CHANGED
    );
    assert_eq!(stack.vendor.server().log(), []);
    stack.vendor.release("o/tool", "v1.10.0", &[("tool-x86_64.tar.gz", b"other")]);
    stack.profile(&download(LISTED));
    stack.locked();
    let differ = stack.user.sandbox(&["lock", "diff", "old.lock"]);
    assert_eq!(String::from_utf8(differ.stdout).unwrap(), "* download tool 1.2.3 → 1.10.0 (up)\n");
}

const CHANGED: &str = "note: profile `p` is not the file that the lock was made with\n";

#[test]
fn what_came_is_what_was_locked_or_nothing() {
    let stack = Stack::new();
    stack.vendor.release("o/tool", "v1.2.3", &[("tool-x86_64.tar.gz", &packed())]);
    stack.profile(&download(LISTED));
    stack.locked();
    // the release was made anew after it was locked
    stack.vendor.release("o/tool", "v1.2.3", &[("tool-x86_64.tar.gz", b"other")]);
    let output = stack.build("tree");
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert!(said(&output).contains("has the digest"), "{}", said(&output));
    assert!(!stack.user.path("tree").exists());
    // it was taken away
    stack.vendor.server().fault("tool-x86_64", Fault::Status(404), 1);
    let output = stack.build("tree");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    // and what breaks off is gone on with
    let bytes = packed();
    stack.vendor.release("o/tool", "v1.2.3", &[("tool-x86_64.tar.gz", &bytes)]);
    stack.vendor.server().log();
    stack.vendor.server().fault("tool-x86_64", Fault::Cut(40), 1);
    let output = stack.build("tree");
    assert!(output.status.success(), "{}", said(&output));
    let offsets: Vec<_> = stack.vendor.server().log().iter().map(|request| request.offset).collect();
    assert_eq!(offsets, [None, Some(40)]);
}

#[test]
fn a_download_that_cannot_be_locked_says_why() {
    let stack = Stack::new();
    stack.vendor.release(
        "o/tool",
        "v1.2.3",
        &[("tool-arm64.tar.gz", b"x"), ("tool-x86_64.tar.gz.sig", b"x")],
    );
    stack.profile(&download(LISTED));
    stack.refuses_to_lock(4, "has no SHA-256 of `tool-x86_64.tar.gz`");
    stack.profile(&download(""));
    stack.refuses_to_lock(3, "unchecked = true");
    stack.profile(&download("unchecked = true"));
    stack.refuses_to_lock(1, "tool-x86_64.tar.gz does not exist");
    stack.profile(&download(LISTED).replace("amd64", "arm64"));
    stack.refuses_to_lock(1, "has no build for amd64; it has one for arm64");
    let digest = format!("word = \"x86_64\", sha256 = \"{}\"", sha256(b"x"));
    stack.profile(&download("").replace("word = \"x86_64\"", &digest));
    stack.refuses_to_lock(3, "can only be of a certain one");
    stack.profile(&download(LISTED).replace("latest =", "#"));
    stack.refuses_to_lock(3, "does not say where to ask");
    stack.vendor.put("/o/tool/releases/newest", b"<html>sign in</html>");
    stack.profile(&download(LISTED).replace("releases/latest", "releases/newest"));
    stack.refuses_to_lock(4, "tells no version: `<html>sign in</html>`");
    stack.vendor.server().fault("/latest", Fault::Status(404), 1);
    stack.profile(&download(LISTED));
    stack.refuses_to_lock(1, "/o/tool/releases/latest does not exist");
    let twice = download(LISTED) + &download(LISTED).replace("url =", "version = \"1.0\"\nurl =");
    stack.vendor.release("o/tool", "v1.0", &[("tool-x86_64.tar.gz", b"x")]);
    stack.vendor.release("o/tool", "v1.2.3", &[("tool-x86_64.tar.gz", b"x")]);
    stack.profile(&twice);
    stack.refuses_to_lock(3, "is wanted as 1.2.3 and as 1.0");
}

#[test]
fn what_has_no_digest_is_locked_as_it_first_came() {
    let stack = Stack::new();
    stack.vendor.site("install", "0.9", &[("agent", b"#!/bin/sh\n")]);
    let site = |more: &str| {
        format!(
            "[[download]]\nname = \"agent\"\nlatest = \"{FORGE}/install/version\"\n\
             url = \"{FORGE}/install/{{version}}/agent\"\narchitectures = {{ amd64 = {{ word = \"x\" }} }}\n\
             into = \"/usr/bin/agent\"\n{more}\n"
        )
    };
    // a digest that stands alone in its file
    stack.profile(&site(&format!("checksums = \"{FORGE}/install/{{version}}/agent.sha256\"")));
    assert!(stack.locked().contains(&sha256(b"#!/bin/sh\n")));
    stack.profile(&site("unchecked = true"));
    let output = stack.lock();
    assert!(said(&output).contains("has no digest of its vendor's"), "{}", said(&output));
    stack.vendor.site("install", "0.9", &[("agent", b"#!/bin/false\n")]);
    let output = stack.build("tree");
    assert!(output.status.success(), "it is in the cache: {}", said(&output));
    assert_eq!(fs::read(stack.user.path("tree/usr/bin/agent")).unwrap(), b"#!/bin/sh\n");
    assert_eq!(mode(&stack.user.path("tree/usr/bin/agent")), 0o755);
    fs::remove_dir_all(stack.user.path("cache")).unwrap();
    let output = stack.build("other");
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
}

/// Locks and builds a download of such bytes.
fn of(name: &str, bytes: &[u8], more: &str) -> Stack {
    let stack = Stack::new();
    stack.vendor.release("o/tool", "v1", &[(name, bytes)]);
    stack.profile(&download(&format!("{LISTED}\n{more}")).replace("tool-{arch}.tar.gz", name));
    stack
}

#[test]
fn each_packing_is_read() {
    let plain = tar(&[Entry::file("bin/tool", 0o755, b"tool")]);
    for (name, bytes) in [
        ("a.tgz", Compression::Gz.pack(&plain)),
        ("a.tar.xz", Compression::Xz.pack(&plain)),
        ("a.tar.zst", Compression::Zst.pack(&plain)),
        (
            "a.zip",
            zipped(&[
                ("bin/", 0o040_755, b""),
                ("bin/tool", 0o100_755, b"tool"),
                ("bin/t", 0o120_777, b"tool"),
            ]),
        ),
    ] {
        let stack = of(name, &bytes, "");
        let tool = stack.built().join("opt/tool-1/bin/tool");
        assert_eq!((fs::read(&tool).unwrap().as_slice(), mode(&tool)), (&b"tool"[..], 0o755), "{name}");
        assert!(
            !name.ends_with("zip") || fs::read_link(tool.with_file_name("t")).unwrap() == Path::new("tool")
        );
    }
    for (name, bytes) in [("tool.gz", Compression::Gz.pack(b"tool")), ("tool", b"tool".to_vec())] {
        let stack = of(name, &bytes, "");
        let tool = stack.built().join("opt/tool-1");
        assert_eq!((fs::read(&tool).unwrap().as_slice(), mode(&tool)), (&b"tool"[..], 0o755), "{name}");
    }
    of("a.tar.gz", b"no gzip", "").refuses_to_build(4, "the archive is damaged");
    of("a.zip", b"no zip", "").refuses_to_build(4, "the archive is damaged");
}

#[test]
fn only_what_is_asked_for_is_taken() {
    let more = "strip = 1\nonly = [\"bin/tool\"]";
    let stack = of("a.tar.gz", &packed(), more);
    let tree = stack.built();
    let found: Vec<_> =
        fs::read_dir(tree.join("opt/tool-1/bin")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(found, ["tool"]);
    assert!(!tree.join("opt/tool-1/README").exists());
    of("a.tar.gz", &packed(), "only = [\"tool-1/bin/other\"]")
        .refuses_to_build(1, "the archive has no `tool-1/bin/other`");
}

#[test]
fn no_archive_reaches_out_of_its_folder() {
    let file = |path: &str| Entry::file(path, 0o644, b"evil");
    let cases: Vec<(&str, Vec<Entry>)> = vec![
        ("../x", vec![file("../x")]),
        ("/etc/x", vec![file("/etc/x")]),
        ("a/../../x", vec![file("a/../../x")]),
        ("`/etc`", vec![Entry::symlink("etc", "/etc"), file("etc/x")]),
        ("`../../etc`", vec![Entry::symlink("etc", "../../etc")]),
        // each link stays inside by its own words, and the second leads out by way of the first
        ("`here/../../b`", vec![Entry::symlink("here", "."), Entry::symlink("a/out", "here/../../b")]),
        (
            "leads out of its folder",
            vec![
                Entry::folder("a/b/"),
                Entry::symlink("a/b/top", "../.."),
                Entry::symlink("a/b/link", "top/a"),
                Entry::symlink("d", "a/b/top"),
                Entry::symlink("d/e", "../x"),
                file("e/evil"),
            ],
        ),
        ("out of its folder", vec![Entry::hardlink("x", "../../../etc/passwd")]),
        ("neither file, folder nor link", vec![Entry::new("null", 0o666, Kind::Character(1, 3))]),
        ("neither file, folder nor link", vec![Entry::new("pipe", 0o666, Kind::Pipe)]),
    ];
    for (word, entries) in cases {
        of("a.tar.gz", &Compression::Gz.pack(&tar(&entries)), "").refuses_to_build(4, word);
    }
    of("a.zip", &zipped(&[("../x", 0o100_644, b"evil")]), "").refuses_to_build(4, "../x");
    of("a.zip", &zipped(&[("x", 0o120_777, b"/etc/passwd")]), "").refuses_to_build(4, "`/etc/passwd`");
    of("a.zip", &zipped(&[("x", 0o020_666, b"")]), "").refuses_to_build(4, "neither file");
}

#[test]
fn a_bomb_is_put_out() {
    let zeros = vec![0; 300 << 20];
    let bomb = tar(&[Entry::file("zeros", 0o644, &zeros)]);
    of("a.tar.gz", &Compression::Gz.pack(&bomb), "").refuses_to_build(4, "a bomb");
    of("a.tar.xz", &Compression::Zst.pack(&bomb), "archive = \"tar-zst\"").refuses_to_build(4, "a bomb");
    of("a.gz", &Compression::Gz.pack(&zeros), "").refuses_to_build(4, "a bomb");
    of("a.zip", &zipped(&[("zeros", 0o100_644, &zeros)]), "").refuses_to_build(4, "a bomb");
}
