//! npm itself makes the tree, in the tree, of a lock of its own and of tarballs that were fetched before.
//!
//! npm takes a tarball of a known digest from its cache without asking for the address (npm-ci(1), `offline`), so
//! that a cache with the tarballs alone, each named by its digest, is all that it needs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::{TreeError, registry::Manifest, tree::meets};
use crate::{
    configure,
    digest::hex,
    host::{
        root::{Meta, Root},
        runner::Command,
    },
    layer::parts::fetched::Into,
    lock::NpmPackage,
    spec::Npm,
    store::Entry,
};

/// Where npm finds its cache while it works; nothing of it stays.
const WORK: &str = "var/tmp/sandbox-npm";

/// Stands in npm's lock where an address must: nothing is fetched from it.
const NOWHERE: &str = "https://registry.invalid";

/// The most bytes of a package's own description.
const DESCRIPTION: u64 = 16 << 20;

/// A locked package with its tarball.
pub(super) struct Tarball<'a> {
    pub package: &'a NpmPackage,
    pub entry: Entry,
}

impl Tarball<'_> {
    /// The package's own name.
    fn name(&self) -> &str {
        super::name(self.package)
    }
}

/// Has npm install a part's packages.
pub(super) fn install(
    part: &Npm,
    version: &str,
    tarballs: &[Tarball<'_>],
    to: Into<'_>,
) -> Result<(), TreeError> {
    let root = to.rootfs.root();
    let description = json!({ "private": true, "dependencies": { &part.package: version } });
    let lock = lock(part, version, tarballs)?;
    root.make_folders(&part.into, folder(to)).map_err(written(&part.into))?;
    write(root, &part.into.join("package.json"), &description, to)?;
    write(root, &part.into.join("package-lock.json"), &lock, to)?;
    let installed = cached(root, tarballs, to).and_then(|()| run(part, tarballs, to));
    let cleaned = clean(root, part);
    installed.and(cleaned)
}

/// Puts the tarballs where npm's cache has files by their digests.
fn cached(root: &Root, tarballs: &[Tarball<'_>], to: Into<'_>) -> Result<(), TreeError> {
    for Tarball { package, entry } in tarballs {
        let digits = hex(&STANDARD.decode(&package.sha512).unwrap_or_default());
        let (Some(first), Some(second), Some(rest)) = (digits.get(..2), digits.get(2..4), digits.get(4..))
        else {
            continue;
        };
        let place = Path::new(WORK).join("_cacache/content-v2/sha512").join(first).join(second);
        root.make_folders(&place, folder(to)).map_err(written(&place))?;
        let file = place.join(rest);
        let mut from = File::open(entry.path()).map_err(written(&file))?;
        root.write_from(&file, &mut from, Meta::of_root(0o644, to.lock.epoch)).map_err(written(&file))?;
    }
    Ok(())
}

fn run(part: &Npm, tarballs: &[Tarball<'_>], to: Into<'_>) -> Result<(), TreeError> {
    let npm = |words: &[&str]| {
        let into = part.into.display().to_string();
        let cache = format!("/{WORK}");
        let fixed = [
            "--prefix",
            &into,
            "--cache",
            &cache,
            "--offline",
            "--no-audit",
            "--no-fund",
            "--registry",
            NOWHERE,
        ];
        let more = ["--no-update-notifier", "--logs-max=0", "--loglevel=error", "--foreground-scripts"];
        let argv = [&["npm"], words, &fixed, &more].concat();
        let command = Command::new(argv).in_tree(to.rootfs.path());
        let command =
            configure::environment(command, to.lock.epoch).env("npm_config_userconfig", "/dev/null");
        let ran = to.doors.runner.run(&command);
        ran.map(drop)
            .map_err(|source| TreeError::Npm { package: part.package.clone(), source: Box::new(source) })
    };
    npm(&["ci", "--ignore-scripts"])?;
    let known: BTreeSet<&str> = tarballs.iter().map(Tarball::name).collect();
    for script in &part.scripts {
        if !known.contains(script.as_str()) {
            return Err(TreeError::Script { package: part.package.clone(), script: script.clone() });
        }
    }
    if !part.scripts.is_empty() {
        let names: Vec<&str> = part.scripts.iter().map(String::as_str).collect();
        npm(&[&["rebuild", "--ignore-scripts=false"], &names[..]].concat())?;
    }
    Ok(())
}

/// Takes away what only npm's work needed: its lock is ours, and would name addresses.
fn clean(root: &Root, part: &Npm) -> Result<(), TreeError> {
    for file in ["node_modules/.package-lock.json", "package-lock.json"] {
        let path = part.into.join(file);
        root.remove(&path).map_err(written(&path))?;
    }
    let work = Path::new(WORK);
    root.empty(work).map_err(written(work))?;
    let (folder, name) = root.parent(work).map_err(written(work))?;
    match rustix::fs::unlinkat(&folder, &name, rustix::fs::AtFlags::REMOVEDIR) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(errno) => Err(written(work)(errno.into())),
    }
}

/// Writes npm's lock of what the packages say of themselves.
///
/// **Source**: package-lock.json(5), version 3.
fn lock(part: &Npm, version: &str, tarballs: &[Tarball<'_>]) -> Result<Value, TreeError> {
    let places: BTreeMap<&str, &str> =
        tarballs.iter().map(|one| (one.package.path.as_str(), one.package.version.as_str())).collect();
    let mut packages = Map::new();
    packages.insert(String::new(), json!({ "dependencies": { &part.package: version } }));
    for tarball in tarballs {
        let manifest = described(tarball)?;
        packages.insert(tarball.package.path.clone(), entry(tarball, &manifest, &places));
    }
    Ok(json!({ "lockfileVersion": 3, "requires": true, "packages": packages }))
}

fn entry(tarball: &Tarball<'_>, manifest: &Manifest, places: &BTreeMap<&str, &str>) -> Value {
    let NpmPackage { path, version, sha512, .. } = tarball.package;
    // what the tarball has itself, and what is not there, is not npm's to look for
    let there = |name: &str| found(path, name, places);
    let kept = |wanted: &BTreeMap<String, String>, peers: bool| -> Map<String, Value> {
        let fits = |name: &str, range: &str| match there(name) {
            Some(version) => !peers || meets(version, range),
            None => false,
        };
        let own = wanted.iter().filter(|(name, range)| !manifest.bundles(name) && fits(name, range));
        own.map(|(name, range)| (name.clone(), Value::from(range.as_str()))).collect()
    };
    let mut entry = json!({
        "version": version,
        "resolved": format!("{NOWHERE}/{}", super::usual(tarball.name(), version)),
        "integrity": format!("sha512-{sha512}"),
        "dependencies": kept(&manifest.dependencies, false),
        "optionalDependencies": kept(&manifest.optional_dependencies, false),
        "peerDependencies": kept(&manifest.peer_dependencies, true),
    });
    if tarball.package.name.is_some() {
        entry["name"] = Value::from(tarball.name());
    }
    let bin = programs(tarball.name(), &manifest.bin);
    if !bin.is_empty() {
        entry["bin"] = Value::Object(bin);
    }
    entry
}

/// Finds the version that a package in a place gets of another.
fn found<'a>(path: &str, name: &str, places: &BTreeMap<&str, &'a str>) -> Option<&'a str> {
    let mut above = path;
    loop {
        let place = if above.is_empty() {
            format!("node_modules/{name}")
        } else {
            format!("{above}/node_modules/{name}")
        };
        if let Some(version) = places.get(place.as_str()) {
            return Some(version);
        }
        if above.is_empty() {
            return None;
        }
        above = above.rfind("node_modules/").map_or("", |at| above[..at].trim_end_matches('/'));
    }
}

/// Reads `bin`: one program of the package's name, or several by theirs.
fn programs(name: &str, bin: &Value) -> Map<String, Value> {
    let own = name.rsplit('/').next().unwrap_or(name);
    match bin {
        Value::String(path) => Map::from_iter([(own.to_owned(), Value::from(path.as_str()))]),
        Value::Object(all) => all
            .iter()
            .filter(|(_, path)| path.is_string())
            .map(|(name, path)| (name.clone(), path.clone()))
            .collect(),
        _ => Map::new(),
    }
}

/// Reads what a package says of itself, in its tarball.
fn described(tarball: &Tarball<'_>) -> Result<Manifest, TreeError> {
    let broken = |source| TreeError::Tarball { package: tarball.name().to_owned(), source };
    let file = File::open(tarball.entry.path()).map_err(broken)?;
    let decoder = flate2::read::MultiGzDecoder::new(std::io::BufReader::new(file));
    let mut archive = tar::Archive::new(decoder.take(super::super::npm::TARBALL_LIMIT));
    for entry in archive.entries().map_err(broken)? {
        let entry = entry.map_err(broken)?;
        let path = PathBuf::from(String::from_utf8_lossy(&entry.path_bytes()).into_owned());
        let mut parts = path.components();
        // the folder in front is `package` as a rule, and anything by the registry's leave
        if parts.next().is_some() && parts.as_path() == Path::new("package.json") {
            let mut text = String::new();
            entry.take(DESCRIPTION).read_to_string(&mut text).map_err(broken)?;
            let text = text.trim_start_matches('\u{feff}');
            return serde_json::from_str(text).map_err(|source| TreeError::Document {
                url: format!("package.json of `{}`", tarball.name()),
                source,
            });
        }
    }
    Err(broken(std::io::ErrorKind::NotFound.into()))
}

fn write(root: &Root, path: &Path, value: &Value, to: Into<'_>) -> Result<(), TreeError> {
    let text = format!("{value:#}\n");
    root.write(path, text.as_bytes(), Meta::of_root(0o644, to.lock.epoch)).map_err(written(path))
}

const fn folder(to: Into<'_>) -> Meta {
    Meta::of_root(0o755, to.lock.epoch)
}

fn written(path: &Path) -> impl FnOnce(std::io::Error) -> TreeError + use<> {
    let path = path.to_owned();
    move |source| TreeError::Write { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_gets_the_nearest() {
        let places = BTreeMap::from([
            ("node_modules/a", "1"),
            ("node_modules/b", "1"),
            ("node_modules/a/node_modules/b", "2"),
            ("node_modules/@s/c", "1"),
        ]);
        assert_eq!(found("node_modules/a", "b", &places), Some("2"));
        assert_eq!(found("node_modules/a/node_modules/b", "a", &places), Some("1"));
        assert_eq!(found("node_modules/@s/c", "b", &places), Some("1"));
        assert_eq!(found("node_modules/@s/c", "d", &places), None);
    }

    #[test]
    fn programs_have_the_packages_name_or_their_own() {
        let one = programs("@s/tool", &json!("cli.js"));
        assert_eq!(Value::Object(one), json!({ "tool": "cli.js" }));
        let several = programs("tool", &json!({ "a": "a.js", "b": 1 }));
        assert_eq!(Value::Object(several), json!({ "a": "a.js" }));
    }
}
