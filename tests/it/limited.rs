//! Limits of a machine's disk, on file systems that can limit one folder and on one that cannot.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    copies::Case,
    kit::{
        process::{self, Output},
        skips,
    },
    user::said,
};

const SOON: Duration = Duration::from_secs(60);

/// A file system of its own below the state folder of a case.
pub struct Disk(PathBuf);

impl Disk {
    /// None where this kernel does not have such.
    pub fn of(kind: &str, options: &[&str], mount: &str, place: &Path) -> Option<Self> {
        fs::create_dir_all(place).unwrap();
        let image = place.with_extension("image");
        fs::File::create(&image).unwrap().set_len(600 << 20).unwrap();
        let (image, at) = (image.to_str().unwrap(), place.to_str().unwrap());
        let make = format!("mkfs.{kind}");
        process::run(&[&[&*make, "-q"], options, &[image]].concat(), "", SOON).ok();
        let mounted = process::run(&["mount", "-o", mount, image, at], "", SOON).code == 0;
        mounted.then(|| Self(place.to_owned()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        process::run(&["umount", self.0.to_str().unwrap()], "", SOON);
    }
}

/// Writes megabytes into a folder as somebody who is not the host's root, as machines are.
fn write(folder: &Path, megabytes: u32) -> Output {
    let file = folder.join("large");
    let _ = fs::remove_file(&file);
    let (of, count) = (format!("of={}", file.display()), format!("count={megabytes}"));
    let nobody = ["setpriv", "--reuid=4321", "--regid=4321", "--clear-groups"];
    let dd = ["dd", "if=/dev/zero", &of, "bs=1M", &count, "conv=fsync", "status=none"];
    process::run(&[&nobody[..], &dd].concat(), "", SOON)
}

/// Makes a folder that everybody may write to, on a path that everybody may enter.
fn open(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::create_dir_all(folder).unwrap();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
    let temporary = std::env::temp_dir();
    for above in folder.ancestors().skip(1).filter(|path| path.starts_with(&temporary)) {
        let mode = fs::metadata(above).unwrap().permissions().mode();
        let _ = fs::set_permissions(above, fs::Permissions::from_mode(mode | 0o111));
    }
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn counts(kind: &str, options: &[&str], mount: &str) {
    if !is_root() {
        return;
    }
    if !Path::new("/dev/loop-control").exists() {
        let test = format!("limited::a_limit_of_the_disk_counts_on_{kind}");
        return skips::skipped(&test, "this kernel has no loop devices");
    }
    let mut disk = None;
    let case = Case::with(|user| disk = Disk::of(kind, options, mount, &user.path("state")));
    // unmounted before the folder that it is in is removed, also where the test fails
    let Some(_disk) = disk else {
        let test = format!("limited::a_limit_of_the_disk_counts_on_{kind}");
        return skips::skipped(&test, "this kernel cannot mount it so");
    };
    let inside = case.tree("one").join("srv/own");
    open(&inside);
    write(&inside, 80).ok();
    fs::remove_file(inside.join("large")).unwrap();
    case.does(&["set", "one", "--disk", "64M"]);
    let refused = write(&inside, 80);
    assert_ne!(refused.code, 0, "{kind}: {refused:?}");
    let (len, megabyte) = (fs::metadata(inside.join("large")).unwrap().len(), 1 << 20);
    assert!(len <= 64 * megabyte && len >= 40 * megabyte, "{kind}: {len}");
    assert!(["quota", "No space"].iter().any(|word| refused.err.contains(word)), "{kind}: {refused:?}");
    // nobody else is limited
    let beside = case.user.path("state/beside");
    open(&beside);
    write(&beside, 80).ok();
    fs::remove_dir_all(&beside).unwrap();
    // a file that was there before counts, and what is less fits
    fs::remove_file(inside.join("large")).unwrap();
    write(&inside, 20).ok();
    case.does(&["set", "one", "--disk", "none"]);
    write(&inside, 80).ok();
    case.does(&["set", "one", "--disk", "64M"]);
    let refused = write(&inside, 80);
    assert_ne!(refused.code, 0, "{kind}: {refused:?}");
    case.does(&["remove", "one", "--yes"]);
}

#[test]
fn a_limit_of_the_disk_counts_on_btrfs() {
    counts("btrfs", &[], "loop");
}

#[test]
fn a_limit_of_the_disk_counts_on_ext4() {
    counts("ext4", &["-O", "quota,project"], "loop,prjquota");
}

#[test]
fn where_one_folder_cannot_be_limited_that_is_said_and_nothing_is_changed() {
    if !is_root() {
        return;
    }
    if !Path::new("/dev/loop-control").exists() {
        return skips::skipped(
            "limited::where_one_folder_cannot_be_limited_that_is_said_and_nothing_is_changed",
            "this kernel has no loop devices",
        );
    }
    let mut disk = None;
    let case = Case::with(|user| disk = Disk::of("ext4", &[], "loop", &user.path("state")));
    let _disk = disk;
    let refused = case.user.sandbox(&["set", "one", "--disk", "64M"]);
    assert_eq!(refused.status.code(), Some(6), "{}", said(&refused));
    assert!(said(&refused).contains("cannot limit one folder"), "{}", said(&refused));
    assert!(case.does(&["set", "one"]).contains("disk: no limit"));
}
