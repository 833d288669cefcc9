//! Trees kept as layers and laid out again, on the file systems that there are: ext4 copies, xfs shares, btrfs takes
//! snapshots.

use std::{
    fs,
    os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use sandbox_core::{
    digest::Sha256,
    host::clonable,
    layer::kept::{Id, LaidOut, Layers, Made, Walk},
};

use crate::kit::{process, skips};

/// A file system in a file, or a folder of this one.
struct Disk {
    folder: tempfile::TempDir,
    mounted: bool,
}

impl Disk {
    fn here() -> Self {
        Self { folder: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(), mounted: false }
    }

    /// None where this kernel has no loop devices: the test is skipped, and says so.
    fn of(kind: &str, test: &str) -> Option<Self> {
        if !Path::new("/dev/loop-control").exists() {
            skips::skipped(&format!("kept::{test}"), "this kernel has no loop devices");
            return None;
        }
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let image = folder.path().join("image");
        fs::File::create(&image).unwrap().set_len(400 << 20).unwrap();
        let place = folder.path().join("disk");
        fs::create_dir(&place).unwrap();
        let (image, place) = (image.to_str().unwrap(), place.to_str().unwrap());
        for argv in [&[&format!("mkfs.{kind}")[..], image][..], &["mount", "-o", "loop", image, place]] {
            let ran = process::run(argv, "", Duration::from_secs(60));
            assert_eq!(ran.code, 0, "{argv:?}: {}", ran.err);
        }
        Some(Self { folder, mounted: true })
    }

    fn path(&self) -> PathBuf {
        if self.mounted { self.folder.path().join("disk") } else { self.folder.path().to_owned() }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            let place = self.path();
            process::run(&["umount", place.to_str().unwrap()], "", Duration::from_secs(60));
        }
    }
}

fn id(name: &str) -> Id {
    Id(Sha256::of(name.as_bytes()))
}

fn made(name: &str, parent: Option<&str>) -> Made {
    Made {
        version: 1,
        id: id(name),
        parent: parent.map(id),
        kind: "profile".to_owned(),
        name: name.to_owned(),
        image: "i".to_owned(),
        created: 1,
        epoch: 1,
        bytes: 0,
        paths: 0,
        of: name.to_owned(),
    }
}

fn keep(layers: &Layers, name: &str, parent: Option<&str>, tree: &Path, before: &Walk) -> Walk {
    let now = layers.walk(tree).unwrap();
    let claim = layers.claim(id(name), "a test", &mut |_| unreachable!()).unwrap();
    layers.commit(&claim, &made(name, parent), tree, (before, &now)).unwrap();
    now
}

/// Gives what must be the same of every path.
fn facts(tree: &Path) -> Vec<String> {
    let argv = ["find", tree.to_str().unwrap(), "-printf", "%P %y %m %U:%G %n %T@ %l\\n"];
    let found = process::run(&argv, "", Duration::from_secs(20)).out;
    let mut lines: Vec<String> = found.lines().map(str::to_owned).collect();
    // how many folders are in one is counted by some file systems only
    for line in &mut lines {
        if line.contains(" d ") {
            let words: Vec<&str> = line.split(' ').collect();
            *line = [&words[..4], &words[5..]].concat().join(" ");
        }
    }
    lines.sort();
    let sums = format!("cd {} && find . -type f -exec sha256sum {{}} + | sort -k2", tree.display());
    lines.push(process::run(&["sh", "-c", &sums], "", Duration::from_secs(20)).out);
    let xattrs = ["getfattr", "-R", "-h", "-d", "-m", "-", "--absolute-names", "."];
    let shell = format!("cd {} && {} 2>/dev/null | sort", tree.display(), xattrs.join(" "));
    lines.push(process::run(&["sh", "-c", &shell], "", Duration::from_secs(20)).out);
    lines
}

/// Builds two layers with everything that a copy may lose.
fn build(layers: &Layers, tree: &Path) {
    let at = |name: &str| tree.join(name);
    clonable::make_tree(tree).unwrap();
    fs::create_dir_all(at("d/e")).unwrap();
    fs::create_dir(at("empty")).unwrap();
    fs::set_permissions(at("empty"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::write(at("d/small"), "small").unwrap();
    fs::write(at("d/large"), vec![7; (3 << 20) + 17]).unwrap();
    fs::set_permissions(at("d/large"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::write(at("d/none"), "").unwrap();
    fs::write(at("gone"), "gone").unwrap();
    fs::write(at("d/e/linked"), "linked").unwrap();
    fs::hard_link(at("d/e/linked"), at("other")).unwrap();
    symlink("../nowhere", at("d/link")).unwrap();
    std::os::unix::fs::chown(at("d/small"), Some(1000), Some(7)).unwrap();
    nix::sys::stat::mknod(
        &at("null"),
        nix::sys::stat::SFlag::S_IFCHR,
        nix::sys::stat::Mode::from_bits_truncate(0o666),
        nix::sys::stat::makedev(1, 3),
    )
    .unwrap();
    let sparse = fs::File::create(at("sparse")).unwrap();
    sparse.write_all_at(b"end", 20 << 20).unwrap();
    sparse.write_all_at(b"middle", 8 << 20).unwrap();
    drop(sparse);
    // cap_net_raw=ep, as ping has it
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    rustix::fs::setxattr(at("d/large"), "security.capability", &capability, rustix::fs::XattrFlags::empty())
        .unwrap();
    rustix::fs::setxattr(at("d"), "user.note", b"yes", rustix::fs::XattrFlags::empty()).unwrap();
    let first = keep(layers, "first", None, tree, &Walk::default());
    std::thread::sleep(Duration::from_millis(40));
    fs::remove_file(at("gone")).unwrap();
    fs::remove_file(at("other")).unwrap();
    fs::write(at("d/new"), "new").unwrap();
    fs::remove_dir(at("empty")).unwrap();
    fs::write(at("empty"), "a file now").unwrap();
    keep(layers, "second", Some("first"), tree, &first);
}

fn lay_out(layers: &Layers, name: &str, place: &Path) -> LaidOut {
    clonable::make_tree(place).unwrap();
    layers.lay_out(&layers.hold_stack(id(name)).unwrap().unwrap(), place).unwrap()
}

/// Keeps and lays out on a disk, and gives how.
fn round(disk: &Path, elsewhere: Option<&Path>) -> LaidOut {
    let layers = Layers::new(disk);
    let tree = elsewhere.unwrap_or(disk).join("tree");
    build(&layers, &tree);
    let clone = elsewhere.unwrap_or(disk).join("clone");
    let how = lay_out(&layers, "second", &clone);
    assert_eq!(facts(&clone), facts(&tree));
    let sparse = fs::metadata(clone.join("sparse")).unwrap();
    assert!(sparse.len() > 20 << 20 && sparse.blocks() * 512 < 1 << 20, "{} blocks", sparse.blocks());
    // what is written in a clone is in no layer
    fs::write(clone.join("d/large"), "mine").unwrap();
    let again = elsewhere.unwrap_or(disk).join("again");
    lay_out(&layers, "second", &again);
    assert_eq!(facts(&again), facts(&tree));
    let lower = elsewhere.unwrap_or(disk).join("lower");
    lay_out(&layers, "first", &lower);
    assert!(lower.join("gone").exists() && lower.join("empty").is_dir() && !lower.join("d/new").exists());
    assert_eq!(fs::metadata(lower.join("other")).unwrap().nlink(), 2);
    // the lower layer is held by the upper
    let made = layers.find("first").unwrap();
    layers.remove(&made, &sandbox_core::layer::kept::Needs::default()).unwrap_err();
    let gone = layers.prune(&sandbox_core::layer::kept::Needs::default(), i64::MAX, false).unwrap();
    assert_eq!(gone.len(), 2);
    assert!(layers.is_empty());
    for tree in [tree, clone, again, lower] {
        if clonable::is_subvolume(&tree) {
            clonable::remove_subvolume(&tree).unwrap();
        }
    }
    how
}

#[test]
fn where_nothing_can_be_shared_layers_are_copied() {
    let disk = Disk::here();
    let how = round(&disk.path(), None);
    assert!(matches!(how, LaidOut::Copied { .. }) || clonable::shares_extents(&disk.path()), "{how:?}");
    if let Some(disk) = Disk::of("ext4", "where_nothing_can_be_shared_layers_are_copied") {
        assert!(matches!(round(&disk.path(), None), LaidOut::Copied { .. }));
    }
}

#[test]
fn on_xfs_bytes_are_shared() {
    if let Some(disk) = Disk::of("xfs", "on_xfs_bytes_are_shared") {
        assert_eq!(round(&disk.path(), None), LaidOut::Shared);
    }
}

#[test]
fn on_btrfs_a_tree_is_a_snapshot() {
    if let Some(disk) = Disk::of("btrfs", "on_btrfs_a_tree_is_a_snapshot") {
        assert_eq!(round(&disk.path(), None), LaidOut::Snapshot);
    }
}

#[test]
fn layers_of_another_file_system_than_the_trees_are_copied() {
    let here = Disk::here();
    if let Some(disk) = Disk::of("btrfs", "layers_of_another_file_system_than_the_trees_are_copied") {
        assert!(matches!(round(&disk.path(), Some(&here.path())), LaidOut::Copied { .. }));
    }
    let here = Disk::here();
    if let Some(disk) = Disk::of("btrfs", "layers_of_another_file_system_than_the_trees_are_copied") {
        assert!(matches!(round(&here.path(), Some(&disk.path())), LaidOut::Copied { .. }));
    }
}

#[test]
fn a_damaged_layer_is_told_and_can_be_removed() {
    let disk = Disk::here();
    let layers = Layers::new(&disk.path());
    build(&layers, &disk.path().join("tree"));
    let folder = layers.folder().join(id("second").to_string());
    let manifest = folder.join("manifest");
    let mut bytes = fs::read(&manifest).unwrap();
    bytes[40] ^= 1;
    fs::write(&manifest, bytes).unwrap();
    let clone = disk.path().join("clone");
    fs::create_dir(&clone).unwrap();
    let problem = layers.lay_out(&layers.hold_stack(id("second")).unwrap().unwrap(), &clone).unwrap_err();
    assert!(problem.to_string().contains("is damaged"), "{problem}");
    let made = layers.find("second").unwrap();
    layers.remove(&made, &sandbox_core::layer::kept::Needs::default()).unwrap();
    assert!(layers.hold(id("second")).unwrap().is_none() && layers.hold(id("first")).unwrap().is_some());
}

#[test]
fn a_tree_made_ahead_is_taken_once_and_goes_with_its_layer() {
    use sandbox_core::layer::kept::Needs;
    let Some(disk) = Disk::of("xfs", "a_tree_made_ahead_is_taken_once_and_goes_with_its_layer") else {
        return;
    };
    let layers = Layers::new(&disk.path());
    let tree = disk.path().join("tree");
    build(&layers, &tree);
    let spares = layers.folder().join("spares");
    let names = || fs::read_dir(&spares).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    assert!(layers.wants_spare(id("second"), &tree));
    assert!(!layers.wants_spare(id("second"), Path::new("/proc")), "machines are on another file system");
    assert!(layers.make_spare(id("second"), "a test").unwrap());
    assert!(!layers.wants_spare(id("second"), &tree) && !layers.make_spare(id("second"), "a test").unwrap());

    // another layer's tree is no use
    assert_eq!(lay_out(&layers, "first", &disk.path().join("lower")), LaidOut::Shared);
    let clone = disk.path().join("clone");
    assert_eq!(lay_out(&layers, "second", &clone), LaidOut::Ahead);
    assert_eq!(facts(&clone), facts(&tree));
    assert_eq!(lay_out(&layers, "second", &disk.path().join("again")), LaidOut::Shared);

    // what a dead maker left is removed, and what somebody makes now is not
    fs::create_dir(spares.join(format!("{}.new", id("first")))).unwrap();
    fs::create_dir(spares.join(format!("{}.new", id("second")))).unwrap();
    let claim = layers.folder().join(format!("claims/{}.spare", id("second")));
    let held = fs::File::create(&claim).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert!(!layers.make_spare(id("second"), "a test").unwrap(), "two make the same");
    assert_eq!(layers.recover().unwrap(), 1);
    assert_eq!(names(), [&*format!("{}.new", id("second"))]);
    drop(held);

    assert!(layers.make_spare(id("second"), "a test").unwrap());
    layers.remove(&layers.find("second").unwrap(), &Needs::default()).unwrap();
    assert!(names().is_empty(), "a tree of a layer that is gone: {:?}", names());
    // a remover that died between the two
    fs::create_dir(spares.join(id("second").to_string())).unwrap();
    assert_eq!(layers.recover().unwrap(), 1);
    assert!(names().is_empty());
}

#[test]
fn a_tree_with_subvolumes_is_removed_whole() {
    let Some(disk) = Disk::of("btrfs", "a_tree_with_subvolumes_is_removed_whole") else { return };
    let at = |name: &str| disk.path().join(name);
    // as where somebody in the machine keeps layers of his own, or containers on btrfs
    for name in ["tree", "tree/inner", "tree/inner/deep", "tree/other"] {
        clonable::make_tree(&at(name)).unwrap();
        fs::create_dir(at(name).join("folder")).unwrap();
        fs::write(at(name).join("folder/file"), name).unwrap();
    }
    clonable::snapshot(&at("tree/other"), &at("tree/inner/folder/kept")).unwrap();
    for name in ["tree/inner/folder/kept", "tree/inner/deep", "tree/inner", "tree"] {
        clonable::make_read_only(&at(name)).unwrap();
    }
    fs::remove_file(at("tree/other/folder/file")).unwrap();
    sandbox_core::host::root::remove_tree(&at("tree")).unwrap();
    assert!(!at("tree").exists());
    let listed = process::run(
        &["btrfs", "subvolume", "list", disk.path().to_str().unwrap()],
        "",
        Duration::from_secs(20),
    );
    assert_eq!((listed.code, &*listed.out), (0, ""), "{}", listed.err);
}

#[test]
fn a_subvolume_in_a_tree_is_kept_with_what_is_in_it() {
    let Some(disk) = Disk::of("btrfs", "a_subvolume_in_a_tree_is_kept_with_what_is_in_it") else { return };
    let layers = Layers::new(&disk.path());
    let tree = disk.path().join("tree");
    clonable::make_tree(&tree).unwrap();
    clonable::make_tree(&tree.join("images")).unwrap();
    fs::write(tree.join("images/file"), "in it").unwrap();
    let first = keep(&layers, "first", None, &tree, &Walk::default());
    std::thread::sleep(Duration::from_millis(40));
    fs::write(tree.join("images/second"), "in it").unwrap();
    keep(&layers, "second", Some("first"), &tree, &first);
    let clone = disk.path().join("clone");
    lay_out(&layers, "second", &clone);
    assert_eq!(facts(&clone), facts(&tree));
    fs::write(clone.join("images/third"), "a stub could not have it").unwrap();
}
