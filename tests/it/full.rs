//! A disk that is full, in every phase: said with exit code 6 and the place, nothing half-made is left, and the
//! same command does it once there is space.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::{
    kit::{archive::Archive, cache, deb::Deb, server::Server, system::system, tar::Kind},
    user::{User, said},
};

/// A small file system in memory; it is taken away when dropped.
pub struct Small(PathBuf);

impl Small {
    pub fn new(path: PathBuf, kib: u64) -> Self {
        fs::create_dir_all(&path).unwrap();
        let size = format!("size={kib}k,mode=755");
        mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), Some(size.as_str())).unwrap();
        Self(path)
    }

    pub fn grow(&self, kib: u64) {
        let size = format!("size={kib}k");
        mount(None::<&str>, &self.0, None::<&str>, MsFlags::MS_REMOUNT, Some(size.as_str())).unwrap();
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// A profile that a case builds in, where it has one.
const PROFILE: &str = "p.toml";

const ENOUGH: u64 = 256 << 10;

/// A user, an archive with all that dpkg needs and a package `filler` of a test, and where it is served.
struct Case {
    user: User,
    server: Server,
    archive: Archive,
}

impl Case {
    fn new(filler: &Deb) -> Self {
        let mut archive = Archive::new();
        archive.fill();
        archive.add(&system());
        archive.add(filler);
        // an index of a size
        archive.edit_packages = Some(Box::new(|text| {
            let many = (0..2000).map(|at| {
                format!(
                    "Package: many{at}\nVersion: {at}\nArchitecture: all\nFilename: pool/{at}.deb\nSize: 1\n\
                     SHA256: {}\n\n",
                    sandbox_core::digest::Sha256::of(format!("{at}").as_bytes())
                )
            });
            text + &many.collect::<String>()
        }));
        archive.publish();
        let server = Server::new(archive.root());
        let user = User::new(&archive, server.url());
        Self { user, server, archive }
    }

    fn run(&self, target: &str) -> Output {
        assert!(self.server.url().starts_with("http") && self.archive.root().is_dir());
        let rest = ["--variant", "essential", "--keyring", "key", "--include", "filler"];
        let profile: &[&str] =
            if self.user.path(PROFILE).exists() { &["--profile", "./p.toml"] } else { &[] };
        self.user.sandbox(&[&["bootstrap", "kit", target][..], &rest, profile].concat())
    }

    /// Runs it on a full disk, and again on one with space.
    fn fails_and_recovers(&self, what: &str, small: &Small, target: &str, said_place: &str) {
        let output = self.run(target);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(6), "{what}: {text}");
        assert!(text.contains("No space left on device") || text.contains("is full"), "{what}: {text}");
        assert!(text.contains(said_place), "{what} does not name {said_place}: {text}");
        assert!(text.contains("\nhint: "), "{what}: {text}");
        let left: Vec<_> = fs::read_dir(self.user.path(target).parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !["cache", "images", "key", "outside", PROFILE].contains(&name.as_str()))
            .collect();
        assert!(left.is_empty(), "{what} leaves {left:?}");
        cache::sound(&self.user.path("cache"));
        small.grow(ENOUGH);
        let again = self.run(target);
        assert!(again.status.success(), "{what}, with space: {}", said(&again));
        assert!(self.user.path(target).exists(), "{what}");
        cache::sound(&self.user.path("cache"));
    }
}

fn plain() -> Deb {
    Deb::new("filler", "1")
}

/// How many KiB a tree of the kit's system has.
fn system_kib() -> u64 {
    let bytes: usize = system()
        .entries
        .iter()
        .map(|entry| match &entry.kind {
            Kind::File(content) => content.len().next_multiple_of(4096),
            _ => 4096,
        })
        .sum();
    bytes as u64 / 1024
}

#[test]
fn a_full_disk_while_indexes_are_fetched() {
    let case = Case::new(&plain());
    let small = Small::new(case.user.path("cache"), 64);
    case.fails_and_recovers("indexes", &small, "tree", "cache/");
}

#[test]
fn a_full_disk_while_packages_are_fetched() {
    let case = Case::new(&plain());
    let small = Small::new(case.user.path("cache"), system_kib() / 2);
    case.fails_and_recovers("packages", &small, "tree", "cache/partial/");
}

#[test]
fn a_full_disk_while_packages_are_unpacked() {
    let case = Case::new(&plain());
    let small = Small::new(case.user.path("small"), system_kib() / 2);
    case.fails_and_recovers("unpacking", &small, "small/tree", "of package `system`");
}

#[test]
fn a_full_disk_while_packages_are_configured() {
    let fill = "dd if=/dev/zero of=/var/filling bs=1M count=64";
    for (what, filler) in [
        ("a preinst", plain().script("preinst", fill)),
        ("a postinst", plain().script("postinst", fill)),
        ("dpkg", plain().script("postinst", &format!("{fill} 2>/dev/null || :"))),
    ] {
        let case = Case::new(&filler);
        let small = Small::new(case.user.path("small"), system_kib() + 24 * 1024);
        let place = small.path().to_str().unwrap().to_owned();
        case.fails_and_recovers(what, &small, "small/tree", &place);
    }
}

#[test]
fn a_full_disk_while_a_tree_is_packed() {
    let case = Case::new(&plain());
    let small = Small::new(case.user.path("small"), system_kib() * 3 / 2);
    case.fails_and_recovers("packing", &small, "small/tree.tar", "small/");
}

#[test]
fn a_full_disk_while_a_profile_is_built_in() {
    let fill = "dd if=/dev/zero of=/var/filling bs=1M count=64";
    let step = |script: &str| format!("[[steps]]\nargv = [\"sh\", \"-c\", \"{script}\"]\n");
    let file = format!("[[files]]\npath = \"/var/large\"\ncontent = \"{}\"\n", "x".repeat(900 << 10));
    for (what, parts) in [
        ("a step", step(fill)),
        ("a step that does not say why", step(&format!("{fill} 2>/dev/null"))),
        ("a step after one that hides it", step(&format!("{fill} 2>/dev/null || :")) + &step("false")),
        ("a file", step(&format!("{fill} 2>/dev/null || :")) + &file),
    ] {
        let case = Case::new(&plain());
        fs::write(case.user.path(PROFILE), format!("schema = 1\nname = \"p\"\n{parts}")).unwrap();
        let small = Small::new(case.user.path("small"), system_kib() + 24 * 1024);
        let place = small.path().to_str().unwrap().to_owned();
        let output = case.run("small/tree");
        let text = said(&output);
        assert_eq!(output.status.code(), Some(6), "{what}: {text}");
        for word in [&place, " is full", "profile `p`", "\nhint: ", "df -h"] {
            assert!(text.contains(word), "{what}, {word}: {text}");
        }
        assert_eq!(fs::read_dir(small.path()).unwrap().count(), 0, "{what} leaves something");
    }
}
