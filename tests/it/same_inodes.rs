//! Files of several file systems below one tree, which may have the same inode numbers: two files, not two names of one.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, time::Duration};

use crate::{
    copies::Case,
    kit::{process, skips},
    limited::Disk,
    user::said,
};

const SOON: Duration = Duration::from_secs(60);

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Makes a file with two names and its own side's content, and returns its inode number.
fn twins(side: &Path) -> u64 {
    fs::write(side.join("first"), side.file_name().unwrap().as_encoded_bytes()).unwrap();
    fs::hard_link(side.join("first"), side.join("second")).unwrap();
    fs::metadata(side.join("first")).unwrap().ino()
}

/// Sees that each side has its own content, under two names of one file.
#[track_caller]
fn are_apart(place: &Path) {
    let mut all = Vec::new();
    for side in ["a", "b"] {
        let [first, second] = ["first", "second"].map(|name| place.join(side).join(name));
        let at = first.display().to_string();
        assert_eq!(fs::read_to_string(&first).unwrap(), side, "{at}");
        let [first, second] = [first, second].map(|path| fs::metadata(path).unwrap());
        assert_eq!((first.dev(), first.ino(), first.nlink()), (second.dev(), second.ino(), 2), "{at}");
        all.push((first.dev(), first.ino()));
    }
    assert_ne!(all[0], all[1], "{}", place.display());
}

#[test]
fn files_of_two_subvolumes_with_one_inode_number_stay_two() {
    const TEST: &str = "same_inodes::files_of_two_subvolumes_with_one_inode_number_stay_two";
    if !is_root() {
        return;
    }
    if !Path::new("/dev/loop-control").exists() {
        return skips::skipped(TEST, "this kernel has no loop devices");
    }
    let mut disk = None;
    let case = Case::with(|user| disk = Disk::of("btrfs", &[], "loop", &user.path("state")));
    // unmounted before the folder that it is in is removed, also where the test fails
    let Some(_disk) = disk else { return skips::skipped(TEST, "this kernel has no btrfs") };
    let (tree, work) = (case.tree("one").join("srv/own"), case.volume("one", "work"));
    fs::create_dir_all(&tree).unwrap();
    for place in [&tree, &work] {
        let inodes = ["a", "b"].map(|side| {
            let side = place.join(side);
            process::run(&["btrfs", "subvolume", "create", side.to_str().unwrap()], "", SOON).ok();
            twins(&side)
        });
        assert_eq!(inodes[0], inodes[1], "two new subvolumes number their files alike");
        are_apart(place);
    }
    case.does(&["clone", "one", "cloned"]);
    case.does(&["fork", "one", "forked", "--no-start"]);
    case.does(&["snapshot", "create", "one", "kept"]);
    case.does(&["clone", "one", "of-snapshot", "--snapshot", "kept"]);
    for name in ["cloned", "forked", "of-snapshot"] {
        are_apart(&case.tree(name).join("srv/own"));
        are_apart(&case.volume(name, "work"));
    }
    let out = case.user.path("out");
    case.does(&["copy", "one:/srv/own", out.to_str().unwrap()]);
    are_apart(&out);
    let file = case.user.path("one.tar");
    case.does(&["export", "one", file.to_str().unwrap(), "--quiet"]);
    let unpacked = case.user.path("unpacked");
    fs::create_dir(&unpacked).unwrap();
    process::run(&["tar", "-C", unpacked.to_str().unwrap(), "-xf", file.to_str().unwrap()], "", SOON).ok();
    are_apart(&unpacked.join("srv/own"));
    case.does(&["snapshot", "restore", "one", "kept", "--yes"]);
    are_apart(&tree);
}

/// Two mounts below a path, each with a file of the same inode number.
struct Mounts(Vec<String>);

impl Mounts {
    fn below(place: &Path) -> Self {
        let mut mounts = Self(Vec::new());
        let inodes = ["a", "b"].map(|side| {
            let side = place.join(side);
            fs::create_dir_all(&side).unwrap();
            let at = side.to_str().unwrap().to_owned();
            process::run(&["mount", "-t", "tmpfs", "twins", &at], "", SOON).ok();
            mounts.0.push(at);
            twins(&side)
        });
        assert_eq!(inodes[0], inodes[1], "two new tmpfs number their files alike");
        mounts
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        for at in &self.0 {
            process::run(&["umount", at], "", SOON);
        }
    }
}

#[test]
fn what_is_mounted_in_a_tree_or_volume_is_refused_by_every_verb_that_copies() {
    if !is_root() {
        return;
    }
    let case = Case::new();
    let file = case.user.path("one.tar");
    for place in [case.tree("one").join("srv/own"), case.volume("one", "work")] {
        let mounts = Mounts::below(&place);
        let in_tree = place.starts_with(case.tree("one"));
        let file = file.to_str().unwrap();
        let verbs: [(&[&str], bool); 4] = [
            (&["clone", "one", "other"], true),
            (&["fork", "one", "other", "--no-start"], true),
            (&["snapshot", "create", "one", "kept"], true),
            (&["export", "one", file], in_tree),
        ];
        let named = if in_tree { "srv/own/a" } else { "`a`" };
        for (words, _) in verbs.into_iter().filter(|(_, reads)| *reads) {
            let output = case.user.sandbox(words);
            assert!(!output.status.success(), "{words:?}");
            assert!(said(&output).contains(named), "{words:?}: {}", said(&output));
        }
        assert!(case.snapshots("one").is_empty() && case.names() == ["one"] && !Path::new(file).exists());
        drop(mounts);
        case.does(&["clone", "one", "other"]);
        case.does(&["remove", "other", "--yes"]);
    }
}
