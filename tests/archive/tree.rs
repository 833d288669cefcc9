//! A tree in its two forms.

use std::time::Duration;

use crate::{
    lab::{Lab, text},
    process,
};

/// What is packed is what would have been in the folder: GNU tar, as an independent reader, sees no difference.
pub fn a_packed_tree_is_the_folder(lab: &Lab) {
    let (folder, packed) = (lab.path("trixie"), lab.path("trixie.tar"));
    lab.sandbox(&["bootstrap", "trixie", text(&folder)]).ok();
    lab.sandbox(&["bootstrap", "trixie", text(&packed)]).ok();
    let compare = ["tar", "--compare", "--numeric-owner", "-f", text(&packed), "-C", text(&folder)];
    let compared = process::run(&compare, "", Duration::from_secs(120));
    // changes of time are those of two builds at two times
    let differ: Vec<_> = compared.out.lines().filter(|line| !line.contains("Mod time differs")).collect();
    assert!(differ.is_empty(), "{differ:#?}\n{}", compared.err);
    assert_eq!(compared.err, "");
}

/// Packages that share a path go through dpkg, which moves the one file out of the other's way.
pub fn a_diverted_file_is_where_dpkg_puts_it(lab: &Lab) {
    let tree = lab.path("vim");
    lab.sandbox(&["bootstrap", "trixie", text(&tree), "--include", "vim-tiny,vim-runtime"]).ok();
    let dpkg = |arguments: &[&str]| {
        let argv: Vec<&str> = [&["chroot", text(&tree), "dpkg"], arguments].concat();
        process::run(&argv, "", Duration::from_secs(60)).ok().to_owned()
    };
    assert_eq!(dpkg(&["--audit"]), "");
    assert_eq!(dpkg(&["--verify"]), "");
    let help = tree.join("usr/share/vim/vim91/doc");
    assert!(help.join("help.txt").exists() && help.join("help.txt.vim-tiny").exists(), "{help:?}");
    assert!(dpkg(&["--search", "/usr/share/vim/vim91/doc/help.txt"]).contains("diversion by vim-runtime"));
}

/// The rest of the packages is nowhere but in its place.
pub fn nothing_of_the_work_is_left(lab: &Lab) {
    let tree = lab.path("clean");
    lab.sandbox(&["bootstrap", "trixie", text(&tree), "--include", "procps"]).ok();
    let mut top: Vec<_> = std::fs::read_dir(&tree)
        .expect("a tree")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a UTF-8 name"))
        .collect();
    top.sort();
    let known = [
        "bin", "boot", "dev", "etc", "home", "lib", "lib64", "media", "mnt", "opt", "proc", "root", "run",
        "sbin", "srv", "sys", "tmp", "usr", "var",
    ];
    assert_eq!(top, known);
    let loose = ["find", text(&tree), "-xdev", "-name", ".sandbox-*"];
    assert_eq!(process::run(&loose, "", Duration::from_secs(60)).ok(), "");
}
