//! Packages that are signed for, and are wrong: the program refuses each with exit code 4, says which package
//! it is and why, and leaves nothing.

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
};

use crate::{
    kit::{
        archive::Archive,
        compress::Compression,
        deb::{Built, Deb, ar},
        server::Server,
        system::system,
        tar::{Entry, Kind, head, tar},
    },
    user::{User, said},
};

fn evil() -> Deb {
    Deb::new("evil", "1")
}

/// Builds a tree with a package `evil`; gives what the program said.
fn refused(what: &str, built: Built, reason: &str) {
    let mut archive = Archive::new();
    archive.fill();
    archive.add_built(built);
    archive.publish();
    let server = Server::new(archive.root());
    let user = User::new(&archive, server.url());
    let output = user.bootstrap("evil");
    let said = said(&output);
    assert_eq!(output.status.code(), Some(4), "{what}: {said}");
    assert!(said.contains("package `evil`") && said.contains(reason), "{what}: {said}");
    assert!(said.lines().all(|line| !line.contains(|c: char| c.is_control())), "{what}: {said:?}");
    user.has_nothing_left(what);
}

/// Builds a tree with packages and all that dpkg needs; it must come to be. The user is kept with the tree.
fn built(debs: &[Deb]) -> User {
    let mut archive = Archive::new();
    archive.fill();
    archive.add(&system());
    debs.iter().for_each(|deb| archive.add(deb));
    archive.publish();
    let server = Server::new(archive.root());
    let user = User::new(&archive, server.url());
    let names: Vec<_> = debs.iter().map(|deb| deb.package.as_str()).collect();
    let output = user.bootstrap(&names.join(","));
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(fs::read_to_string(user.path("outside/canary")).unwrap(), "alive");
    user
}

fn file_of(bytes: Vec<u8>) -> Built {
    Built { bytes, ..evil().build() }
}

#[test]
fn a_file_that_is_no_package_is_refused() {
    let (control, data) = (tar(&[Entry::file("./control", 0o644, b"x")]), tar(&[Entry::folder("./")]));
    let version: (&str, &[u8]) = ("debian-binary", b"2.0\n");
    let whole = || ar(&[version, ("control.tar", &control), ("data.tar", &data)]);
    let sized = |size: &str| {
        let mut bytes = whole();
        // the size of the first member
        bytes[8 + 48..8 + 58].copy_from_slice(format!("{size:<10}").as_bytes());
        bytes
    };
    refused("no bytes", file_of(Vec::new()), "no ar archive");
    refused("no members", file_of(b"!<arch>\n".to_vec()), "no ar archive");
    refused("a size beyond the end", file_of(sized("99999999")), "cut off");
    refused("a negative size", file_of(sized("-4")), "malformed");
    refused("a size in words", file_of(sized("four")), "malformed");
    refused("a size that is short", file_of(sized("2")), "malformed");
    refused("no padding", file_of([&whole()[..], b"x"].concat()), "malformed");
    refused("format 3", file_of(ar(&[("debian-binary", b"3.0\n")])), "not 2.x");
    refused("no data", file_of(ar(&[version, ("control.tar", &control)])), "data.tar");
    refused(
        "another order",
        file_of(ar(&[version, ("data.tar", &data), ("control.tar", &control)])),
        "`data.tar` is where `control.tar` must be",
    );
    refused(
        "an unknown compression",
        file_of(ar(&[version, ("control.tar.rar", &control), ("data.tar", &data)])),
        "unknown way",
    );
    let mut half = evil().compressed(Compression::Xz).build().bytes;
    let middle = half.len() - 100;
    half[middle..middle + 20].fill(0);
    refused("damaged compression", file_of(half), "cannot be read");
}

#[test]
fn a_control_archive_that_lies_is_refused() {
    let says = |text: &[u8]| evil().saying(text).build();
    let good = "Package: evil\nVersion: 1\nArchitecture: amd64\n";
    refused("CRLF", says(good.replace('\n', "\r\n").as_bytes()), "carriage returns");
    refused("NUL", says(good.replace("Version", "X: \0\nVersion").as_bytes()), "NUL");
    refused("not UTF-8", says(&[good.as_bytes(), b"X: \xff\n"].concat()), "not UTF-8");
    refused("no field", says(&[good.as_bytes(), b"nonsense\n"].concat()), "malformed");
    refused("a field twice", says(&[good.as_bytes(), b"Version: 2\n"].concat()), "malformed");
    refused("nothing", says(b""), "missing");
    refused("another version", says(good.replace("Version: 1", "Version: 2").as_bytes()), "Version is `2`");
    refused("another architecture", says(good.replace("amd64", "i386").as_bytes()), "`i386`");
    let member = |name: &str| evil().member(name, b"x").build();
    refused("a member that climbs", member("../x"), "its control archive has `../x`");
    refused("a member in a folder", member("a/b"), "`a/b`");
    refused("a member that draws", member("a\x1b[2Jb"), "its control archive has `a\\u001b[2Jb`");
    refused("a second control file", member("control"), "`control` twice");
    for (what, conffiles) in [
        ("a conffile that climbs", &b"/etc/../../x\n"[..]),
        ("a conffile from nowhere", b"etc/x\n"),
        ("a conffile that is a folder", b"/etc/\n"),
        ("a conffile with CR", b"/etc/a\rb\n"),
        ("a conffile that is not text", b"/etc/\xff\n"),
        ("a conffile of an upgrade that climbs", b"remove-on-upgrade /../x\n"),
    ] {
        refused(what, evil().member("conffiles", conffiles).build(), "configuration files");
    }
}

#[test]
fn a_data_archive_that_lies_is_refused() {
    let data = |tar: Vec<u8>| evil().data([&tar[..], &[0; 1024]].concat()).build();
    let pax = |record: &[u8]| data(head(b"x", b'x', record.len() as u64, record));
    refused("a negative size", data(head(b"./x", b'0', u64::MAX, b"")), "bytes");
    refused("a huge size", data(head(b"./x", b'0', 1 << 50, b"")), "bytes");
    refused("a size beyond the end", data(head(b"./x", b'0', 1 << 30, b"x")), "cannot be read");
    refused("a sparse file", data(head(b"./x", b'S', 0, b"")), "sparse");
    refused("a sparse file of PAX", pax(b"22 GNU.sparse.major=1\n"), "sparse");
    refused("a second size", pax(b"12 size=999\n"), "second size");
    refused("a header for all", data(head(b"x", b'g', 12, b"12 size=999\n")), "global");
    refused("a long name of 8 GB", data(head(b"x", b'L', 8 << 30, b"x")), "8589934592");
    refused("a header of 2 MB", data(head(b"x", b'x', 2 << 20, &vec![b'x'; 2 << 20])), "2097152");
    refused("a link with content", data(head(b"./x", b'2', 4, b"abcd")), "has content");
    refused("a volume label", data(head(b"./x", b'V', 0, b"")), "kind `V`");
    let mut broken = head(b"./x", b'0', 0, b"");
    broken[0] = b'!';
    refused("a wrong checksum", data(broken), "malformed");
    let cut = head(b"./x", b'0', 4000, &[b'x'; 3000]);
    refused("cut off in a file", evil().data(cut).build(), "cannot be read");
}

#[test]
fn a_name_that_is_none_is_refused() {
    let named = |name: &[u8]| evil().data([&head(name, b'0', 0, b"")[..], &[0; 1024]].concat()).build();
    refused("a line feed", named(b"./a\nb"), "control character");
    refused("an escape", named(b"./a\x1b[2Jb"), "control character");
    refused("not UTF-8", named(b"./caf\xe9"), "not UTF-8");
    let entry = |entry: Entry| evil().entry(entry).build();
    let long = "n".repeat(300);
    let deep = "d/".repeat(2500);
    refused("a long name", entry(Entry::file(&format!("./{long}"), 0o644, b"")), "too long");
    refused("a long path", entry(Entry::file(&format!("./{deep}x"), 0o644, b"")), "too long");
    refused("a long target", entry(Entry::symlink("./x", &deep)), "too long");
}

#[test]
fn a_device_node_is_refused() {
    for (what, kind) in [("a disk", Kind::Block(8, 0)), ("memory", Kind::Character(1, 1))] {
        refused(what, evil().entry(Entry::new("./dev/own", 0o666, kind)).build(), "device");
    }
}

#[test]
fn a_loop_of_links_is_refused() {
    let looped = evil()
        .entry(Entry::symlink("./a", "b"))
        .entry(Entry::symlink("./b", "a"))
        .entry(Entry::file("./a/x", 0o644, b"x"));
    refused("a loop of links", looped.build(), "`/a/x`");
    let own = evil().entry(Entry::symlink("./a", "a")).entry(Entry::folder("./a/b/"));
    refused("a link to itself", own.build(), "`/a/b`");
}

#[test]
fn a_folder_of_one_package_is_no_file_of_another() {
    let folder = Deb::new("folder", "1").file("usr/share/thing/x", 0o644, b"x");
    let file = Deb::new("plain", "1").file("usr/share/thing", 0o644, b"x");
    for order in [[&folder, &file], [&file, &folder]] {
        let mut archive = Archive::new();
        archive.fill();
        order.iter().for_each(|deb| archive.add(deb));
        archive.publish();
        let server = Server::new(archive.root());
        let user = User::new(&archive, server.url());
        let output = user.bootstrap("folder,plain");
        assert_eq!(output.status.code(), Some(4), "{}", said(&output));
        assert!(said(&output).contains("which another package has as something else"), "{}", said(&output));
        user.has_nothing_left("a folder and a file");
    }
}

#[test]
fn traps_of_conffiles_lead_nowhere() {
    let trapped = Deb::new("trapped", "1")
        .conffile("etc/plain", b"plain")
        .entry(Entry::symlink("./etc/way", "/../../../outside/canary"))
        .member("conffiles", b"/etc/plain\n/etc/plain\n/etc/way\n/etc/absent\n");
    let mut trapped = trapped;
    // two members of this name would be refused: the second is the list that is meant
    trapped.control.remove(0);
    let user = built(&[trapped]);
    let status = fs::read_to_string(user.path("tree/var/lib/dpkg/status")).unwrap();
    assert_eq!(status.matches(" /etc/plain ").count(), 1, "{status}");
    let target = fs::read_link(user.path("tree/etc/way")).unwrap();
    assert_eq!(target.to_str(), Some("/../../../outside/canary"));
    assert!(!user.path("tree/etc/absent").exists());
}

#[test]
fn what_a_package_may_have_is_kept_as_it_is() {
    let capability = b"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    let good = Deb::new("good", "1:2.0~rc1-1")
        .file("usr/bin/set-id", 0o6755, b"x")
        .entry(Entry::file("./usr/bin/of-users", 0o4750, b"x").owned(0, 100))
        .entry(Entry::file("./usr/bin/able", 0o755, b"x").xattr("security.capability", capability))
        .entry(Entry::new("./usr/bin/pipe", 0o640, Kind::Pipe))
        .entry(Entry::new("./sticky/", 0o1777, Kind::Folder))
        .entry(Entry::file("./usr/bin/é ü", 0o644, b"x"))
        .entry(Entry::file(&format!("./usr/{}", "n".repeat(255)), 0o644, b"x"))
        .entry(Entry::hardlink("./usr/bin/second", "./usr/bin/set-id"));
    let user = built(&[good]);
    let of = |path: &str| fs::symlink_metadata(user.path("tree").join(path)).unwrap();
    assert_eq!(of("usr/bin/set-id").mode() & 0o7777, 0o6755);
    assert_eq!(of("usr/bin/second").ino(), of("usr/bin/set-id").ino());
    assert_eq!((of("usr/bin/of-users").mode() & 0o7777, of("usr/bin/of-users").gid()), (0o4750, 100));
    assert!(of("usr/bin/pipe").file_type().is_fifo());
    assert_eq!(of("sticky").mode() & 0o7777, 0o1777);
    assert!(of("usr/bin/é ü").is_file());
    let mut value = [0; 64];
    let able = user.path("tree/usr/bin/able");
    let length = rustix::fs::getxattr(&able, "security.capability", &mut value).unwrap();
    assert_eq!(&value[..length], capability);
    let status = fs::read_to_string(user.path("tree/var/lib/dpkg/status")).unwrap();
    assert!(status.contains("Version: 1:2.0~rc1-1\n"), "{status}");
}

#[test]
fn packages_that_pre_depend_on_each_other_are_configured() {
    let chicken = Deb::new("chicken", "1").field("Pre-Depends", "egg").script("postinst", "echo chicken");
    let egg = Deb::new("egg", "1").field("Pre-Depends", "chicken").script("preinst", "echo egg");
    let user = built(&[chicken, egg]);
    let status = fs::read_to_string(user.path("tree/var/lib/dpkg/status")).unwrap();
    assert_eq!(status.matches("Status: install ok installed").count(), 4, "{status}");
}
