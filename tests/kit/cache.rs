//! What a cache holds.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sandbox_core::digest::Sha256;

/// Asserts that every file below `sha256` is what its name says, and gives them; partial files are not allowed.
pub fn sound(cache: &Path) -> Vec<PathBuf> {
    let files = files(&cache.join("sha256"));
    for file in &files {
        let name = file.file_name().unwrap().to_str().unwrap();
        assert_eq!(Sha256::of(&fs::read(file).unwrap()).to_string(), name, "the cache holds something wrong");
    }
    assert_eq!(partial(cache), Vec::<PathBuf>::new(), "a partial download was left");
    files
}

/// Lists the partial downloads.
pub fn partial(cache: &Path) -> Vec<PathBuf> {
    files(&cache.join("partial"))
}

/// Lists the files below a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}
