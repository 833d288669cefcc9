//! The arrow of docs/architecture.md: a stage uses stages to its left and the leaves, never one to its right.

use std::{fs, path::Path};

const STAGES: &[&str] =
    &["spec", "archive", "lock", "resolve", "store", "unpack", "configure", "layer", "machine", "session"];

/// Uses to the right, each with its reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("archive", "store", "indexes are kept in the cache that packages are kept in"),
    ("archive", "lock", "a lock says which old state of an archive is meant"),
    ("spec", "machine", "what a profile declares of its machine is one type on both ends"),
];

fn files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

/// Gives the first words after `crate::`, also those in braces.
fn used(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines: Vec<_> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let text = lines.join("\n");
    let mut words = Vec::new();
    for part in text.split("crate::").skip(1) {
        let word =
            |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        if let Some(list) = part.strip_prefix('{') {
            let mut depth = 0_i32;
            let mut at_start = true;
            for (at, c) in list.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' => at_start = depth == 0,
                    c if c.is_alphabetic() && at_start && depth == 0 => {
                        words.push(word(&list[at..]));
                        at_start = false;
                    }
                    _ => {}
                }
            }
        } else {
            words.push(word(part));
        }
    }
    words
}

#[test]
fn no_stage_uses_one_to_its_right() {
    let core = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sandbox-core/src");
    let mut seen = 0;
    for (at, stage) in STAGES.iter().enumerate() {
        let mut found = Vec::new();
        files(&core.join(stage), &mut found);
        assert!(!found.is_empty(), "stage {stage} has no files");
        for file in found {
            for word in used(&fs::read_to_string(&file).unwrap()) {
                let Some(place) = STAGES.iter().position(|known| *known == word) else { continue };
                seen += 1;
                let excepted = EXCEPTIONS.iter().any(|(from, to, _)| from == stage && *to == word);
                assert!(place <= at || excepted, "{} uses `{word}`, which is to its right", file.display());
            }
        }
    }
    assert!(seen > 20, "the test sees {seen} uses only: it has gone blind");
}

#[test]
fn braces_are_read() {
    let text = "use crate::{\n    a::{b, c},\n    d,\n};\nuse crate::e::f;\n";
    assert_eq!(used(text), ["a", "d", "e"]);
}

#[test]
fn every_file_of_these_tests_is_run() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/it");
    let main = fs::read_to_string(folder.join("main.rs")).unwrap();
    let mut found = Vec::new();
    files(&folder, &mut found);
    for file in found {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(name == "main" || main.contains(&format!("mod {name};")), "{name} is not in main.rs");
    }
}

/// Where bytes reach stdout or stderr past `ui.rs`, and why.
const UNESCAPED: &[(&str, &str)] = &[
    ("ui.rs", "the place that escapes"),
    ("complete.rs", "what a shell reads"),
    ("verb/man.rs", "pages of this program"),
    ("verb/export.rs", "a machine as a file"),
    ("verb/bootstrap.rs", "a tree as a tar file"),
    ("verb/copy.rs", "a machine's file, and an answer to this program"),
];

#[test]
fn ui_alone_prints() {
    let cli = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sandbox-cli/src");
    let mut found = Vec::new();
    files(&cli, &mut found);
    assert!(found.len() > 40, "the test sees {} files only: it has gone blind", found.len());
    let mut used = Vec::new();
    for file in found {
        let name = file.strip_prefix(&cli).unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let code = ["stdout().is_terminal()", "stderr().is_terminal()", "use_stderr()"]
            .iter()
            .fold(code.to_owned(), |code, asks| code.replace(asks, ""));
        let prints = ["stdout()", "stderr()", "stdout_lock", "println!", "eprintln!"];
        if prints.iter().any(|way| code.contains(way)) {
            used.push(name);
        }
    }
    let mut known: Vec<_> = UNESCAPED.iter().map(|(name, _)| (*name).to_owned()).collect();
    used.sort();
    known.sort();
    assert_eq!(used, known, "names that a guest chose must pass through `ui`");
}
