//! Every verb with `--json`: what it prints on stdout is JSON, well or not, and nothing but that.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

use crate::{copies::Case, kit::verbs::verbs, user::said};

/// A verb, the words that it is run with here, and how it ends.
type Row = (&'static str, &'static str, &'static [i32]);

/// All of them, in an order in which each finds what it needs. `snapshot create` and those beside it are of the machine
/// that was made before.
const ROWS: &[Row] = &[
    (
        "create",
        "create two --release kit --profile kept --variant essential --keyring key --backend direct --network none --no-start --accept-costs",
        &[0],
    ),
    ("list", "list", &[0]),
    ("status", "status two", &[0]),
    ("set", "set two --env A=b", &[0]),
    ("enable", "enable two", &[0]),
    ("disable", "disable two", &[0]),
    ("protect", "protect two", &[0]),
    ("unprotect", "unprotect two", &[0]),
    // there is nobody to boot in the small system
    ("start", "start no-such-machine", &[1]),
    ("stop", "stop two", &[0]),
    ("restart", "restart no-such-machine", &[1]),
    ("kill", "kill two", &[1]),
    ("wait", "wait two --for stopped", &[0]),
    ("mount", "mount two outside /mnt --permanent", &[0, 1]),
    ("unmount", "unmount two /mnt", &[0, 1]),
    ("copy", "copy outside/canary two:/etc/", &[0]),
    ("top", "top --once", &[0]),
    ("logs", "logs no-such-machine", &[1]),
    ("health", "health two", &[1]),
    ("snapshot create", "snapshot create two first", &[0]),
    ("snapshot list", "snapshot list two", &[0]),
    ("snapshot diff", "snapshot diff two first", &[0, 1]),
    ("snapshot restore", "snapshot restore two first --yes", &[0]),
    ("snapshot schedule", "snapshot schedule two --every 1h --keep 6h", &[0]),
    ("snapshot run", "snapshot run --due", &[0]),
    ("snapshot remove", "snapshot remove two first", &[0]),
    ("clone", "clone two three --no-start", &[0]),
    ("fork", "fork two four --no-start", &[0]),
    ("rename", "rename three five", &[0]),
    ("move", "move five --to direct", &[1]),
    ("repair", "repair", &[0]),
    ("export", "export five five.tar.zst", &[0]),
    ("remove", "remove five --yes", &[0]),
    ("import", "import five.tar.zst six --backend direct --no-start", &[0]),
    ("layer list", "layer list", &[0]),
    ("layer remove", "layer remove no-such-layer", &[1]),
    ("layer prune", "layer prune", &[0]),
    ("bootstrap", "bootstrap kit tree --variant essential --keyring key", &[0]),
    ("resolve", "resolve kit --variant essential --keyring key", &[0]),
    ("lock", "lock kit --variant essential --keyring key", &[0]),
    ("secret set", "secret set one KEY", &[2]),
    ("secret list", "secret list one", &[0]),
    ("secret remove", "secret remove one KEY", &[1]),
    ("lock diff", "lock diff sandbox.lock sandbox.lock", &[0]),
    ("profile list", "profile list", &[0]),
    ("profile show", "profile show kept", &[0]),
    ("profile check", "profile check profiles/kept.toml", &[3]),
    ("profile new", "profile new mine", &[0]),
    ("profile schema", "profile schema", &[0]),
    ("doctor", "doctor", &[0, 1, 6]),
];

/// What is no result of ours, so that `--json` has nothing to say: a payload's own words, a shell's script, a page.
const OTHERS: &[&str] = &["exec", "shell", "console", "completions", "man", "help"];

#[test]
fn every_verb_says_json_and_nothing_else() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let case = Case::new();
    let known: BTreeSet<_> = ROWS.iter().map(|(verb, ..)| *verb).chain(OTHERS.iter().copied()).collect();
    let there = verbs(&|words| case.does(words), &[]);
    let unknown: Vec<_> = there.iter().filter(|verb| !known.contains(verb.as_str())).collect();
    assert!(unknown.is_empty(), "not in the table: {unknown:?}");
    let gone: Vec<_> = ROWS.iter().map(|(verb, ..)| *verb).filter(|verb| !there.contains(*verb)).collect();
    assert!(gone.is_empty(), "no verbs any more: {gone:?}");
    for (verb, words, codes) in ROWS {
        let words: Vec<_> = words.split(' ').collect();
        let output = case.user.sandbox(&[&["--json"], &words[..]].concat());
        let code = output.status.code().unwrap();
        assert!(codes.contains(&code), "`{verb}` ended with {code}: {}", said(&output));
        let values = serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Value>();
        let values: Result<Vec<_>, _> = values.collect();
        let values = values.unwrap_or_else(|error| panic!("`{verb}`: {error}: {}", said(&output)));
        let last = values.last().unwrap_or_else(|| panic!("`{verb}` says nothing: {}", said(&output)));
        // what was looked for and found is no failure
        if code != 0 && !["snapshot diff", "profile check", "doctor"].contains(verb) {
            assert_eq!((&last["event"], &last["exit"]), (&"error".into(), &code.into()), "`{verb}`: {last}");
        } else {
            assert_ne!(last["event"], "error", "`{verb}`: {last}");
        }
        assert!(!String::from_utf8_lossy(&output.stdout).contains('\u{1b}'), "`{verb}`");
        if *verb == "create" {
            // what has no init is not imported
            let folder = case.tree("two").join("usr/lib/systemd");
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("systemd"), "").unwrap();
        }
    }
    fs::remove_file(case.user.path("five.tar.zst")).unwrap();
    let wrong = case.user.sandbox(&["--json", "list", "--no-such-option"]);
    let said: Value =
        serde_json::from_slice(&wrong.stdout).expect("a command line that cannot be read is told of");
    assert_eq!((&said["event"], &said["exit"]), (&"error".into(), &2.into()));
}
