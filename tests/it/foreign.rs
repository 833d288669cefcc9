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

/// dpkg 1.21 gives the same owners to the same packages.
#[test]
fn owners_are_those_that_the_tree_knows_by_name() {
    let odd = |path: &str, user: &str, group: &str| {
        Entry::file(path, 0o4755, b"x").owned(501, 20).named(user, group)
    };
    let account = "printf 'made:x:777:\\n' >>/etc/group; printf 'made:x:778:777::/:/bin/sh\\n' >>/etc/passwd";
    let maker = bare("maker").script("preinst", account);
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let owned = bare("owned")
        .field("Depends", "maker")
        .entry(Entry::folder("./srv/"))
        .entry(Entry::folder("./srv/d/").owned(501, 20).named("made", "made"))
        .entry(odd("./srv/d/both", "made", "made").xattr("security.capability", &capability))
        .entry(odd("./srv/group", "someone", "made"))
        .entry(odd("./srv/user", "made", "someone"))
        .entry(odd("./srv/none", "someone", "someone"))
        .entry(odd("./srv/numbers", "", ""))
        .entry(odd("./srv/staff", "root", "staff"))
        .entry(Entry::symlink("./srv/link", "none").owned(501, 20).named("made", "made"));
    let stack = Stack::with(&[maker, owned]);
    stack.profile("[packages]\ninstall = [\"owned\", \"maker\"]\n");
    let tree = stack.built();
    for (path, owner) in [
        ("d", (778, 777)),
        ("d/both", (778, 777)),
        ("group", (501, 777)),
        ("user", (778, 20)),
        ("none", (501, 20)),
        ("numbers", (501, 20)),
        ("staff", (0, 50)),
        ("link", (778, 777)),
    ] {
        let found = fs::symlink_metadata(tree.join("srv").join(path)).unwrap();
        assert_eq!((found.uid(), found.gid()), owner, "{path}");
        assert!(!found.is_file() || found.mode() & 0o7777 == 0o4755, "{path}: {:o}", found.mode());
    }
    let mut value = [0; 64];
    let length =
        rustix::fs::getxattr(tree.join("srv/d/both"), "security.capability", &mut value[..]).unwrap();
    assert_eq!(value[..length], capability);
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
