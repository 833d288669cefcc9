//! The package database, as dpkg would have written it after unpacking.
//!
//! **Source**: dpkg(1) FILES, deb-triggers(5), deb-conffiles(5); dpkg's lib/dpkg/dbdir.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io,
    path::{Path, PathBuf},
};

use super::{
    UnpackError,
    package::{Contents, Package},
    tree::Writer,
};
use crate::{
    deb::{deb822::Paragraph, status},
    host::root::{Meta, Root},
    lock::LockedPackage,
};

/// Where dpkg keeps it.
const FOLDER: &str = "var/lib/dpkg";

/// Where it keeps what packages say of themselves.
pub const INFO: &str = "var/lib/dpkg/info";

/// Writes the database of the packages that are in the tree; those that dpkg is to unpack are not in it.
pub fn write(
    root: &Root,
    all: &[LockedPackage],
    packages: &[&Package<'_>],
    contents: &[&Contents],
    architecture: &str,
    epoch: i64,
) -> Result<(), UnpackError> {
    let mut files: BTreeMap<PathBuf, (Vec<u8>, u32)> = BTreeMap::new();
    let mut put = |name: &str, bytes: &[u8], mode: u32| {
        files.insert(Path::new(FOLDER).join(name), (bytes.to_vec(), mode));
    };
    for (name, text) in [
        ("arch", format!("{architecture}\n")),
        ("available", String::new()),
        ("diversions", String::new()),
        ("statoverride", String::new()),
        ("info/format", "1\n".to_owned()),
        ("triggers/Unincorp", String::new()),
        ("triggers/Lock", String::new()),
        ("lock", String::new()),
        ("lock-frontend", String::new()),
    ] {
        // dpkg makes its locks for root alone
        let mode = match name {
            "triggers/Lock" => 0o600,
            "lock" | "lock-frontend" => 0o640,
            _ => 0o644,
        };
        put(name, text.as_bytes(), mode);
    }
    put("status", statuses(packages, contents).as_bytes(), 0o644);
    for (name, text) in interests(packages) {
        put(&format!("triggers/{name}"), text.as_bytes(), 0o644);
    }
    files.insert(
        PathBuf::from("var/lib/apt/extended_states"),
        (automatic(all, architecture).into_bytes(), 0o644),
    );
    let folder = Meta::of_root(0o755, epoch);
    for path in ["info", "updates", "triggers", "alternatives", "parts"] {
        let path = Path::new(FOLDER).join(path);
        root.make_folders(&path, folder).map_err(UnpackError::tree(&path))?;
    }
    let apt = Path::new("var/lib/apt");
    root.make_folders(apt, folder).map_err(UnpackError::tree(apt))?;
    write_all(root, &files, epoch)
}

/// Adds packages that were moved into the tree to the database of a tree whose other packages are configured.
///
/// Triggers that those wait for are handed to dpkg, which runs them when it configures these.
pub fn add(
    root: &Root,
    packages: &[&Package<'_>],
    contents: &[&Contents],
    epoch: i64,
) -> Result<(), UnpackError> {
    let mut files = BTreeMap::new();
    let file = |name: &str| Path::new(FOLDER).join(name);
    let read = |name: &str| match root.read(&file(name)) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(problem) => Err(UnpackError::tree(&file(name))(problem)),
    };
    let mut put = |name: &str, text: String| files.insert(file(name), (text.into_bytes(), 0o644));
    put("status", read("status")? + &statuses(packages, contents));
    put("triggers/Unincorp", read("triggers/Unincorp")? + &activated(&read("triggers/File")?, contents));
    for (name, text) in interests(packages) {
        let name = format!("triggers/{name}");
        let there = read(&name)?;
        put(&name, there + &text);
    }
    write_all(root, &files, epoch)
}

/// Writes a package's files of dpkg's `info` folder, which must be there.
pub fn info(
    package: &Package<'_>,
    contents: &Contents,
    epoch: i64,
    writer: &mut Writer<'_>,
) -> Result<(), UnpackError> {
    let mut put = |member: &str, bytes: &[u8], mode: u32| {
        let path = format!("{INFO}/{}.{member}", package.info());
        let meta = Meta::of_root(mode, epoch);
        let written = writer.file(&path, meta, bytes.len() as u64, &mut &bytes[..], &[]);
        written.map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => {
                UnpackError::Collision { package: package.locked.name.clone(), path: format!("/{path}") }
            }
            _ => UnpackError::tree(Path::new(&path))(source),
        })
    };
    let mut list = contents.list.join("\n");
    list.push('\n');
    put("list", list.as_bytes(), 0o644)?;
    package.control.members.iter().try_for_each(|(member, (bytes, mode))| put(member, bytes, *mode))
}

fn write_all(root: &Root, files: &BTreeMap<PathBuf, (Vec<u8>, u32)>, epoch: i64) -> Result<(), UnpackError> {
    for (path, (bytes, mode)) in files {
        root.write(path, bytes, Meta::of_root(*mode, epoch)).map_err(UnpackError::tree(path))?;
    }
    Ok(())
}

/// Writes the path triggers that new files activate, as dpkg-trigger(1) leaves them for dpkg.
///
/// **Source**: dpkg's lib/dpkg/trignote.c and doc/spec/triggers.txt: `TRIGGER -` where nobody awaits it.
fn activated(interests: &str, contents: &[&Contents]) -> String {
    let known: BTreeSet<&str> = interests.lines().filter_map(|line| line.split(' ').next()).collect();
    let mut activated: BTreeSet<&str> = BTreeSet::new();
    for path in contents.iter().flat_map(|contents| &contents.list) {
        let above = Path::new(path).ancestors().filter_map(Path::to_str);
        activated.extend(above.filter_map(|path| known.get(path).copied()));
    }
    activated.into_iter().map(|trigger| format!("{trigger} -\n")).collect()
}

/// Writes dpkg's status file: every package unpacked, none configured.
///
/// The digests of configuration files go in at once: dpkg then knows them for the package's own.
fn statuses(packages: &[&Package<'_>], contents: &[&Contents]) -> String {
    let mut stanzas: Vec<(&str, Paragraph)> = packages
        .iter()
        .zip(contents)
        .map(|(package, contents)| {
            let mut fields = package.fields.clone();
            fields.set("Status", "install ok unpacked");
            let mut conffiles = String::new();
            // one that is listed twice is one (dpkg reads the list as a set)
            let mut listed = BTreeSet::new();
            let lines = package.control.lines("conffiles").map(str::trim);
            for line in lines.filter(|line| !line.is_empty() && listed.insert(*line)) {
                let (flag, path) = match line.strip_prefix("remove-on-upgrade ") {
                    Some(path) => (" remove-on-upgrade", path.trim()),
                    None => ("", line),
                };
                let digest = contents.conffiles.get(path).map_or("newconffile", String::as_str);
                let _ = write!(conffiles, "\n {path} {digest}{flag}");
            }
            if !conffiles.is_empty() {
                fields.set("Conffiles", conffiles);
            }
            (package.locked.name.as_str(), status::in_order(&fields))
        })
        .collect();
    stanzas.sort_by_key(|(name, _)| *name);
    status::write(stanzas.iter().map(|(_, stanza)| stanza))
}

/// Writes who is interested in which trigger: `File` for paths, a file each for names.
fn interests(packages: &[&Package<'_>]) -> BTreeMap<String, String> {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    files.insert("File".to_owned(), String::new());
    for package in packages {
        for line in package.control.lines("triggers") {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            let (Some(directive), Some(trigger)) = (words.next(), words.next()) else { continue };
            let ending = match directive {
                "interest" | "interest-await" => "",
                "interest-noawait" => "/noawait",
                _ => continue,
            };
            let who = &package.locked.name;
            if trigger.starts_with('/') {
                let file = files.entry("File".to_owned()).or_default();
                let _ = writeln!(file, "{trigger} {who}{ending}");
            } else if trigger.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/') {
                let _ = writeln!(files.entry(trigger.to_owned()).or_default(), "{who}{ending}");
            }
        }
    }
    files
}

/// Writes what apt would have noted of packages that nobody asked for (apt-mark(8)).
fn automatic(packages: &[LockedPackage], architecture: &str) -> String {
    let mut text = String::new();
    let mut automatic: Vec<_> = packages.iter().filter(|package| package.reason.is_automatic()).collect();
    automatic.sort_by_key(|locked| &locked.name);
    for locked in automatic {
        // apt files packages of architecture `all` under the native one
        let _ = write!(text, "Package: {}\nArchitecture: {architecture}\nAuto-Installed: 1\n\n", locked.name);
    }
    text
}
