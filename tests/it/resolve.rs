//! `sandbox resolve` against the test archive: what it prints, and that it fetches indexes only.

use std::{fs, process::Output};

use crate::{
    kit::{archive::Archive, deb::Deb, server::Server},
    user::{User, said},
};

/// Asks for the packages of a build of the essential ones.
fn resolve(user: &User, more: &[&str]) -> Output {
    user.sandbox(&[&["resolve", "kit", "--variant", "essential", "--keyring", "key"], more].concat())
}

fn out(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", said(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn archive() -> Archive {
    let mut archive = Archive::new();
    archive.fill();
    archive.add(&Deb::new("app", "1:2-3").field("Depends", "lib (>= 1)").field("Recommends", "nice"));
    archive.add(&Deb::new("lib", "1.5"));
    archive.add(&Deb::new("nice", "1"));
    archive.publish();
    archive
}

#[test]
fn prints_the_set_in_install_order_and_fetches_indexes_only() {
    let archive = archive();
    let server = Server::new(archive.root());
    let user = User::new(&archive, server.url());
    let text = out(&resolve(&user, &["--include", "app"]));
    assert_eq!(text, "base-files:amd64 13.8\nlib:amd64 1.5\napp:amd64 1:2-3\n");
    let text = out(&resolve(&user, &["--include", "app", "--recommends"]));
    assert!(text.ends_with("nice:amd64 1\n") || text.contains("\nnice:amd64 1\n"), "{text}");
    let log = server.log();
    assert!(!log.is_empty() && log.iter().all(|request| request.path.contains("/dists/")), "{log:?}");
    user.has_nothing_left("resolve");
}

#[test]
fn tells_a_program_more() {
    let archive = archive();
    let server = Server::new(archive.root());
    let user = User::new(&archive, server.url());
    let text = out(&resolve(&user, &["--include", "app", "--json"]));
    let all: serde_json::Value = serde_json::from_str(&text).unwrap();
    let app = &all["packages"][2];
    assert_eq!(app["name"], "app");
    assert_eq!(app["version"], "1:2-3");
    assert_eq!(app["source"], "release");
    assert_eq!(app["reason"], serde_json::json!({"kind": "requested", "of": "--include"}));
    assert!(app["size"].as_u64().unwrap() > 100);
    assert_eq!(all["sources"][0]["suite"], "trixie");
}

#[test]
fn tells_why_a_package_is_there() {
    let archive = archive();
    let server = Server::new(archive.root());
    let user = User::new(&archive, server.url());
    let text = out(&resolve(&user, &["--include", "app", "--why", "lib"]));
    assert_eq!(text, "app:amd64 1:2-3  is wanted by --include\nlib:amd64 1.5  is a dependency of app\n");
    let none = resolve(&user, &["--why", "nice"]);
    assert_eq!(none.status.code(), Some(1));
    assert!(said(&none).contains("`nice` is not among the 1"), "{}", said(&none));
}

#[test]
fn says_why_a_wish_cannot_be_met() {
    let mut archive = archive();
    archive.add(&Deb::new("claude", "2").field("Depends", "lib (>= 20)"));
    archive.publish();
    let server = Server::new(archive.root());
    let user = User::new(&archive, server.url());
    let output = resolve(&user, &["--include", "claude"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        said(&output).lines().filter(|line| !line.contains("archive  ")).collect::<Vec<_>>(),
        [
            "error: could not resolve image `kit`",
            "  because no set of packages meets all wishes",
            "  because `claude` is wanted by --include",
            "  because `claude 2` depends on `lib (>= 20)`",
            "  because the archive offers `lib` 1.5 (release)",
        ]
    );
}

/// As design §8 draws it: the last line is a way out.
#[test]
fn names_the_pockets_that_were_not_asked() {
    let archive = archive();
    let server = Server::new(archive.root());
    let user = User::new(&archive, server.url());
    let image = fs::read_to_string(user.path("images/kit.toml")).unwrap();
    let pocket = "[[pocket]]\nname = \"backports\"\narchive = \"main\"\nsuite = \"b\"\nsigners = []\noptional = true\n";
    fs::write(user.path("images/kit.toml"), image.replace("[apt]", &format!("{pocket}[apt]"))).unwrap();
    let output = resolve(&user, &["--include", "lib=20"]);
    assert_eq!(output.status.code(), Some(1));
    let text = said(&output);
    assert!(text.ends_with("\nhint: look in backports too:  --pocket backports\n"), "{text}");
}

/// What a profile would like and the archive has several of, or cannot install, is left out and said.
#[test]
fn leaves_out_what_is_not_available() {
    let mut archive = archive();
    archive.add(&Deb::new("bad", "1").field("Depends", "gone"));
    archive.publish();
    let server = Server::new(archive.root());
    let user = User::new(&archive, server.url());
    fs::create_dir(user.path("profiles")).unwrap();
    let text =
        "schema = 1\nname = \"p\"\n[packages]\ninstall = [\"lib\"]\nif-available = [\"bad\", \"nice\"]\n";
    fs::write(user.path("profiles/p.toml"), text).unwrap();
    let output = resolve(&user, &["--profile", "p"]);
    assert_eq!(out(&output), "base-files:amd64 13.8\nlib:amd64 1.5\nnice:amd64 1\n");
    let note = "left out `bad`, which ./profiles/p.toml would like: the archive offers no `gone`";
    assert!(said(&output).contains(note), "{}", said(&output));
}
