//! Python tools with all they depend on: chosen without a tree, fetched by digest, installed by the tree's pip, here
//! one that writes down what it is given.

use std::fs;

use crate::{
    kit::{deb::Deb, registries::wheel, server::Fault},
    stack::{FORGE, Stack},
    user::said,
};

/// What stands for Python: it makes an environment with itself in it, and its pip keeps what it was called with.
const PYTHON: &str = "#!/bin/sh\nset -e\ncase \"$2\" in\n\
                      venv) mkdir -p \"$3/bin\" \"$3/lib/__pycache__\"; cat \"$0\" > \"$3/bin/python\"; chmod 755 \"$3/bin/python\";;\n\
                      pip) echo \"$@\" > /pip.log; cat /var/tmp/sandbox-python/requirements.txt > /pip.txt\n\
                      ls /var/tmp/sandbox-python > /pip.files; ls /sys/class/net > /pip.net;;\n\
                      -c) ls -A \"$4\" > /compiled;;\nesac\n";

fn stack() -> Stack {
    let chmod = fs::read("/usr/bin/chmod").or_else(|_| fs::read("/bin/chmod")).unwrap();
    let python = Deb::new("python3", "3.13.5-1").file("usr/bin/python3", 0o755, PYTHON.as_bytes());
    Stack::with(&[
        python.file("usr/bin/chmod", 0o755, &chmod),
        Deb::new("python3-venv", "3.13.5-1"),
        Deb::new("libc6", "2.41-12"),
    ])
}

fn profile(package: &str, more: &str) -> String {
    format!(
        "[packages]\ninstall = [\"python3\", \"python3-venv\", \"libc6\"]\n[[python]]\npackage = \"{package}\"\n\
         into = \"/opt/tool\"\nbin = {{ \"/usr/bin/tool\" = \"bin/tool\" }}\n{more}\n"
    )
}

/// Lists the files of the locked tool.
fn files(lock: &str) -> Vec<String> {
    let lines = lock.lines().filter_map(|line| line.trim().strip_prefix("{ file = \""));
    lines.map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

#[test]
fn a_tool_is_locked_with_all_it_needs_and_installed_of_the_lock_alone() {
    let stack = stack();
    let put = |file: &str, needs: &[&str]| wheel(&stack.vendor, file, needs);
    put("tool-1.0-py3-none-any.whl", &[]);
    put(
        "tool-2.0-py3-none-any.whl",
        &[
            "Lib_A >=1,<3",
            "b ; python_version < '3'",
            "c ; extra == 'more'",
            "d @ https://x.invalid/d.whl ; extra == 'odd'",
            "e>=1",
        ],
    );
    put("tool-3.0rc1-py3-none-any.whl", &[]);
    put("lib_a-2.5-py3-none-any.whl", &[]);
    put("lib_a-2.5-cp313-cp313-manylinux_2_17_x86_64.whl", &[]);
    put("lib_a-2.6-cp312-cp312-manylinux_2_17_x86_64.whl", &[]);
    put("lib_a-3.0-py3-none-any.whl", &[]);
    put("c-1.0-py3-none-any.whl", &["e<2"]);
    put("e-1.9-py3-none-any.whl", &[]);
    put("e-2.0-py3-none-any.whl", &[]);
    stack.profile(&profile("tool[more]", ""));
    let lock = stack.locked();
    let expected = [
        "c-1.0-py3-none-any.whl",
        "e-1.9-py3-none-any.whl",
        "lib_a-2.5-cp313-cp313-manylinux_2_17_x86_64.whl",
        "tool-2.0-py3-none-any.whl",
    ];
    assert_eq!(files(&lock), expected, "{lock}");
    assert!(lock.contains("kind = \"python\"\npackage = \"tool\"\nversion = \"2.0\"\npython = \"3.13\"\nasked = [\n  \"tool[more]\",\n]\n"), "{lock}");
    stack.vendor.server().log();
    let check = |code: i32, word: &str| {
        let output = stack.run(&["lock", "--check", "kit"]);
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(word), "{text}");
    };
    check(0, "meet what is asked for");
    // the index goes on, and the lock does not
    put("tool-2.1-py3-none-any.whl", &[]);
    fs::remove_dir_all(stack.user.path("cache")).unwrap();
    let output = stack.build("tree");
    assert!(output.status.success(), "{}", said(&output));
    let log = stack.vendor.server().log();
    assert!(log.len() == 4 && log.iter().all(|request| request.path.starts_with("/files/")), "{log:?}");
    let read = |name: &str| fs::read_to_string(stack.user.path("tree").join(name)).unwrap();
    let wanted = read("pip.txt");
    let names: Vec<_> = wanted.lines().map(|line| line.split(" --hash=sha256:").next().unwrap()).collect();
    assert_eq!(names, ["c==1.0", "e==1.9", "lib-a==2.5", "tool==2.0"]);
    for word in ["--no-index", "--require-hashes", "--no-deps"] {
        assert!(read("pip.log").contains(word), "{}", read("pip.log"));
    }
    assert_eq!(
        (read("pip.files").lines().count(), read("pip.net").as_str(), read("compiled").as_str()),
        (5, "lo\n", "")
    );
    assert!(!stack.user.path("tree/var/tmp/sandbox-python").exists());
    assert_eq!(
        fs::read_link(stack.user.path("tree/usr/bin/tool")).unwrap().to_str(),
        Some("/opt/tool/bin/tool")
    );
    // a second build needs nobody
    stack.vendor.server().fault("", Fault::Status(503), u32::MAX);
    let output = stack.build("again");
    assert!(output.status.success(), "{}", said(&output));
    stack.profile(&profile("tool[more]", "with = [\"e<2\"]"));
    check(1, "python `tool` with asked `tool[more], e<2` is in the lock as one with `tool[more]`");
}

#[test]
fn what_is_wished_later_is_known_from_the_start_the_next_time() {
    let stack = stack();
    let put = |file: &str, needs: &[&str]| wheel(&stack.vendor, file, needs);
    // the highest `a` wants what the highest `b` cannot have
    put("tool-1.0-py3-none-any.whl", &["a", "b"]);
    put("a-1.0-py3-none-any.whl", &["c"]);
    put("a-2.0-py3-none-any.whl", &["c>=2"]);
    put("b-1.0-py3-none-any.whl", &["c<2"]);
    put("c-1.5-py3-none-any.whl", &[]);
    put("c-2.0-py3-none-any.whl", &[]);
    stack.profile(&profile("tool", ""));
    let chosen = files(&stack.locked()).join(" ");
    assert!(chosen.contains("a-1.0-") && chosen.contains("c-1.5-"), "{chosen}");
    stack.profile(&profile("tool", "with = [\"a>=2\"]"));
    stack.refuses_to_lock(
        1,
        "no version of `c` with a wheel for this tree fulfils `c>=2` (a 2.0) and `c<2` (b 1.0)",
    );
    stack.profile(&profile("tool", "version = \"3.0\""));
    stack.refuses_to_lock(
        1,
        "no version of `tool` with a wheel for this tree fulfils `tool==3.0` (the profile)",
    );
}

#[test]
fn a_tool_may_have_an_interpreter_of_its_own() {
    let stack = stack();
    wheel(&stack.vendor, "tool-1.0-cp312-cp312-manylinux_2_17_x86_64.whl", &["x ; python_version >= '3.13'"]);
    stack.vendor.put("/python", PYTHON.as_bytes());
    let download = format!(
        "[[download]]\nname = \"python\"\nversion = \"3.12.11\"\nunchecked = true\nurl = \"{FORGE}/python\"\n\
         into = \"/opt/py/python3\"\narchitectures = {{ amd64 = {{ word = \"x\" }} }}\n"
    );
    let own = "python = { path = \"/opt/py/python3\", version = \"3.12.11\" }";
    stack.profile(&(profile("tool", own) + &download));
    assert!(stack.locked().contains("python = \"3.12\"\n"));
    let output = stack.build("tree");
    assert!(output.status.success(), "{}", said(&output));
    assert!(stack.user.path("tree/opt/tool/bin/python").exists());
    stack.profile(&profile("tool", ""));
    stack.refuses_to_lock(1, "no version of `tool` with a wheel for this tree");
}

#[test]
fn a_tool_that_cannot_be_had_says_why() {
    let stack = stack();
    stack.profile(&profile("tool", "").replace("\"python3-venv\", ", ""));
    stack.refuses_to_lock(3, "the tree lacks python3-venv");
    stack.profile(&profile("tool", "with = [\"a=1\"]"));
    stack.refuses_to_lock(3, "`a=1` is no requirement");
    wheel(&stack.vendor, "tool-1.0-py3-none-any.whl", &["d @ https://x.invalid/d.whl"]);
    stack.profile(&profile("tool", ""));
    stack.refuses_to_lock(4, "`tool` needs `d @ https://x.invalid/d.whl`");
    wheel(&stack.vendor, "other-1.0-py3-none-any.whl", &[]);
    stack.profile(&profile("other", ""));
    stack.locked();
    let before = stack.vendor.read("/simple/other/index.html").unwrap();
    wheel(&stack.vendor, "other-1.0-py3-none-any.whl", &["changed"]);
    fs::remove_dir_all(stack.user.path("cache")).unwrap();
    let output = stack.build("tree");
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert!(said(&output).contains("`other-1.0-py3-none-any.whl` cannot be had"), "{}", said(&output));
    stack.vendor.put("/simple/other/index.html", before.split("#sha256").next().unwrap().as_bytes());
    stack.vendor.put(
        "/simple/other/index.html",
        (before.split("#sha256").next().unwrap().to_owned() + "\">x</a>").as_bytes(),
    );
    stack.refuses_to_lock(4, "gives no sha256 of `other-1.0-py3-none-any.whl`");
    stack.vendor.put("/simple/other/index.html", b"sign in");
    stack.refuses_to_lock(4, "is no list of a package's files");
}
