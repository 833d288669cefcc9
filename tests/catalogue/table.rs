//! That nothing of the catalogue is left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use crate::machines::{MACHINES, Place};

/// Profiles that are tested elsewhere, and where.
const ELSEWHERE: [(&str, &str); 2] =
    [("android", "its refusal is, in this program; it boots where KVM is"), ("base", "is in every machine")];

/// Gives every profile of the catalogue with what it requires.
fn profiles() -> BTreeMap<String, Vec<String>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../profiles");
    let mut profiles = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("the profiles") {
        let path = entry.expect("a profile").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("a profile");
        let requires = text.lines().find_map(|line| line.strip_prefix("requires = [")).unwrap_or("]");
        let words = requires.split(['"', ',', ']', ' ']).filter(|word| !word.is_empty()).map(str::to_owned);
        profiles.insert(name, words.collect());
    }
    profiles
}

/// Every profile is in a machine that boots, or is said to be tested elsewhere.
pub fn no_profile_is_forgotten(_: &Place) {
    let profiles = profiles();
    let mut seen: BTreeSet<&str> = ELSEWHERE.iter().map(|(name, _)| *name).collect();
    let mut open: Vec<&str> = MACHINES.iter().flat_map(|machine| machine.profiles).copied().collect();
    while let Some(name) = open.pop() {
        assert!(profiles.contains_key(name), "`{name}` is no profile");
        if seen.insert(name) || name == "base" {
            open.extend(profiles[name].iter().map(String::as_str).filter(|name| *name != "base"));
        }
    }
    let forgotten: Vec<&String> = profiles.keys().filter(|name| !seen.contains(name.as_str())).collect();
    assert!(forgotten.is_empty(), "no machine has {forgotten:?}");
}
