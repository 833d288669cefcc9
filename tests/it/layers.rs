//! Machines made of layers: what is shared, what is kept, what is refused, and who waits for whom.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::{Child, Output, Stdio},
};

use serde_json::Value;

use crate::{
    kit::{
        archive::Archive,
        deb::Deb,
        server::{Fault, Server},
        system::system,
        tar::Entry,
    },
    user::{User, said},
};

/// A user with an archive whose packages end up in layers of their own.
struct Case {
    user: User,
    server: Server,
    _archive: Archive,
}

impl Case {
    fn new() -> Self {
        let mut archive = Archive::new();
        archive.fill();
        archive.add(&system());
        let tree = Deb::new("shapes", "1")
            .file("usr/share/shapes/one", 0o4755, b"#!/bin/sh\n")
            .entry(Entry::hardlink("./usr/share/shapes/two", "./usr/share/shapes/one"))
            .entry(Entry::symlink("./usr/share/shapes/link", "one"))
            .entry(Entry::file("./usr/share/shapes/owned", 0o640, b"x").owned(7, 8));
        archive.add(&tree);
        archive.add(&Deb::new("late", "1").file("usr/share/late", 0o644, b"late").script(
            "postinst",
            "#!/bin/sh\ncat /etc/hostname > /usr/share/late-host\nrm -f /usr/share/shapes/owned\n",
        ));
        archive.publish();
        let server = Server::new(archive.root());
        let user = User::new(&archive, server.url());
        let case = Self { user, server, _archive: archive };
        case.profile("base", "");
        case.profile(
            "a",
            "[packages]\ninstall = [\"shapes\"]\n[[files]]\npath = \"/etc/a\"\ncontent = \"a\"\n",
        );
        case.profile("b", "[packages]\ninstall = [\"late\"]\n");
        case.profile("c", "[[files]]\npath = \"/etc/c\"\ncontent = \"c\"\n");
        case
    }

    fn profile(&self, name: &str, text: &str) {
        fs::create_dir_all(self.user.path("profiles")).unwrap();
        let path = self.user.path(&format!("profiles/{name}.toml"));
        fs::write(path, format!("schema = 1\nname = \"{name}\"\n{text}")).unwrap();
    }

    fn words<'a>(name: &'a str, profiles: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let fixed = [
            "create",
            name,
            "--release",
            "kit",
            "--profile",
            profiles,
            "--variant",
            "essential",
            "--keyring",
            "key",
            "--backend",
            "direct",
            "--network",
            "none",
            "--no-start",
        ];
        [&fixed[..], more].concat()
    }

    fn create(&self, name: &str, profiles: &str, more: &[&str]) -> Output {
        self.user.sandbox(&Self::words(name, profiles, more))
    }

    #[track_caller]
    fn made(&self, name: &str, profiles: &str, more: &[&str]) -> String {
        let output = self.create(name, profiles, more);
        assert!(output.status.success(), "{}", said(&output));
        said(&output)
    }

    fn begun(&self, name: &str, profiles: &str) -> Child {
        let mut command = self.user.command(&Self::words(name, profiles, &[]));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Lists the layers: names with who uses them.
    #[track_caller]
    fn layers(&self) -> Vec<(String, Vec<String>)> {
        let output = self.user.sandbox(&["--json", "layer", "list"]);
        assert!(output.status.success(), "{}", said(&output));
        let listed: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let one = |layer: &Value| {
            let used = layer["used_by"].as_array().unwrap().iter().map(text).collect();
            (text(&layer["name"]), used)
        };
        listed.iter().map(one).collect()
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.layers().into_iter().map(|(name, _)| name).collect();
        names.sort();
        names
    }

    #[track_caller]
    fn does(&self, words: &[&str]) -> String {
        let output = self.user.sandbox(words);
        assert!(output.status.success(), "{words:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Tells of everything in a machine's tree what must be the same in another's.
    fn facts(&self, name: &str) -> BTreeMap<String, String> {
        let mut facts = BTreeMap::new();
        let top = self.user.path(&format!("state/machines/{name}/rootfs"));
        walk(&top, &top, &mut facts);
        facts
    }
}

fn walk(top: &Path, folder: &Path, facts: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let found = fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(top).unwrap().display().to_string();
        let own = ["etc/hostname", "etc/hosts", "etc/sandbox/machine"].contains(&name.as_str());
        let what = if found.is_symlink() {
            fs::read_link(&path).unwrap().display().to_string()
        } else if found.is_file() && !own {
            sandbox_core::digest::Sha256::of(&fs::read(&path).unwrap()).to_string()
        } else {
            String::new()
        };
        let links = if found.is_file() { found.nlink() } else { 0 };
        let fact =
            format!("{:o} {}:{} {links} {} {what}", found.mode(), found.uid(), found.gid(), found.rdev());
        facts.insert(name, fact);
        if found.is_dir() {
            walk(top, &path, facts);
        }
    }
}

#[test]
fn layers_are_built_once_and_a_machine_of_them_is_as_one_built_anew() {
    let case = Case::new();
    let told = case.made("one", "a,b", &[]);
    assert!(told.contains("profile `b` kept as"), "{told}");
    assert_eq!(case.names(), ["a", "b", "base", "kit"]);
    // those that were asked for since the last look
    let fetched = || case.server.log().iter().filter(|request| request.path.ends_with(".deb")).count();
    assert!(fetched() > 2);
    let told = case.made("two", "a,b", &[]);
    assert!(told.contains("4 layers laid out") && !told.contains("kept as"), "{told}");
    assert!(!told.contains("unpack"), "{told}");
    assert_eq!(fetched(), 0);
    case.made("anew", "a,b", &["--fresh"]);
    let (one, two, anew) = (case.facts("one"), case.facts("two"), case.facts("anew"));
    assert!(one["usr/share/shapes/two"].contains("4755") || one["usr/share/shapes/two"].contains(" 2 "));
    assert!(!one.contains_key("usr/share/shapes/owned"), "what a later layer removes is gone");
    assert_eq!(one, two);
    let different: Vec<_> =
        anew.iter().filter(|(path, fact)| two.get(*path) != Some(fact)).map(|(path, _)| path).collect();
    assert_eq!(different, ["usr/share/late-host"], "a layer does not know its machine's name");
    let host = |name: &str, path: &str| {
        fs::read_to_string(case.user.path(&format!("state/machines/{name}/rootfs/{path}"))).unwrap()
    };
    assert_eq!(host("two", "etc/hostname"), "two\n");
    assert_eq!(host("two", "usr/share/late-host"), "localhost\n");
    // what is below is shared, whatever is on it
    let told = case.made("three", "a,c", &[]);
    assert!(told.contains("3 layers laid out") && told.contains("profile `c` kept as"), "{told}");
    assert!(case.facts("three").contains_key("usr/share/shapes/owned"));
    assert_eq!(case.names(), ["a", "b", "base", "c", "kit"]);
}

#[test]
fn profiles_in_any_order_and_packages_beside_them_share_every_layer_below() {
    let case = Case::new();
    case.made("one", "a,b", &[]);
    let told = case.made("two", "b,a", &[]);
    assert!(told.contains("4 layers laid out") && !told.contains("kept as"), "{told}");
    assert_eq!(case.facts("one"), case.facts("two"));
    let told = case.made("three", "c", &["--include", "shapes"]);
    assert!(told.contains("2 layers laid out") && told.contains("packages `--include` kept as"), "{told}");
    assert_eq!(case.names(), ["--include", "a", "b", "base", "c", "kit"]);
    case.does(&["remove", "three", "--yes"]);
    // without a network, where every layer is kept
    case.server.close();
    let told = case.made("three", "c", &["--include", "shapes"]);
    assert!(told.contains("4 layers laid out") && told.contains("what could not be asked for"), "{told}");
}

#[test]
fn a_machine_that_is_being_made_is_listed_and_what_to_do_about_it_is_said() {
    let case = Case::new();
    case.server.fault("shapes_", Fault::Stall(10, 4000), 1);
    let making = case.begun("one", "a");
    let listed = || -> Vec<Value> { serde_json::from_str(&case.does(&["--json", "list"])).unwrap() };
    crate::kit::process::until("a machine", std::time::Duration::from_secs(60), || {
        (!listed().is_empty()).then_some(())
    });
    let holder = format!("process {} (sandbox create)", making.id());
    let one = &listed()[0];
    assert_eq!(
        (&one["name"], &one["state"], &one["holder"]),
        (&"one".into(), &"creating".into(), &(&*holder).into())
    );
    assert!(case.does(&["status", "one"]).contains("creating"));
    for words in [&["stop", "one"][..], &["kill", "one"], &["remove", "one", "--yes"]] {
        case.user.ends(words, 1, &format!("machine `one` is being made by {holder}"));
        case.user.ends(words, 1, &format!("kill {}", making.id()));
    }
    case.user.ends(&["wait", "one", "--timeout", "0"], 1, "machine `one` is being made");
    let made = making.wait_with_output().unwrap();
    assert!(made.status.success(), "{}", said(&made));
    assert_eq!(listed()[0]["state"], "stopped");
}

#[test]
fn what_a_machine_or_a_lock_needs_is_not_removed() {
    let case = Case::new();
    case.made("one", "a", &[]);
    case.made("two", "c", &[]);
    let output = case.user.sandbox(&["layer", "remove", "c"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("machine `two`"), "{}", said(&output));
    assert!(case.does(&["layer", "prune"]).contains("0 layers removed"));
    case.does(&["remove", "two", "--yes"]);
    // with the machine went what needed it, and what is below others stays
    assert!(case.does(&["layer", "prune", "--older-than", "1h"]).contains("0 layers removed"));
    assert!(case.does(&["layer", "prune", "--dry-run"]).contains("1 layer would be removed"));
    assert_eq!(case.names(), ["a", "base", "c", "kit"]);
    assert!(case.does(&["layer", "prune"]).contains("1 layer removed"));
    assert_eq!(case.names(), ["a", "base", "kit"]);
    let output = case.user.sandbox(&["layer", "remove", "base"]);
    assert!(said(&output).contains("layer") && output.status.code() == Some(1), "{}", said(&output));

    // a lock that is named, and one that a machine was made from
    let lock = ["lock", "kit", "--profile", "a", "--variant", "essential", "--keyring", "key"];
    case.does(&lock);
    case.does(&["remove", "one", "--yes"]);
    assert!(case.does(&["layer", "prune", "--dry-run"]).contains("3 layers would be removed"));
    assert!(case.does(&["layer", "prune", "--keep-lock", "sandbox.lock"]).contains("0 layers removed"));
    case.made("one", "a", &["--locked"]);
    case.does(&["remove", "one", "--yes"]);
    assert!(case.layers().iter().all(|(_, used)| used.len() == 1 && used[0].starts_with("lock ")));
    assert!(case.does(&["layer", "prune"]).contains("0 layers removed"));
    fs::remove_file(case.user.path("sandbox.lock")).unwrap();
    assert!(case.does(&["layer", "prune"]).contains("3 layers removed"));
    case.user.ends(&["layer", "remove", "a"], 1, "there is no layer `a`");
}

#[test]
fn a_login_in_a_layer_fails_the_build_and_is_not_shown() {
    let case = Case::new();
    let secret = format!("{}{}", "ghp", "_aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5");
    case.profile("leak", &format!("[[files]]\npath = \"/srv/x\"\ncontent = \"token={secret}\"\n"));
    let output = case.create("one", "a,leak", &[]);
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    let told = said(&output);
    assert!(told.contains("/srv/x (GitHub token, `ghp_…`)") && !told.contains(&secret), "{told}");
    assert_eq!(case.names(), ["a", "base", "kit"], "what is below is kept");
    assert!(!case.user.path("state/machines/one").exists());
    let whole = |path: &Path| fs::read_dir(path).map_or(0, Iterator::count);
    assert_eq!(whole(&case.user.path("state/layers/partial")), 0);
    assert_eq!(whole(&case.user.path("state/layers/claims")), 0);
}

#[test]
fn a_killed_build_is_cleaned_up_and_what_it_had_kept_is_used() {
    let case = Case::new();
    case.server.fault("late_", Fault::Stall(10, 60_000), 1);
    let mut child = case.begun("one", "a,b");
    crate::kit::process::until("a layer", std::time::Duration::from_secs(60), || {
        let kept = fs::read_dir(case.user.path("state/layers")).ok()?;
        let is_layer = |entry: &fs::DirEntry| entry.file_name().len() == 64;
        (kept.flatten().filter(is_layer).count() == 3).then_some(())
    });
    child.kill().unwrap();
    child.wait().unwrap();
    // as if it had been killed while it wrote one
    let kept = fs::read_dir(case.user.path("state/layers/claims")).unwrap().flatten().next().unwrap();
    let partial = case.user.path("state/layers/partial").join(kept.file_name());
    fs::create_dir_all(partial.join("tree")).unwrap();
    let output = case.user.sandbox(&["layer", "list"]);
    assert!(said(&output).contains("cleaned up 1 half-made layer"), "{}", said(&output));
    assert!(!partial.exists());
    assert_eq!(case.names(), ["a", "base", "kit"]);
    let told = case.made("one", "a,b", &[]);
    assert!(told.contains("3 layers laid out") && told.contains("profile `b` kept as"), "{told}");
}

#[test]
fn of_two_builds_at_once_one_builds_and_the_other_waits() {
    let case = Case::new();
    case.server.fault("shapes_", Fault::Stall(10, 3000), 1);
    let first = case.begun("one", "a,b");
    crate::kit::process::until("a claim", std::time::Duration::from_secs(60), || {
        let claims = fs::read_dir(case.user.path("state/layers/claims")).ok()?;
        (claims.count() > 0).then_some(())
    });
    let second = case.begun("two", "a,c");
    let (first, second) = (first.wait_with_output().unwrap(), second.wait_with_output().unwrap());
    assert!(first.status.success(), "{}", said(&first));
    assert!(second.status.success(), "{}", said(&second));
    assert!(said(&second).contains("waiting for layer `"), "{}", said(&second));
    assert!(said(&second).contains("sandbox create) builds"), "{}", said(&second));
    assert!(!said(&second).contains("profile `a` kept as"), "{}", said(&second));
    assert_eq!(case.names(), ["a", "b", "base", "c", "kit"]);
}
