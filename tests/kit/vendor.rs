//! A vendor's sites on the loopback: releases as a forge lays them out, an install site with a version in a text
//! file, git repositories that are spoken to over HTTP, all behind TLS.
//!
//! The program is led to it as a user would lead it to a mirror: `--vendor-mirror https://github.com=URL --ca FILE`.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use sha2::Digest as _;
use tempfile::TempDir;

use super::{process, server::Server, tls::Tls};

/// The sites; they end when dropped.
pub struct Vendor {
    folder: TempDir,
    server: Server,
    tls: Tls,
}

impl Vendor {
    /// Opens empty sites.
    pub fn new() -> Self {
        Self::at(Ipv4Addr::LOCALHOST)
    }

    /// Opens empty sites at one of this machine's addresses.
    pub fn at(address: Ipv4Addr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("www")).unwrap();
        let server = Server::new(&folder.path().join("www"));
        let tls = Tls::at(&server, address);
        fs::write(folder.path().join("ca.pem"), &tls.authority).unwrap();
        Self { folder, server, tls }
    }

    /// Gives the address that stands in place of a vendor's host.
    pub fn url(&self) -> String {
        self.tls.url()
    }

    /// Gives the server behind TLS, for its log and its faults.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Gives the file with the certificate of the sites' authority.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Gives the words that lead the program here in place of some hosts: `["https://github.com"]`.
    pub fn options(&self, hosts: &[&str]) -> Vec<String> {
        let mut words = vec!["--ca".to_owned(), self.authority().to_str().unwrap().to_owned()];
        for host in hosts {
            words.extend(["--vendor-mirror".to_owned(), format!("{host}={}", self.url())]);
        }
        words
    }

    /// Puts a file at a path: `/install/agy.sha256`.
    pub fn put(&self, path: &str, bytes: &[u8]) {
        let file = self.folder.path().join("www").join(path.trim_start_matches('/'));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    }

    /// Reads what was put at a path.
    pub fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.folder.path().join("www").join(path.trim_start_matches('/'))).ok()
    }

    /// Publishes a release of a repository as a forge does, and makes it the latest.
    ///
    /// `/OWNER/REPO/releases/download/TAG/NAME` for each file, `checksums.txt` beside them, and
    /// `/OWNER/REPO/releases/latest`, which leads to `/OWNER/REPO/releases/tag/TAG`.
    pub fn release(&self, repository: &str, tag: &str, files: &[(&str, &[u8])]) {
        let folder = format!("/{repository}/releases/download/{tag}");
        let lines = files.iter().map(|(name, bytes)| format!("{}  {name}\n", sha256(bytes)));
        self.put(&format!("{folder}/checksums.txt"), lines.collect::<String>().as_bytes());
        for (name, bytes) in files {
            self.put(&format!("{folder}/{name}"), bytes);
        }
        self.put(&format!("/{repository}/releases/tag/{tag}"), b"<!doctype html>");
        self.server.redirect(
            &format!("/{repository}/releases/latest"),
            &format!("/{repository}/releases/tag/{tag}"),
        );
    }

    /// Publishes a program at an install site: `/FOLDER/version`, `/FOLDER/VERSION/NAME` and `….sha256` with the
    /// digest alone.
    pub fn site(&self, folder: &str, version: &str, files: &[(&str, &[u8])]) {
        self.put(&format!("/{folder}/version"), format!("{version}\n").as_bytes());
        for (name, bytes) in files {
            self.put(&format!("/{folder}/{version}/{name}"), bytes);
            self.put(
                &format!("/{folder}/{version}/{name}.sha256"),
                format!("{}\n", sha256(bytes)).as_bytes(),
            );
        }
    }

    /// Makes a git repository at `/PATH` (`obra/superpowers.git`), or a further commit in it, of the files of a
    /// work tree; gives the commit.
    ///
    /// # Panics
    /// Where the host has no git.
    pub fn commit(&self, path: &str, message: &str, files: &[(&str, &str)]) -> String {
        let work = self.folder.path().join("work").join(path);
        if !work.exists() {
            fs::create_dir_all(&work).unwrap();
            self.git(&work, &["init", "--quiet", "--initial-branch", "main"]);
            self.serve(path, &work);
        }
        for (name, text) in files {
            let file = work.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, text).unwrap();
            if text.starts_with("#!") {
                self.git(&work, &["add", name]);
                self.git(&work, &["update-index", "--chmod=+x", name]);
            }
        }
        self.git(&work, &["add", "--all"]);
        self.git(&work, &["commit", "--quiet", "--allow-empty", "-m", message]);
        self.git(&work, &["rev-parse", "HEAD"])
    }

    /// Runs git in the work tree of a repository that was made before: a tag, a branch, a link.
    pub fn in_repository(&self, path: &str, arguments: &[&str]) -> String {
        self.git(&self.work(path), arguments)
    }

    /// Gives the work tree of a repository.
    pub fn work(&self, path: &str) -> PathBuf {
        self.folder.path().join("work").join(path)
    }

    fn git(&self, work: &Path, arguments: &[&str]) -> String {
        let fixed = [
            "env",
            "-i",
            "PATH=/usr/local/bin:/usr/bin:/bin",
            "HOME=/nonexistent",
            "GIT_CONFIG_NOSYSTEM=1",
            "GIT_AUTHOR_NAME=A",
            "GIT_AUTHOR_EMAIL=a@example.invalid",
            "GIT_AUTHOR_DATE=2024-01-01T00:00:00Z",
            "GIT_COMMITTER_NAME=A",
            "GIT_COMMITTER_EMAIL=a@example.invalid",
            "GIT_COMMITTER_DATE=2024-01-01T00:00:00Z",
            "git",
            "-c",
            "core.fileMode=false",
            "-C",
            work.to_str().unwrap(),
        ];
        let argv: Vec<&str> = fixed.iter().chain(arguments).copied().collect();
        process::run(&argv, "", Duration::from_secs(60)).ok().to_owned()
    }

    /// Speaks git's smart protocol for a repository.
    ///
    /// **Source**: gitprotocol-http(5).
    fn serve(&self, path: &str, work: &Path) {
        let repository = work.join(".git").to_str().unwrap().to_owned();
        let (refs, pack) =
            (format!("/{path}/info/refs?service=git-upload-pack"), format!("/{path}/git-upload-pack"));
        let upload = move |more: &[&str], input: &[u8]| {
            let mut argv = vec!["git", "-c", "safe.directory=*", "-c", "uploadpack.allowAnySHA1InWant=true"];
            argv.extend(["upload-pack", "--stateless-rpc"]);
            argv.extend(more);
            argv.push(&repository);
            output(&argv, input)
        };
        let service = move |asked: &str, body: &[u8]| {
            if asked == refs {
                let head = b"001e# service=git-upload-pack\n0000".to_vec();
                let kind = "application/x-git-upload-pack-advertisement".to_owned();
                return Some((kind, [head, upload(&["--advertise-refs"], b"")].concat()));
            }
            (asked == pack).then(|| ("application/x-git-upload-pack-result".to_owned(), upload(&[], body)))
        };
        self.server.service(&format!("/{path}/"), Box::new(service));
    }
}

/// Runs a program and gives its bytes.
fn output(argv: &[&str], input: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut child = process::start(argv);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap().stdout
}

/// Gives a digest as 64 digits.
pub fn sha256(bytes: &[u8]) -> String {
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
