//! Somebody who uses the program: a folder with an image of the test archive.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

use crate::kit::{archive::Archive, cache, key::Key};

/// What a build of the test archive is asked for with.
pub const BOOTSTRAP: [&str; 7] = ["bootstrap", "kit", "tree", "--variant", "essential", "--keyring", "key"];

/// A user's folder with an image of the test archive, and something beside it that must stay as it is.
pub struct User {
    folder: TempDir,
}

impl User {
    /// Makes the folder: an image `kit` of an archive at an address, and the archive's key.
    pub fn new(archive: &Archive, url: &str) -> Self {
        let user = Self { folder: tempfile::tempdir().unwrap() };
        let image = format!(
            "schema = 1\nname = \"kit\"\ndistribution = \"kit\"\narchitectures = [\"amd64\"]\n\
             components = [\"main\"]\nkeyring = \"debian-archive-keyring\"\n\
             [archive]\nmain = {{ mirror = \"{url}\" }}\n\
             [[pocket]]\nname = \"release\"\narchive = \"main\"\nsuite = \"{codename}\"\ncodename = \"{codename}\"\n\
             signers = []\n[apt]\nsources = \"debian.sources\"\nsigned-by = \"/k\"\n",
            codename = archive.codename
        );
        fs::create_dir(user.path("images")).unwrap();
        fs::write(user.path("images/kit.toml"), image).unwrap();
        let trusted: Vec<u8> = archive.keys.iter().flat_map(Key::certificate).collect();
        fs::write(user.path("key"), trusted).unwrap();
        fs::create_dir(user.path("outside")).unwrap();
        fs::write(user.path("outside/canary"), "alive").unwrap();
        user
    }

    /// Gives a path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Gives the program as a command, with nothing of the tester's environment.
    pub fn command(&self, args: &[&str]) -> Command {
        self.command_of(Path::new(env!("CARGO_BIN_EXE_sandbox")), args)
    }

    /// Gives the same for a copy of the program.
    #[expect(clippy::disallowed_methods, reason = "the program is what is tested")]
    pub fn command_of(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
            .args(["--cache-dir", "cache", "--state-dir", "state"])
            .args(args);
        command
    }

    /// Runs the program to its end.
    pub fn sandbox(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs the program, and sees it end with a code and say a word.
    #[track_caller]
    pub fn ends(&self, args: &[&str], code: i32, word: &str) {
        let output = self.sandbox(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", said(&output));
        assert!(said(&output).contains(word), "{args:?}: {}", said(&output));
    }

    /// Builds a tree with one package more than the essential ones.
    pub fn bootstrap(&self, include: &str) -> Output {
        self.sandbox(&[&BOOTSTRAP[..], &["--include", include]].concat())
    }

    /// Sees that nothing is left of a refused build.
    pub fn has_nothing_left(&self, what: &str) {
        let mut names: Vec<_> = fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "cache")
            .collect();
        names.sort();
        assert_eq!(names, ["images", "key", "outside"], "{what}");
        let outside: Vec<_> = fs::read_dir(self.path("outside")).unwrap().collect();
        assert_eq!(outside.len(), 1, "{what}");
        assert_eq!(fs::read_to_string(self.path("outside/canary")).unwrap(), "alive", "{what}");
        cache::sound(&self.path("cache"));
    }
}

/// Gives what the program said to a person.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
