//! What `bootstrap` and `export` write, by the name of the target, and what is found out of a target before the work.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
    time::Duration,
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::{
    carried::{Place, facts, init},
    kit::{archive::Archive, deb::Deb, process, server::Server, system::system, tar::Entry},
    user::{BOOTSTRAP, User, said},
};

/// Endings, and how the host's own programs list what is in such a file (`$f`), one path a line.
const ENDINGS: &[(&str, &str)] = &[
    ("tar", "tar -tf $f"),
    ("tar.gz", "gzip -t $f && tar -tzf $f"),
    ("tgz", "gzip -t $f && tar -tzf $f"),
    ("tar.bz2", "bzip2 -t $f && tar -tjf $f"),
    ("tar.xz", "xz -t $f && tar -tJf $f"),
    ("TAR.ZST", "zstd -qt $f && zstd -qdc $f | tar -tf -"),
    ("squashfs", "unsquashfs -lc $f | sed -n 's,^squashfs-root/,,p'"),
    ("ext2", "e2fsck -fn $f >&2 && debugfs -R 'ls -p /srv' $f | cut -d/ -f6"),
    ("ext4", "e2fsck -fn $f >&2 && debugfs -R 'ls -p /srv' $f | cut -d/ -f6"),
];

const SOON: Duration = Duration::from_secs(120);

/// An archive of which whole trees are built.
fn archive() -> Archive {
    let mut archive = Archive::new();
    archive.fill();
    archive.add(&system());
    let text = "a tree has this";
    archive.add(&Deb::new("marked", "1").field("Essential", "yes").file("srv/mark", 0o640, text.as_bytes()));
    archive.publish();
    archive
}

fn build(user: &User, target: &str, more: &[&str]) -> std::process::Output {
    let arguments: Vec<&str> =
        BOOTSTRAP.iter().map(|word| if *word == "tree" { target } else { word }).collect();
    user.sandbox(&[&arguments[..], more].concat())
}

#[track_caller]
fn has_the_mark(listing: &str, file: &Path) {
    let script = listing.replace("$f", file.to_str().unwrap());
    let listed = process::run(&["sh", "-c", &script], "", SOON);
    let has = listed.ok().lines().any(|line| matches!(line, "srv/mark" | "./srv/mark" | "mark"));
    assert!(has, "{script}: {} {}", listed.out, listed.err);
}

#[test]
fn an_ending_is_what_is_written() {
    let archive = archive();
    let server = Server::new(archive.root());
    let user = User::new(&archive, server.url());
    for (ending, listing) in ENDINGS {
        let name = format!("outside/out.{ending}");
        let output = build(&user, &name, &[]);
        assert!(output.status.success(), "{ending}: {}", said(&output));
        has_the_mark(listing, &user.path(&name));
        assert_eq!(fs::metadata(user.path(&name)).unwrap().mode() & 0o777, 0o644, "{ending}");
        let again = build(&user, &name, &[]);
        assert_eq!(again.status.code(), Some(1), "{ending}: {}", said(&again));
    }
    let plain = fs::read(user.path("outside/out.tar")).unwrap();
    let stream = build(&user, "-", &[]);
    assert!(stream.stdout == plain, "{}", said(&stream));
    let packed = build(&user, "-", &["--format", "tar.zst"]);
    assert!(packed.stdout == fs::read(user.path("outside/out.TAR.ZST")).unwrap(), "{}", said(&packed));
    for (ending, _) in ENDINGS {
        fs::remove_file(user.path(&format!("outside/out.{ending}"))).unwrap();
    }
    user.has_nothing_left("outputs");
}

#[test]
fn a_target_that_cannot_be_is_refused_before_anything_is_fetched() {
    let archive = Archive::small();
    let server = Server::new(archive.root());
    let user = User::new(&archive, server.url());
    fs::create_dir(user.path("outside/full.zip")).unwrap();
    fs::write(user.path("outside/full.zip/x"), "").unwrap();
    std::os::unix::fs::symlink("canary", user.path("outside/link")).unwrap();
    for (target, more, code, word) in [
        ("out.zip", &[][..], 2, "there are .tar, .tar.gz"),
        ("out.iso", &[], 2, "mkdir out.iso"),
        ("out.qcow2", &[], 2, "`.qcow2` of out.qcow2"),
        ("out.tar.lz4", &[], 2, "`.lz4`"),
        ("out.IMG", &[], 2, "`.img`"),
        ("outside/full.zip", &[], 1, "is not an empty directory"),
        ("outside/canary", &[], 1, "exists"),
        ("outside/link", &[], 1, "exists"),
        ("outside/canary/x", &[], 6, "Not a directory"),
        ("out.tar", &["--format", "squashfs"], 2, "stands for the format `tar`"),
        ("outside", &["--format", "tar"], 2, "stands for the format `directory`"),
        ("-", &["--format", "ext4"], 2, "cannot be written to stdout"),
        ("-", &["--json"], 2, ""),
        ("/", &[], 2, "is not a name"),
        ("..", &[], 2, "is not a name"),
    ] {
        let output = build(&user, target, more);
        assert!(output.status.code() == Some(code), "{target}: {}", said(&output));
        assert!(said(&output).contains(word), "{target}: {}", said(&output));
    }
    fs::remove_file(user.path("outside/link")).unwrap();
    fs::remove_dir_all(user.path("outside/full.zip")).unwrap();
    assert_eq!(server.log(), []);
}

/// A file system in memory, which is unmounted when dropped.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn new(path: std::path::PathBuf, flags: MsFlags, options: &str) -> Self {
        fs::create_dir_all(&path).unwrap();
        mount(Some("tmpfs"), &path, Some("tmpfs"), flags, Some(options)).unwrap();
        Self(path)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_file_system_that_can_take_no_tree_is_refused_before_anything_is_fetched() {
    let archive = Archive::small();
    let server = Server::new(archive.root());
    let user = User::new(&archive, server.url());
    let place = user.path("outside/m");
    for (flags, options, word, hint) in [
        (MsFlags::MS_NOEXEC, "size=1g", "is mounted `noexec`", "mount -o remount,exec "),
        (MsFlags::MS_RDONLY, "size=1g", "is mounted read-only", "mount -o remount,rw "),
        (MsFlags::empty(), "size=1g,nr_inodes=300", "free inodes", "df -i "),
        (MsFlags::empty(), "size=512k", "of free space", "df -h "),
    ] {
        let _mounted = Mounted::new(place.clone(), flags, options);
        for target in ["outside/m", "outside/m/tree", "outside/m/deep/tree", "outside/m/a.tar.gz"] {
            let output = build(&user, target, &[]);
            assert_eq!(output.status.code(), Some(6), "{options} {target}: {}", said(&output));
            let hint = format!("{hint}{}", place.display());
            assert!(said(&output).contains(word) && said(&output).contains(&hint), "{}", said(&output));
            assert_eq!(fs::read_dir(&place).unwrap().count(), 0, "{options} {target}");
        }
    }
    assert_eq!(server.log(), []);
}

#[test]
fn a_mount_point_is_filled_and_a_failed_build_leaves_it_empty() {
    let archive = archive();
    let server = Server::new(archive.root());
    let user = User::new(&archive, server.url());
    let built = build(&user, "outside/tree", &[]);
    assert!(built.status.success(), "{}", said(&built));
    let tree = facts(&user.path("outside/tree"));
    for made in ["lost+found", ""] {
        let mounted = Mounted::new(user.path("outside/m"), MsFlags::MS_NODEV, "size=1g,mode=700,uid=7");
        if !made.is_empty() {
            fs::create_dir(mounted.0.join(made)).unwrap();
        }
        let failed = build(&user, "outside/m", &["--include", "none-such"]);
        assert_eq!(failed.status.code(), Some(1), "{}", said(&failed));
        let left = fs::read_dir(&mounted.0).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(left.eq((!made.is_empty()).then_some(made)), "something is left");
        let built = build(&user, "outside/m", &[]);
        assert!(built.status.success(), "{}", said(&built));
        let mut filled = facts(&mounted.0);
        filled.remove(made);
        assert_eq!(filled, tree);
        let found = fs::metadata(&mounted.0).unwrap();
        assert_eq!((found.permissions().mode() & 0o7777, found.uid()), (0o755, 0));
        assert_eq!(build(&user, "outside/m", &[]).status.code(), Some(1));
    }
}

#[test]
fn an_export_is_what_its_name_means() {
    let place = Place::new();
    let entries = [
        Entry::folder("./"),
        Entry::folder("./srv/"),
        Entry::file("./srv/mark", 0o4640, b"x").owned(1000, 33).xattr("user.note", b"v"),
        Entry::hardlink("./srv/also", "./srv/mark"),
        Entry::symlink("./srv/link", "mark"),
        init(),
    ];
    place.import_entries(&entries, "a", &[]).ok();
    for (ending, listing) in ENDINGS {
        let file = place.word(&format!("out.{ending}"));
        place.run(&["export", "a", &file]).ok();
        has_the_mark(listing, Path::new(&file));
    }
    place.run(&["export", "a", &place.word("plain"), "--format", "tar.gz"]).ok();
    has_the_mark("gzip -t $f && tar -tzf $f", &place.path("plain"));
    let stat = process::run(&["debugfs", "-R", "stat /srv/mark", &place.word("out.ext4")], "", SOON);
    for word in ["Mode:  04640", "User:  1000", "Group:    33", "Links: 2", "user.note (1) = \"v\""] {
        assert!(stat.out.contains(word), "{word}: {}", stat.out);
    }
    for (target, more, code, word) in [
        ("x.zip", &[][..], 2, "there are .tar"),
        ("x.tar.gz", &["--format", "oci"], 2, "`oci` was requested"),
        ("x.tar.gz", &["--format", "proxmox"], 2, "`proxmox` was requested"),
        ("x.tar.gz", &["--format", "tar.zst"], 2, "`tar.zst` was requested"),
        ("-", &["--format", "squashfs"], 2, "cannot be written to stdout"),
    ] {
        let target = if target == "-" { target.to_owned() } else { place.word(target) };
        let refused = place.run(&[&["export", "a", &target][..], more].concat());
        assert!(refused.ends_with(code).err.contains(word), "{target}: {}", refused.err);
    }
    let left: Vec<_> =
        fs::read_dir(place.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("partial")), "{left:?}");
}

#[test]
fn a_lock_takes_the_place_of_files_alone() {
    let archive = Archive::small();
    let server = Server::new(archive.root());
    let user = User::new(&archive, server.url());
    let (pipe, null) = (user.path("outside/pipe"), user.path("outside/null"));
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    std::os::unix::fs::symlink("/dev/null", &null).unwrap();
    for path in [pipe.as_path(), &null, Path::new("outside"), Path::new("/dev/stdout")] {
        let path = path.to_str().unwrap();
        user.ends(
            &["lock", "kit", "-o", path, "--variant", "essential", "--keyring", "key"],
            2,
            "regular file",
        );
    }
    assert!(!fs::symlink_metadata(&pipe).unwrap().is_file());
    assert_eq!(fs::read_link("/dev/stdout").unwrap(), Path::new("/proc/self/fd/1"));
    assert_eq!(server.log(), []);
}
