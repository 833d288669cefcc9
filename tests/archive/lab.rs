//! Where tests run: a folder for trees, and a cache that lives as long as the checkout.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    process::{self, Output},
    runner::skip,
};

/// How long making a tree may take on a busy machine.
pub const LONG: Duration = Duration::from_secs(900);

/// The places of a run.
pub struct Lab {
    /// Emptied at the start and at the end.
    work: PathBuf,
    cache: PathBuf,
}

impl Lab {
    /// Sets a run up: removes what a killed one left.
    pub fn new() -> Self {
        let place = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("archive");
        let lab = Self { work: place.join("work"), cache: place.join("cache") };
        lab.clear();
        fs::create_dir_all(&lab.work).expect("a folder below target/");
        fs::create_dir_all(&lab.cache).expect("a folder below target/");
        lab
    }

    /// Removes every tree of this run.
    pub fn clear(&self) {
        if self.work.exists() {
            process::run(&["rm", "-rf", "--one-file-system", text(&self.work)], "", LONG).ok();
        }
    }

    /// Gives a path for a test's own use; nothing is there yet.
    pub fn path(&self, name: &str) -> PathBuf {
        self.work.join(name)
    }

    /// Gives a folder that is kept from run to run, for what is fetched.
    pub fn kept(&self, name: &str) -> PathBuf {
        self.cache.with_file_name(name)
    }

    /// Runs the program with this run's cache.
    #[track_caller]
    pub fn sandbox(&self, arguments: &[&str]) -> Output {
        if !rustix::process::geteuid().is_root() {
            skip("needs root");
        }
        let mut argv = vec![env!("CARGO_BIN_EXE_sandbox"), "--cache-dir", text(&self.cache)];
        argv.extend(arguments);
        process::run(&argv, "", LONG)
    }
}

/// Gives a path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("a UTF-8 path")
}

/// Everything that tests made is removed, and nothing of it is still mounted.
pub fn the_run_leaves_nothing(lab: &Lab) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("a mount table");
    let left: Vec<_> = mounts.lines().filter(|line| line.contains(text(&lab.work))).collect();
    assert!(left.is_empty(), "still mounted: {left:#?}");
    lab.clear();
    assert!(!lab.work.exists());
}
