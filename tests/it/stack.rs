//! A tree that really is built, of an archive made on the fly, with a profile whose parts come from a vendor's
//! sites.

use std::{fs, path::PathBuf, process::Output};

use crate::{
    kit::{archive::Archive, deb::Deb, server::Server, system::system, vendor::Vendor},
    user::{User, said},
};

/// The host that profiles of these tests name; no resolver knows it.
pub const FORGE: &str = "https://forge.example.invalid";

/// A user with an archive and a vendor.
pub struct Stack {
    pub user: User,
    pub vendor: Vendor,
    server: Server,
    _archive: Archive,
}

impl Stack {
    /// Makes one; nothing is built yet.
    pub fn new() -> Self {
        Self::with(&[])
    }

    /// Makes one whose archive has some packages more.
    pub fn with(packages: &[Deb]) -> Self {
        let mut archive = Archive::new();
        archive.fill();
        archive.add(&system());
        packages.iter().for_each(|package| archive.add(package));
        archive.publish();
        let server = Server::new(archive.root());
        let user = User::new(&archive, server.url());
        Self { user, vendor: Vendor::new(), server, _archive: archive }
    }

    /// Takes the network away: neither the archive nor the vendor can be connected to.
    pub fn cut_off(&self) {
        self.server.close();
        self.vendor.server().close();
    }

    /// Writes the profile.
    pub fn profile(&self, text: &str) {
        fs::write(self.user.path("p.toml"), format!("schema = 1\nname = \"p\"\n{text}")).unwrap();
    }

    /// Runs a verb of image and profile.
    pub fn run(&self, words: &[&str]) -> Output {
        assert!(self.server.url().starts_with("http"));
        let options = self.vendor.options(&[FORGE]);
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let (npm, python) = (format!("{}/npm", self.vendor.url()), format!("{}/simple", self.vendor.url()));
        let fixed = ["--variant", "essential", "--keyring", "key", "--profile", "./p.toml"];
        let indexes = ["--npm-registry", &npm, "--python-index", &python];
        self.user.sandbox(&[words, &fixed, &indexes, &options].concat())
    }

    /// Locks.
    pub fn lock(&self) -> Output {
        self.run(&["lock", "kit"])
    }

    /// Locks, sees it done, and gives the lock.
    #[track_caller]
    pub fn locked(&self) -> String {
        let output = self.lock();
        assert!(output.status.success(), "{}", said(&output));
        fs::read_to_string(self.user.path("sandbox.lock")).unwrap()
    }

    /// Builds a tree of the lock.
    pub fn build(&self, target: &str) -> Output {
        self.run(&["bootstrap", "--locked", "kit", target])
    }

    /// Locks and builds, and gives the tree.
    #[track_caller]
    pub fn built(&self) -> PathBuf {
        self.locked();
        let output = self.build("tree");
        assert!(output.status.success(), "{}", said(&output));
        self.user.path("tree")
    }

    /// Sees that locking ends with a code and says a word.
    #[track_caller]
    pub fn refuses_to_lock(&self, code: i32, word: &str) {
        let output = self.lock();
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        assert!(said(&output).contains(word), "{}", said(&output));
    }

    /// Locks, and sees that building ends with a code, says a word and leaves nothing.
    #[track_caller]
    pub fn refuses_to_build(&self, code: i32, word: &str) {
        self.locked();
        let output = self.build("tree");
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        assert!(said(&output).contains(word), "{}", said(&output));
        assert!(!self.user.path("tree").exists());
        assert_eq!(fs::read_to_string(self.user.path("outside/canary")).unwrap(), "alive");
    }
}
