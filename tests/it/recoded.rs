//! Packages that are used again are kept in a form that is decoded faster, which changes nothing but the time.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sandbox_core::{digest::Sha256, store::Store};

use crate::{
    kit::{
        archive::Archive,
        cache,
        compress::Compression,
        deb::Deb,
        server::{Fault, Server},
        system::system,
    },
    user::{BOOTSTRAP, User, said},
};

struct Case {
    user: User,
    server: Server,
    archive: Archive,
}

impl Case {
    /// Gives a user who has built once: all packages are in the cache.
    fn new() -> Self {
        let mut archive = Archive::new();
        archive.fill();
        archive.add(&system());
        let text: Vec<u8> = (0_u32..400_000).flat_map(|at| at.wrapping_mul(at >> 3).to_le_bytes()).collect();
        let heavy = Deb::new("heavy", "1").compressed(Compression::Xz);
        archive.add(&heavy.file("usr/share/heavy", 0o644, &text).conffile("etc/heavy", b"a\n"));
        archive.publish();
        let server = Server::new(archive.root());
        let user = User::new(&archive, server.url());
        let case = Self { user, server, archive };
        case.builds("first.tar");
        case
    }

    #[track_caller]
    fn builds(&self, target: &str) -> Vec<u8> {
        let mut args = BOOTSTRAP;
        args[2] = target;
        let output = self.user.sandbox(&[&args[..], &["--include", "heavy"]].concat());
        assert!(output.status.success(), "{}", said(&output));
        fs::read(self.user.path(target)).unwrap()
    }

    fn heavy(&self) -> Sha256 {
        Sha256::of(&fs::read(self.archive.path(&self.archive.pool("heavy"))).unwrap())
    }

    fn recode(&self) -> bool {
        let store = Store::open(&self.user.path("cache")).unwrap();
        store.recode(&self.heavy(), &|| false).unwrap()
    }

    fn recoded(&self) -> PathBuf {
        let start = format!("{}-", self.heavy());
        let named = |path: &Path| path.file_name().unwrap().to_str().unwrap().starts_with(&start);
        let files = cache::files(&self.user.path("cache/recoded"));
        files.into_iter().find(|path| named(path)).expect("the package was recoded")
    }

    /// Takes the package itself away, here and at the mirror: what is built now is built of its other form.
    fn lose_the_package(&self) {
        let digits = self.heavy().to_string();
        fs::remove_file(self.user.path("cache/sha256").join(&digits[..2]).join(&digits)).unwrap();
        self.server.fault("heavy", Fault::Status(404), u32::MAX);
    }
}

#[test]
fn a_build_of_recoded_packages_has_the_same_bytes() {
    let case = Case::new();
    let first = fs::read(case.user.path("first.tar")).unwrap();
    // the second build may have begun with it
    if !case.user.path("cache/recoded").exists() {
        assert!(case.recode());
    }
    assert!(!case.recode(), "it is made once");
    case.lose_the_package();
    assert!(case.builds("second.tar") == first, "another tree");
}

#[test]
fn what_is_damaged_is_not_taken() {
    let case = Case::new();
    let first = fs::read(case.user.path("first.tar")).unwrap();
    case.recode();
    let path = case.recoded();
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert!(case.builds("second.tar") == first, "another tree");
    let left = path.exists().then(|| Sha256::of(&fs::read(&path).unwrap()));
    assert!(left.is_none_or(|own| path.to_str().unwrap().ends_with(&format!("{own}.deb"))));
}

#[test]
fn an_interrupted_recoding_leaves_nothing() {
    let case = Case::new();
    if case.user.path("cache/recoded").exists() {
        fs::remove_dir_all(case.user.path("cache/recoded")).unwrap();
    }
    let store = Store::open(&case.user.path("cache")).unwrap();
    assert!(!store.recode(&case.heavy(), &|| true).unwrap());
    assert_eq!(cache::files(&case.user.path("cache/recoded")), Vec::<PathBuf>::new());
    cache::sound(&case.user.path("cache"));
}
