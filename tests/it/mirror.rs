//! Where the packages come from: the cache, another mirror, a folder.

use std::{fs, time::Duration};

use crate::{
    kit::{
        archive::Archive,
        cache, copy, process,
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
    // what is in the cache is enough to get as far
    let fourth = user.bootstrap("hello");
    assert_eq!(fourth.status.code(), second.status.code(), "{}", said(&fourth));
    assert!(said(&fourth).contains("the package lists of "), "{}", said(&fourth));
    user.has_nothing_left("a server that is gone");
    has_all(&user, "what was fetched stays", 2);
    std::fs::remove_dir_all(user.path("cache/release")).unwrap();
    let fifth = user.bootstrap("hello");
    assert_eq!(fifth.status.code(), Some(5), "{}", said(&fifth));
    assert!(said(&fifth).contains("\nhint: "), "{}", said(&fifth));
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

/// Locks on a host whose apt has some sources, and gives the mirrors that are in the lock, or what was said.
fn locked_on_a_host(user: &User, sources: &[(&str, String)]) -> Result<Vec<String>, String> {
    let etc = user.path("outside/etc-apt");
    fs::create_dir_all(etc.join("sources.list.d")).unwrap();
    for (name, text) in sources {
        fs::write(etc.join(name), text).unwrap();
    }
    let os_release = user.path("outside/os-release");
    fs::write(&os_release, "ID=kit\nVERSION_CODENAME=trixie\n").unwrap();
    let lock = user.path("outside/host.lock");
    let script = format!(
        "mount --bind {etc} /etc/apt && mount --bind {os_release} /etc/os-release && exec {program} --cache-dir {cache} \
         --state-dir {state} lock kit -o {lock} --variant essential --keyring {key}",
        etc = etc.display(),
        os_release = os_release.display(),
        program = env!("CARGO_BIN_EXE_sandbox"),
        cache = user.path("cache").display(),
        state = user.path("state").display(),
        lock = lock.display(),
        key = user.path("key").display(),
    );
    let folder = user.path("").display().to_string();
    let argv = ["env", "-C", &folder, "unshare", "-m", "sh", "-c", &script];
    let output = process::run(&argv, "", Duration::from_secs(60));
    fs::remove_dir_all(&etc).unwrap();
    if output.code != 0 {
        return Err(output.err);
    }
    let text = fs::read_to_string(&lock).unwrap();
    assert!(!text.contains("s3cret"), "{text}");
    let (_, list) = text.split_once("mirrors = [").unwrap();
    let (list, _) = list.split_once(']').unwrap();
    Ok(list.split('"').skip(1).step_by(2).map(str::to_owned).collect())
}

#[test]
fn of_the_hosts_sources_those_are_mirrors_that_the_distribution_signs() {
    let (archive, mut third) = (Archive::small(), Archive::new());
    third.fill();
    third.publish();
    let (server, second, other) =
        (Server::new(archive.root()), Server::new(archive.root()), Server::new(third.root()));
    let user = User::new(&archive, "http://127.0.0.1:9");
    let own = "signed-by=/usr/share/keyrings/kit-archive-keyring.gpg";
    let (url, others) = (server.url(), other.url());
    let plain = format!("deb {url} trixie main\n");
    let foreign = format!("deb {others} trixie main\ndeb {others} trixie-pgdg main\n");
    let secret = second.url().replace("http://", "http://user:s3cret@");
    let mirrors = |sources: &[(&str, String)]| locked_on_a_host(&user, sources);

    // what is signed by another key is none, wherever it stands
    assert_eq!(mirrors(&[("sources.list", format!("{foreign}{plain}"))]).unwrap(), [url]);
    assert!(!other.log().is_empty());
    // all that are signed, in order, without their passwords
    let both = format!("deb {secret} trixie main\n{plain}");
    assert_eq!(mirrors(&[("sources.list", both)]).unwrap(), [second.url(), url]);
    // files that apt does not read, and sources that are turned off
    let off = format!("Types: deb\nURIs: {}\nSuites: trixie\nComponents: main\nEnabled: no\n", second.url());
    let sources = [
        ("sources.list.d/a.list", plain.clone()),
        ("sources.list.d/a.list.save", format!("deb {secret} trixie main\n")),
        ("sources.list.d/b.sources", off),
    ];
    assert_eq!(mirrors(&sources).unwrap(), [url]);
    // one whose keyring is the distribution's is a mirror for certain: no other is asked
    let certain = format!("deb [{own}] {url} trixie main\n{foreign}");
    assert_eq!(mirrors(&[("sources.list", certain)]).unwrap(), [url]);
    assert_eq!(other.log(), []);
    // none at all: the image's own, which no process serves here
    let refused = mirrors(&[("sources.list", foreign)]).unwrap_err();
    assert!(refused.contains("http://127.0.0.1:9"), "{refused}");
    // one that cannot be reached may be a mirror, and is reported
    let gone = format!("deb http://127.0.0.1:10/debian trixie main\n{plain}");
    assert_eq!(mirrors(&[("sources.list", gone)]).unwrap(), [url]);
}

#[test]
fn the_security_archive_is_looked_for_beside_the_mirror_and_its_absence_says_what_helps() {
    let archive = Archive::small();
    let mut security = Archive::new();
    security.keys = vec![archive.keys[0].clone()];
    security.codename = "trixie-security".to_owned();
    security.fill();
    security.publish();
    let both = tempfile::tempdir().unwrap();
    copy(archive.root(), &both.path().join("debian"));
    copy(security.root(), &both.path().join("debian-security"));
    let server = Server::new(both.path());
    let (main, beside) = (format!("{}/debian", server.url()), format!("{}/debian-security", server.url()));
    let user = User::new(&archive, &main);
    let image = fs::read_to_string(user.path("images/kit.toml")).unwrap();
    let pocket = "[[pocket]]\nname = \"security\"\narchive = \"security\"\nsuite = \"trixie-security\"\n\
                  codename = \"trixie-security\"\nsigners = []\n[apt]\n";
    let archives = "[archive]\nsecurity = { mirror = \"http://127.0.0.1:9/debian-security\" }\n";
    let image = image.replace("[apt]\n", pocket).replace("[archive]\n", archives);
    fs::write(user.path("images/kit.toml"), image).unwrap();
    let lock = |more: &[&str]| {
        let _ = fs::remove_file(user.path("s.lock"));
        let fixed = ["lock", "kit", "-o", "s.lock", "--variant", "essential", "--keyring", "key"];
        let output = user.sandbox(&[&fixed[..], more].concat());
        (output.status.code(), said(&output), fs::read_to_string(user.path("s.lock")).unwrap_or_default())
    };
    let (mirror, named) = (format!("--mirror={main}"), format!("--mirror=security={beside}"));
    for more in [&[mirror.as_str()][..], &[&named], &[&mirror, &named]] {
        let (code, said, text) = lock(more);
        assert!(code == Some(0) && text.contains(&beside), "{more:?}: {said}");
    }
    assert_eq!(lock(&["--pocket", "none"]).0, Some(0));
    fs::remove_dir_all(both.path().join("debian-security")).unwrap();
    for more in [&[][..], &[mirror.as_str()]] {
        let (code, said, _) = lock(more);
        assert_eq!(code, Some(5), "{said}");
        for words in ["127.0.0.1:9/debian-security", "--mirror security=URL", "--pocket none"] {
            assert!(said.contains(words), "{words}: {said}");
        }
    }
}
