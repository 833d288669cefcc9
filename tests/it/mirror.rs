//! Where the packages come from: the cache, another mirror, a folder.

use crate::{
    kit::{
        archive::Archive,
        cache,
        server::{Fault, Request, Server},
    },
    user::{BOOTSTRAP, User, said},
};

fn packages(log: &[Request]) -> usize {
    log.iter().filter(|request| request.path.ends_with(".deb")).count()
}

/// These packages hold no dpkg: a build that got all of them ends where the tree is to be configured.
fn has_all(user: &User, what: &str, count: usize) {
    let held = cache::sound(&user.path("cache"));
    let debs = held.iter().filter(|file| std::fs::read(file).unwrap().starts_with(b"!<arch>")).count();
    assert_eq!(debs, count, "{what}");
}

#[test]
fn packages_come_from_the_cache_and_an_unreachable_archive_says_so() {
    let archive = Archive::small();
    let server = Server::new(archive.root());
    let user = User::new(&archive, server.url());
    let first = user.bootstrap("hello");
    assert_eq!(packages(&server.log()), 2, "{}", said(&first));
    let second = user.bootstrap("hello");
    assert_eq!(packages(&server.log()), 0, "{}", said(&second));
    user.has_nothing_left("a build that fails late");
    server.fault("InRelease", Fault::Status(503), u32::MAX);
    server.fault("Release", Fault::Status(503), u32::MAX);
    let third = user.bootstrap("hello");
    assert_eq!(third.status.code(), Some(5), "{}", said(&third));
    drop(server);
    let fourth = user.bootstrap("hello");
    assert_eq!(fourth.status.code(), Some(5), "{}", said(&fourth));
    assert!(said(&fourth).contains("\nhint: "), "{}", said(&fourth));
    user.has_nothing_left("a server that is gone");
    has_all(&user, "what was fetched stays", 2);
}

#[test]
fn a_folder_is_a_mirror() {
    let archive = Archive::small();
    let user = User::new(&archive, &format!("file://{}", archive.root().display()));
    let output = user.bootstrap("hello");
    assert!(!matches!(output.status.code(), Some(2..=5)), "{}", said(&output));
    has_all(&user, "all packages of a folder", 2);

    let gone = User::new(&archive, "file:///nowhere/at/all");
    let output = gone.bootstrap("hello");
    assert!(matches!(output.status.code(), Some(1 | 5)), "{}", said(&output));
    gone.has_nothing_left("a folder that is not there");
}

#[test]
fn the_next_mirror_serves_what_one_does_not() {
    let archive = Archive::small();
    let (server, broken) = (Server::new(archive.root()), Server::new(archive.root()));
    let user = User::new(&archive, "http://127.0.0.1:9");
    let build = |first: &str| {
        let mirrors = ["--include", "hello", "--mirror", first, "--mirror", server.url()];
        user.sandbox(&[&BOOTSTRAP[..], &mirrors].concat())
    };
    broken.fault(".deb", Fault::Status(404), u32::MAX);
    let output = build(broken.url());
    assert!(!broken.log().is_empty(), "the first mirror is not asked");
    assert_eq!(packages(&server.log()), 2, "{}", said(&output));
    has_all(&user, "packages of the second mirror", 2);
    std::fs::remove_dir_all(user.path("cache")).unwrap();

    // one that lies costs time, but not the build
    broken.heal();
    broken.fault(".deb", Fault::Wrong, u32::MAX);
    let output = build(broken.url());
    assert_eq!(packages(&server.log()), 2, "{}", said(&output));
    has_all(&user, "packages of the honest mirror", 2);
    std::fs::remove_dir_all(user.path("cache")).unwrap();

    // a port on which nobody listens
    let url = broken.url().to_owned();
    drop(broken);
    let output = build(&url);
    assert_eq!(packages(&server.log()), 2, "{}", said(&output));
    has_all(&user, "packages where one mirror is gone", 2);
}
