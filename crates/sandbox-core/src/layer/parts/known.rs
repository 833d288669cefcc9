//! What parts were found to be, kept for the time when a vendor or a registry cannot be asked.
//!
//! ```text
//! <cache>/parts/ab12…    of all that the choice depends on; a line with the moment it was found, then the part as a
//!                        lock has it
//! ```
//!
//! A part that is read back has its digests, so that what is fetched for it is checked as it was then. What it is, is
//! believed of the cache alone: a file that others than root or this user could have written is passed over.

use std::{fs, io::Write as _, os::unix::fs::MetadataExt as _, path::PathBuf};

use crate::{digest::Sha256, lock::LockedPart, store::Store};

/// The most bytes of a kept part: an npm tree has some thousand packages.
const LIMIT: u64 = 16 << 20;

/// A part that was found before.
pub(super) struct Known {
    pub(super) part: LockedPart,
    /// When, in seconds since 1970.
    pub(super) found: i64,
}

fn place(store: &Store, key: &str) -> PathBuf {
    store.root().join("parts").join(Sha256::of(key.as_bytes()).to_string())
}

/// Keeps what a part was found to be. A cache that cannot be written is no reason to fail: nothing depends on it now.
pub(super) fn keep(store: &Store, key: &str, part: &LockedPart, now: i64) {
    let path = place(store, key);
    let Ok(text) = toml::to_string(part) else { return };
    let written = || {
        let folder = store.root().join("parts");
        fs::create_dir_all(&folder)?;
        let mut file = tempfile::NamedTempFile::new_in(&folder)?;
        write!(file, "{now}\n{text}")?;
        file.persist(&path)?;
        Ok::<_, std::io::Error>(())
    };
    let _ = written();
}

/// Reads what a part was found to be the last time.
pub(super) fn recall(store: &Store, key: &str) -> Option<Known> {
    let path = place(store, key);
    let found = fs::symlink_metadata(&path).ok()?;
    let own = [0, rustix::process::geteuid().as_raw()].contains(&found.uid());
    if !found.is_file() || !own || found.mode() & 0o022 != 0 || found.len() > LIMIT {
        return None;
    }
    let text = fs::read_to_string(path).ok()?;
    let (moment, part) = text.split_once('\n')?;
    Some(Known { part: toml::from_str(part).ok()?, found: moment.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::lock::{Fetched, NpmPackage, PythonFile};

    fn parts() -> Vec<LockedPart> {
        let digest = Sha256::of(b"x");
        let npm = |url: Option<&str>| Fetched::Npm {
            tarball: "t".into(),
            tarball_version: "1".into(),
            path: "t.tgz".into(),
            url: url.map(str::to_owned),
            sha512: "abc=".into(),
        };
        let package = NpmPackage {
            path: "node_modules/a".into(),
            name: None,
            version: "1".into(),
            tarball: None,
            sha512: "abc=".into(),
        };
        let file = PythonFile { file: "a.whl".into(), url: "http://h/a.whl".into(), sha256: digest };
        let kinds = [
            npm(None),
            npm(Some("http://h/t.tgz")),
            Fetched::NpmTree { packages: vec![package] },
            Fetched::Python { python: "3.13".into(), asked: vec!["a".into()], files: vec![file] },
            Fetched::Download { url: "http://h/d".into(), sha256: digest },
            Fetched::Git { revision: "main".into(), sha256: digest },
        ];
        let part = |what| LockedPart { name: "n".into(), version: "1.2".into(), what };
        kinds.into_iter().map(part).collect()
    }

    #[test]
    fn a_part_of_every_kind_is_read_as_it_was_kept() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        for (at, part) in parts().into_iter().enumerate() {
            let key = at.to_string();
            assert!(recall(&store, &key).is_none());
            keep(&store, &key, &part, 7);
            let known = recall(&store, &key).unwrap_or_else(|| panic!("{part:?} is not read"));
            assert_eq!((known.part, known.found), (part, 7));
        }
    }

    #[test]
    fn what_another_user_could_have_written_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        keep(&store, "k", &parts()[0], 7);
        let path = place(&store, "k");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(recall(&store, "k").is_none());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(recall(&store, "k").is_some());
        let moved = path.with_extension("x");
        fs::rename(&path, &moved).unwrap();
        std::os::unix::fs::symlink(&moved, &path).unwrap();
        assert!(recall(&store, "k").is_none());
    }
}
