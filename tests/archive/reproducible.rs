//! One lock twice, the same bytes.

use std::{fs, path::Path, time::Duration};

use sandbox_core::digest::Sha256;

use crate::{
    compare::{Times, Tree},
    lab::{LONG, Lab, text},
    process,
};

pub fn trixie_is_the_same_bytes_twice(lab: &Lab) {
    twice(lab, "trixie", &[]);
}

pub fn bookworm_is_the_same_bytes_twice(lab: &Lab) {
    twice(lab, "bookworm", &[]);
}

pub fn trixie_with_the_base_profile_is_the_same_bytes_twice(lab: &Lab) {
    twice(lab, "trixie", &["--profile", "base"]);
}

pub fn bookworm_with_the_base_profile_is_the_same_bytes_twice(lab: &Lab) {
    twice(lab, "bookworm", &["--profile", "base"]);
}

/// A folder is as reproducible as a tar file: GNU tar finds the second one in the first packed, times included.
pub fn a_folder_has_the_times_of_a_packed_tree(lab: &Lab) {
    let (folder, packed) = (lab.path("times"), lab.path("times.tar"));
    lab.sandbox(&["bootstrap", "trixie", text(&folder)]).ok();
    lab.sandbox(&["bootstrap", "trixie", text(&packed)]).ok();
    let compare = ["tar", "--compare", "--numeric-owner", "-f", text(&packed), "-C", text(&folder)];
    let compared = process::run(&compare, "", Duration::from_secs(120));
    assert_eq!((&*compared.out, &*compared.err), ("", ""));
    for path in [&folder, &packed] {
        process::run(&["rm", "-rf", "--one-file-system", text(path)], "", LONG).ok();
    }
}

/// Builds one lock twice, the second time under conditions that ought not to matter.
#[track_caller]
fn twice(lab: &Lab, suite: &str, arguments: &[&str]) {
    let name = format!("{suite}{}", arguments.concat());
    let first = lab.path(&format!("{name}-1.tar"));
    let folder = lab.path(&format!("{name}-elsewhere"));
    fs::create_dir_all(&folder).expect("a folder below target/");
    let second = folder.join("another-name.tar");
    let lock = lab.path(&format!("{name}.lock"));
    lab.sandbox(&[&["lock", suite, "-o", text(&lock)], arguments].concat()).ok();
    let locked = format!("--locked={}", text(&lock));
    let of = |target| ["bootstrap", &locked, suite, text(target), "--hostname", "same"];
    lab.sandbox(&of(&first)).ok();
    let script = "umask 077; cd /; export TZ=Pacific/Auckland LANG=tr_TR.UTF-8 LC_ALL=tr_TR.UTF-8 HOME=/nowhere; \
                  exec taskset -c 0 \"$@\"";
    lab.sandbox_by(&["sh", "-c", script, "sh"], &of(&second)).ok();
    same(&first, &second);
    for path in [&first, &folder] {
        process::run(&["rm", "-rf", text(path)], "", LONG).ok();
    }
}

#[track_caller]
fn same(first: &Path, second: &Path) {
    let digest = |path: &Path| Sha256::of(&fs::read(path).expect("a packed tree"));
    if digest(first) != digest(second) {
        let differ = Tree::read(first).differences(&Tree::read(second), Times::Compared);
        panic!("the packed trees differ; where none is listed, in their order: {differ:#?}");
    }
}
