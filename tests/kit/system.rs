//! A package that makes a tree in which scripts and dpkg run: this host's own programs and what they link to.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{compress::Compression, deb::Deb, process, tar::Entry};

/// What dpkg wants on its path, and what scripts of tests use.
const PROGRAMS: &[&str] = &[
    "sh",
    "dpkg",
    "dpkg-deb",
    "dpkg-query",
    "dpkg-split",
    "start-stop-daemon",
    "ldconfig",
    "tar",
    "rm",
    "diff",
    "cat",
    "dd",
    "env",
    "ls",
    "mkdir",
    "readlink",
    "touch",
];

const FOLDERS: &[&str] = &["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Makes the package: essential, so that every tree has it.
///
/// # Panics
/// Where the host lacks one of the programs; every Debian and Ubuntu has them.
pub fn system() -> Deb {
    let mut files = BTreeSet::new();
    for program in PROGRAMS {
        let path = FOLDERS.iter().map(|folder| Path::new(folder).join(program)).find(|path| path.exists());
        let path = path.unwrap_or_else(|| panic!("this host has no `{program}`"));
        files.extend(libraries(&path));
        files.insert(path);
    }
    let mut deb = Deb::new("system", "1").field("Essential", "yes").compressed(Compression::None);
    deb = deb.entry(Entry::new("./tmp/", 0o1777, super::tar::Kind::Folder));
    for file in files {
        deb = deb.file(&merged(&file), 0o755, &fs::read(&file).unwrap());
    }
    deb.entry(Entry::folder("./etc/")).entry(Entry::folder("./root/")).entry(Entry::folder("./var/"))
}

/// Gives a path as a tree with merged /usr has it.
fn merged(path: &Path) -> String {
    let path = path.to_str().unwrap().trim_start_matches('/');
    if path.starts_with("usr/") { path.to_owned() } else { format!("usr/{path}") }
}

/// Lists what a program links to; none where it is static.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let listed = process::run(&["ldd", program.to_str().unwrap()], "", Duration::from_secs(10));
    let words = listed.out.split_whitespace().filter(|word| word.starts_with('/'));
    words.map(|word| PathBuf::from(word.trim_end_matches(':'))).filter(|path| path != program).collect()
}
