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
