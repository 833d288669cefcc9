//! Verbs on several machines, and what `create` takes: on machines that are never booted.

use std::{fs, os::unix::fs::MetadataExt as _};

use serde_json::Value;

use crate::{
    copies::Case,
    user::{User, said},
};

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A profile with the place of SSH keys, and one of logins.
fn with_keys(user: &User) {
    fs::create_dir_all(user.path("profiles")).unwrap();
    let volume = |path: &str, kind: &str| {
        format!("[[volumes]]\npath = \"{path}\"\nkind = \"{kind}\"\nowner = \"root\"\nmode = \"0755\"\n")
    };
    let text = format!(
        "schema = 1\nname = \"keys\"\n{}{}",
        volume("/etc/ssh/authorized_keys.d", "home"),
        volume("/srv/login", "auth")
    );
    fs::write(user.path("profiles/keys.toml"), text).unwrap();
}

#[test]
fn all_are_tried_and_the_worst_exit_code_counts() {
    if !is_root() {
        return;
    }
    let case = Case::new();
    case.does(&Case::create("two"));
    case.does(&["stop", "one", "two", "one"]);
    case.does(&["enable", "one", "two"]);
    let status: Value = serde_json::from_str(&case.does(&["--json", "set", "two"])).unwrap();
    assert!(status["autostart"].is_object(), "{status}");
    // both are named, also for a program
    let wrong = case.user.sandbox(&["--json", "kill", "one", "gone", "two"]);
    assert_eq!(wrong.status.code(), Some(1), "{}", said(&wrong));
    let values = serde_json::Deserializer::from_slice(&wrong.stdout).into_iter::<Value>();
    let values: Vec<_> = values.map(Result::unwrap).collect();
    assert_eq!(values.last().unwrap()["message"], "not signalled: one, gone, two", "{values:?}");
    assert_eq!(values.len(), 4, "{values:?}");
    // a wrong name is found before anything is done
    case.user.ends(&["remove", "one", "A", "--yes"], 2, "error: ");
    // nobody can be asked, and it is asked once
    case.user.ends(&["remove", "one", "two"], 2, "Remove these machines");
    assert_eq!(case.names(), ["one", "two"]);
    case.does(&["protect", "one"]);
    let output = case.user.sandbox(&["remove", "--all", "--yes"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("not removed: one"), "{}", said(&output));
    assert!(said(&output).contains("sandbox unprotect one"), "{}", said(&output));
    assert_eq!(case.names(), ["one"]);
    case.does(&["unprotect", "--all"]);
    case.user.ends(&["remove", "gone", "one", "--yes"], 1, "not removed: gone");
    assert!(case.names().is_empty());
    case.user.ends(&["stop", "--all"], 0, "no machine runs");
    case.user.ends(&["start", "--all"], 0, "sandbox enable NAME");
}

#[test]
fn a_protected_machine_stays() {
    if !is_root() {
        return;
    }
    let case = Case::new();
    case.does(&["snapshot", "create", "one", "first"]);
    case.does(&["protect", "one"]);
    assert!(case.does(&["set", "one"]).contains("protected: yes"));
    for words in [&["remove", "one", "--yes"][..], &["snapshot", "restore", "one", "first", "--yes"]] {
        case.user.ends(words, 1, "because it is protected");
        case.user.ends(words, 1, "hint: allow it again:  sandbox unprotect one");
    }
    // a copy is not
    case.does(&["clone", "one", "two", "--no-start"]);
    case.does(&["remove", "two", "--yes"]);
    case.does(&["unprotect", "one"]);
    case.does(&["snapshot", "restore", "one", "first", "--yes"]);
    case.does(&["remove", "one", "--yes"]);
}

#[test]
fn a_machine_is_made_with_all_that_it_is_given() {
    if !is_root() {
        return;
    }
    let case = Case::with(with_keys);
    let user = &case.user;
    fs::write(user.path("key.pub"), "ssh-ed25519 AAAAC3Nz me@here\n").unwrap();
    fs::write(user.path("settings"), "one = 1\n").unwrap();
    fs::create_dir_all(user.path("project/src")).unwrap();
    fs::write(user.path("project/src/main"), "fn main").unwrap();
    let shared = user.path("shared");
    fs::create_dir(&shared).unwrap();
    std::os::unix::fs::chown(&shared, Some(1000), Some(1000)).unwrap();
    let words = "--ssh-key key.pub --copy settings:/etc/given:33 --copy project:/opt/deep/project --mount \
                 shared:/mnt/shared:ro --env A=b --profile keys --protect";
    let mut create: Vec<&str> = Case::create("three");
    create.extend(words.split(' '));
    case.does(&create);
    let tree = case.tree("three");
    assert_eq!(fs::read_to_string(tree.join("etc/given")).unwrap(), "one = 1\n");
    assert_eq!(fs::metadata(tree.join("etc/given")).unwrap().uid(), 33);
    assert_eq!(fs::read_to_string(tree.join("opt/deep/project/src/main")).unwrap(), "fn main");
    let keys = user.path("state/volumes/three/etc-ssh-authorized_keys.d/agent");
    assert_eq!(fs::read_to_string(keys).unwrap(), "ssh-ed25519 AAAAC3Nz me@here\n");
    let set: Value = serde_json::from_str(&case.does(&["--json", "set", "three"])).unwrap();
    assert_eq!((&set["environment"]["A"], &set["protected"]), (&"b".into(), &true.into()), "{set}");
    assert_eq!(
        (&set["mounts"][0]["path"], &set["mounts"][0]["read_only"]),
        (&"/mnt/shared".into(), &true.into())
    );
    assert!(tree.join("mnt/shared").is_dir());
    let variables = fs::read_to_string(tree.join("etc/environment.d/90-sandbox-set.conf")).unwrap();
    assert!(variables.contains("A=\"b\""), "{variables}");
}

#[test]
fn what_a_machine_cannot_be_given_is_found_before_anything_is_fetched() {
    if !is_root() {
        return;
    }
    let case = Case::with(with_keys);
    fs::write(case.user.path("id"), "-----BEGIN OPENSSH PRIVATE KEY-----\n").unwrap();
    fs::write(case.user.path("key.pub"), "ssh-ed25519 AAAAC3Nz me@here\n").unwrap();
    case.fetched();
    for (words, code, word) in [
        ("--mount gone:/mnt/x", 1, "gone cannot be mounted"),
        ("--mount outside/canary:/mnt/x", 2, "is not a directory"),
        ("--mount outside:/proc/x", 2, "keeps for itself"),
        ("--mount outside:/srv/login", 1, "is a volume of the machine"),
        ("--mount outside:/mnt/x --mount images:/mnt/x", 1, "has another mount"),
        ("--mount outside:mnt", 2, "PATH begins with a slash"),
        ("--copy gone:/etc/x", 1, "gone cannot be copied"),
        ("--copy id:/srv/login/id", 1, "is a volume of logins"),
        ("--copy id:/etc/../x", 2, "without `..`"),
        ("--ssh-key id", 3, "hint: give the public one:  --ssh-key id.pub"),
        ("--ssh-key outside/canary", 3, "no file of public keys"),
        ("--env 1=x", 2, "is not KEY=VALUE"),
        ("--memory much", 2, "is no size"),
        ("--ephemeral", 2, "cannot be used with"),
        ("--release debian-99", 2, "trixie (debian-13)"),
    ] {
        let mut create = Case::create("four");
        if words.starts_with("--release") {
            create.drain(2..4);
        }
        if words.contains("login") || words.contains("ssh-key") {
            create.extend(["--profile", "keys"]);
        }
        create.extend(words.split(' '));
        case.user.ends(&create, code, word);
    }
    let mut create = Case::create("four");
    create.extend(["--ssh-key", "key.pub"]);
    case.user.ends(&create, 2, "--profile ssh");
    assert_eq!(case.fetched(), 0, "something was fetched for what cannot be made");
    assert_eq!(case.names(), ["one"]);
}

#[test]
fn a_machine_without_a_name_is_given_one() {
    if !is_root() {
        return;
    }
    let case = Case::new();
    let create = Case::create("");
    let words: Vec<_> = create.iter().filter(|word| !word.is_empty()).copied().collect();
    let name = case.does(&words);
    assert!(case.names().contains(&name.trim_end().to_owned()), "{name}");
    let other = case.does(&words);
    assert_ne!(name, other);
    case.does(&["rm", name.trim_end(), other.trim_end(), "--yes"]);
}

#[test]
fn the_words_of_other_tools_lead_on() {
    if !is_root() {
        return;
    }
    let case = Case::new();
    for words in [&["ps"][..], &["info", "one"], &["images"]] {
        case.does(words);
    }
    case.user.ends(
        &["halt", "one"],
        2,
        "hint: shut machines down:  sandbox --cache-dir cache --state-dir state stop one",
    );
    case.user.ends(&["--json", "attach", "one"], 2, "shell one");
    let said = case.user.sandbox(&["--json", "attach", "one"]);
    let said: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!((&said["exit"], said["hints"].as_array().map(Vec::len)), (&2.into(), Some(2)), "{said}");
}
