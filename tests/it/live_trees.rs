//! Trees that another process may change are read by `host/live` alone: no path is resolved again, nothing recurses.

use std::{fs, path::Path};

/// What reads such trees.
const READERS: &[&str] = &[
    "configure/times.rs",
    "host/live/cursor.rs",
    "host/live/file.rs",
    "host/live/names.rs",
    "host/live/remove.rs",
    "host/live/stack.rs",
    "host/live/walker.rs",
    "layer/kept/content.rs",
    "layer/kept/copy.rs",
    "layer/kept/pack.rs",
    "layer/kept/walk.rs",
    "layer/kept/whole.rs",
    "layer/kept/whole/copier.rs",
    "machine/copy/pack.rs",
    "machine/disk.rs",
    "machine/export/base.rs",
    "machine/export/pack.rs",
    "machine/export/walk.rs",
    "machine/snapshot/diff.rs",
    "machine/volume.rs",
    "machine/volume/fill.rs",
    "tarfile/opened.rs",
    "tarfile/write.rs",
];

/// What stands beside them and has paths of the host's own: the state directory, what a user names as a target.
const BESIDE: &[(&str, &[&str])] = &[
    ("layer/kept", &["claim", "entry", "error", "list", "mod", "plan", "spare"]),
    ("machine/copy", &["enter", "mod", "rules", "side", "tests", "unpack"]),
    ("machine/export", &["carried", "error", "mod", "oci", "sink", "target", "template"]),
    ("host/live", &["directory", "excess", "mod", "tests"]),
    ("tarfile", &["accounts", "acl", "filled", "holes", "member", "mod", "pax", "read", "test"]),
];

/// Calls that take a path, or a name that may have several parts.
const TAKING_PATHS: &[&str] = &[
    "fs::canonicalize",
    "fs::copy",
    "fs::create_dir",
    "fs::metadata",
    "fs::read(",
    "fs::read_dir",
    "fs::read_link",
    "fs::read_to_string",
    "fs::remove",
    "fs::rename",
    "fs::symlink_metadata",
    "fs::write",
    "File::create",
    "File::open",
    "symlink_metadata(",
    "open(path",
    "openat(",
    "openat2(",
    "statat(",
    "readlinkat(",
    ".exists()",
    ".is_dir()",
    ".is_file()",
];

/// Uses that are right, each with its reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("host/live/walker.rs", "readlinkat(", "a name that the walk itself took from the directory"),
    ("layer/kept/content.rs", ".exists()", "the folder of a layer, in the state directory"),
    ("layer/kept/whole.rs", "File::open", "the top of a tree, for syncfs(2)"),
    ("machine/snapshot/diff.rs", ".exists()", "folders of volumes, in the state directory"),
    ("machine/volume.rs", "fs::read_dir", "lists the volumes in the state directory"),
    ("machine/volume.rs", "fs::remove", "an empty folder of the state directory"),
    ("machine/volume.rs", "symlink_metadata(", "whether a volume is in the state directory"),
    ("machine/volume.rs", "fs::symlink_metadata", "whether a volume is in the state directory"),
];

fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let lines: Vec<_> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    lines.join("\n")
}

/// Lists the functions of a file that call themselves.
fn recursive(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find("fn ") {
        let begin = rest[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let indent = rest[begin..].len() - rest[begin..].trim_start().len();
        let name: String =
            rest[at + 3..].chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
        let end = format!("\n{}}}", " ".repeat(indent));
        let body = &rest[at + 3 + name.len()..];
        let body = &body[..body.find(&end).unwrap_or(body.len())];
        let calls_itself = body.match_indices(&format!("{name}(")).any(|(at, _)| {
            let before = &body[..at];
            let bare = !before.ends_with(|letter: char| letter.is_alphanumeric() || "_.:".contains(letter));
            bare || before.ends_with("self.") || before.ends_with("Self::")
        });
        if calls_itself && !name.is_empty() {
            found.push(name);
        }
        rest = &rest[at + 3..];
    }
    found
}

/// Tells what is wrong with a file.
fn faults(file: &str, text: &str) -> Vec<String> {
    let code = code(text);
    let excepted = |word: &str| EXCEPTIONS.iter().any(|(of, excepted, _)| *of == file && *excepted == word);
    let paths = TAKING_PATHS.iter().filter(|word| code.contains(**word) && !excepted(word));
    let paths = paths.map(|word| format!("{file} uses `{word}`: open by host::live instead"));
    let recursion = recursive(&code).into_iter().map(|name| format!("{file}: `{name}` calls itself"));
    paths.chain(recursion).collect()
}

#[test]
fn trees_are_read_by_one_type_and_nothing_recurses() {
    let core = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sandbox-core/src");
    let mut all = Vec::new();
    for file in READERS {
        all.extend(faults(file, &fs::read_to_string(core.join(file)).unwrap()));
    }
    for (folder, beside) in BESIDE {
        for entry in fs::read_dir(core.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let Some(name) = path.file_stem().and_then(|name| name.to_str()) else { continue };
            let file = format!("{folder}/{name}.rs");
            if path.is_file() && !beside.contains(&name) && !READERS.contains(&file.as_str()) {
                all.push(format!("{file} is new: does it read the trees of machines?"));
            }
        }
    }
    assert!(all.is_empty(), "{all:#?}");
    for (file, word, _) in EXCEPTIONS {
        let text = code(&fs::read_to_string(core.join(file)).unwrap());
        assert!(text.contains(word), "{file} no longer uses `{word}`");
    }
}

#[test]
fn violations_are_found() {
    let planted = [
        "fn f(tree: &Path) {\n    openat(tree, \"a/b\", flags, mode);\n}\n",
        "fn f(tree: &Path) {\n    let found = std::fs::metadata(tree.join(\"a\"));\n}\n",
        "fn below(folder: &OwnedFd) {\n    for name in names {\n        below(&open(name));\n    }\n}\n",
        "impl A {\n    fn go(&self) {\n        self.go();\n    }\n}\n",
    ];
    for text in planted {
        assert_eq!(faults("layer/kept/walk.rs", text).len(), 1, "{text}");
    }
    let sound = "fn go(&self) {\n    self.stack.go();\n    other::go();\n    going();\n}\n// openat(\n";
    assert_eq!(faults("layer/kept/walk.rs", sound), Vec::<String>::new());
}
