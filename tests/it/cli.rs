//! The command line: exit codes, what is said to people and to programs, help.

use std::os::unix::{fs::PermissionsExt as _, process::CommandExt as _};

use crate::{
    kit::{archive::Archive, server::Server},
    user::{BOOTSTRAP, User, said},
};

const VERBS: &[&str] = &[
    "bootstrap",
    "resolve",
    "create",
    "lock",
    "start",
    "stop",
    "restart",
    "kill",
    "wait",
    "set",
    "enable",
    "disable",
    "protect",
    "unprotect",
    "mount",
    "unmount",
    "copy",
    "top",
    "console",
    "remove",
    "list",
    "status",
    "logs",
    "exec",
    "shell",
    "health",
    "profile",
    "doctor",
    "completions",
    "man",
];

/// Lists the texts between quotes that follow a hint in the sources, and where each is.
fn hints_of_sources(folder: &std::path::Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            hints_of_sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            for begin in ["Hint::run(", ".hint("] {
                for rest in text.split(begin).skip(1) {
                    // the purpose, and the command behind it
                    let end = rest.find(';').unwrap_or(rest.len());
                    let command = rest[..end].split('"').skip(1).step_by(2).nth(1).unwrap_or_default();
                    found.push((path.display().to_string(), command.to_owned()));
                }
            }
        }
    }
}

#[test]
fn a_hint_is_a_command_that_can_be_copied() {
    let mut hints = Vec::new();
    for sources in ["../sandbox-core/src", "src"] {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(sources);
        hints_of_sources(&folder, &mut hints);
    }
    assert!(hints.len() > 60, "{}", hints.len());
    for (path, command) in hints {
        assert!(!command.contains('…'), "{path}: `{command}`");
        let words: Vec<&str> = command.split_whitespace().collect();
        if let ["sandbox", verb, ..] = words[..] {
            let is_verb = VERBS.contains(&verb)
                || ["export", "import", "layer", "repair", "secret", "snapshot"].contains(&verb);
            assert!(is_verb || verb.starts_with(['{', '-']), "{path}: `{command}`");
        }
    }
}

#[test]
fn what_is_asked_for_wrongly_is_said_so() {
    let archive = Archive::small();
    let server = Server::new(archive.root());
    let user = User::new(&archive, server.url());
    let ends = |args: &[&str], code: i32, word: &str| user.ends(args, code, word);
    ends(&["bootstrap", "kitt", "tree"], 2, "did you mean `kit`?");
    ends(&["bootstrap", "kit", "tree", "--variant", "tiny"], 2, "minbase");
    ends(&["bootstrap", "kit", "outside"], 1, "is not an empty directory");
    ends(&["bootstrap", "kit", "tree", "--mirror", "other=http://127.0.0.1:9"], 2, "it has main");
    ends(&["bootstrap", "kit", "tree", "--keyring", "gone"], 3, "gone");
    for name in ["../x", "", "a/b", ".", "a b", "A\n"] {
        ends(&["create", name, "--release", "kit"], 2, "error: ");
    }
    ends(&["create", "../x", "--release", "kit"], 2, "position 1");
    ends(&["bootstrap", "kit", "tree", "--profile", "dokcer"], 2, "did you mean `docker`?");
    ends(&["bootsrap", "kit", "tree"], 2, "bootstrap");
    assert!(server.log().is_empty(), "something was fetched for a command that makes no sense");
    let unknown = [&BOOTSTRAP[..], &["--include", "helo"]].concat();
    ends(&unknown, 1, "helo");
    user.has_nothing_left("an unknown package");
}

#[test]
fn an_error_is_one_object_for_a_program() {
    let archive = Archive::small();
    archive.tamper(&archive.dist("InRelease"), |bytes| {
        String::from_utf8(bytes).unwrap().replace("Label: Tests", "Label: Guests").into_bytes()
    });
    let server = Server::new(archive.root());
    let user = User::new(&archive, server.url());
    let output = user.sandbox(&[&["--json"], &BOOTSTRAP[..]].concat());
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let events: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let errors: Vec<_> = events.iter().filter(|event| event["event"] == "error").collect();
    assert_eq!(errors.len(), 1, "{text}");
    assert_eq!(errors[0], events.last().unwrap());
    assert_eq!(errors[0]["exit"], 4);
    assert!(errors[0]["message"].as_str().unwrap().starts_with("could not "), "{text}");
    assert!(!errors[0]["because"].as_array().unwrap().is_empty(), "{text}");
    user.has_nothing_left("a refusal told to a program");

    let output = user.sandbox(&["--json", "status", "nobody"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let error: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&error["event"], &error["exit"]), (&"error".into(), &1.into()));
}

#[test]
fn without_root_nothing_is_fetched() {
    let archive = Archive::small();
    let server = Server::new(archive.root());
    let user = User::new(&archive, server.url());
    std::fs::set_permissions(user.path("."), std::fs::Permissions::from_mode(0o777)).unwrap();
    let create = ["create", "mine", "--release", "kit", "--keyring", "key"];
    // where the tests were compiled may be closed to others
    let program = user.path("sandbox");
    std::fs::copy(env!("CARGO_BIN_EXE_sandbox"), &program).unwrap();
    for args in [&BOOTSTRAP[..], &create] {
        let output = user.command_of(&program, args).uid(65534).gid(65534).output().unwrap();
        assert_eq!(output.status.code(), Some(6), "{args:?}: {}", said(&output));
        assert!(said(&output).contains("needs root"), "{}", said(&output));
        assert!(said(&output).contains("hint: run it as root:  sudo sandbox "), "{}", said(&output));
    }
    assert!(server.log().is_empty(), "something was fetched before root was asked for");
    assert!(!user.path("tree").exists());
    assert!(!user.path("cache").exists());
}

#[test]
fn help_completions_and_manual_are_there() {
    let archive = Archive::small();
    let user = User::new(&archive, "http://127.0.0.1:9");
    let text = |args: &[&str]| {
        let output = user.sandbox(args);
        assert!(output.status.success(), "{args:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let all = text(&["--help"]);
    for verb in VERBS {
        assert!(all.contains(&format!("\n  {verb}")), "{verb} is not in --help");
        assert!(text(&[verb, "--help"]).contains("Usage: sandbox "), "{verb}");
    }
    for verb in ["create", "bootstrap", "lock", "exec"] {
        assert!(text(&[verb, "--help"]).contains("Examples:"), "{verb}");
    }
    for shell in ["bash", "zsh", "fish"] {
        // it asks this program again, which knows verbs and names
        assert!(text(&["completions", shell]).contains("COMPLETE"), "{shell}");
    }
    assert!(text(&["man"]).contains(".TH sandbox"));
    let pages = user.path("pages");
    text(&["man", "--dir", pages.to_str().unwrap()]);
    for verb in VERBS {
        let page = std::fs::read_to_string(pages.join(format!("sandbox-{verb}.1"))).unwrap();
        assert!(page.contains(&format!("sandbox\\-{verb}")) && page.contains(".SH DESCRIPTION"), "{verb}");
        for section in ["EXIT STATUS", "FILES", "ENVIRONMENT", "SEE ALSO"] {
            assert!(
                page.contains(&format!(".SH \"{section}\"")) || page.contains(&format!(".SH {section}")),
                "{verb}: {section}"
            );
        }
    }
    let format = std::fs::read_to_string(pages.join("sandbox-profile.5")).unwrap();
    assert!(format.contains(".TH sandbox") && format.contains("schema"), "{format}");
    assert!(pages.join("sandbox-layer-prune.1").exists());
    assert!(!pages.join("sandbox-internal.1").exists());
    assert!(text(&["profile", "list", "--json"]).contains("\"docker\""));
}
