//! A node of Proxmox VE, through its own programs: pct, pvesm, pvesh.
//!
//! **Source**: pct(1), pvesm(1), pvesh(1).

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{config::Container, error::ProxmoxError, firewall};
use crate::host::runner::{Command, Runner};

/// A node: its programs, and where its cluster's files are.
pub struct Node<'a> {
    /// Runs the programs.
    pub runner: &'a dyn Runner,
    /// `/etc/pve`.
    pub files: &'a Path,
    /// Where the programs are, where that is not the search path's to say.
    pub programs: Option<&'a Path>,
}

/// A container that was made.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Made {
    /// Its number.
    pub id: u32,
    /// Its template: `local:vztmpl/…`.
    pub template: String,
}

impl Node<'_> {
    /// Sees that this is a node, and that a container's wall would stand.
    ///
    /// # Errors
    /// [`ProxmoxError::NoNode`], [`ProxmoxError::FilterOff`].
    pub fn check(&self, container: &Container) -> Result<(), ProxmoxError> {
        if !self.files.is_dir() {
            return Err(ProxmoxError::NoNode);
        }
        let walled = container.link.as_ref().is_some_and(|link| link.firewall);
        let cluster = fs::read_to_string(self.files.join("firewall/cluster.fw")).unwrap_or_default();
        if walled && !firewall::is_on(&cluster) {
            return Err(ProxmoxError::FilterOff);
        }
        Ok(())
    }

    /// Gives where a storage has a template of a name, whether it is there or not.
    ///
    /// # Errors
    /// Where there is no such storage, or it holds no templates.
    pub fn template(&self, storage: &str, name: &str) -> Result<(String, PathBuf), ProxmoxError> {
        let volume = format!("{storage}:vztmpl/{name}");
        let said = self.run("pvesm", &["path", &volume])?;
        // what it warns of stands in other lines
        match said.lines().rev().find(|line| line.starts_with('/')).map(PathBuf::from) {
            Some(path) => Ok((volume, path)),
            None => Err(ProxmoxError::Said { command: "pvesm path", said }),
        }
    }

    /// Makes a container of a template, with its wall; it does not run. Nothing is left of one that fails.
    ///
    /// # Errors
    /// Where Proxmox does not.
    pub fn create(
        &self,
        id: Option<u32>,
        template: &str,
        container: &Container,
        wall: Option<&str>,
    ) -> Result<Made, ProxmoxError> {
        let id = match id {
            Some(id) => id,
            None => self.next()?,
        };
        let number = id.to_string();
        // the wall is there before the container is
        let place = self.files.join(format!("firewall/{id}.fw"));
        if let Some(wall) = wall {
            write(&place, wall)?;
        }
        let mut words = vec!["create".to_owned(), number.clone(), template.to_owned()];
        for (key, value) in container.values() {
            words.extend([format!("--{key}"), value]);
        }
        words.extend(["--description".to_owned(), container.description.clone()]);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let made = self.run("pct", &words);
        if let Err(problem) = made {
            // pct removes what it began; the number may be somebody else's, so that nothing else is done about it
            if wall.is_some() {
                let _ = fs::remove_file(&place);
            }
            return Err(problem);
        }
        Ok(Made { id, template: template.to_owned() })
    }

    /// Starts a container.
    ///
    /// # Errors
    /// Where Proxmox does not.
    pub fn start(&self, id: u32) -> Result<(), ProxmoxError> {
        self.run("pct", &["start", &id.to_string()]).map(drop)
    }

    fn next(&self) -> Result<u32, ProxmoxError> {
        let said = self.run("pvesh", &["get", "/cluster/nextid"])?;
        // with and without the quotes of JSON
        let word =
            said.lines().rev().map(|line| line.trim().trim_matches('"')).find_map(|word| word.parse().ok());
        word.ok_or(ProxmoxError::Said { command: "pvesh get /cluster/nextid", said })
    }

    fn run(&self, program: &'static str, words: &[&str]) -> Result<String, ProxmoxError> {
        let program = self.programs.map_or_else(|| PathBuf::from(program), |folder| folder.join(program));
        let argv = std::iter::once(program.as_os_str()).chain(words.iter().map(std::ffi::OsStr::new));
        let output = self.runner.run(&Command::new(argv));
        output.map(|output| output.text).map_err(|source| ProxmoxError::Program { source })
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
