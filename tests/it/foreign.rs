//! Packages as others than Debian build them: what dpkg accepts is built, and the result is dpkg's.

use std::{fs, os::unix::fs::MetadataExt as _};

use crate::{
    kit::{archive::Archive, compress::Compression, deb::Deb, tar::Entry},
    stack::Stack,
};

/// A package that lists no digests.
fn bare(name: &str) -> Deb {
    let mut deb = Deb::new(name, "1");
    deb.md5sums = false;
    deb
}

#[test]
fn a_package_without_digests_gets_them() {
    let full = bare("full")
        .file("usr/share/full/a", 0o644, b"hi\n")
        .conffile("etc/full", b"c\n")
        .entry(Entry::hardlink("./usr/share/full/b", "./usr/share/full/a"))
        .entry(Entry::symlink("./usr/share/full/l", "a"));
    let rooted = Deb::new("rooted", "1")
        .file("usr/share/rooted/a", 0o644, b"x")
        .entry(Entry::file("/usr/share/rooted/b", 0o644, b"y"))
        .entry(Entry::hardlink("./usr/share/rooted/c", "/usr/share/rooted/b"));
    let packed = Deb::new("packed", "1").file("usr/share/packed/a", 0o644, b"z").compressed(Compression::Bz2);
    let stack = Stack::with(&[full, bare("meta"), rooted, packed, Deb::new("empty", "1")]);
    stack.profile("[packages]\ninstall = [\"full\", \"meta\", \"rooted\", \"packed\", \"empty\"]\n");
    let tree = stack.built();
    let read =
        |path: &str| fs::read_to_string(tree.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    // as `dpkg -i` of the same file writes them
    assert_eq!(
        read("var/lib/dpkg/info/full.md5sums"),
        "764efa883dda1e11db47671c4a3bbd9e  usr/share/full/a\n\
         2cd6ee2c70b0bde53fbe6cac3c8b8bb1  etc/full\n\
         764efa883dda1e11db47671c4a3bbd9e  usr/share/full/b\n"
    );
    assert_eq!(read("var/lib/dpkg/info/meta.md5sums"), "");
    assert_eq!(read("usr/share/packed/a"), "z");
    let inode = |path: &str| fs::metadata(tree.join(path)).unwrap().ino();
    assert_eq!(inode("usr/share/rooted/b"), inode("usr/share/rooted/c"));
}

#[test]
fn what_a_foreign_package_pre_depends_on_is_configured_first() {
    let mut third = Archive::new();
    third.codename = "stable".to_owned();
    third.add(&bare("base").script("postinst", "echo yes >/base"));
    let first = bare("first").field("Depends", "base").script("preinst", "echo yes >/early");
    third.add(&first.script("postinst", "test -e /base; test -e /early; echo yes >/first"));
    let second = bare("second").field("Pre-Depends", "first").script("preinst", "test -e /first");
    third.add(&second);
    third.add(&bare("third").field("Pre-Depends", "first, second").script("preinst", "test -e /first"));
    third.publish();
    let stack = Stack::new();
    stack.profile(&format!(
        "[packages]\ninstall = [\"second\", \"third\"]\n[[source]]\nname = \"other\"\nuris = [\"file://{}\"]\n\
         suites = [\"stable\"]\ncomponents = [\"main\"]\nsigned-by = \"\"\"{}\"\"\"\n",
        third.root().display(),
        third.keys[0].armored()
    ));
    assert!(stack.built().join("first").exists());
}
