//! The host's apt in a root of its own: its indexes, its cache, an empty dpkg status, nothing of the host's.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use sandbox_core::spec::{apt, mirrors};

use crate::{
    lab::{LONG, Lab, text},
    process::{self, Output},
};

/// The packages of a choice: `name:architecture version`.
pub type Set = BTreeSet<String>;

/// An apt for one suite with its updates and security.
pub struct Apt {
    root: PathBuf,
    suite: String,
}

impl Apt {
    /// Makes the root, or takes the one of an earlier run, and has apt update it.
    pub fn of(lab: &Lab, suite: &str) -> Self {
        let [main, security] = mirrors_of_host();
        let line = |url: &str, name: &str| format!("deb [signed-by=ROOT/keyring.gpg] {url} {name} main\n");
        let sources = [
            line(&main, suite),
            line(&main, &format!("{suite}-updates")),
            line(&security, &format!("{suite}-security")),
        ];
        Self::with_sources(lab, suite, &sources.concat())
    }

    /// Makes one of sources of its own, in which `ROOT` stands for its root.
    pub fn with_sources(lab: &Lab, name: &str, sources: &str) -> Self {
        let apt = Self { root: lab.kept(&format!("apt-{name}")), suite: name.to_owned() };
        for folder in ["lists/partial", "cache/archives/partial", "parts"] {
            fs::create_dir_all(apt.root.join(folder)).expect("a folder below target/");
        }
        let keyring = concat!(env!("CARGO_MANIFEST_DIR"), "/../../keyrings/debian-archive-keyring.pgp");
        fs::copy(keyring, apt.root.join("keyring.gpg")).expect("the shipped keyring");
        apt.write("sources.list", sources);
        apt.write("status", "");
        // apt holds itself essential unless told otherwise, which the variants do not mean
        let settings = "Dir::State \"ROOT\"; Dir::State::lists \"ROOT/lists\"; Dir::State::status \"ROOT/status\";\n\
             Dir::Cache \"ROOT/cache\"; Dir::Etc \"ROOT/parts\"; Dir::Etc::parts \"ROOT/parts\";\n\
             Dir::Etc::main \"none\"; Dir::Etc::preferences \"none\"; Dir::Etc::preferencesparts \"/dev/null\";\n\
             Dir::Etc::sourcelist \"ROOT/sources.list\"; Dir::Etc::sourceparts \"/dev/null\";\n\
             Acquire::GzipIndexes \"false\"; Acquire::Languages \"none\"; APT::Sandbox::User \"root\";\n\
             APT::Architecture \"amd64\"; APT::Architectures \"amd64\"; APT::Get::AutomaticRemove \"false\";\n\
             pkgCacheGen::ForceEssential \",\";\n";
        apt.write("apt.conf", settings);
        apt.run(&["apt-get", "update", "-qq"]).ok();
        // builds the binary cache, which the runs side by side then share
        apt.run(&["apt-cache", "policy", "apt"]).ok();
        apt
    }

    /// Gives the indexes that this apt reads, in the order of its sources.
    pub fn indexes(&self) -> Vec<(String, Vec<u8>)> {
        let folder = self.root.join("lists");
        let names: Vec<String> = fs::read_dir(&folder)
            .expect("apt's lists")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("a UTF-8 name"))
            .collect();
        let of = |(id, suite): (&str, String)| {
            let end = format!("_dists_{suite}_main_binary-amd64_Packages");
            let name = names.iter().find(|name| name.ends_with(&end)).expect("an index of the suite");
            (id.to_owned(), fs::read(folder.join(name)).expect("a readable index"))
        };
        let suite = &self.suite;
        [
            ("release", suite.clone()),
            ("updates", format!("{suite}-updates")),
            ("security", format!("{suite}-security")),
        ]
        .map(of)
        .into()
    }

    /// Has apt choose what it would install into nothing, and print where it is.
    ///
    /// That is what [`Self::simulate`] chooses too, but without the simulated installation of it, which takes
    /// apt several times as long as the choice.
    pub fn choose(&self, recommends: bool, wishes: &[String]) -> Result<Set, String> {
        let recommended = if recommends { "--install-recommends" } else { "--no-install-recommends" };
        let mut argv = vec!["apt-get", "install", "--print-uris", "-y", "-qq", recommended];
        argv.extend(wishes.iter().map(String::as_str));
        let output = self.run(&argv);
        if output.code != 0 {
            return Err(output.out + &output.err);
        }
        Ok(output.out.lines().filter_map(located).collect())
    }

    /// Simulates an installation into nothing.
    pub fn simulate(&self, recommends: bool, wishes: &[String]) -> Result<Set, String> {
        self.simulate_with(recommends, wishes, &[])
    }

    /// Simulates an installation into a system that has packages already, of an earlier choice.
    pub fn simulate_onto(&self, installed: &Set, wishes: &[String]) -> Result<Set, String> {
        let place = self.root.join("installed");
        let names: Vec<String> = installed.iter().map(|package| package.replacen(' ', "=", 1)).collect();
        let mut argv = vec!["apt-cache", "show"];
        argv.extend(names.iter().map(String::as_str));
        let shown = self.run(&argv);
        let status = shown.ok().replace("\nVersion: ", "\nStatus: install ok installed\nVersion: ");
        fs::write(&place, status + "\n").expect("a writable folder");
        let option = format!("Dir::State::status={}", text(&place));
        let added = self.simulate_with(false, wishes, &["-o", &option, "-o", "Dir::Cache::pkgcache="])?;
        Ok(installed | &added)
    }

    fn simulate_with(&self, recommends: bool, wishes: &[String], more: &[&str]) -> Result<Set, String> {
        let recommended = if recommends { "--install-recommends" } else { "--no-install-recommends" };
        let mut argv = vec!["apt-get", "install", "--simulate", "-qq", recommended];
        argv.extend(more);
        argv.extend(wishes.iter().map(String::as_str));
        let output = self.run(&argv);
        if output.code != 0 {
            return Err(output.out + &output.err);
        }
        Ok(output.out.lines().filter_map(installed).collect())
    }

    fn run(&self, argv: &[&str]) -> Output {
        let settings = format!("APT_CONFIG={}", text(&self.root.join("apt.conf")));
        process::run(&[&["env", "LC_ALL=C", settings.as_str()], argv].concat(), "", LONG)
    }

    fn write(&self, name: &str, content: &str) {
        let content = content.replace("ROOT", text(&self.root));
        fs::write(self.root.join(name), content).expect("a writable folder");
    }
}

/// Reads `Inst name (version release [architecture])`.
fn installed(line: &str) -> Option<String> {
    let rest = line.strip_prefix("Inst ")?;
    let (name, rest) = rest.split_once(" (")?;
    let version = rest.split(' ').next()?;
    let architecture = rest.split_once('[')?.1.split_once(']')?.0;
    Some(format!("{name}:{architecture} {version}"))
}

/// Reads `'URL' name_version_architecture.deb size digest`; colons of versions are `%3a`.
fn located(line: &str) -> Option<String> {
    let file = line.split(' ').nth(1)?.strip_suffix(".deb")?.replace("%3a", ":");
    let (rest, architecture) = file.rsplit_once('_')?;
    let (name, version) = rest.split_once('_')?;
    Some(format!("{name}:{architecture} {version}"))
}

/// The mirrors of the host's apt where it is Debian's, else the public one.
pub fn mirrors_of_host() -> [String; 2] {
    let os_release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let found = mirrors::of_host(&os_release, &apt::files(Path::new("/etc/apt")), "debian");
    let of = |archive: &str, otherwise: &str| {
        let urls = found.mirrors.get(archive).or_else(|| found.candidates.get(archive));
        urls.and_then(|urls| urls.first()).map_or_else(|| otherwise.to_owned(), Clone::clone)
    };
    [of("main", "http://ftp.debian.org/debian"), of("security", "http://ftp.debian.org/debian-security")]
}
