//! A Python of an older release, laid out as its vendor does: its releases cannot be reached from where tests run.
//!
//! Aider wants one before 3.13. The release before has such a one, that runs from wherever it stands.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    path::Path,
};

use tar::{Archive, Builder, Header};

use crate::{
    kit::vendor::{Vendor, sha256},
    lab::{Host, Lab},
    process,
};

const PROFILE: &str = include_str!("../../profiles/aider.toml");

/// The vendor's Python, as the profile names it, and ours.
const REAL: (&str, &str) = ("3.12.13", "python3.12");
const OURS: (&str, &str) = ("3.11.2", "python3.11");

/// Serves the interpreter, and tells the test host its version in place of the real one's.
///
/// Release, names, checksums and folders stay as they are in the profile.
pub fn serve(vendor: &Vendor, lab: &Lab, host: &Host<'_>) {
    let archive = archive(lab);
    let text = PROFILE.replace(REAL.0, OURS.0).replace(REAL.1, OURS.1);
    let value = |key: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(key)).expect("a key of the download");
        rest.trim_start_matches(" = ").trim_matches('"').to_owned()
    };
    let url = value("url").replace("{version}", OURS.0).replace("{arch}", "x86_64");
    let (folder, file) = url.rsplit_once('/').expect("an address");
    assert!(file.contains("%2B"), "the vendor's names have a plus in them: {file}");
    // on the vendor's side the name is as it is
    let name = file.replace("%2B", "+");
    let folder = folder.strip_prefix("https://github.com").expect("the forge");
    vendor.put(&format!("{folder}/{name}"), &archive);
    let sums = format!("{}  {name}\n", sha256(&archive));
    vendor.put(&format!("{folder}/SHA256SUMS"), sums.as_bytes());
    host.put("/etc/sandbox/profiles/aider.toml", "0644", text.into_bytes());
}

/// Gives the archive; makes it where no run has.
fn archive(lab: &Lab) -> Vec<u8> {
    let place = lab.path("interpreter");
    let made = place.join("install_only.tar.gz");
    if let Ok(bytes) = fs::read(&made) {
        return bytes;
    }
    fs::create_dir_all(&place).expect("a folder below target/");
    let tree = place.join("tree.tar");
    let path = tree.to_str().expect("a UTF-8 path");
    let include = format!("{0},{0}-venv", OURS.1);
    lab.sandbox(&["bootstrap", "bookworm", path, "--variant", "apt", "--include", &include]).ok();
    let bytes = laid_out(&tree);
    fs::remove_file(&tree).expect("the tree's archive");
    let new = made.with_extension("new");
    fs::write(&new, &bytes).expect("a file below target/");
    fs::rename(new, made).expect("a file below target/");
    bytes
}

/// Takes the interpreter out of a tree: `python/bin/…`, `python/lib/…`, with its own pip.
fn laid_out(tree: &Path) -> Vec<u8> {
    let library = format!("lib/{}/", OURS.1);
    let encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut out = Builder::new(encoder);
    let mut from = Archive::new(File::open(tree).expect("the tree"));
    for entry in from.entries().expect("an archive") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").to_string_lossy().into_owned();
        let Some(path) = path.trim_start_matches("./").strip_prefix("usr/") else { continue };
        let to = match path.strip_prefix("share/python-wheels/") {
            Some(wheel) => format!("{library}ensurepip/_bundled/{wheel}"),
            None if path.strip_prefix("bin/") == Some(OURS.1) || path.starts_with(&library) => {
                path.to_owned()
            }
            None => continue,
        };
        let left =
            ["__pycache__", "EXTERNALLY-MANAGED", "sitecustomize"].iter().any(|word| to.contains(word));
        if left || !entry.header().entry_type().is_file() {
            continue;
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("a file's content");
        if to == format!("{library}ensurepip/__init__.py") {
            // the distribution's looks below /usr/share
            let text = String::from_utf8(bytes).expect("a module");
            let (old, new) =
                ("sysconfig.get_config_var('WHEEL_PKG_DIR')", "os.path.dirname(__file__) + '/_bundled'");
            assert!(text.contains(old), "ensurepip looks elsewhere for its wheels");
            bytes = text.replace(old, new).into_bytes();
        }
        let mut header = Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(entry.header().mode().expect("a mode"));
        out.append_data(&mut header, format!("python/{to}"), &*bytes).expect("an archive in memory");
    }
    let mut encoder = out.into_inner().expect("an archive in memory");
    encoder.flush().expect("memory");
    encoder.finish().expect("memory")
}

/// Gives the Python index that this machine's pip is set to, or knows.
pub fn python_index() -> Option<String> {
    let known = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)";
    let asked: [&[&str]; 2] = [&["pip", "config", "get", "global.index-url"], &["python3", "-c", known]];
    asked.iter().find_map(|argv| {
        let output = process::command(argv).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        Some(text.trim().to_owned()).filter(|url| url.starts_with("http"))
    })
}
