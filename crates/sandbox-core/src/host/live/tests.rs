use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::{MetadataExt as _, symlink},
    path::{Path, PathBuf},
};

use rustix::fs::{FileType, Mode, OFlags, RenameFlags, mkdirat, openat, renameat_with};

use super::*;
use crate::host::root::{LIMIT, Links, Root};

/// Makes a chain of directories below one, as no path is long enough for.
fn deep(top: &Path, levels: usize) {
    let mut at = openat(rustix::fs::CWD, top, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..levels {
        mkdirat(&at, "d", Mode::RWXU).unwrap();
        at = openat(&at, "d", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
}

fn exchange(folder: &Path, one: &str, other: &str) {
    let (one, other) = (folder.join(one), folder.join(other));
    renameat_with(rustix::fs::CWD, one, rustix::fs::CWD, other, RenameFlags::EXCHANGE).unwrap();
}

fn paths(top: &Path, live: bool) -> Result<Vec<PathBuf>, io::Error> {
    let mut walker = Walker::new(Directory::top(top).unwrap(), live, true).unwrap();
    let mut all = Vec::new();
    while let Some(found) = walker.advance().map_err(|(_, error)| error)? {
        all.push(found.path.to_owned());
        if found.kind() == FileType::Directory {
            walker.enter().map_err(|(_, error)| error)?;
        }
    }
    Ok(all)
}

#[test]
fn only_single_names_are_opened_and_no_link_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("a/b")).unwrap();
    fs::write(folder.path().join("a/b/file"), "x").unwrap();
    symlink("a", folder.path().join("link")).unwrap();
    symlink("/etc/passwd", folder.path().join("out")).unwrap();
    let top = Directory::top(folder.path()).unwrap();
    for name in ["a/b", "..", ".", "", "/etc", "a/", "link/b"] {
        assert!(top.child(OsStr::new(name)).is_err(), "{name}");
        assert!(top.stat(OsStr::new(name)).is_err(), "{name}");
        assert!(top.regular(OsStr::new(name)).is_err(), "{name}");
    }
    for name in ["link", "out"] {
        assert!(vanished(&top.child(OsStr::new(name)).unwrap_err()), "{name}");
        assert!(vanished(&top.regular(OsStr::new(name)).unwrap_err()), "{name}");
    }
    let (file, _) = top
        .child(OsStr::new("a"))
        .unwrap()
        .child(OsStr::new("b"))
        .unwrap()
        .regular(OsStr::new("file"))
        .unwrap();
    assert_eq!(file.metadata().unwrap().len(), 1);
    assert!(Directory::top(&folder.path().join("link")).is_err(), "the top itself may not be a link");
    let mut cursor = Cursor::new(Directory::top(folder.path()).unwrap());
    cursor.go(Path::new("a/b")).unwrap();
    assert!(cursor.go(Path::new("link/b")).is_err());
    assert!(cursor.go(Path::new("../x")).is_err());
    cursor.go(Path::new("a")).unwrap();
}

#[test]
fn what_was_swapped_since_it_was_seen_has_vanished() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("file"), "of the guest").unwrap();
    fs::write(at("other"), "another").unwrap();
    fs::create_dir(at("folder")).unwrap();
    symlink("/", at("link")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    let top = Directory::top(folder.path()).unwrap();
    let seen = |name: &str| Identity::from(&top.stat(OsStr::new(name)).unwrap());
    let (file, dir) = (seen("file"), seen("folder"));
    top.file(OsStr::new("file"), file).unwrap();
    for instead in ["other", "fifo", "link", "folder"] {
        exchange(folder.path(), "file", instead);
        let error = top.file(OsStr::new("file"), file).unwrap_err();
        assert!(vanished(&error), "{instead}: {error}");
        exchange(folder.path(), "file", instead);
    }
    for instead in ["file", "link", "fifo"] {
        exchange(folder.path(), "folder", instead);
        let error = top.directory(OsStr::new("folder"), dir).unwrap_err();
        assert!(vanished(&error), "{instead}: {error}");
        exchange(folder.path(), "folder", instead);
    }
    let error = top.link(OsStr::new("folder")).unwrap_err();
    assert!(vanished(&error), "readlink(2) of a folder: {error}");
}

#[test]
fn ten_thousand_levels_end_at_the_limit_and_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    fs::create_dir_all(tree.join("beside")).unwrap();
    deep(&tree, 10_000);
    for live in [true, false] {
        let error = paths(&tree, live).unwrap_err();
        assert!(is_excess(&error) && error.to_string().contains("4095"), "{error}");
    }
    remove_tree(&tree).unwrap();
    assert!(!tree.exists());
}

#[test]
fn a_tree_that_is_as_deep_as_paths_are_is_walked_with_few_handles() {
    let folder = tempfile::tempdir().unwrap();
    deep(folder.path(), 2047);
    fs::write(folder.path().join("last"), "").unwrap();
    let mut walker = Walker::new(Directory::top(folder.path()).unwrap(), false, true).unwrap();
    let (mut most, mut count) = (0, 0);
    while let Some(found) = walker.advance().unwrap() {
        let is_directory = found.kind() == FileType::Directory;
        if is_directory {
            walker.enter().unwrap();
        }
        count += 1;
        most = most.max(walker.handles());
    }
    // the last one comes after all levels were left again, by `..`
    assert_eq!(count, 2048);
    assert_eq!(most, 16);
}

#[test]
fn what_stands_in_the_place_of_a_directory_is_left_as_it_was_entered() {
    let folder = tempfile::tempdir().unwrap();
    let (tree, volume) = (folder.path().join("tree"), folder.path().join("volumes/volume"));
    fs::create_dir_all(tree.join("a/b/home")).unwrap();
    fs::write(tree.join("a/b/zlast"), "").unwrap();
    fs::create_dir_all(&volume).unwrap();
    deep(&volume, 100);
    let mut walker = Walker::new(Directory::top(&tree).unwrap(), false, true).unwrap();
    let mut all = Vec::new();
    while let Some(found) = walker.advance().unwrap() {
        all.push(found.path.to_owned());
        let is_directory = found.kind() == FileType::Directory;
        if all.last().unwrap() == Path::new("a/b/home") {
            walker.enter_instead(Directory::top(&volume).unwrap()).unwrap();
        } else if is_directory {
            walker.enter().unwrap();
        }
    }
    assert_eq!(all.len(), 104);
    assert_eq!(all.last().unwrap(), Path::new("a/b/zlast"));
}

#[test]
fn a_directory_that_is_moved_away_under_a_walk_ends_that_part_only() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    fs::create_dir(&tree).unwrap();
    deep(&tree, 60);
    fs::write(tree.join("zlast"), "").unwrap();
    let mut walker = Walker::new(Directory::top(&tree).unwrap(), true, true).unwrap();
    let mut all = Vec::new();
    while let Some(found) = walker.advance().unwrap() {
        all.push(found.path.to_owned());
        let is_directory = found.kind() == FileType::Directory;
        if all.len() == 50 {
            let inner = PathBuf::from_iter(std::iter::repeat_n("d", 30));
            fs::rename(tree.join(inner), folder.path().join("away")).unwrap();
        }
        if is_directory {
            walker.enter().unwrap();
        }
    }
    assert_eq!(all.last().unwrap(), Path::new("zlast"));
    assert!(!all.iter().any(|path| path.starts_with("away")));
}

#[test]
fn names_and_paths_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..20 {
        fs::write(folder.path().join(format!("file-{number}")), "").unwrap();
    }
    let top = || Directory::top(folder.path()).unwrap();
    let begun = Walker::within(top(), (true, false), names::Budget::of(19, 1000));
    assert!(is_excess(&begun.err().unwrap()));
    let mut walker = Walker::within(top(), (true, false), names::Budget::of(20, 100)).unwrap();
    let problem = std::iter::repeat_with(|| walker.advance().map(|found| found.is_some()))
        .find_map(|next| next.err())
        .unwrap();
    assert!(is_excess(&problem.1), "{}", problem.1);
}

#[test]
fn a_guests_file_is_read_up_to_a_limit_and_only_where_it_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("etc")).unwrap();
    fs::File::create(at("etc/hosts")).unwrap().set_len(8 << 40).unwrap();
    fs::write(at("etc/hostname"), "a\n").unwrap();
    fs::File::create(at("etc/exact")).unwrap().set_len(LIMIT).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, at("etc/group"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    let root = Root::open(folder.path(), Links::InTree).unwrap();
    for path in ["etc/hosts", "etc/group", "etc"] {
        let error = root.read(Path::new(path)).unwrap_err();
        assert!(is_excess(&error) && error.to_string().contains(&format!("/{path}")), "{error}");
        assert_eq!(class_of(&error, crate::error::Class::Host), crate::error::Class::Untrusted);
    }
    assert_eq!(root.read(Path::new("etc/hostname")).unwrap(), b"a\n");
    assert_eq!(root.read(Path::new("/etc/exact")).unwrap().len() as u64, LIMIT);
}

#[test]
fn wide_and_deep_trees_are_removed_and_names_that_are_taken_are_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    fs::create_dir_all(tree.join(".sandbox-rest-0/full")).unwrap();
    for branch in 0..5 {
        let top = tree.join(format!("branch-{branch}"));
        fs::create_dir(&top).unwrap();
        deep(&top, 300);
        fs::write(top.join("d/d/file"), "").unwrap();
    }
    symlink("/", tree.join("out")).unwrap();
    remove_tree(&tree).unwrap();
    assert!(!tree.exists());
}

#[test]
fn holes_are_copied_as_holes() {
    use std::os::unix::fs::FileExt as _;
    let folder = tempfile::tempdir().unwrap();
    let from =
        fs::File::options().read(true).write(true).create_new(true).open(folder.path().join("a")).unwrap();
    from.set_len(8 << 40).unwrap();
    from.write_all_at(b"in the middle", 4 << 40).unwrap();
    let to =
        fs::File::options().read(true).write(true).create_new(true).open(folder.path().join("b")).unwrap();
    let stat = rustix::fs::fstat(&from).unwrap();
    let source = crate::host::large::Source::new(from, None);
    copy_data(&source, &stat, &to, &mut crate::host::large::Buffer::default()).unwrap();
    let mut bytes = [0; 13];
    to.read_exact_at(&mut bytes, 4 << 40).unwrap();
    assert_eq!(&bytes, b"in the middle");
    let found = to.metadata().unwrap();
    assert!(found.len() == 8 << 40 && found.blocks() < 4096, "{}", found.blocks());
    let parts = data_parts(source.file(), &stat).unwrap();
    assert_eq!(parts.len(), 1);
}
