//! What runs in place of packages' programs, beside the programs themselves.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _, path::Path};

use sandbox_core::configure::substitute_for;

use crate::{
    lab::{LONG, Lab, text},
    process,
};

/// In each version that Debian's suites have: trees, output and status are the same; what hooks get when certificates are
/// updated; debconf's answers when they are chosen; which versions are refused and which files renamed by dpkg's helper.
pub fn each_does_what_the_program_does(lab: &Lab) {
    for suite in ["bullseye", "bookworm", "trixie"] {
        let tree = lab.path(suite);
        lab.sandbox(&["bootstrap", suite, text(&tree), "--pocket", "none", "--include", "ca-certificates"])
            .ok();
        let listed = compare(&tree, "/usr/bin/dpkg-maintscript-helper", "helper.sh");
        for status in ["\nstatus 0\n", "\nstatus 1\n"] {
            assert!(listed.matches(status).count() > 100, "{suite}: {listed}");
        }
        let listed = compare(&tree, "/var/lib/dpkg/info/ca-certificates.config", "config.sh");
        assert_eq!(listed.matches("Name: ca-certificates/enable_crts").count(), 15, "{suite}: {listed}");
        let listed = compare(&tree, "/usr/sbin/update-ca-certificates", "update.sh");
        let unusual = fs::read_to_string(tree.join("unusual")).expect("cases that were handed over");
        let unusual: BTreeSet<&str> = unusual.lines().collect();
        let expected = listed.lines().filter_map(|line| line.strip_prefix("== "));
        assert_eq!(unusual, expected.filter(|case| case.starts_with("unusual: ")).collect(), "{suite}");
        process::run(&["rm", "-rf", "--one-file-system", text(&tree)], "", LONG).ok();
    }
}

/// Runs the cases of a script with a program of a tree and with its substitute; gives the output.
#[track_caller]
fn compare(tree: &Path, path: &str, cases: &str) -> String {
    let name = path.rsplit('/').next().expect("a name");
    let program = fs::read(tree.join(path.trim_start_matches('/'))).expect("the program");
    let handed_over = "/handed-over";
    let substitute = substitute_for(Path::new(path), &program, Path::new(handed_over));
    let substitute = substitute.unwrap_or_else(|| panic!("{path} is of no known version"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/archive/substitutes").join(cases);
    let script = fs::read(script).expect("a script");
    // notes the case, and runs the program
    let unusual = format!("#!/bin/sh\ncat /case >>/unusual\nexec /program/{name} \"$@\"\n");
    let [program_at, substitute_at] = ["/program", "/substitute"].map(|place| format!("{place}/{name}"));
    for (path, content) in [
        (&*program_at, &*program),
        (&substitute_at, &substitute),
        (handed_over, unusual.as_bytes()),
        ("/cases", &script),
    ] {
        let path = tree.join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(&path, content).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
    }
    let run = |program: &str| {
        let ran = process::run(&["chroot", text(tree), "sh", "/cases", program], "", LONG);
        assert_eq!(ran.err, "", "{program}");
        ran.ok().replace("/substitute/", "/program/")
    };
    let (expected, found) = (run(&program_at), run(&substitute_at));
    assert!(expected.lines().count() > 100, "{expected}");
    for (number, (expected, found)) in expected.lines().zip(found.lines()).enumerate() {
        assert_eq!(found, expected, "{}: line {number}", tree.display());
    }
    assert_eq!(found.lines().count(), expected.lines().count(), "{path}");
    expected
}
