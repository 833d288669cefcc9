//! What profiles put into a configured tree beside packages: users, files, links, units.

use std::path::Path;

use crate::{
    error::{Cause, Class},
    host::{
        root::Root,
        runner::{Runner, RunnerError},
    },
    spec::{Layer, TreeFile, User},
};

/// Why a part is not in the tree.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// A command in the tree failed.
    #[error("{what} cannot be set up")]
    Command {
        /// The part, in words: ``user `agent` ``.
        what: String,
        /// The command's own story.
        #[source]
        source: RunnerError,
    },
    /// A file cannot be written.
    #[error("{path} cannot be written into the tree", path = path.display())]
    Write {
        /// The path in the tree.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The owner is not in the tree's passwd file.
    #[error("`{owner}`, who is to own {path}, is no user of the tree", path = path.display())]
    Owner {
        /// The owner's name.
        owner: String,
        /// The path in the tree.
        path: std::path::PathBuf,
    },
}

impl Cause for PartError {
    fn class(&self) -> Class {
        match self {
            Self::Command { source, .. } => source.class(),
            Self::Write { .. } => Class::Host,
            Self::Owner { .. } => Class::File,
        }
    }
}

/// One user of several entries of the same name: later entries add groups.
fn users(layer: &Layer) -> Vec<User> {
    let mut merged: Vec<User> = Vec::new();
    for user in &layer.users {
        match merged.iter_mut().find(|known| known.name == user.name) {
            Some(known) => {
                let new = user.groups.iter().filter(|group| !known.groups.contains(group)).cloned();
                let new: Vec<_> = new.collect();
                known.groups.extend(new);
            }
            None => merged.push(user.clone()),
        }
    }
    merged
}

/// The commands that make the users.
fn user_commands(layer: &Layer) -> Vec<(String, Vec<String>)> {
    let mut commands = Vec::new();
    let argv = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    for user in users(layer) {
        let what = format!("user `{}`", user.name);
        for group in &user.groups {
            commands.push((format!("group `{group}`"), argv(&["groupadd", "--force", "--system", group])));
        }
        let uid = user.uid.to_string();
        commands.push((
            what,
            argv(&[
                "useradd",
                "--create-home",
                "--user-group",
                "--uid",
                &uid,
                "--groups",
                &user.groups.join(","),
                "--shell",
                &user.shell,
                &user.name,
            ]),
        ));
    }
    commands
}

/// The commands that enable and mask the units.
fn unit_commands(layer: &Layer) -> Vec<(String, Vec<String>)> {
    let one = |verb: &str, units: &[String]| {
        let mut argv = vec!["systemctl".to_owned(), "--quiet".to_owned(), verb.to_owned()];
        argv.extend(units.iter().cloned());
        (!units.is_empty()).then(|| (format!("units {}", units.join(", ")), argv))
    };
    one("enable", &layer.units.enable).into_iter().chain(one("mask", &layer.units.mask)).collect()
}

/// Counts the parts of a layer, for progress.
pub(super) fn count(layer: &Layer) -> u64 {
    let units = usize::from(!layer.units.enable.is_empty()) + usize::from(!layer.units.mask.is_empty());
    (users(layer).len() + layer.npm.len() + layer.files.len() + layer.links.len() + units) as u64
}
