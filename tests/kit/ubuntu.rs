//! An archive of Ubuntu's shape, of real Debian packages: zstd members, four pockets on two hosts, components,
//! Ubuntu's Release fields, a key of its own, base-files that say which release this is.
//!
//! Ubuntu's own archive is not needed then to see a machine of it built and booted. What differs between the
//! two distributions in the packages themselves stays Debian's.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, atomic::AtomicUsize, atomic::Ordering},
    thread,
};

use md5::Digest as _;
use sandbox_core::digest::Sha256;

use super::{
    archive::date,
    compress::Compression,
    deb::Deb,
    key::{Key, sign_inline},
    now,
    repack::{Changes, repacked},
};

/// The version of what is made here: what an older one left is made again.
const RECIPE: &str = "1";

/// A release of Ubuntu's.
pub struct Shape {
    /// `noble`.
    pub codename: &'static str,
    /// `24.04`.
    pub version: &'static str,
    /// `24.04 LTS (Noble Numbat)`.
    pub title: &'static str,
    /// Packages of the component `universe`; all others are of `main`.
    pub universe: &'static [&'static str],
    /// Packages of which a newer version is in `-updates`, phased to few machines.
    pub updated: &'static [&'static str],
    /// Packages of which a newer version is in `-security`.
    pub secured: &'static [&'static str],
}

/// Pockets by the end of their suite's name.
const POCKETS: [&str; 4] = ["", "-updates", "-security", "-backports"];
const COMPONENTS: [&str; 4] = ["main", "restricted", "universe", "multiverse"];

/// The archive: below `archive/ubuntu` what is at archive.ubuntu.com, below `security/ubuntu` what is at
/// security.ubuntu.com.
pub struct Ubuntu {
    place: PathBuf,
    shape: Shape,
}

/// A package of another archive: its stanza in the index and its file.
struct Found {
    stanza: String,
    file: PathBuf,
}

impl Ubuntu {
    /// Takes every package that a cache of `sandbox` has. What an earlier run made is taken as it is; else `fill`
    /// is called to fill the cache.
    pub fn of_cache(place: &Path, shape: Shape, cache: &Path, fill: impl FnOnce()) -> Self {
        let place = place.join(shape.codename);
        let ubuntu = Self { place, shape };
        let stamp = ubuntu.place.join("made");
        if fs::read_to_string(&stamp).is_ok_and(|text| text == RECIPE) {
            return ubuntu;
        }
        if ubuntu.place.exists() {
            fs::remove_dir_all(&ubuntu.place).unwrap();
        }
        fill();
        let packages = found_in(cache);
        let indexes: Mutex<BTreeMap<String, BTreeSet<String>>> = Mutex::default();
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
                scope.spawn(|| {
                    while let Some(found) = packages.get(next.fetch_add(1, Ordering::Relaxed)) {
                        for (index, stanza) in ubuntu.package(found) {
                            indexes.lock().unwrap().entry(index).or_default().insert(stanza);
                        }
                    }
                });
            }
        });
        for (index, stanzas) in indexes.into_inner().unwrap() {
            write(
                &ubuntu.place.join("index").join(index),
                stanzas.into_iter().collect::<String>().as_bytes(),
            );
        }
        write(&stamp, RECIPE.as_bytes());
        ubuntu
    }

    /// Gives the folder that a host serves: `archive` or `security`.
    pub fn host(&self, name: &str) -> PathBuf {
        self.place.join(name)
    }

    /// Repacks a package for each pocket that has it; gives the name of the index and the stanza for each.
    fn package(&self, found: &Found) -> Vec<(String, String)> {
        let name = field(&found.stanza, "Package");
        // Ubuntu has a keyring of its own, which is made when the archive is signed
        if ["debian-archive-keyring", "usr-is-merged", "usrmerge"].contains(&name) {
            return Vec::new();
        }
        let bytes = fs::read(&found.file).unwrap();
        let own = self.shape.codename;
        let os_release = format!(
            "PRETTY_NAME=\"Ubuntu {title}\"\nNAME=\"Ubuntu\"\nVERSION_ID=\"{version}\"\nVERSION=\"{title}\"\n\
             VERSION_CODENAME={own}\nID=ubuntu\nID_LIKE=debian\nUBUNTU_CODENAME={own}\n",
            title = self.shape.title,
            version = self.shape.version,
        );
        let files = match name {
            "base-files" => vec![("usr/lib/os-release".to_owned(), os_release)],
            _ => Vec::new(),
        };
        let mut made = Vec::new();
        for pocket in POCKETS {
            let suffix = match pocket {
                "" if name == "base-files" => "ubuntu1",
                "" => "",
                "-updates" if self.shape.updated.contains(&name) => "ubuntu0.1",
                "-security" if self.shape.secured.contains(&name) => "ubuntu0.2",
                _ => continue,
            };
            let control = |text: &str| changed(text, suffix);
            let deb = repacked(&bytes, &Changes { control: &control, files: &files });
            let phased = if pocket == "-updates" { "Phased-Update-Percentage: 10\n" } else { "" };
            made.push(self.put(pocket, &(control(&found.stanza) + phased), &deb));
        }
        made
    }

    /// Writes a package into a pocket's pool; gives the name of the index and the stanza.
    fn put(&self, pocket: &str, stanza: &str, deb: &[u8]) -> (String, String) {
        let name = field(stanza, "Package");
        let component = if self.shape.universe.contains(&name) { "universe" } else { "main" };
        let version = field(stanza, "Version");
        let version = version.split_once(':').map_or(version, |(_, rest)| rest);
        let path = format!(
            "pool/{component}/{}/{name}/{name}_{version}_{}.deb",
            &name[..1],
            field(stanza, "Architecture")
        );
        write(&self.host(host_of(pocket)).join("ubuntu").join(&path), deb);
        let ours = ["Filename", "Size", "MD5sum", "SHA256", "SHA1", "SHA512", "Origin", "Bugs"];
        let kept =
            stanza.lines().filter(|line| !ours.iter().any(|own| line.starts_with(&format!("{own}: "))));
        let mut text: String = kept.map(|line| format!("{line}\n")).collect();
        text += &format!(
            "Origin: Ubuntu\nBugs: https://bugs.launchpad.net/ubuntu/+filebug\nTask: minimal\nFilename: {path}\n\
             Size: {}\nMD5sum: {}\nSHA256: {}\n\n",
            deb.len(),
            md5(deb),
            Sha256::of(deb)
        );
        (format!("{}{pocket}.{component}", self.shape.codename), text)
    }

    /// Adds what only this archive has, and signs: the archive's keyring is a package of it.
    pub fn publish(&self, key: &Key) {
        let keyring = Deb::new("ubuntu-keyring", "2023.11.28.1").field("Priority", "important").file(
            "usr/share/keyrings/ubuntu-archive-keyring.gpg",
            0o644,
            &key.certificate(),
        );
        // what the transition to 64-bit times left: only the new package's versioned Provides is there
        let old = Deb::new("needs-libssl3", "1").field("Depends", "libssl3 (>= 3.0.0)");
        let newest = Deb::new("from-backports", "1");
        let mut more: BTreeMap<String, String> = BTreeMap::new();
        for (pocket, deb) in [("", keyring), ("", old), ("-backports", newest)] {
            let built = deb.compressed(Compression::Zst).build();
            let (index, stanza) = self.put(pocket, &built.control, &built.bytes);
            *more.entry(index).or_default() += &stanza;
        }
        for pocket in POCKETS {
            self.publish_pocket(pocket, key, &more);
        }
    }

    fn publish_pocket(&self, pocket: &str, key: &Key, more: &BTreeMap<String, String>) {
        let suite = format!("{}{pocket}", self.shape.codename);
        let dist = self.host(host_of(pocket)).join("ubuntu/dists").join(&suite);
        let (mut md5sums, mut sha256) = (String::new(), String::new());
        for component in COMPONENTS {
            let index = format!("{suite}.{component}");
            let mut text = fs::read_to_string(self.place.join("index").join(&index)).unwrap_or_default();
            text += more.get(&index).map_or("", String::as_str);
            let folder = format!("{component}/binary-amd64");
            for format in [Compression::None, Compression::Gz, Compression::Xz] {
                let bytes = format.pack(text.as_bytes());
                let path = format!("{folder}/Packages{}", format.suffix());
                let digest = Sha256::of(&bytes);
                // the plain one is listed and not kept, as at Ubuntu's
                if format != Compression::None {
                    write(&dist.join(&path), &bytes);
                    write(&dist.join(format!("{folder}/by-hash/SHA256/{digest}")), &bytes);
                }
                md5sums += &format!(" {} {:>16} {path}\n", md5(&bytes), bytes.len());
                sha256 += &format!(" {digest} {:>16} {path}\n", bytes.len());
            }
        }
        let Shape { codename, version, .. } = self.shape;
        let automatic =
            if pocket == "-backports" { "NotAutomatic: yes\nButAutomaticUpgrades: yes\n" } else { "" };
        let release = format!(
            "Origin: Ubuntu\nLabel: Ubuntu\nSuite: {suite}\nVersion: {version}\nCodename: {codename}\n\
             Date: {}\nArchitectures: amd64 arm64 armhf i386 ppc64el riscv64 s390x\n\
             Components: {}\nDescription: Ubuntu {}\n{automatic}MD5Sum:\n{md5sums}SHA256:\n{sha256}\
             Acquire-By-Hash: yes\n",
            date(now() - 3600),
            COMPONENTS.join(" "),
            self.shape.title,
        );
        write(&dist.join("InRelease"), &sign_inline(std::slice::from_ref(key), &release));
    }
}

/// Says which host has a pocket.
fn host_of(pocket: &str) -> &'static str {
    if pocket == "-security" { "security" } else { "archive" }
}

/// Changes the fields that the control file and the index have alike.
fn changed(text: &str, suffix: &str) -> String {
    let line = |line: &str| match line.split_once(": ") {
        Some(("Version", version)) => format!("Version: {version}{suffix}\n"),
        Some(("Depends", list)) => {
            let list = list.replace("debian-archive-keyring", "ubuntu-keyring");
            // jammy's and noble's init-system-helpers ask for no merged /usr
            let words: Vec<_> = list.split(", ").filter(|word| *word != "usrmerge | usr-is-merged").collect();
            if words.is_empty() { String::new() } else { format!("Depends: {}\n", words.join(", ")) }
        }
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// Finds the packages of a cache by the indexes that it holds.
fn found_in(cache: &Path) -> Vec<Found> {
    let mut found = Vec::new();
    for path in super::cache::files(&cache.join("sha256")) {
        let bytes = fs::read(&path).unwrap();
        if !bytes.starts_with(b"Package: ") {
            continue;
        }
        let text = String::from_utf8(bytes).unwrap();
        for stanza in text.split("\n\n") {
            let digest = field(stanza, "SHA256");
            let file = cache.join("sha256").join(digest.get(..2).unwrap_or("-")).join(digest);
            if digest.len() == 64 && file.exists() {
                found.push(Found { stanza: format!("{stanza}\n"), file });
            }
        }
    }
    found
}

/// Gives a field of one line.
fn field<'a>(stanza: &'a str, name: &str) -> &'a str {
    let own = |line: &'a str| line.strip_prefix(name)?.strip_prefix(": ");
    stanza.lines().find_map(own).unwrap_or_default()
}

fn md5(bytes: &[u8]) -> String {
    md5::Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}
