//! Trees through the tar files and images of other tools, in both directions: what arrives is what went.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, chown, symlink},
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use crate::{
    carried::{Place, facts, init},
    kit::{process, skips, tar::Kind},
};

/// What a form of archives has a place for.
#[derive(Clone, Copy)]
struct Can {
    /// Access control lists and extended attributes.
    lists: bool,
    /// Holes.
    holes: bool,
    /// Times before 1970 and after 2242.
    times: bool,
    /// Large owners, long names, FIFOs.
    all: bool,
}

const ALL: Can = Can { lists: true, holes: true, times: true, all: true };
const PLAIN: Can = Can { lists: false, holes: false, ..ALL };
const OLD: Can = Can { times: false, all: false, ..PLAIN };

fn shell(command: &str) -> process::Output {
    process::run(&["sh", "-ec", command], "", Duration::from_secs(120))
}

/// Reports whether tools are installed; where one is not, the test says so.
fn has(tools: &[&str], test: &str) -> bool {
    let missing = tools.iter().find(|tool| shell(&format!("command -v {tool} || :")).out.is_empty());
    if let Some(tool) = missing {
        skips::skipped(&format!("tars::{test}"), &format!("{tool} is not installed"));
    }
    missing.is_none()
}

fn list(path: &Path, words: &[&str]) {
    process::run(&[&["setfacl"], words, &[path.to_str().unwrap()]].concat(), "", Duration::from_secs(20))
        .ok();
}

/// Makes a tree of what a form can have.
fn source(tree: &Path, can: Can) {
    let at = |path: &str| tree.join(path);
    let write = |path: &str, mode: u32| {
        fs::write(at(path), path).unwrap();
        fs::set_permissions(at(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    for folder in ["sbin", "etc", "usr/lib", "srv/closed/deep"] {
        fs::create_dir_all(at(folder)).unwrap();
    }
    let Kind::File(program) = init().kind else { panic!("a program is a file") };
    fs::write(at("sbin/init"), program).unwrap();
    fs::set_permissions(at("sbin/init"), fs::Permissions::from_mode(0o755)).unwrap();
    // an import writes one where there is none
    write("usr/lib/os-release", 0o644);
    write("srv/file", 0o640);
    chown(at("srv/file"), Some(1000), Some(65_535)).unwrap();
    write("srv/set-id", 0o6755);
    fs::hard_link(at("srv/file"), at("srv/second")).unwrap();
    symlink("/etc/hostname", at("srv/absolute")).unwrap();
    if can.all {
        let long = "n".repeat(140);
        write(&format!("srv/{long}"), 0o600);
        symlink("t".repeat(150), at("srv/long-target")).unwrap();
        write("srv/large-owner", 0o644);
        chown(at("srv/large-owner"), Some(3_000_000), Some(3_000_001)).unwrap();
        process::run(&["mkfifo", at("srv/pipe").to_str().unwrap()], "", Duration::from_secs(20)).ok();
    }
    holes(tree);
    if can.lists {
        lists(tree);
    }
    // umoci rounds to the next second
    shell(&format!("find {} -exec touch -hd @1700000000 {{}} +", tree.display())).ok();
    let dated = |path: &str, time| File::open(at(path)).unwrap().set_modified(time).unwrap();
    let old = UNIX_EPOCH - Duration::from_secs(315_619_200);
    if can.times {
        for (path, time) in [("old", old), ("far", UNIX_EPOCH + Duration::from_secs(9_000_000_000))] {
            write(&format!("srv/{path}"), 0o644);
            dated(&format!("srv/{path}"), time);
        }
    }
    fs::set_permissions(at("srv/closed"), fs::Permissions::from_mode(0o1750)).unwrap();
    chown(at("srv/closed"), Some(7), Some(8)).unwrap();
    dated("srv/closed", UNIX_EPOCH + Duration::from_secs(1_000_000_000));
}

fn holes(tree: &Path) {
    let make = |name: &str, size: u64, parts: &[u64]| {
        let file = File::create(tree.join("srv").join(name)).unwrap();
        file.set_len(size).unwrap();
        parts.iter().for_each(|at| file.write_all_at(b"bytes", *at).unwrap());
    };
    make("hole-alone", 4 << 20, &[]);
    make("hole-end", 4 << 20, &[12_345, 1 << 20]);
    let many: Vec<u64> = (0..60).map(|at| (at << 17) + 100).collect();
    make("hole-many", (59 << 17) + 105, &many);
}

fn lists(tree: &Path) {
    let at = |path: &str| tree.join(path);
    for path in ["srv/named", "srv/able"] {
        fs::write(at(path), path).unwrap();
        fs::set_permissions(at(path), fs::Permissions::from_mode(0o640)).unwrap();
    }
    // a name of every host, and numbers of none
    list(&at("srv/named"), &["-m", "u:www-data:rw,u:4711:r,g:adm:r,g:4712:rw"]);
    fs::create_dir(at("srv/shared")).unwrap();
    list(&at("srv/shared"), &["-m", "u:33:rwx,d:u:www-data:rwx,d:g:4712:rx"]);
    let set = |path: &str, name: &str, value: &[u8]| {
        rustix::fs::setxattr(at(path), name, value, rustix::fs::XattrFlags::empty()).unwrap();
    };
    set("srv/able", "user.note", b"with = and\nnewline");
    set("srv/shared", "user.folder", b"\0\xff");
    set("srv/able", "security.capability", &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

/// Tells of a tree all that must arrive: also the time of a folder that nothing is made in afterwards, and which files
/// have holes.
fn all(tree: &Path, with_holes: bool) -> BTreeMap<String, String> {
    let mut all = facts(tree);
    // these an import gives the machine
    all.retain(|path, _| !path.starts_with("etc/"));
    let time = fs::metadata(tree.join("srv/closed")).unwrap().mtime();
    all.insert("srv/closed of".to_owned(), time.to_string());
    for name in ["hole-alone", "hole-end", "hole-many"] {
        let found = fs::metadata(tree.join("srv").join(name)).unwrap();
        let has = found.blocks() * 512 < found.len() / 2;
        all.insert(format!("srv/{name} has holes"), (has && with_holes).to_string());
    }
    all
}

#[track_caller]
fn same(name: &str, found: &BTreeMap<String, String>, expected: &BTreeMap<String, String>) {
    let other: Vec<_> = expected.iter().filter(|(path, fact)| found.get(*path) != Some(*fact)).collect();
    let is: Vec<_> = other.iter().map(|(path, _)| found.get(*path)).collect();
    assert!(other.is_empty(), "{name}: {other:#?}\nis {is:#?}");
    let more: Vec<_> = found.keys().filter(|path| !expected.contains_key(*path)).collect();
    assert!(more.is_empty(), "{name}: {more:?}");
}

/// Packs a tree with each command (`$T` is the tree, `$F` the file), imports that, and compares.
fn imported(rows: &[(&str, Can)]) {
    let place = Place::new();
    for (command, can) in rows {
        let tree = place.path("source");
        fs::create_dir(&tree).unwrap();
        source(&tree, *can);
        let packed = format!("T={}; F={}; {command}", tree.display(), place.word("file"));
        assert!(shell(&packed).code == 0, "{command}: {}", shell(&packed).err);
        place.import(&place.word("file"), "a", &[]).ok();
        same(command, &all(&place.tree("a"), can.holes), &all(&tree, can.holes));
        place.run(&["remove", "a", "--yes"]).ok();
        for left in ["source", "file"] {
            let path = place.path(left);
            if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
        }
    }
}

#[test]
fn what_gnu_tar_packs_arrives() {
    if !has(&["setfacl"], "what_gnu_tar_packs_arrives") {
        return;
    }
    let sparse = Can { holes: true, ..PLAIN };
    imported(&[
        ("tar -C $T --format=gnu -cf $F .", PLAIN),
        ("tar -C $T --format=gnu --sparse -cf $F .", sparse),
        ("tar -C $T --format=gnu -czf $F .", PLAIN),
        ("tar -C $T --format=oldgnu --sparse -cf $F .", sparse),
        ("tar -C $T --format=posix -cf $F .", PLAIN),
        ("tar -C $T --format=posix --sparse -cf $F .", sparse),
        ("tar -C $T --format=posix --sparse --sparse-version=0.0 -cf $F .", sparse),
        ("tar -C $T --format=posix --sparse --sparse-version=0.1 -cf $F .", sparse),
        ("tar -C $T --format=ustar -cf $F .", OLD),
        ("tar -C $T --format=v7 -cf $F .", OLD),
        ("tar -C $T --acls --xattrs --xattrs-include='*' --sparse -cf $F .", ALL),
        ("tar -C $T --acls --xattrs --xattrs-include='*' -cf $F .", Can { holes: false, ..ALL }),
        // vzdump
        (
            "tar -C $T --totals --one-file-system -p --sparse --numeric-owner --acls --xattrs \
             '--xattrs-include=user.*' '--xattrs-include=security.capability' -cf $F .",
            ALL,
        ),
        ("tar -P --transform=s,^$T,, -cf $F $T", PLAIN),
        // below a directory: a single one, an image and a backup of incus
        ("tar -C $T/.. -cf $F source", PLAIN),
        (
            "cd $T/..; mkdir i i/templates; mv source i/rootfs; echo x >i/metadata.yaml; \
             tar -C i --acls --xattrs --xattrs-include='*' --sparse -cf $F metadata.yaml rootfs templates; \
             mv i/rootfs source; rm -r i",
            ALL,
        ),
        (
            "cd $T/..; mkdir -p b/backup/container; mv source b/backup/container/rootfs; echo x >b/backup/index.yaml; \
             tar -C b --acls --xattrs --xattrs-include='*' --sparse -cf $F backup; \
             mv b/backup/container/rootfs source; rm -r b",
            ALL,
        ),
    ]);
}

#[test]
fn what_bsdtar_packs_arrives() {
    if has(&["setfacl", "bsdtar"], "what_bsdtar_packs_arrives") {
        imported(&[
            ("bsdtar -C $T -cf $F .", ALL),
            ("bsdtar -C $T --format pax -cf $F .", ALL),
            ("bsdtar -C $T --format pax --no-read-sparse --zstd -cf $F .", Can { holes: false, ..ALL }),
            ("bsdtar -C $T --format gnutar -cf $F .", Can { times: false, ..PLAIN }),
            ("bsdtar -C $T --format ustar -cf $F .", OLD),
        ]);
    }
}

#[test]
fn what_umoci_and_skopeo_write_arrives() {
    let name = "what_umoci_and_skopeo_write_arrives";
    if !has(&["setfacl", "umoci", "skopeo"], name) {
        return;
    }
    let insert = "umoci init --layout $F; umoci new --image $F:x; umoci insert --image $F:x $T /";
    let whole = Can { holes: false, ..ALL };
    let copied = |more: &str| {
        format!(
            "G=$F.1; umoci init --layout $G; umoci new --image $G:x; umoci insert --image $G:x $T /; \
             skopeo --insecure-policy copy -q {more} oci:$G:x oci:$F:x; rm -r $G"
        )
    };
    imported(&[
        (insert, whole),
        (&copied(""), whole),
        (&copied("--dest-compress-format zstd --dest-compress"), whole),
    ]);
}

/// Makes a machine of all that there is, and gives what its tree is.
fn machine(place: &Place) -> BTreeMap<String, String> {
    let tree = place.path("source");
    fs::create_dir(&tree).unwrap();
    source(&tree, ALL);
    let file = place.word("file");
    shell(&format!("tar -C {} --acls --xattrs --xattrs-include='*' --sparse -cf {file} .", tree.display()))
        .ok();
    place.import(&file, "a", &[]).ok();
    all(&tree, true)
}

#[test]
fn what_is_exported_is_taken_by_all() {
    if !has(&["setfacl", "zstd", "bsdtar"], "what_is_exported_is_taken_by_all") {
        return;
    }
    let place = Place::new();
    let expected = machine(&place);
    let file = place.word("a.tar.zst");
    place.run(&["export", "a", &file]).ok();
    let commands = [
        "zstd -qdc $F | tar -C $T --acls --xattrs --xattrs-include='*' -xp",
        // pct
        "zstd -qdc $F | tar -C $T -xp --sparse --totals --numeric-owner --acls --xattrs '--xattrs-include=user.*' \
         '--xattrs-include=security.capability' --warning=no-file-ignored --warning=no-xattr-write --anchored",
        // machinectl
        "zstd -qdc $F | tar --numeric-owner -C $T -px --xattrs '--xattrs-include=*'",
        "bsdtar -C $T -xpf $F",
    ];
    for command in commands {
        let tree = place.path("out");
        fs::create_dir(&tree).unwrap();
        shell(&format!("T={}; F={file}; {command}", tree.display())).ok();
        same(command, &all(&tree, true), &expected);
        fs::remove_dir_all(tree).unwrap();
    }
    place.import(&file, "b", &[]).ok();
    same("sandbox", &all(&place.tree("b"), true), &expected);
}

#[test]
fn an_exported_image_is_taken_by_all() {
    let name = "an_exported_image_is_taken_by_all";
    if !has(&["setfacl", "umoci", "skopeo"], name) {
        return;
    }
    let place = Place::new();
    let mut expected = machine(&place);
    expected
        .iter_mut()
        .filter(|(path, _)| path.ends_with("has holes"))
        .for_each(|(_, has)| *has = "false".into());
    let image = place.word("image");
    place.run(&["export", "a", &image, "--format", "oci"]).ok();
    let copy = place.word("copy");
    shell(&format!("skopeo --insecure-policy copy -q oci:{image}:latest oci:{copy}:latest")).ok();
    for image in [&image, &copy] {
        let bundle = place.path("bundle");
        shell(&format!("umoci unpack --image {image}:latest {}", bundle.display())).ok();
        same("umoci", &all(&bundle.join("rootfs"), false), &expected);
        fs::remove_dir_all(bundle).unwrap();
        place.import(image, "b", &[]).ok();
        same("sandbox", &all(&place.tree("b"), false), &expected);
        place.run(&["remove", "b", "--yes"]).ok();
    }
}

#[test]
fn streams_of_copies_are_tar_files_for_all() {
    if !has(&["setfacl", "bsdtar"], "streams_of_copies_are_tar_files_for_all") {
        return;
    }
    let place = Place::new();
    let mut expected = machine(&place);
    // what a copy has no number for belongs to the owner of the directory, and a stream has no such thing
    expected.retain(|path, _| path.starts_with("srv/") || path == "srv");
    let program = format!(
        "{} --state-dir {} --cache-dir {}",
        env!("CARGO_BIN_EXE_sandbox"),
        place.word("state"),
        place.word("cache")
    );
    let out = "tar -C $T --acls --xattrs --xattrs-include='*' -xp";
    let commands = [
        format!("{program} copy a:/srv - | {out}"),
        format!("{program} copy a:/srv $T/"),
        format!("{program} copy a:/srv - | bsdtar -C $T -xpf -"),
    ];
    let srv = |tree: &Path| {
        let mut all = all(tree, true);
        all.retain(|path, _| path.starts_with("srv"));
        all
    };
    for command in commands {
        let tree = place.path("out");
        fs::create_dir(&tree).unwrap();
        shell(&format!("T={}; {command}", tree.display())).ok();
        let mut expected = expected.clone();
        if command.ends_with("$T/") {
            // on the host a file of a machine's has no powers
            let mut change = |path: &str, from: &str, to: &str| {
                let fact = expected.get_mut(path).unwrap();
                assert!(fact.contains(from), "{fact}");
                *fact = fact.replace(from, to);
            };
            change("srv/set-id", "106755", "100755");
            let able = expected.get_mut("srv/able").unwrap();
            *able = able.replace(&able[able.find("security.").unwrap()..able.find("user.").unwrap()], "");
        }
        same(&command, &srv(&tree), &expected);
        fs::remove_dir_all(tree).unwrap();
    }
    for words in ["--format=gnu --sparse", "--acls --xattrs --xattrs-include='*' --sparse"] {
        let source = place.path("source");
        let command = format!("tar -C {} {words} -c srv | {program} copy - a:/etc/", source.display());
        let output = shell(&command);
        output.ok();
        assert!(output.err.contains("--owner"), "{}", output.err);
        let mut expected = expected.clone();
        let large = expected.get_mut("srv/large-owner").unwrap();
        *large = large.replace("3000000:3000001", "0:0");
        if words.contains("gnu") {
            expected.values_mut().for_each(|fact| {
                if let Some(at) =
                    ["security.", "system.", "user."].iter().filter_map(|word| fact.find(word)).min()
                {
                    fact.truncate(at);
                }
            });
        }
        same(&command, &srv(&place.tree("a").join("etc")), &expected);
        fs::remove_dir_all(place.tree("a").join("etc/srv")).unwrap();
    }
}
