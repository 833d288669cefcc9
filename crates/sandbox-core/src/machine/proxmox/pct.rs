//! A node of Proxmox VE, through its own programs: pct, pvesm, pvesh.
//!
//! **Source**: pct(1), pvesm(1), pvesh(1).

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use super::{
    cluster::{Cluster, Snapshotting},
    config::{self, Container, Read},
    error::ProxmoxError,
    firewall::{self, Rule},
    rest,
    rights::Target,
};
use crate::{
    host::runner::{Command, Runner},
    machine::network::{self, Subnet},
};

/// How long a container that is being made is waited for.
const MADE: Duration = Duration::from_secs(10);
/// The pause between two looks at it.
const PAUSE: Duration = Duration::from_millis(100);

/// A node: its programs, and where its cluster's files are.
pub struct Node {
    runner: Box<dyn Runner>,
    files: PathBuf,
    programs: Option<PathBuf>,
    name: String,
}

impl Node {
    /// Sees that this host is a node; a folder with `etc` and `bin` stands in the place of the node's own.
    ///
    /// # Errors
    /// [`ProxmoxError::NoNode`].
    pub fn open(runner: Box<dyn Runner>, folder: Option<&Path>) -> Result<Self, ProxmoxError> {
        let files = folder.map_or_else(|| PathBuf::from("/etc/pve"), |folder| folder.join("etc"));
        if !files.is_dir() {
            return Err(ProxmoxError::NoNode);
        }
        // a link to `nodes/NAME`
        let local = fs::read_link(files.join("local")).unwrap_or_default();
        let name = local.file_name().map(|name| name.to_string_lossy().into_owned());
        let host = || fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        let name = name.unwrap_or_else(host);
        Ok(Self { runner, files, programs: folder.map(|folder| folder.join("bin")), name })
    }

    /// Gives the words of one of its programs.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.as_ref().map_or_else(|| PathBuf::from(name), |folder| folder.join(name))
    }

    fn run(&self, program: &str, words: &[&str]) -> Result<String, ProxmoxError> {
        let program = self.program(program);
        let argv = std::iter::once(program.as_os_str()).chain(words.iter().map(std::ffi::OsStr::new));
        let output = self.runner.run(&Command::new(argv));
        output.map(|output| output.text).map_err(|source| ProxmoxError::Program { source })
    }

    fn pct(&self, verb: &str, id: u32, words: &[&str]) -> Result<String, ProxmoxError> {
        self.run("pct", &[&[verb, &id.to_string()], words].concat())
    }

    fn path_of(&self, volume: &str) -> Result<PathBuf, ProxmoxError> {
        let said = self.run("pvesm", &["path", volume])?;
        // what it warns of stands in other lines
        let path = said.lines().rev().find(|line| line.starts_with('/')).map(PathBuf::from);
        path.ok_or(ProxmoxError::Said { command: "pvesm path".to_owned(), said })
    }

    fn wall_of(&self, id: u32) -> PathBuf {
        self.files.join(format!("firewall/{id}.fw"))
    }
}

impl Cluster for Node {
    fn node(&self) -> &str {
        &self.name
    }

    fn free(&self, wanted: Option<u32>) -> Result<u32, ProxmoxError> {
        if let Some(id) = wanted {
            let taken = self.files.join(format!("lxc/{id}.conf")).exists();
            return if taken { Err(ProxmoxError::Taken { id }) } else { Ok(id) };
        }
        let said = self.run("pvesh", &["get", "/cluster/nextid"])?;
        // with and without the quotes of JSON
        let word =
            said.lines().rev().map(|line| line.trim().trim_matches('"')).find_map(|word| word.parse().ok());
        word.ok_or(ProxmoxError::Said { command: "pvesh get /cluster/nextid".to_owned(), said })
    }

    fn check(&self, _container: &Container, target: Target<'_>) -> Result<(), ProxmoxError> {
        let cluster = fs::read_to_string(self.files.join("firewall/cluster.fw")).unwrap_or_default();
        if target.walled && !firewall::is_on(&cluster) {
            return Err(ProxmoxError::FilterOff);
        }
        Ok(())
    }

    fn neighbours(&self) -> Result<Vec<Subnet>, ProxmoxError> {
        Ok(network::on_link())
    }

    fn template(&self, storage: &str, name: &str) -> Result<Option<PathBuf>, ProxmoxError> {
        let volume = format!("{storage}:vztmpl/{name}");
        let path = self.path_of(&volume)?;
        if fs::symlink_metadata(&path).is_ok() {
            return Err(ProxmoxError::Template { volume });
        }
        Ok(Some(path))
    }

    fn upload(&self, _storage: &str, _file: &Path) -> Result<(), ProxmoxError> {
        Ok(())
    }

    fn remove_template(&self, volume: &str) -> Result<(), ProxmoxError> {
        let path = self.path_of(volume)?;
        match fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(ProxmoxError::Write { path, source })
            }
            _ => Ok(()),
        }
    }

    fn create(
        &self,
        id: u32,
        template: &str,
        container: &Container,
        wall: Option<&[Rule]>,
    ) -> Result<(), ProxmoxError> {
        // the wall is there before the container is
        let place = self.wall_of(id);
        if let Some(rules) = wall {
            write(&place, &firewall::text(rules, &container.mark))?;
        }
        let mut words = vec![template.to_owned()];
        for (key, value) in container.values() {
            words.extend([format!("--{key}"), value]);
        }
        words.extend(["--description".to_owned(), container.description.clone()]);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.pct("create", id, &words).map(drop).inspect_err(|_| {
            // pct removes what it began; the number may be somebody else's, so that nothing else is done about it
            if wall.is_some() {
                let _ = fs::remove_file(&place);
            }
        })
    }

    fn forget(&self, id: u32, mark: &str) -> Result<(), ProxmoxError> {
        let path = self.wall_of(id);
        if fs::read_to_string(&path).is_ok_and(|text| text.contains(&format!("({mark})"))) {
            fs::remove_file(&path).map_err(|source| ProxmoxError::Write { path, source })?;
        }
        Ok(())
    }

    fn config(&self, id: u32) -> Result<Option<Read>, ProxmoxError> {
        let path = self.files.join(format!("lxc/{id}.conf"));
        let begun = Instant::now();
        loop {
            let text = match fs::read_to_string(&path) {
                Ok(text) => text,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Err(source) => return Err(ProxmoxError::Read { path, source }),
            };
            let malformed = |problem: config::Malformed| ProxmoxError::Said {
                command: path.display().to_string(),
                said: problem.to_string(),
            };
            let read = config::read(&text).map_err(malformed)?;
            if read.values.get("lock").is_none_or(|lock| lock != "create") {
                return Ok(Some(read));
            }
            // it has no description yet, and vanishes where its making fails
            if begun.elapsed() > MADE {
                return Err(ProxmoxError::Locked { id });
            }
            thread::sleep(PAUSE);
        }
    }

    fn set(&self, id: u32, values: &[(&str, &str)], without: &[&str]) -> Result<(), ProxmoxError> {
        let mut words: Vec<String> = Vec::new();
        for (key, value) in values {
            words.extend([format!("--{key}"), (*value).to_owned()]);
        }
        if !without.is_empty() {
            words.extend(["--delete".to_owned(), without.join(",")]);
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.pct("set", id, &words).map(drop)
    }

    fn destroy(&self, id: u32) -> Result<(), ProxmoxError> {
        self.pct("destroy", id, &["--purge", "1"]).map(drop)
    }

    fn runs(&self, id: u32) -> Result<bool, ProxmoxError> {
        let said = self.pct("status", id, &[])?;
        Ok(said.lines().any(|line| line.trim() == "status: running"))
    }

    fn addresses(&self, id: u32) -> Result<Vec<IpAddr>, ProxmoxError> {
        let path = format!("/nodes/{}/lxc/{id}/interfaces", self.name);
        let said = self.run("pvesh", &["get", &path, "--output-format", "json"])?;
        let links = serde_json::from_str(said.trim());
        links
            .map(|links| rest::addresses(&links))
            .map_err(|_| ProxmoxError::Said { command: format!("pvesh get {path}"), said })
    }

    fn start(&self, id: u32) -> Result<(), ProxmoxError> {
        self.pct("start", id, &[]).map(drop)
    }

    fn shut_down(&self, id: u32, seconds: u64) -> Result<(), ProxmoxError> {
        if seconds == 0 {
            return self.pct("stop", id, &[]).map(drop);
        }
        self.pct("shutdown", id, &["--timeout", &seconds.to_string(), "--forceStop", "1"]).map(drop)
    }

    fn snapshots(&self, id: u32) -> Result<Vec<(String, i64)>, ProxmoxError> {
        let read = self.config(id)?.ok_or(ProxmoxError::Gone { id })?;
        Ok(read.snapshots.into_iter().collect())
    }

    fn snapshot(&self, id: u32, name: &str, what: Snapshotting) -> Result<(), ProxmoxError> {
        let verb = match what {
            Snapshotting::Take => "snapshot",
            Snapshotting::Restore => "rollback",
            Snapshotting::Remove => "delsnapshot",
        };
        self.pct(verb, id, &[name]).map(drop)
    }
}

/// Writes a file of the cluster's: a temporary name, then renamed, and never over another's.
fn write(path: &Path, text: &str) -> Result<(), ProxmoxError> {
    let failed = |source| ProxmoxError::Write { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    if fs::symlink_metadata(path).is_ok() {
        return Err(failed(std::io::ErrorKind::AlreadyExists.into()));
    }
    let temporary = path.with_extension("fw.sandbox-partial");
    fs::write(&temporary, text).map_err(failed)?;
    fs::rename(&temporary, path).map_err(failed)
}
