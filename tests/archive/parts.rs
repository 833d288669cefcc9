//! Parts of real registries in a real tree: npm and Python tools with all they depend on, which are then run there.

use std::{fs, time::Duration};

use sandbox_core::digest::Sha256;

use crate::{
    lab::{LONG, Lab, text},
    process,
    runner::skip,
};

/// Gemini CLI is JavaScript with a native module, installed by the tree's npm.
pub fn an_npm_tool_runs_with_its_tree(lab: &Lab) {
    let profile = "requires = [\"node\"]\n[[npm]]\npackage = \"@google/gemini-cli\"\ninto = \"/usr/local/lib/gemini\"\n\
                   bin = { \"/usr/local/bin/gemini\" = \"node_modules/.bin/gemini\" }\n";
    let Some(registry) = answer(&["npm", "config", "get", "registry"]) else { skip("this host has no npm") };
    let tree = built(lab, "gemini", profile, &["--npm-registry", &registry]);
    let said = in_tree(&tree, &["/usr/local/bin/gemini", "--version"]);
    assert!(said.starts_with(|first: char| first.is_ascii_digit()), "{said}");
    let listed = in_tree(&tree, &["/usr/local/bin/npm", "ls", "--prefix", "/usr/local/lib/gemini"]);
    assert!(listed.contains("@google/gemini-cli@") && !listed.contains("invalid"), "{listed}");
    done(&tree);
}

/// HTTPie is Python with a dozen dependencies.
pub fn a_python_tool_runs_in_its_environment(lab: &Lab) {
    let profile = "[packages]\ninstall = [\"python3-venv\"]\n[[python]]\npackage = \"httpie\"\ninto = \"/opt/httpie\"\n\
                   bin = { \"/usr/local/bin/http\" = \"bin/http\" }\n";
    let asked = answer(&["pip", "config", "get", "global.index-url"]);
    let known =
        || answer(&["python3", "-c", "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"]);
    let Some(index) = asked.or_else(known) else { skip("this host has no pip") };
    let tree = built(lab, "httpie", profile, &["--python-index", &index]);
    let said = in_tree(&tree, &["/usr/local/bin/http", "--version"]);
    assert!(said.starts_with(|first: char| first.is_ascii_digit()), "{said}");
    assert_eq!(in_tree(&tree, &["/opt/httpie/bin/pip", "check"]), "No broken requirements found.");
    done(&tree);
}

/// Locks a profile, packs it twice and sees the same bytes, the second time offline; gives it unpacked.
#[track_caller]
fn built(lab: &Lab, name: &str, profile: &str, options: &[&str]) -> std::path::PathBuf {
    let file = lab.path(&format!("{name}.toml"));
    fs::write(&file, format!("schema = 1\nname = \"{name}\"\n{profile}")).expect("a folder below target/");
    let lock = lab.path(&format!("{name}.lock"));
    lab.sandbox(&[&["lock", "trixie", "-o", text(&lock), "--profile", text(&file)], options].concat()).ok();
    let locked = format!("--locked={}", text(&lock));
    let packed = ["one", "two"].map(|word| lab.path(&format!("{name}-{word}.tar")));
    lab.sandbox(&[&["bootstrap", &locked, text(&packed[0])], options].concat()).ok();
    // nobody answers the second time, and nobody is needed
    let nowhere = ["unshare", "--net", "--"];
    lab.sandbox_by(&nowhere, &[&["bootstrap", &locked, text(&packed[1])], options].concat()).ok();
    let digests = packed.each_ref().map(|path| Sha256::of(&fs::read(path).expect("a packed tree")));
    assert_eq!(digests[0], digests[1], "the packed trees differ");
    let tree = lab.path(name);
    fs::create_dir_all(&tree).expect("a folder below target/");
    let unpack = ["tar", "--numeric-owner", "-xpf", text(&packed[0]), "-C", text(&tree)];
    process::run(&unpack, "", LONG).ok();
    packed.iter().for_each(|path| fs::remove_file(path).expect("a file of ours"));
    tree
}

fn in_tree(tree: &std::path::Path, argv: &[&str]) -> String {
    let fixed = [
        "env",
        "-i",
        "HOME=/root",
        "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "chroot",
        text(tree),
    ];
    process::run(&[&fixed, argv].concat(), "", Duration::from_secs(120)).ok().to_owned()
}

fn done(tree: &std::path::Path) {
    process::run(&["rm", "-rf", "--one-file-system", text(tree)], "", LONG).ok();
}

/// Gives what a program of the host says; nothing where it is not there or has nothing to say.
fn answer(argv: &[&str]) -> Option<String> {
    let output = process::command(argv).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|url| url.starts_with("http"))
}
