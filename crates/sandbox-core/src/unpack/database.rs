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
    host::root::{LISTS, Meta, Root},
    lock::LockedPackage,
};

/// Where dpkg keeps it.
const FOLDER: &str = "var/lib/dpkg";

/// Where apt keeps which packages nobody asked for.
const STATES: &str = "var/lib/apt/extended_states";

/// Where it keeps what packages say of themselves.
pub const INFO: &str = "var/lib/dpkg/info";

/// Writes the database of the packages that are in the tree; those that dpkg is to unpack are not in it.
pub fn write(
    root: &Root,
    all: &[&LockedPackage],
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
    files.insert(PathBuf::from(STATES), (joined(automatic(all, architecture)).into_bytes(), 0o644));
    let folder = Meta::of_root(0o755, epoch);
    for path in ["info", "updates", "triggers", "alternatives", "parts"] {
        let path = Path::new(FOLDER).join(path);
        root.make_folders(&path, folder).map_err(UnpackError::tree(&path))?;
    }
    let apt = Path::new("var/lib/apt");
    root.make_folders(apt, folder).map_err(UnpackError::tree(apt))?;
    write_all(root, &files, epoch)
}

/// Adds packages that were moved into the tree to the database of a tree whose other packages are configured;
/// `all` are these and those that dpkg itself is to unpack.
///
/// Triggers that those there wait for are handed to dpkg, which runs them when it configures these.
pub fn add(
    root: &Root,
    all: &[&LockedPackage],
    packages: &[&Package<'_>],
    contents: &[&Contents],
    architecture: &str,
    epoch: i64,
) -> Result<(), UnpackError> {
    let mut files = BTreeMap::new();
    let file = |name: &str| Path::new(FOLDER).join(name);
    let read = |name: &str| text_of(root, &file(name));
    let mut states = states(&text_of(root, Path::new(STATES))?);
    states.extend(automatic(all, architecture));
    files.insert(PathBuf::from(STATES), (joined(states).into_bytes(), 0o644));
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

/// Takes packages that were asked for by name from those that apt would call automatically installed.
///
/// # Errors
/// [`UnpackError::Tree`].
pub fn asked_for(root: &Root, names: &BTreeSet<&str>, epoch: i64) -> Result<(), UnpackError> {
    let path = Path::new(STATES);
    let before = states(&text_of(root, path)?);
    let mut after = before.clone();
    after.retain(|name, _| !names.contains(name.as_str()));
    if after == before {
        return Ok(());
    }
    root.write(path, joined(after).as_bytes(), Meta::of_root(0o644, epoch)).map_err(UnpackError::tree(path))
}

fn text_of(root: &Root, path: &Path) -> Result<String, UnpackError> {
    match root.read_up_to(path, LISTS) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(problem) => Err(UnpackError::tree(path)(problem)),
    }
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
    if !package.lists_digests() {
        // dpkg adds what the package leaves out, and `dpkg --audit` misses it
        let lines = contents.digests.iter().map(|(path, digest)| format!("{digest}  {path}\n"));
        put("md5sums", lines.collect::<String>().as_bytes(), 0o644)?;
    }
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

/// Gives what apt would have noted of packages that nobody asked for (apt-mark(8)), by name.
fn automatic(packages: &[&LockedPackage], architecture: &str) -> BTreeMap<String, String> {
    let automatic = packages.iter().filter(|package| package.reason.is_automatic());
    // apt files packages of architecture `all` under the native one
    let text = |name: &str| format!("Package: {name}\nArchitecture: {architecture}\nAuto-Installed: 1\n\n");
    automatic.map(|locked| (locked.name.clone(), text(&locked.name))).collect()
}

/// Reads it back.
fn states(text: &str) -> BTreeMap<String, String> {
    let stanzas = text.split_inclusive("\n\n").filter_map(|stanza| {
        let name = stanza.lines().find_map(|line| line.strip_prefix("Package: "))?;
        Some((name.to_owned(), stanza.to_owned()))
    });
    stanzas.collect()
}

fn joined(states: BTreeMap<String, String>) -> String {
    states.into_values().collect()
}
