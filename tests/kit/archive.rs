//! A whole signed archive in a temporary folder.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sandbox_core::{
    archive::Source,
    digest::Sha256,
    keyring::{Fingerprint, Keyring},
};
use tempfile::TempDir;

use super::{
    compress::Compression,
    deb::{Built, Deb},
    key::{Key, sign_detached, sign_inline},
    now,
};

/// How the Release file is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signing {
    /// InRelease.
    Inline,
    /// Release and Release.gpg.
    Detached,
    /// Release alone.
    Nothing,
}

/// A change that is made to a text before it is hashed or signed.
pub type Edit = Box<dyn Fn(String) -> String + Send + Sync>;

/// An archive of one suite and the component `main`, all of it open to tampering: change a field, then publish;
/// or publish, then change the files.
pub struct Archive {
    folder: TempDir,
    /// The keys that sign.
    pub keys: Vec<Key>,
    /// `Suite`.
    pub suite: String,
    /// `Codename`, and the folder below `dists`.
    pub codename: String,
    /// The architecture of the one index.
    pub architecture: String,
    /// `Date`, in seconds since 1970.
    pub date: i64,
    /// `Valid-Until`, in seconds since 1970.
    pub valid_until: Option<i64>,
    /// `Acquire-By-Hash`, and whether the files by hash are there.
    pub by_hash: bool,
    /// The compressions in which the index is listed and written.
    pub formats: Vec<Compression>,
    /// How it is signed.
    pub signing: Signing,
    /// A change to Packages before it is hashed.
    pub edit_packages: Option<Edit>,
    /// A change to Release before it is signed.
    pub edit_release: Option<Edit>,
    packages: Vec<(Built, String)>,
}

impl Archive {
    /// Starts an archive that looks like trixie, signed by a new key.
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            keys: vec![Key::new()],
            suite: "stable".to_owned(),
            codename: "trixie".to_owned(),
            architecture: "amd64".to_owned(),
            date: now() - 3600,
            valid_until: None,
            by_hash: true,
            formats: vec![Compression::None, Compression::Gz, Compression::Xz],
            signing: Signing::Inline,
            edit_packages: None,
            edit_release: None,
            packages: Vec::new(),
        }
    }

    /// Makes one with three packages, and publishes it.
    pub fn small() -> Self {
        let mut archive = Self::new();
        archive.fill();
        archive.publish();
        archive
    }

    /// Adds the three packages of [`Self::small`]; the last has 300 kB that do not compress.
    pub fn fill(&mut self) {
        let noise: Vec<u8> =
            (0_u32..75_000).flat_map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        self.add(&Deb::new("base-files", "13.8").field("Essential", "yes").field("Priority", "required"));
        self.add(&Deb::new("hello", "2.10-3").file("usr/bin/hello", 0o755, b"#!/bin/sh\necho hello\n"));
        let big = Deb::new("big", "1:1.0").compressed(Compression::None);
        self.add(&big.file("usr/share/big/noise", 0o644, &noise));
    }

    /// Adds a package.
    pub fn add(&mut self, deb: &Deb) {
        self.add_built(deb.build());
    }

    /// Adds a package that is made already: what the index says is its stanza, whatever its bytes say.
    pub fn add_built(&mut self, built: Built) {
        let package = built.file_name.split('_').next().unwrap();
        let path = format!("pool/main/{}/{package}/{}", &package[..1], built.file_name);
        self.packages.push((built, path));
    }

    /// Writes everything: packages, indexes, Release and its signature.
    pub fn publish(&self) {
        for (built, path) in &self.packages {
            self.write(path, &built.bytes);
        }
        let packages = self.edited(self.edit_packages.as_ref(), self.stanzas());
        let mut list = String::new();
        for format in &self.formats {
            let bytes = format.pack(packages.as_bytes());
            let digest = Sha256::of(&bytes);
            let folder = format!("main/binary-{}", self.architecture);
            let path = format!("{folder}/Packages{}", format.suffix());
            self.write(&self.dist(&path), &bytes);
            if self.by_hash {
                self.write(&self.dist(&format!("{folder}/by-hash/SHA256/{digest}")), &bytes);
            }
            list += &format!(" {digest} {:>8} {path}\n", bytes.len());
        }
        let release = self.edited(self.edit_release.as_ref(), self.head() + "SHA256:\n" + &list);
        match self.signing {
            Signing::Inline => self.write(&self.dist("InRelease"), &sign_inline(&self.keys, &release)),
            Signing::Detached => {
                self.write(&self.dist("Release"), release.as_bytes());
                self.write(&self.dist("Release.gpg"), &sign_detached(&self.keys, &release));
            }
            Signing::Nothing => self.write(&self.dist("InRelease"), release.as_bytes()),
        }
    }

    fn head(&self) -> String {
        let valid =
            self.valid_until.map(|until| format!("Valid-Until: {}\n", date(until))).unwrap_or_default();
        format!(
            "Origin: Tests\nLabel: Tests\nSuite: {}\nVersion: 13.7\nCodename: {}\nDate: {}\n{valid}Acquire-By-Hash: {}\n\
             No-Support-for-Architecture-all: Packages\nArchitectures: all {}\nComponents: main\n",
            self.suite,
            self.codename,
            date(self.date),
            if self.by_hash { "yes" } else { "no" },
            self.architecture,
        )
    }

    fn stanzas(&self) -> String {
        let mut text = String::new();
        for (built, path) in &self.packages {
            let digest = Sha256::of(&built.bytes);
            text += &format!(
                "{}Filename: {path}\nSize: {}\nSHA256: {digest}\n\n",
                built.control,
                built.bytes.len()
            );
        }
        text
    }

    fn edited(&self, edit: Option<&Edit>, text: String) -> String {
        edit.map_or_else(|| text.clone(), |edit| edit(text.clone()))
    }

    /// Gives the path of a file of the suite, below the archive.
    pub fn dist(&self, name: &str) -> String {
        format!("dists/{}/{name}", self.codename)
    }

    /// Gives the archive's folder.
    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    /// Gives the path of a file on disk.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Gives the path of a package's file, below the archive.
    pub fn pool(&self, package: &str) -> String {
        let named = |(built, _): &&(Built, String)| built.file_name.starts_with(&format!("{package}_"));
        self.packages.iter().find(named).unwrap().1.clone()
    }

    /// Writes a file, with the folders above it.
    pub fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Changes a file that is there.
    pub fn tamper(&self, name: &str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
        let path = self.path(name);
        fs::write(&path, change(fs::read(&path).unwrap())).unwrap();
    }

    /// Gives the source that a user of the archive would have, with the archive's keys and pins.
    pub fn source(&self, mirrors: &[&str]) -> Source {
        let certificates: Vec<u8> = self.keys.iter().flat_map(Key::certificate).collect();
        let pins: Vec<Fingerprint> = self.keys.iter().map(|key| key.fingerprint().parse().unwrap()).collect();
        Source {
            id: "release".to_owned(),
            mirrors: mirrors.iter().map(|&mirror| mirror.to_owned()).collect(),
            guesses: Vec::new(),
            suite: self.codename.clone(),
            expect_codename: Some(self.codename.clone()),
            expect_suite: None,
            components: vec!["main".to_owned()],
            architecture: self.architecture.clone(),
            keyring: Keyring::read(&certificates).unwrap().pinned(&pins).unwrap(),
            is_foreign: false,
            snapshot: None,
        }
    }
}

/// Writes a moment as Release files do.
pub fn date(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap().strftime("%a, %d %b %Y %H:%M:%S UTC").to_string()
}
