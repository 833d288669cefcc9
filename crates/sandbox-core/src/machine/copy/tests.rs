use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
};

use super::*;

/// Packs in one tree and unpacks in another.
fn carry(from: &Root, path: &str, to: &Root, target: &str, trust: Trust) -> Result<Carried, CopyError> {
    let path = PathBuf::from(path);
    let name = path.file_name().map_or_else(|| PathBuf::from("."), PathBuf::from);
    let mut stream = Vec::new();
    run(&Errand::Pack { path }, from, trust, &mut io::empty(), &mut stream)?;
    let errand = Errand::Unpack { target: target.into(), name, owner: None };
    run(&errand, to, trust, &mut stream.as_slice(), &mut io::sink())
}

fn trees() -> (tempfile::TempDir, Root, Root) {
    let place = tempfile::tempdir().unwrap();
    let make = |name: &str| {
        let path = place.path().join(name);
        fs::create_dir(&path).unwrap();
        Root::open(&path, Links::InTree).unwrap()
    };
    let (a, b) = (make("a"), make("b"));
    (place, a, b)
}

#[test]
fn a_tree_arrives_as_it_was() {
    let (_place, a, b) = trees();
    let from = a.path().join("t");
    fs::create_dir_all(from.join("deep/er")).unwrap();
    fs::write(from.join("deep/file"), "text").unwrap();
    fs::hard_link(from.join("deep/file"), from.join("again")).unwrap();
    symlink("deep/file", from.join("link")).unwrap();
    fs::write(from.join("x".repeat(250)), "").unwrap();
    fs::set_permissions(from.join("deep"), fs::Permissions::from_mode(0o751)).unwrap();
    fs::File::open(from.join("deep")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    for (target, at) in [("/new", "new"), ("/", "t")] {
        let carried = carry(&a, "/t", &b, target, Trust::Guest).unwrap();
        assert_eq!((carried.entries, carried.bytes), (7, 4));
        let to = b.path().join(at);
        assert_eq!(fs::read_to_string(to.join("link")).unwrap(), "text");
        let of = |name: &str| fs::symlink_metadata(to.join(name)).unwrap();
        assert_eq!(of("again").ino(), of("deep/file").ino());
        assert_eq!((of("deep").mode() & 0o7777, of("deep").mtime()), (0o751, 0));
        assert!(to.join("deep/er").is_dir() && to.join("x".repeat(250)).exists());
    }
    assert_eq!(fs::read_dir(b.path()).unwrap().count(), 2, "nothing else was made");
}

#[test]
fn a_whole_root_becomes_the_target() {
    let (_place, a, b) = trees();
    fs::create_dir(a.path().join("etc")).unwrap();
    fs::write(a.path().join("etc/file"), "1").unwrap();
    carry(&a, "/", &b, "/new", Trust::Guest).unwrap();
    carry(&a, "/", &b, "/", Trust::Guest).unwrap();
    assert!(b.path().join("new/etc/file").exists() && b.path().join("etc/file").exists());
}

#[test]
fn what_a_guest_sends_has_no_powers_on_the_host() {
    let (_place, a, b) = trees();
    fs::write(a.path().join("shell"), "").unwrap();
    fs::set_permissions(a.path().join("shell"), fs::Permissions::from_mode(0o6755)).unwrap();
    carry(&a, "/shell", &b, "/shell", Trust::Guest).unwrap();
    assert_eq!(fs::metadata(b.path().join("shell")).unwrap().mode() & 0o7777, 0o755);
    carry(&a, "/shell", &b, "/whole", Trust::Host).unwrap();
    assert_eq!(fs::metadata(b.path().join("whole")).unwrap().mode() & 0o7777, 0o6755);
}

/// A stream that no packer of ours makes.
fn hostile(entries: &[(&str, Option<&str>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, link) in entries {
        let mut header = tar::Header::new_gnu();
        // set as bytes: the writer itself refuses `..`
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        header.set_entry_type(match link {
            Some(_) => tar::EntryType::Symlink,
            None if name.ends_with('/') => tar::EntryType::Directory,
            None => tar::EntryType::Regular,
        });
        if let Some(link) = link {
            header.set_link_name(link).unwrap();
        }
        header.set_cksum();
        builder.append(&header, io::empty()).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn a_hostile_stream_writes_nowhere_else() {
    let (place, _, b) = trees();
    let outside = place.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let out = outside.to_str().unwrap();
    let streams = [
        hostile(&[("t/", None), ("t/../../outside/file", None)]),
        hostile(&[("t/", None), ("t/x", Some(out)), ("t/x/file", None)]),
        hostile(&[("t/", None), ("t/x", Some("../../outside")), ("t/x/file", None)]),
        hostile(&[("t/", None), ("t/x", Some("..")), ("t/x/beside", None)]),
        hostile(&[("t/", None), ("t/x", Some(out)), ("t/x/", None), ("t/x/y/", None)]),
        hostile(&[("../t", None)]),
        hostile(&[("/t/../../outside/file", None)]),
        hostile(&[("t", Some(out)), ("t/file", None)]),
    ];
    for (number, stream) in streams.iter().enumerate() {
        let errand = Errand::Unpack { target: format!("/n{number}").into(), name: "n".into(), owner: None };
        let carried = run(&errand, &b, Trust::Guest, &mut stream.as_slice(), &mut io::sink());
        assert!(carried.is_err(), "{number}: {carried:?}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{number}");
        assert!(!b.path().join("beside").exists(), "{number}");
    }
}

#[test]
fn a_link_in_the_hosts_target_is_not_followed_but_replaced() {
    let (place, a, b) = trees();
    let secret = place.path().join("secret");
    fs::write(&secret, "kept").unwrap();
    fs::create_dir_all(a.path().join("t/folder")).unwrap();
    fs::write(a.path().join("t/file"), "new").unwrap();
    fs::create_dir(b.path().join("t")).unwrap();
    symlink(&secret, b.path().join("t/file")).unwrap();
    carry(&a, "/t", &b, "/", Trust::Guest).unwrap();
    assert_eq!(fs::read_to_string(&secret).unwrap(), "kept");
    assert_eq!(fs::read_to_string(b.path().join("t/file")).unwrap(), "new");
    fs::remove_dir(b.path().join("t/folder")).unwrap();
    symlink(place.path(), b.path().join("t/folder")).unwrap();
    assert!(carry(&a, "/t", &b, "/", Trust::Guest).is_err(), "a link in place of a folder");
}

#[test]
fn a_guests_links_lead_into_its_own_tree() {
    let (place, a, b) = trees();
    fs::write(place.path().join("passwd"), "the host's").unwrap();
    symlink(place.path(), a.path().join("etc")).unwrap();
    let path = PathBuf::from("/etc/passwd");
    let mut stream = Vec::new();
    let read = run(&Errand::Read { path }, &a, Trust::Guest, &mut io::empty(), &mut stream);
    assert!(read.is_err() && stream.is_empty(), "{read:?}");
    assert!(carry(&a, "/etc/passwd", &b, "/", Trust::Guest).is_err());
    // the link itself may be had
    carry(&a, "/etc", &b, "/", Trust::Guest).unwrap();
    assert!(b.path().join("etc").is_symlink());
}

#[test]
fn streams_of_the_users_own() {
    let (_place, a, _b) = trees();
    fs::create_dir(a.path().join("srv")).unwrap();
    fs::write(a.path().join("one"), "1").unwrap();
    let write = |target: &str, mut bytes: &[u8]| {
        let errand = Errand::Write { target: target.into(), owner: None };
        run(&errand, &a, Trust::Host, &mut bytes, &mut io::sink())
    };
    write("/srv/raw", b"bytes").unwrap();
    assert_eq!(fs::read(a.path().join("srv/raw")).unwrap(), b"bytes");
    let mut tar = Vec::new();
    run(&Errand::Pack { path: "/one".into() }, &a, Trust::Host, &mut io::empty(), &mut tar).unwrap();
    write("/srv/", &tar).unwrap();
    assert_eq!(fs::read(a.path().join("srv/one")).unwrap(), b"1");
    assert!(write("/nowhere/", &tar).is_err());
    assert!(write("/srv", b"this is no tar, and long enough to be seen as none").is_err());
    let mut out = Vec::new();
    run(&Errand::Read { path: "/srv/raw".into() }, &a, Trust::Host, &mut io::empty(), &mut out).unwrap();
    assert_eq!(out, b"bytes");
}

#[test]
fn holes_arrive_as_holes_and_other_tars_can_read_them() {
    use std::os::unix::fs::FileExt as _;
    let (_place, a, b) = trees();
    fs::create_dir(a.path().join("t")).unwrap();
    let long = "x".repeat(150);
    for name in ["holes", long.as_str()] {
        let file = fs::File::create(a.path().join("t").join(name)).unwrap();
        file.set_len(8 << 40).unwrap();
        file.write_all_at(&[7; 5000], 1 << 30).unwrap();
    }
    fs::File::create(a.path().join("t/empty")).unwrap().set_len(1 << 40).unwrap();
    let end = fs::File::create(a.path().join("t/end")).unwrap();
    end.write_all_at(b"end", 1 << 20).unwrap();
    let carried = carry(&a, "/t", &b, "/", Trust::Guest).unwrap();
    assert!(carried.bytes < 1 << 20, "{carried:?}");
    for name in ["holes", long.as_str(), "empty", "end"] {
        let (from, to) = (a.path().join("t").join(name), b.path().join("t").join(name));
        let (from, to) = (fs::File::open(from).unwrap(), fs::File::open(to).unwrap());
        let (was, is) = (from.metadata().unwrap(), to.metadata().unwrap());
        assert_eq!(was.len(), is.len(), "{name}");
        assert!(is.blocks() * 512 < 1 << 20, "{name}: {}", is.blocks());
        let (mut one, mut other) = (vec![0; 8192], vec![0; 8192]);
        let at = if name == "end" { 0 } else { (1 << 30) - 100 };
        assert_eq!(from.read_at(&mut one, at).unwrap(), to.read_at(&mut other, at).unwrap());
        assert_eq!(one, other, "{name}");
    }
}

#[test]
fn maps_of_holes_that_make_no_sense_are_refused() {
    use crate::tarfile::test::{Sparse, member};
    let (_place, _, b) = trees();
    let unpack = |stream: &[u8]| {
        let errand = Errand::Unpack { target: "/n".into(), name: "n".into(), owner: None };
        run(&errand, &b, Trust::Guest, &mut &stream[..], &mut io::sink())
    };
    let of = |size: u64, map: &str| member(Sparse::Map { size, map });
    unpack(&of(100, "1\n50\n10\n")).unwrap();
    assert_eq!(fs::metadata(b.path().join("n")).unwrap().len(), 100);
    let wrong = [
        of(100, "1\n95\n10\n"),
        of(100, "2\n50\n5\n40\n5\n"),
        of(100, "99999999999999999999999\n"),
        of(100, "9999999\n"),
        of(100, "x\n"),
        of(100, "1\n\n"),
        of(1 << 40, "1\n0\n4096\n"),
        of(u64::MAX, "1\n50\n10\n"),
    ];
    for (number, stream) in wrong.iter().enumerate() {
        let class = unpack(stream).unwrap_err().class();
        let expected = if number == 7 { Class::Host } else { Class::Untrusted };
        assert!(class == expected, "{number}: {class:?}");
        assert_eq!(fs::read_dir(b.path()).unwrap().count(), 1, "{number}");
    }
}

#[test]
fn owners_that_a_machine_has_no_number_for_are_those_of_the_target() {
    let (_place, a, b) = trees();
    fs::create_dir(a.path().join("t")).unwrap();
    fs::write(a.path().join("t/file"), "x").unwrap();
    fs::write(a.path().join("t/group"), "x").unwrap();
    fs::set_permissions(a.path().join("t/file"), fs::Permissions::from_mode(0o6755)).unwrap();
    let own = |path: PathBuf, uid, gid| std::os::unix::fs::chown(path, Some(uid), Some(gid)).unwrap();
    own(a.path().join("t"), 145_000_123, 145_000_123);
    own(a.path().join("t/group"), 7, 145_000_123);
    fs::set_permissions(a.path().join("t/file"), fs::Permissions::from_mode(0o6755)).unwrap();
    own(a.path().join("t/file"), 145_000_123, 8);
    fs::set_permissions(a.path().join("t/file"), fs::Permissions::from_mode(0o6755)).unwrap();
    fs::create_dir(b.path().join("home")).unwrap();
    own(b.path().join("home"), 1000, 1001);
    let carried = carry(&a, "/t", &b, "/home", Trust::Host).unwrap();
    assert_eq!(carried.owners, 3);
    for (path, uid, gid, mode) in
        [("t", 1000, 1001, 0o755), ("t/file", 1000, 8, 0o755), ("t/group", 7, 1001, 0o644)]
    {
        let found = fs::metadata(b.path().join("home").join(path)).unwrap();
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (uid, gid, mode), "{path}");
    }
    // with an owner there is nothing to say
    let mut stream = Vec::new();
    run(&Errand::Pack { path: "/t".into() }, &a, Trust::Host, &mut io::empty(), &mut stream).unwrap();
    let errand = Errand::Unpack { target: "/owned".into(), name: "t".into(), owner: Some("5:6".into()) };
    let carried = run(&errand, &b, Trust::Host, &mut stream.as_slice(), &mut io::sink()).unwrap();
    let found = fs::metadata(b.path().join("owned/file")).unwrap();
    assert_eq!((carried.owners, found.uid(), found.gid(), found.mode() & 0o7777), (0, 5, 6, 0o6755));
}

#[test]
fn a_copy_that_fails_leaves_nothing_that_it_made() {
    let (_place, a, b) = trees();
    fs::create_dir_all(a.path().join("t/deep")).unwrap();
    fs::write(a.path().join("t/deep/file"), [7; 4096]).unwrap();
    let mut stream = Vec::new();
    run(&Errand::Pack { path: "/t".into() }, &a, Trust::Host, &mut io::empty(), &mut stream).unwrap();
    // in the file, after it, and without the end
    for length in [2500, 1024, stream.len() - 1024] {
        for trust in [Trust::Host, Trust::Guest] {
            let errand = Errand::Unpack { target: "/n".into(), name: "t".into(), owner: None };
            let error = run(&errand, &b, trust, &mut &stream[..length], &mut io::sink()).unwrap_err();
            assert!(matches!(error, CopyError::Stream { .. }), "{length}: {error}");
            assert_eq!(fs::read_dir(b.path()).unwrap().count(), 0, "{length}");
        }
    }
    // what was there stays, with the permissions that it had
    fs::create_dir_all(b.path().join("t")).unwrap();
    fs::write(b.path().join("t/own"), "").unwrap();
    let errand = Errand::Unpack { target: "/".into(), name: "t".into(), owner: None };
    run(&errand, &b, Trust::Host, &mut &stream[..stream.len() - 1024], &mut io::sink()).unwrap_err();
    assert!(b.path().join("t/own").exists());
    assert_eq!(fs::metadata(b.path().join("t/deep")).unwrap().mode() & 0o777, 0o755);
}

#[test]
fn access_control_lists_and_old_times_arrive() {
    use crate::tarfile::acl::{ACCESS, Acl, DEFAULT};
    let (_place, a, b) = trees();
    let of = |root: &Root, path: &str| root.path().join(path);
    fs::create_dir_all(of(&a, "t/shared")).unwrap();
    for path in ["t/file", "t/shared/plain"] {
        fs::write(of(&a, path), "x").unwrap();
        fs::set_permissions(of(&a, path), fs::Permissions::from_mode(0o640)).unwrap();
    }
    let set = |path: PathBuf, name: &str, text: &str| {
        let value = Acl::of_text(text.as_bytes()).unwrap().attribute();
        rustix::fs::setxattr(path, name, &value, rustix::fs::XattrFlags::empty()).unwrap();
    };
    let text = "user::rw-,user:33:rw-,group::r--,group:70000:r--,mask::rw-,other::---";
    set(of(&a, "t/file"), ACCESS, text);
    let default = "user::rwx,user:33:rwx,group::r-x,mask::rwx,other::---";
    set(of(&a, "t/shared"), DEFAULT, default);
    // what is made in a directory with such a list gets it, and has not had it
    set(b.path().to_owned(), DEFAULT, default);
    let old = std::time::UNIX_EPOCH - std::time::Duration::from_secs(315_619_200);
    fs::File::open(of(&a, "t/file")).unwrap().set_modified(old).unwrap();
    let list = |path: PathBuf, name: &str| {
        let mut value = vec![0; 1024];
        let length = rustix::fs::getxattr(path, name, &mut *value).ok()?;
        Some(String::from_utf8(Acl::of_attribute(&value[..length])?.text()).unwrap())
    };
    for trust in [Trust::Guest, Trust::Host] {
        let carried = carry(&a, "/t", &b, "/n", trust).unwrap();
        let expected =
            if trust == Trust::Host { text.replace("group:70000:r--,", "") } else { text.to_owned() };
        assert_eq!(list(of(&b, "n/file"), ACCESS).as_ref(), Some(&expected));
        assert_eq!(carried.acl_entries, u64::from(trust == Trust::Host));
        assert_eq!(list(of(&b, "n/shared"), DEFAULT).as_deref(), Some(default));
        assert_eq!((list(of(&b, "n"), DEFAULT), list(of(&b, "n/shared/plain"), ACCESS)), (None, None));
        assert_eq!(fs::metadata(of(&b, "n/shared/plain")).unwrap().mode() & 0o777, 0o640);
        assert_eq!(fs::metadata(of(&b, "n/file")).unwrap().mtime(), -315_619_200);
        fs::remove_dir_all(of(&b, "n")).unwrap();
    }
}

#[test]
fn a_tree_that_is_too_deep_is_refused() {
    let (_place, a, _) = trees();
    fs::create_dir(a.path().join("t")).unwrap();
    let flags = rustix::fs::OFlags::PATH;
    let mut at =
        rustix::fs::openat(rustix::fs::CWD, a.path().join("t"), flags, rustix::fs::Mode::empty()).unwrap();
    for _ in 0..3000 {
        rustix::fs::mkdirat(&at, "d", rustix::fs::Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, "d", flags, rustix::fs::Mode::empty()).unwrap();
    }
    let pack = Errand::Pack { path: "/t".into() };
    let error = run(&pack, &a, Trust::Host, &mut io::empty(), &mut io::sink()).unwrap_err();
    assert_eq!(error.class(), Class::Untrusted, "{error}");
    crate::host::root::remove_tree(&a.path().join("t")).unwrap();
}
