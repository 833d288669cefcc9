//! What a guest's side of a copy sends: whatever it is, nothing is made outside of the target, and nothing has rights.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::Path,
};

use sandbox_core::{
    host::root::{Links, Root},
    machine::copy::{Errand, Trust, run},
};

use crate::memory::bounded;

/// Takes the bytes as the stream.
pub fn check(data: &[u8]) {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let place = made.unwrap();
    let path = |name: &str| place.path().join(name);
    fs::create_dir_all(path("host/target")).unwrap();
    fs::create_dir(path("outside")).unwrap();
    fs::write(path("outside/canary"), "alive").unwrap();
    fs::write(path("host/beside"), "alive").unwrap();
    let root = Root::open(&path("host"), Links::InTree).unwrap();
    let (target, name) = ("/target".into(), "tree".into());
    let errand = Errand::Unpack { target, name, owner: None };
    let mut input = data;
    // what is refused is as good as what is taken
    let _ = bounded(16 * data.len() + (4 << 20), || {
        run(&errand, &root, Trust::Guest, &mut input, &mut io::sink())
    });
    let names = |path: &Path| {
        let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(place.path()), ["host", "outside"]);
    assert_eq!(names(&path("outside")), ["canary"]);
    assert_eq!(names(&path("host")), ["beside", "target"]);
    for canary in ["outside/canary", "host/beside"] {
        assert_eq!(fs::read(path(canary)).unwrap(), b"alive");
        assert_eq!(fs::metadata(path(canary)).unwrap().nlink(), 1);
    }
    has_no_rights(&path("host/target"));
}

/// Nothing is a device or set-id.
fn has_no_rights(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        let kind = meta.file_type();
        assert!(!kind.is_block_device() && !kind.is_char_device(), "{}", path.display());
        assert!(kind.is_symlink() || meta.mode() & 0o6000 == 0, "{} is set-id", path.display());
        if kind.is_dir() {
            has_no_rights(&path);
        }
    }
}
