//! Signed indexes that are wrong, or merely odd: the program's exit code, and what it takes of them.

use std::{
    fmt::Write as _,
    process::Output,
    time::{Duration, Instant},
};

use crate::{
    kit::{
        archive::{Archive, Edit},
        deb::Deb,
        now,
        server::{Fault, Server},
        system::system,
    },
    user::{BOOTSTRAP, User, said},
};

fn filled(change: impl FnOnce(&mut Archive)) -> Archive {
    let mut archive = Archive::new();
    archive.fill();
    change(&mut archive);
    archive.publish();
    archive
}

fn run(archive: &Archive, more: &[&str]) -> (User, Output) {
    let server = Server::new(archive.root());
    let user = User::new(archive, server.url());
    let output = user.sandbox(&[&BOOTSTRAP[..], more].concat());
    (user, output)
}

fn ends_with(what: &str, code: i32, archive: &Archive, include: &str, reason: &str) {
    let (user, output) = run(archive, &["--include", include]);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(code), "{what}: {said}");
    assert!(said.contains(reason), "{what}: {said}");
    user.has_nothing_left(what);
}

/// An edit of every line that ends so: the listed size becomes another.
fn resized(path: &'static str, change: impl Fn(u64) -> u64 + Send + Sync + 'static) -> Edit {
    Box::new(move |text| {
        let lines = text.lines().map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
            [digest, size, name] if name == path => {
                format!(" {digest} {} {name}", change(size.parse().unwrap()))
            }
            _ => line.to_owned(),
        });
        lines.collect::<Vec<_>>().join("\n") + "\n"
    })
}

#[test]
fn a_release_of_another_time_is_refused() {
    let expired = filled(|archive| archive.valid_until = Some(now() - 60));
    ends_with("expired", 4, &expired, "hello", "expired");
    let (_, output) = run(&expired, &["--ignore-valid-until"]);
    assert!(!said(&output).contains("expired"), "{}", said(&output));
    ends_with("of the future", 4, &filled(|archive| archive.date = now() + 7200), "hello", "future");
}

#[test]
fn an_index_of_another_size_than_is_listed_is_refused() {
    const PACKED: &str = "main/binary-amd64/Packages.xz";
    const PLAIN: &str = "main/binary-amd64/Packages";
    for path in [PACKED, PLAIN] {
        let larger = filled(|archive| archive.edit_release = Some(resized(path, |size| size + 1)));
        ends_with("a larger size", 4, &larger, "hello", "listed");
        let smaller = filled(|archive| archive.edit_release = Some(resized(path, |size| size - 1)));
        ends_with("a smaller size", 4, &smaller, "hello", "listed");
        let huge = filled(|archive| archive.edit_release = Some(resized(path, |_| u64::MAX)));
        ends_with("a huge size", 4, &huge, "hello", "listed");
    }
}

#[test]
fn an_index_that_is_nowhere_by_hash_is_taken_by_name() {
    let archive = filled(|archive| archive.add(&system()));
    let server = Server::new(archive.root());
    server.fault("/by-hash/", Fault::Status(404), u32::MAX);
    let user = User::new(&archive, server.url());
    let output = user.bootstrap("hello");
    assert!(output.status.success(), "{}", said(&output));
    server.fault("Packages", Fault::Status(404), u32::MAX);
    std::fs::remove_dir_all(user.path("cache")).unwrap();
    std::fs::remove_dir_all(user.path("tree")).unwrap();
    let output = user.bootstrap("hello");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    user.has_nothing_left("an index that is nowhere");
}

#[test]
fn an_index_that_is_no_text_is_refused() {
    let edited =
        |change: fn(String) -> String| filled(|archive| archive.edit_packages = Some(Box::new(change)));
    ends_with("CRLF", 4, &edited(|text| text.replace('\n', "\r\n")), "hello", "carriage return");
    ends_with("NUL", 4, &edited(|text| text.replace("Maintainer: N", "Maintainer: \0")), "hello", "NUL");
    ends_with("no version", 4, &edited(|text| text.replace("Version: 2.10-3\n", "")), "hello", "Version");
    ends_with("no field", 4, &edited(|text| text.replace("Version: 2.10-3", "nonsense")), "hello", "hello");
    let climbs = edited(|text| text.replace("Filename: pool/main/h", "Filename: ../pool/main/h"));
    ends_with("a path that climbs", 4, &climbs, "hello", "Filename");
    let no_digest = edited(|text| text.replace("SHA256: ", "SHA1: "));
    ends_with("no digest", 4, &no_digest, "hello", "SHA256");
}

#[test]
fn of_a_package_that_stands_twice_the_first_is_taken() {
    let archive = filled(|archive| {
        archive.add(&system());
        archive.edit_packages = Some(Box::new(|text| {
            let own = text.split("\n\n").find(|stanza| stanza.starts_with("Package: hello\n")).unwrap();
            let other = own.lines().map(|line| match line.split_once(": ") {
                Some(("SHA256", _)) => format!("SHA256: {}", "0".repeat(64)),
                _ => line.to_owned(),
            });
            let other = other.collect::<Vec<_>>().join("\n");
            format!("{text}{own}\n\n{other}\n\n")
        }));
    });
    let (user, output) = run(&archive, &["--include", "hello"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(user.path("tree/usr/bin/hello").exists());
}

#[test]
fn versions_with_epochs_and_tildes_are_in_dpkgs_order() {
    for (versions, newest) in [
        (["1.0", "1.0~rc1"], "1.0"),
        (["2:0.1~beta-1", "99.0-1"], "2:0.1~beta-1"),
        (["1.0-1~deb13u1", "1.0-1"], "1.0-1"),
        (["1.0+dfsg-1", "1.0-2"], "1.0+dfsg-1"),
    ] {
        let archive = filled(|archive| {
            archive.add(&system());
            versions.iter().for_each(|version| archive.add(&Deb::new("many", version)));
        });
        let (user, output) = run(&archive, &["--include", "many"]);
        assert!(output.status.success(), "{}", said(&output));
        let status = std::fs::read_to_string(user.path("tree/var/lib/dpkg/status")).unwrap();
        assert!(status.contains(&format!("\nVersion: {newest}\n")), "{newest}: {status}");
    }
    // an archive may write the colon of an epoch as it may stand in a path
    let archive = filled(|archive| {
        archive.add(&system());
        let mut built = Deb::new("odd", "3:1.0~rc1-1").build();
        built.file_name = "odd_3%3a1.0~rc1-1_amd64.deb".to_owned();
        archive.add_built(built);
    });
    let plain = archive.path("pool/main/o/odd/odd_3%3a1.0~rc1-1_amd64.deb");
    std::fs::copy(&plain, archive.path("pool/main/o/odd/odd_3:1.0~rc1-1_amd64.deb")).unwrap();
    let (_user, output) = run(&archive, &["--include", "odd"]);
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn a_chain_of_ten_thousand_is_followed_to_its_end() {
    let chain = |last: &'static str| {
        filled(|archive| {
            archive.edit_packages = Some(Box::new(move |mut text| {
                for at in 0..10_000 {
                    let next = if at == 9_999 { last.to_owned() } else { format!("link{}", at + 1) };
                    let _ = write!(
                        text,
                        "Package: link{at}\nVersion: 1\nArchitecture: all\nDepends: {next}\n\
                         Filename: pool/link{at}.deb\nSize: 1\nSHA256: {}\n\n",
                        "0".repeat(64)
                    );
                }
                text
            }));
        })
    };
    let begun = Instant::now();
    // the end of the chain is there: the packages themselves are not
    ends_with("whole", 5, &chain("hello"), "link0", "10000 packages cannot be had");
    let (_, output) = run(&chain("nowhere"), &["--include", "link0"]);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("nowhere") && said.lines().count() < 100, "{}", said.lines().count());
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}
