//! Backports and experimental beside apt's pinning, on a small archive of our own.

use std::{collections::BTreeMap, fmt::Write as _};

use sandbox_core::{
    deb::{
        packages::{Catalog, Origin},
        release::Release,
    },
    digest::Sha256,
};

use crate::{
    apt::{Apt, Set},
    lab::Lab,
    resolve::chosen_of,
};

/// A suite: its codename, what its Release file says of its versions, and its packages.
type Suite = (&'static str, &'static str, &'static [&'static str]);

const SUITES: &[Suite] = &[
    (
        "kit",
        "",
        &["a 1", "lib 1", "tool 1", "b 1: a", "c 1: a (>= 2)", "d 1: a | lib (>= 2)", "x 1", "z 1", "old 1"],
    ),
    (
        "kit-backports",
        "NotAutomatic: yes\nButAutomaticUpgrades: yes\n",
        &["a 2: lib (>= 2), tool, y | z", "lib 2: x (>= 2)", "tool 2", "x 2", "y 2", "new 1: lib", "old 1"],
    ),
    ("kit-experimental", "NotAutomatic: yes\n", &["a 3: lib (>= 3)", "lib 3", "only 1: a", "new 2"]),
];

/// Wishes, and whether apt gives us up.
const WISHES: &[(&[&str], bool)] = &[
    (&["a"], false),
    (&["b"], false),
    (&["d"], false),
    (&["new"], false),
    (&["only"], false),
    (&["old"], false),
    (&["old/kit-backports"], false),
    (&["a/kit-backports"], false),
    (&["a/kit-backports", "b"], false),
    (&["lib/kit-experimental", "b"], false),
    (&["a/kit-experimental"], false),
    (&["a/kit"], false),
    (&["new=2"], false),
    (&["tool=2", "b"], false),
    (&["lib=2", "x=2"], false),
    (&["new/kit-experimental", "only"], false),
    // a dependency on what only a pocket that stands behind has: it was chosen by name, so it is taken
    (&["c"], true),
    // apt 2.6 leaves what a version asked for needs at its candidates
    (&["a=2"], true),
    (&["lib=2"], true),
];

pub fn pockets_stand_behind_as_apt_pins_them(lab: &Lab) {
    let folder = lab.path("pockets");
    let (mut lines, mut indexes) = (String::new(), Vec::new());
    for &(name, fields, packages) in SUITES {
        let (release, index) = suite(name, fields, packages);
        let dist = folder.join("dists").join(name);
        std::fs::create_dir_all(dist.join("main/binary-amd64")).expect("a folder below target/");
        std::fs::write(dist.join("main/binary-amd64/Packages"), &index).expect("a writable folder");
        std::fs::write(dist.join("Release"), &release).expect("a writable folder");
        writeln!(lines, "deb [trusted=yes] file:{} {name} main", folder.display()).expect("a string");
        let release = Release::parse(release.as_bytes()).expect("a Release file");
        let names = release.suite.iter().chain(&release.codename).cloned().collect();
        let origin = Origin { names, priority: release.priority(), ..Origin::new(name) };
        indexes.push((origin, index.into_bytes()));
    }
    let apt = Apt::with_sources(lab, "pockets", &lines);
    let catalog = Catalog::of(indexes, "amd64").expect("a catalogue");
    let mut wrong: BTreeMap<String, String> = BTreeMap::new();
    for &(wish, refused) in WISHES {
        let names: Vec<String> = wish.iter().map(|&name| name.to_owned()).collect();
        let (theirs, ours) = (apt.simulate(false, &names), chosen_of(&catalog, &names));
        let well = match (&theirs, &ours) {
            (Ok(theirs), Ok(ours)) => !refused && theirs == ours,
            (Err(_), Ok(_)) => refused,
            _ => false,
        };
        if !well {
            let shown = |side: &Result<Set, String>| format!("{side:?}");
            wrong.insert(wish.join(" "), format!("apt: {}\nwe: {}", shown(&theirs), shown(&ours)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Writes a suite's Release file and its index.
fn suite(name: &str, fields: &str, packages: &[&str]) -> (String, String) {
    let mut index = String::new();
    for package in packages {
        let (head, depends) = package.split_once(": ").unwrap_or((package, ""));
        let (package, version) = head.split_once(' ').expect("a name and a version");
        let digest = Sha256::of(head.as_bytes());
        writeln!(
            index,
            "Package: {package}\nVersion: {version}\nArchitecture: amd64\nMaintainer: Tests <t@example.com>\n\
             Filename: pool/{package}_{version}.deb\nSize: 1\nSHA256: {digest}\nDescription: test"
        )
        .expect("a string");
        index += &if depends.is_empty() { "\n".to_owned() } else { format!("Depends: {depends}\n\n") };
    }
    let digest = Sha256::of(index.as_bytes());
    let release = format!(
        "Origin: Tests\nSuite: {name}\nCodename: {name}\nDate: Sat, 12 Sep 2026 07:55:41 UTC\n{fields}\
         Architectures: amd64\nComponents: main\nSHA256:\n {digest} {} main/binary-amd64/Packages\n",
        index.len()
    );
    (release, index)
}
