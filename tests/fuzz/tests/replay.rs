//! Every input of the corpus, and every input that once failed, against the properties of its target.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use sandbox_core::deb::version::Version;
use sandbox_fuzz::TARGETS;

fn files(folder: &str, target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(target);
    let Ok(entries) = fs::read_dir(&folder) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn what_is_known_holds() {
    let mut failed = Vec::new();
    for (target, check) in TARGETS {
        for path in [files("corpus", target), files("regressions", target)].concat() {
            let bytes = fs::read(&path).unwrap();
            if catch_unwind(AssertUnwindSafe(|| check(&bytes))).is_err() {
                failed.push(path);
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn every_target_has_a_corpus_and_every_folder_a_target() {
    let folder = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    for target in &names {
        assert!(!files("corpus", target).is_empty(), "target `{target}` starts from nothing");
        assert!(folder("targets").join(format!("{target}.rs")).exists(), "{target}");
    }
    for place in ["corpus", "regressions", "targets"] {
        for entry in fs::read_dir(folder(place)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            assert!(names.contains(&name.as_str()), "{} is of no target", path.display());
        }
    }
    let bytes: u64 = names
        .iter()
        .flat_map(|target| files("corpus", target))
        .map(|path| fs::metadata(path).unwrap().len())
        .sum();
    assert!(bytes < 512 << 10, "the corpus has {bytes} bytes");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "dpkg is what versions are compared with")]
fn versions_are_in_dpkgs_order() {
    let text: String =
        files("corpus", "version").iter().map(|path| fs::read_to_string(path).unwrap() + "\n").collect();
    let versions: Vec<_> = text.lines().filter_map(|line| Version::parse(line).ok()).collect();
    assert!(versions.len() > 30, "{}", versions.len());
    for (at, a) in versions.iter().enumerate() {
        for b in &versions[at + 1..] {
            let operator = match a.cmp(b) {
                std::cmp::Ordering::Less => "lt",
                std::cmp::Ordering::Equal => "eq",
                std::cmp::Ordering::Greater => "gt",
            };
            let asked = ["--compare-versions", a.as_str(), operator, b.as_str()];
            let holds = std::process::Command::new("dpkg").args(asked).status().unwrap();
            assert!(holds.success(), "{a} {operator} {b}");
        }
    }
}
