//! The tree that mmdebstrap makes of the same suite, variant and includes, and ours.

use std::{collections::BTreeMap, fs, path::Path};

use crate::{
    apt::mirrors_of_host,
    compare::{Times, Tree},
    lab::{LONG, Lab, text},
    process,
};

/// What may differ: `KIND PATH: reason`, in which `KIND` begins with `?` where it does not always.
const PERMITTED: &str = include_str!("differences");

const KEYRING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../keyrings/debian-archive-keyring.pgp");

const INCLUDES: &str =
    "systemd-sysv,openssh-server,vim-tiny,vim-runtime,python3-minimal,ca-certificates,procps";

pub fn trixie_is_mmdebstraps(lab: &Lab) {
    compare(lab, "trixie", "");
}

pub fn bookworm_is_mmdebstraps(lab: &Lab) {
    compare(lab, "bookworm", "");
}

pub fn trixie_with_includes_is_mmdebstraps(lab: &Lab) {
    compare(lab, "trixie", INCLUDES);
}

#[track_caller]
fn compare(lab: &Lab, suite: &str, include: &str) {
    let (ours, theirs) = (lab.path("ours.tar"), lab.path("theirs.tar"));
    let mut arguments = vec!["--json", "bootstrap", suite, text(&ours)];
    if !include.is_empty() {
        arguments.extend(["--include", include]);
    }
    let built = lab.sandbox(&arguments);
    mmdebstrap(suite, include, epoch(built.ok()), &theirs);
    let found = Tree::read(&ours).differences(&Tree::read(&theirs), Times::Ignored);
    let set = if include.is_empty() { "minbase" } else { "includes" };
    assert_eq!(judge(&found), Ok(()), "{suite}/{set}");
    drop((fs::remove_file(&ours), fs::remove_file(&theirs)));
}

/// Refuses what is not permitted, and what is permitted always and did not occur.
fn judge(found: &BTreeMap<String, String>) -> Result<(), String> {
    let mut unlisted = found.clone();
    let mut gone = Vec::new();
    for line in PERMITTED.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (what, reason) = line.split_once(": ").expect("KIND PATH: reason");
        assert!(!reason.is_empty(), "{what} needs a reason");
        let always = !what.starts_with('?');
        let what = what.trim_start_matches('?');
        let occurred: Vec<String> = match what.strip_suffix('*') {
            Some(start) => found.keys().filter(|key| key.starts_with(start)).cloned().collect(),
            None => found.keys().filter(|key| *key == what).cloned().collect(),
        };
        if occurred.is_empty() && always {
            gone.push(what);
        }
        occurred.iter().for_each(|key| drop(unlisted.remove(key)));
    }
    if !unlisted.is_empty() {
        return Err(format!("differences that are not permitted: {unlisted:#?}"));
    }
    if gone.is_empty() { Ok(()) } else { Err(format!("permitted differences that are no more: {gone:#?}")) }
}

#[track_caller]
fn epoch(events: &str) -> u64 {
    let found = events.rsplit_once("\"epoch\":").map(|(_, rest)| rest);
    let digits = found.map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("an epoch in {events}"))
}

#[track_caller]
fn mmdebstrap(suite: &str, include: &str, epoch: u64, target: &Path) {
    let [main, security] = mirrors_of_host();
    let lines = [
        format!("{main} {suite}"),
        format!("{main} {suite}-updates"),
        format!("{security} {suite}-security"),
    ]
    .map(|source| format!("deb [signed-by={KEYRING}] {source} main"));
    let include = format!("--include={include}");
    let epoch = format!("SOURCE_DATE_EPOCH={epoch}");
    let mut argv = vec!["env", &*epoch, "mmdebstrap", "--mode=root", "--variant=minbase", "--quiet"];
    if suite == "bookworm" {
        // without it apt takes usrmerge, perl with it, to merge what is merged from the start in ours
        argv.push("--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr");
    }
    if include != "--include=" {
        argv.push(&include);
    }
    argv.extend([suite, text(target)]);
    argv.extend(lines.iter().map(String::as_str));
    process::run(&argv, "", LONG).ok();
}

/// The comparison sees what real tools differ in: nothing between mmdebstrap and mmdebstrap, and between it and
/// debootstrap what is known of them.
pub fn mmdebstrap_is_itself_and_not_debootstrap(lab: &Lab) {
    let tree = |name: &str| {
        let target = lab.path(name);
        mmdebstrap("trixie", "", 1_780_000_000, &target);
        Tree::read(&target)
    };
    let first = tree("mmdebstrap-1.tar");
    let again = first.differences(&tree("mmdebstrap-2.tar"), Times::Ignored);
    assert!(again.is_empty(), "mmdebstrap against itself: {again:#?}");
    let (folder, packed) = (lab.path("debootstrap"), lab.path("debootstrap.tar"));
    let [main, _] = mirrors_of_host();
    let keyring = format!("--keyring={KEYRING}");
    let build = ["debootstrap", "--variant=minbase", &keyring, "trixie", text(&folder), &main];
    process::run(&build, "", LONG).ok();
    let pack =
        ["tar", "--create", "--numeric-owner", "--xattrs", "-f", text(&packed), "-C", text(&folder), "."];
    process::run(&pack, "", LONG).ok();
    let found = first.differences(&Tree::read(&packed), Times::Ignored);
    for known in [
        "first var/lib/apt/extended_states", // debootstrap notes nobody's packages as automatic
        "second var/log/bootstrap.log",      // and keeps its log
    ] {
        assert!(found.contains_key(known), "{known} is not seen in {:#?}", found.keys());
    }
    for path in [&folder, &packed, &lab.path("mmdebstrap-1.tar"), &lab.path("mmdebstrap-2.tar")] {
        process::run(&["rm", "-rf", "--one-file-system", text(path)], "", LONG).ok();
    }
}

/// The comparison sees: nothing between a tree and itself, and each kind of difference that is planted.
pub fn the_comparison_sees_each_kind(lab: &Lab) {
    let plain = Plant { mode: 0o755, uid: 0, target: "a", content: "same", xattr: b"1", minor: 3 };
    let file = |name: &str, plant: &Plant| {
        let path = lab.path(name);
        fs::write(&path, plant.pack()).expect("a folder below target/");
        Tree::read(&path)
    };
    let first = file("plant-1.tar", &plain);
    assert!(first.differences(&file("plant-2.tar", &plain), Times::Compared).is_empty());
    for (kind, plant) in [
        ("mode file", Plant { mode: 0o4755, ..plain }),
        ("owner file", Plant { uid: 7, ..plain }),
        ("target link", Plant { target: "b", ..plain }),
        ("content file", Plant { content: "sama", ..plain }),
        ("content file", Plant { content: "longer", ..plain }),
        ("xattr file", Plant { xattr: b"2", ..plain }),
        ("device node", Plant { minor: 5, ..plain }),
    ] {
        let found = first.differences(&file("plant-3.tar", &plant), Times::Compared);
        assert_eq!(found.keys().collect::<Vec<_>>(), [kind]);
        let judged = judge(&found);
        assert!(judged.is_err_and(|why| why.contains("not permitted")), "{kind} is let through");
    }
}

#[derive(Clone, Copy)]
struct Plant {
    mode: u32,
    uid: u64,
    target: &'static str,
    content: &'static str,
    xattr: &'static [u8],
    minor: u32,
}

impl Plant {
    fn pack(&self) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_pax_extensions([("SCHILY.xattr.user.test", self.xattr)]).expect("memory");
        let header = |kind| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(0);
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header
        };
        let mut file = header(tar::EntryType::Regular);
        file.set_mode(self.mode);
        file.set_uid(self.uid);
        file.set_size(self.content.len() as u64);
        builder.append_data(&mut file, "file", self.content.as_bytes()).expect("memory");
        builder.append_link(&mut header(tar::EntryType::Symlink), "link", self.target).expect("memory");
        let mut node = header(tar::EntryType::Char);
        node.set_device_major(1).expect("a number");
        node.set_device_minor(self.minor).expect("a number");
        builder.append_data(&mut node, "node", std::io::empty()).expect("memory");
        builder.into_inner().expect("memory")
    }
}
