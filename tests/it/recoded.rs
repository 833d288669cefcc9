//! Packages that are used again are kept in a form that is decoded faster, which changes nothing but the time.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use sandbox_core::digest::Sha256;

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

    /// Finds the recoded forms of the heavy package.
    fn recoded(&self) -> Vec<PathBuf> {
        let start = format!("{}-", self.heavy());
        let named = |path: &Path| path.file_name().unwrap().to_str().unwrap().starts_with(&start);
        let folder = self.user.path("cache/recoded");
        let files = if folder.exists() { cache::files(&folder) } else { Vec::new() };
        files.into_iter().filter(|path| named(path)).collect()
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
    assert_eq!(case.recoded(), Vec::<PathBuf>::new(), "who builds once pays nothing");
    assert!(case.builds("second.tar") == first, "another tree");
    let [path] = &case.recoded()[..] else { panic!("the second use makes one: {:?}", case.recoded()) };
    let made = fs::metadata(path).unwrap().modified().unwrap();
    case.lose_the_package();
    assert!(case.builds("third.tar") == first, "another tree");
    assert_eq!(fs::metadata(path).unwrap().modified().unwrap(), made, "it is made once");
    cache::sound(&case.user.path("cache"));
}

#[test]
fn what_is_damaged_is_not_taken() {
    let case = Case::new();
    let first = fs::read(case.user.path("first.tar")).unwrap();
    case.builds("second.tar");
    let path = case.recoded().pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert!(case.builds("third.tar") == first, "another tree");
    let left = path.exists().then(|| Sha256::of(&fs::read(&path).unwrap()));
    assert!(left.is_none_or(|own| path.to_str().unwrap().ends_with(&format!("{own}.deb"))));
}

#[test]
fn where_none_can_be_kept_the_build_is_the_same() {
    let case = Case::new();
    let first = fs::read(case.user.path("first.tar")).unwrap();
    // nothing is there, and nothing can be made there
    symlink("nowhere/at/all", case.user.path("cache/recoded")).unwrap();
    assert!(case.builds("second.tar") == first, "another tree");
}
