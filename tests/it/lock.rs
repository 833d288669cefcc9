//! Locks: written, built from, checked, compared, and where what they name is had when mirrors lose it.

use std::{fs, path::Path};

use crate::{
    kit::{
        archive::Archive,
        cache,
        deb::Deb,
        key::Key,
        now,
        server::{Fault, Request, Server},
    },
    user::{User, said},
};

const LOCK: [&str; 6] = ["lock", "kit", "--variant", "essential", "--keyring", "key"];
const LOCKED: [&str; 5] = ["bootstrap", "--locked", "--keyring", "key", "tree"];

fn debs(log: &[Request]) -> usize {
    log.iter().filter(|request| request.path.ends_with(".deb")).count()
}

fn lock(user: &User, more: &[&str]) -> String {
    let output = user.sandbox(&[&LOCK[..], more].concat());
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    fs::read_to_string(user.path("sandbox.lock")).unwrap()
}

/// These packages hold no dpkg: a build that got all of them ends where the tree is to be configured.
fn has_debs(user: &User, count: usize) {
    let held = cache::sound(&user.path("cache"));
    let debs = held.iter().filter(|file| fs::read(file).unwrap().starts_with(b"!<arch>")).count();
    assert_eq!(debs, count);
}

fn json(output: &std::process::Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(output)))
}

#[test]
fn a_lock_is_the_same_each_time_and_nothing_but_indexes_is_fetched_for_it() {
    let archive = Archive::small();
    let server = Server::new(archive.root());
    let user = User::new(&archive, server.url());
    let text = lock(&user, &["--include", "hello,big"]);
    assert!(text.starts_with("version = 2\nimage = \"kit\"\n"), "{text}");
    for line in [
        "layer = \"kit\"",
        "variant = \"essential\"",
        "reason = \"requested by --include\"",
        "version = \"1:1.0\"",
        "kind = \"keyring\"",
        &format!("date = {}", archive.date),
        &format!("signed_by = \"{}\"", archive.keys[0].fingerprint()),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert_eq!(debs(&server.log()), 0);
    assert_eq!(lock(&user, &["--include", "hello,big"]), text);
    // without a suite it is renewed for what it was made for
    let output = user.sandbox(&["lock", "--keyring", "key"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(fs::read_to_string(user.path("sandbox.lock")).unwrap(), text);
    let output = user.sandbox(&["lock", "-o", "none.lock"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(!user.path("none.lock").exists());
}

#[test]
fn a_locked_build_reads_no_index_and_takes_exactly_the_lock() {
    let mut archive = Archive::small();
    let server = Server::new(archive.root());
    let user = User::new(&archive, server.url());
    lock(&user, &["--include", "hello"]);
    // a newer version is there, and is not taken
    archive.add(&Deb::new("hello", "3.0-1"));
    archive.publish();
    fs::remove_dir_all(user.path("cache")).unwrap();
    server.log();
    let output = user.sandbox(&LOCKED);
    let log = server.log();
    assert!(log.iter().all(|request| request.path.ends_with(".deb")), "{log:?} {}", said(&output));
    assert!(log.iter().any(|request| request.path.contains("hello_2.10-3")), "{log:?} {}", said(&output));
    has_debs(&user, 2);
    // and from the cache alone
    drop(server);
    let output = user.sandbox(&LOCKED);
    assert!(!matches!(output.status.code(), Some(1..=5)), "{}", said(&output));
}

#[test]
fn a_lock_that_does_not_do_is_refused_with_what_is_missing() {
    let archive = Archive::small();
    let server = Server::new(archive.root());
    let user = User::new(&archive, server.url());
    lock(&user, &["--include", "hello"]);
    server.log();
    let output = user.sandbox(&[&LOCKED[..4], &["kit", "tree", "--include", "hello,big"]].concat());
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let text = said(&output);
    assert!(text.contains("package `big`, wanted by --include, is not in the lock"), "{text}");
    assert!(text.contains("sandbox lock kit --variant essential --include hello,big"), "{text}");
    assert!(server.log().is_empty());
    assert!(!user.path("tree").exists());
    let text = fs::read_to_string(user.path("sandbox.lock")).unwrap();
    fs::write(user.path("sandbox.lock"), text.replacen("version = \"2.10-3\"", "version = \"/\"", 1))
        .unwrap();
    let output = user.sandbox(&LOCKED);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains("package `hello` has a wrong version: `/`"), "{}", said(&output));
    let output = user.sandbox(&["bootstrap", "--locked=gone.lock", "tree"]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
}

#[test]
fn a_check_asks_nobody_and_names_each_wish() {
    let archive = Archive::small();
    let server = Server::new(archive.root());
    let user = User::new(&archive, server.url());
    lock(&user, &["--include", "hello"]);
    drop(server);
    fs::remove_dir_all(user.path("cache")).unwrap();
    let check = |more: &[&str]| user.sandbox(&[&["lock", "--check", "--keyring", "key"], more].concat());
    for more in [&[][..], &["kit"], &["kit", "--include", "hello", "--variant", "essential"]] {
        let output = check(more);
        assert_eq!(output.status.code(), Some(0), "{more:?}: {}", String::from_utf8_lossy(&output.stdout));
    }
    let output = check(&["kit", "--include", "big", "--variant", "minbase", "--exclude", "base-files"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        text.lines().collect::<Vec<_>>(),
        [
            "variant is `essential` in the lock, `minbase` is wanted",
            "package `big`, wanted by --include, is not in the lock",
            "package `base-files` is in the lock, and is excluded",
            "package `hello` is in the lock as requested by --include, and nobody wants it any more",
        ]
    );
    let output = check(&["--json", "--include", "big"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let told = json(&output);
    assert_eq!(
        (&told["satisfied"], &told["unmet"][0]["wish"]["unmet"]),
        (&false.into(), &"no-package".into())
    );
    assert!(!user.path("cache").exists() || fs::read_dir(user.path("cache")).unwrap().next().is_none());
    // an image file that changed is told, and does not make the lock wrong
    let image = fs::read_to_string(user.path("images/kit.toml")).unwrap();
    fs::write(user.path("images/kit.toml"), format!("# one more line\n{image}")).unwrap();
    let output = check(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("note: image `kit` is not the file"));
}

#[test]
fn two_locks_are_compared() {
    let mut archive = Archive::small();
    let server = Server::new(archive.root());
    let user = User::new(&archive, server.url());
    lock(&user, &["--include", "hello"]);
    fs::copy(user.path("sandbox.lock"), user.path("old.lock")).unwrap();
    let same = user.sandbox(&["lock", "diff", "old.lock", "sandbox.lock"]);
    assert_eq!((same.status.code(), same.stdout.len()), (Some(0), 0), "{}", said(&same));
    archive.add(&Deb::new("hello", "2.10-4"));
    archive.date += 60;
    archive.publish();
    lock(&user, &["--include", "hello,big"]);
    let differ = user.sandbox(&["lock", "diff", "old.lock"]);
    assert_eq!(differ.status.code(), Some(1), "{}", said(&differ));
    let text = String::from_utf8(differ.stdout).unwrap();
    assert!(
        text.starts_with("+ big 1:1.0\n* hello 2.10-3 → 2.10-4 (up)\n* source release trixie "),
        "{text}"
    );
    assert!(text.ends_with("+ asked include big\n"), "{text}");
    let back = json(&user.sandbox(&["--json", "lock", "diff", "sandbox.lock", "old.lock"]));
    assert_eq!(
        (&back["packages"][1]["name"], &back["packages"][1]["direction"]),
        (&"hello".into(), &"down".into())
    );
    assert_eq!(back["packages"][0]["change"], "removed");
}

/// A month-old archive at `/now`, and at the address of its snapshot service.
struct Aged {
    archive: Archive,
    server: Server,
    user: User,
    _folder: tempfile::TempDir,
}

impl Aged {
    fn new() -> Self {
        let mut archive = Archive::new();
        archive.fill();
        archive.date = now() - 30 * 86_400;
        archive.valid_until = Some(archive.date + 7 * 86_400);
        archive.publish();
        let folder = tempfile::tempdir().unwrap();
        let moment = jiff::Timestamp::from_second(archive.date + 6 * 3600).unwrap();
        let link = |name: &str| std::os::unix::fs::symlink(archive.root(), folder.path().join(name)).unwrap();
        link("now");
        link(&moment.strftime("%Y%m%dT%H%M%SZ").to_string());
        let server = Server::new(folder.path());
        let user = User::new(&archive, &format!("{}/now", server.url()));
        let image = fs::read_to_string(user.path("images/kit.toml")).unwrap();
        let snapshot = format!("/now\", snapshot = \"{}/{{timestamp}}\" }}", server.url());
        fs::write(user.path("images/kit.toml"), image.replace("/now\" }", &snapshot)).unwrap();
        let aged = Self { archive, server, user, _folder: folder };
        let text = lock(&aged.user, &["--include", "hello,big", "--ignore-valid-until"]);
        assert!(text.contains("/{timestamp}\"\n"), "{text}");
        aged.server.log();
        aged
    }
}

#[test]
fn what_the_mirror_no_longer_has_comes_from_the_snapshot() {
    let aged = Aged::new();
    aged.server.fault("/now/", Fault::Status(404), u32::MAX);
    // it says once that it is asked too much
    aged.server.fault("Z/pool/main/h", Fault::Status(429), 1);
    let output = aged.user.sandbox(&LOCKED);
    assert!(!matches!(output.status.code(), Some(1..=5)), "{}", said(&output));
    has_debs(&aged.user, 3);
    let log = aged.server.log();
    let releases = log.iter().filter(|request| request.path.ends_with("Z/dists/trixie/InRelease")).count();
    assert_eq!(releases, 1, "its Release file is verified, once: {log:?}");
    assert!(said(&output).contains("its Release file is the lock's own"), "{}", said(&output));
}

#[test]
fn what_nobody_has_is_listed_and_a_second_mirror_is_asked_first() {
    let aged = Aged::new();
    aged.server.fault("/pool/", Fault::Status(404), u32::MAX);
    let output = aged.user.sandbox(&LOCKED);
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    let text = said(&output);
    for line in
        ["3 packages cannot be had:", "hello:amd64=2.10-3", "big:amd64=1:1.0", "base-files:amd64=13.8"]
    {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(!aged.user.path("tree").exists());
    aged.server.log();
    let other = Server::new(aged.archive.root());
    let main = format!("{}/now", aged.server.url());
    let mirrors = ["--mirror", main.as_str(), "--mirror", other.url()];
    let output = aged.user.sandbox(&[&LOCKED[..], &mirrors].concat());
    assert!(!matches!(output.status.code(), Some(1..=5)), "{}", said(&output));
    has_debs(&aged.user, 3);
    assert!(
        aged.server.log().iter().all(|request| request.path.starts_with("/now/")),
        "no snapshot is needed"
    );
}

#[test]
fn a_snapshot_is_trusted_no_more_than_a_mirror() {
    let aged = Aged::new();
    aged.server.fault("/now/", Fault::Status(404), u32::MAX);
    fs::write(aged.user.path("key"), Key::new().certificate()).unwrap();
    let output = aged.user.sandbox(&LOCKED);
    // the lock says which key signed, and the user does not trust that one any more
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let aged = Aged::new();
    aged.server.fault("/now/", Fault::Status(404), u32::MAX);
    aged.archive.tamper(&aged.archive.dist("InRelease"), |bytes| {
        String::from_utf8(bytes).unwrap().replace("Label: Tests", "Label: Guests").into_bytes()
    });
    let output = aged.user.sandbox(&LOCKED);
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    // one that is not of that time is of no use, however well it is signed
    let mut aged = Aged::new();
    aged.server.fault("/now/", Fault::Status(404), u32::MAX);
    aged.archive.date -= 3600;
    aged.archive.publish();
    let output = aged.user.sandbox(&LOCKED);
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    assert!(Path::new(&aged.user.path("sandbox.lock")).exists());
}

#[test]
fn a_package_that_goes_while_it_is_wanted_is_resolved_anew_once() {
    let mut archive = Archive::small();
    let served = tempfile::tempdir().unwrap();
    crate::kit::copy(archive.root(), served.path());
    let old = archive.pool("hello");
    archive.date += 60;
    archive.add(&Deb::new("hello", "2.10-4"));
    archive.publish();
    let server = Server::new(served.path());
    let user = User::new(&archive, server.url());
    let (new, root) = (archive.root().to_owned(), served.path().to_owned());
    server.before(".deb", move || {
        crate::kit::copy(&new, &root);
        fs::remove_file(root.join(old)).unwrap();
    });
    let output = user.bootstrap("hello");
    assert!(!matches!(output.status.code(), Some(1..=5)), "{}", said(&output));
    assert!(server.log().iter().any(|request| request.path.contains("hello_2.10-4")), "{}", said(&output));
    assert!(said(&output).contains("changed while packages were fetched"), "{}", said(&output));
    // and where it is simply not there, it is asked for once
    fs::remove_dir_all(user.path("cache")).unwrap();
    server.fault("hello_", Fault::Status(404), u32::MAX);
    let output = user.bootstrap("hello");
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    assert!(said(&output).contains("hello:amd64=2.10-4"), "{}", said(&output));
    user.has_nothing_left("a package that is not there");
}
