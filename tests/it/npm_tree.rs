//! npm packages with all they depend on: chosen without a tree, fetched by digest, installed by the tree's npm, here
//! one that writes down what it is given.

use std::fs;

use serde_json::{Value, json};

use crate::{
    kit::{deb::Deb, registries::Npm, server::Fault},
    stack::{FORGE, Stack},
    user::said,
};

/// What stands for npm: it sees that it has no network, and keeps what it was called with.
const NPM: &str = "#!/bin/sh\nset -e\necho \"$@\" >> /npm.log\ncat /opt/tool/package-lock.json > /npm.lock\n\
                   ls -R /var/tmp/sandbox-npm > /npm.cache\nls /sys/class/net > /npm.net\n\
                   mkdir -p /opt/tool/node_modules/.bin\ntouch /opt/tool/node_modules/.package-lock.json\n";

fn stack() -> Stack {
    Stack::with(&[Deb::new("npm", "11").file("usr/bin/npm", 0o755, NPM.as_bytes())])
}

fn profile(more: &str) -> String {
    format!(
        "[packages]\ninstall = [\"npm\"]\n[[npm]]\npackage = \"@s/tool\"\ninto = \"/opt/tool\"\n\
         bin = {{ \"/usr/bin/tool\" = \"node_modules/.bin/tool\" }}\n{more}\n"
    )
}

/// A tree with two versions of one package, an alias, optional builds, a peer and something bundled.
fn fill(npm: &Npm<'_>) {
    npm.publish("a", "1.0.0", &json!({}), &[]);
    npm.publish("a", "2.0.0", &json!({}), &[]);
    npm.publish("b", "1.4.0", &json!({ "dependencies": { "a": "^1.0.0" } }), &[]);
    npm.publish("host", "3.0.0", &json!({}), &[]);
    npm.publish("plugin", "1.0.0", &json!({ "peerDependencies": { "host": "3.x", "gone": "*" }, "peerDependenciesMeta": { "gone": { "optional": true } } }), &[]);
    npm.publish("n-linux", "1.0.0", &json!({ "os": ["linux"], "cpu": ["x64"] }), &[]);
    npm.publish("n-mac", "1.0.0", &json!({ "os": ["darwin"] }), &[]);
    let tool = json!({
        "bin": "cli.js",
        "dependencies": { "a": ">=1.5", "b": "^1.2.0", "other": "npm:a@^1.0.0", "plugin": "*", "inside": "^9.0.0" },
        "optionalDependencies": { "n-linux": "1.0.0", "n-mac": "1.0.0", "never": "1.0.0" },
        "bundleDependencies": ["inside"],
    });
    npm.publish("@s/tool", "1.0.0", &tool, &[("cli.js", "#!/usr/bin/env node\n")]);
}

#[test]
fn a_tree_is_locked_whole_and_installed_of_the_lock_alone() {
    let stack = stack();
    let npm = Npm::at(&stack.vendor);
    fill(&npm);
    stack.profile(&profile(""));
    let lock = stack.locked();
    let part = lock.split("[[part]]").nth(1).unwrap();
    assert!(
        part.starts_with("\nkind = \"npm-tree\"\npackage = \"@s/tool\"\nversion = \"1.0.0\"\npackages = [\n"),
        "{part}"
    );
    let words = |line: &str| line.split(", sha512").next().unwrap().trim().to_owned();
    let packages: Vec<_> = part.lines().filter(|line| line.contains("path =")).map(words).collect();
    assert_eq!(
        packages,
        [
            "{ path = \"node_modules/@s/tool\", version = \"1.0.0\"",
            "{ path = \"node_modules/a\", version = \"2.0.0\"",
            "{ path = \"node_modules/b\", version = \"1.4.0\"",
            "{ path = \"node_modules/b/node_modules/a\", version = \"1.0.0\"",
            "{ path = \"node_modules/host\", version = \"3.0.0\"",
            "{ path = \"node_modules/n-linux\", version = \"1.0.0\"",
            "{ path = \"node_modules/other\", version = \"1.0.0\", name = \"a\"",
            "{ path = \"node_modules/plugin\", version = \"1.0.0\"",
        ]
    );
    let log = stack.vendor.server().log();
    assert!(log.iter().all(|request| !request.path.ends_with(".tgz")), "locking fetches no tarball: {log:?}");
    // the registry goes on, and the lock does not
    npm.publish("b", "1.5.0", &json!({}), &[]);
    let output = stack.build("tree");
    assert!(output.status.success(), "{}", said(&output));
    let log = stack.vendor.server().log();
    assert!(log.iter().all(|request| request.path.ends_with(".tgz")) && log.len() == 7, "each once: {log:?}");
    let read = |name: &str| fs::read_to_string(stack.user.path("tree").join(name)).unwrap();
    assert!(read("npm.log").starts_with("ci --ignore-scripts --prefix /opt/tool "), "{}", read("npm.log"));
    assert_eq!((read("npm.log").lines().count(), read("npm.net").as_str()), (1, "lo\n"));
    let made: Value = serde_json::from_str(&read("npm.lock")).unwrap();
    assert_eq!(made["packages"][""], json!({ "dependencies": { "@s/tool": "1.0.0" } }));
    let tool = &made["packages"]["node_modules/@s/tool"];
    assert_eq!(tool["bin"], json!({ "tool": "cli.js" }));
    assert_eq!(
        tool["dependencies"],
        json!({ "a": ">=1.5", "b": "^1.2.0", "other": "npm:a@^1.0.0", "plugin": "*" })
    );
    assert_eq!(tool["optionalDependencies"], json!({ "n-linux": "1.0.0" }));
    assert_eq!(made["packages"]["node_modules/other"]["name"], "a");
    assert_eq!(made["packages"]["node_modules/plugin"]["peerDependencies"], json!({ "host": "3.x" }));
    assert!(!read("npm.lock").contains("127.0.0.1"), "no address of this host");
    let tree = stack.user.path("tree");
    for gone in
        ["opt/tool/package-lock.json", "opt/tool/node_modules/.package-lock.json", "var/tmp/sandbox-npm"]
    {
        assert!(!tree.join(gone).exists(), "{gone} is left");
    }
    assert_eq!(
        fs::read_link(tree.join("usr/bin/tool")).unwrap().to_str(),
        Some("/opt/tool/node_modules/.bin/tool")
    );
    // a second build needs nobody
    stack.vendor.server().fault("", Fault::Status(503), u32::MAX);
    let output = stack.build("again");
    assert!(output.status.success(), "{}", said(&output));
    stack.vendor.server().heal();
    fs::copy(stack.user.path("sandbox.lock"), stack.user.path("old.lock")).unwrap();
    stack.locked();
    let differ = stack.user.sandbox(&["lock", "diff", "old.lock"]);
    let text = String::from_utf8(differ.stdout).unwrap();
    assert_eq!(
        text,
        "* npm @s/tool: node_modules/b 1.4.0 → 1.5.0 (up)\n- npm @s/tool: node_modules/b/node_modules/a 1.0.0\n"
    );
}

#[test]
fn scripts_are_run_of_those_that_are_named_alone() {
    let stack = stack();
    let npm = Npm::at(&stack.vendor);
    fill(&npm);
    stack.profile(&profile("scripts = [\"b\"]"));
    stack.built();
    let log = fs::read_to_string(stack.user.path("tree/npm.log")).unwrap();
    assert!(log.lines().nth(1).unwrap().starts_with("rebuild --ignore-scripts=false b --prefix"), "{log}");
    fs::remove_dir_all(stack.user.path("tree")).unwrap();
    stack.profile(&profile("scripts = [\"c\"]"));
    stack.refuses_to_build(3, "names `c`, which is not in its tree");
}

#[test]
fn a_tree_that_cannot_be_locked_says_why() {
    let stack = stack();
    let npm = Npm::at(&stack.vendor);
    stack.profile(&profile(""));
    stack.refuses_to_lock(1, "has no `@s/tool` latest, which the profile needs");
    let one = |description: Value, code: i32, word: &str| {
        npm.publish("@s/tool", "1.0.0", &description, &[]);
        stack.refuses_to_lock(code, word);
    };
    one(json!({ "dependencies": { "gone": "^1" } }), 1, "has no `gone` ^1, which `@s/tool` 1.0.0 needs");
    one(
        json!({ "dependencies": { "x": "git+https://x.invalid/x.git" } }),
        4,
        "is not in the registry and has no digest",
    );
    npm.publish("mac", "1.0.0", &json!({ "os": ["darwin"] }), &[]);
    one(
        json!({ "dependencies": { "mac": "*" } }),
        1,
        "`mac` 1.0.0, which `@s/tool` 1.0.0 needs, does not run on linux of amd64",
    );
    npm.publish("@s/tool", "1.0.0", &json!({}), &[]);
    npm.edit("@s/tool", "1.0.0", |version| version["dist"]["integrity"] = "sha1-AAAA".into());
    stack.refuses_to_lock(4, "gives no sha512 integrity of `@s/tool` 1.0.0");
    stack.profile(&profile("").replace("install = [\"npm\"]", ""));
    stack.refuses_to_lock(3, "requires = [\"node\"]");
}

/// A token of npmrc and a password of pip's index go into the heads of requests to those two, and nowhere else.
#[test]
fn secrets_are_for_those_who_gave_them() {
    let stack = stack();
    let npm = Npm::at(&stack.vendor);
    fill(&npm);
    stack.vendor.release("o/tool", "v1", &[("tool", b"tool")]);
    let download = format!(
        "[[download]]\nname = \"d\"\nversion = \"1\"\nunchecked = true\ninto = \"/opt/d\"\n\
         url = \"{FORGE}/o/tool/releases/download/v1/tool\"\narchitectures = {{ amd64 = {{ word = \"x\" }} }}\n"
    );
    stack.profile(&(profile("") + &download));
    let registry = format!("{}/npm/", stack.vendor.url());
    let (place, rest) = (registry.trim_start_matches("https:"), "\nregistry=");
    let npmrc = format!("{place}:_authToken=${{TOKEN}}{rest}{registry}\n");
    fs::create_dir(stack.user.path("home")).unwrap();
    fs::write(stack.user.path("home/.npmrc"), npmrc).unwrap();
    let run = |words: &[&str]| {
        let options = stack.vendor.options(&[FORGE]);
        let fixed = ["--variant", "essential", "--keyring", "key", "--profile", "./p.toml"];
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let mut command = stack.user.command(&[words, &fixed, &options].concat());
        let output = command.env("HOME", stack.user.path("home")).env("TOKEN", "s3cret").output().unwrap();
        assert!(output.status.success() && !said(&output).contains("s3cret"), "{}", said(&output));
    };
    run(&["lock", "kit"]);
    run(&["bootstrap", "--locked", "kit", "tree.tar"]);
    let log = stack.vendor.server().log();
    for request in &log {
        let expected = request.path.starts_with("/npm/").then(|| "Bearer s3cret".to_owned());
        assert_eq!(request.authorization, expected, "{request:?}");
    }
    assert!(log.iter().any(|request| request.path.ends_with(".tgz")));
    for file in ["sandbox.lock", "tree.tar"] {
        let bytes = fs::read(stack.user.path(file)).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"s3cret"), "{file} has the token");
    }
}

#[test]
fn a_tarball_is_what_was_locked_or_nothing() {
    let stack = stack();
    let npm = Npm::at(&stack.vendor);
    fill(&npm);
    stack.profile(&profile(""));
    stack.locked();
    npm.publish("b", "1.4.0", &json!({}), &[("other", "x")]);
    let output = stack.build("tree");
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert!(said(&output).contains("the tarball of `b` 1.4.0 cannot be had"), "{}", said(&output));
    fill(&npm);
    stack.vendor.server().fault("b-1.4.0.tgz", Fault::Status(404), u32::MAX);
    let output = stack.build("tree");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    stack.vendor.server().heal();
    stack.vendor.server().fault("b-1.4.0.tgz", Fault::Cut(20), 1);
    let output = stack.build("tree");
    assert!(output.status.success(), "{}", said(&output));
    assert!(stack.vendor.server().log().iter().any(|request| request.offset == Some(20)));
}
