//! What profiles put into a configured tree beside packages: users, files, links, units.

pub mod download;
pub(in crate::layer) mod fetched;
pub(super) mod files;
pub mod git;
mod known;
pub mod npm;
pub mod npm_tree;
mod people;
pub mod python;
pub mod settings;
mod steps;
pub mod unarchive;
mod units;

use std::{io, path::PathBuf};

use super::{Doors, Order};
use crate::{
    Result,
    configure::{self, Rootfs},
    error::{Cause, Class, Context as _, Hint},
    host::{
        runner::{Command, RunnerError},
        space::Shortage,
    },
    lock::Lock,
    report::{Event, Phase},
    spec::{Layer, Step},
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
    /// Something failed, and the tree's file system is full.
    #[error("the file system of {path} {shortage}", path = path.display())]
    Full {
        /// The tree.
        path: PathBuf,
        /// What the file system lacks.
        shortage: Shortage,
        /// What failed.
        source: Box<crate::Error>,
    },
    /// A tarball is not what it should be.
    #[error("the tarball of `{package}` cannot be unpacked")]
    Tarball {
        /// The package.
        package: String,
        /// Why.
        source: io::Error,
    },
    /// A tarball has a path that leads out of its folder.
    #[error("the tarball of `{package}` has the path `{path}`, which leads out of its folder")]
    Escape {
        /// The package.
        package: String,
        /// The path.
        path: String,
    },
    /// An archive cannot be unpacked.
    #[error("the archive of `{name}` is not to be unpacked")]
    Archive {
        /// The download.
        name: String,
        /// Why.
        #[source]
        source: Box<unarchive::UnarchiveError>,
    },
    /// Two profiles want one thing in two versions.
    #[error("`{name}` is wanted as {} and as {}, and a machine has one", versions[0], versions[1])]
    Twice {
        /// What is wanted.
        name: String,
        /// Both versions.
        versions: [String; 2],
    },
    /// The lock does not say which one it is.
    #[error("the lock does not have `{package}`")]
    Unlocked {
        /// The package.
        package: String,
    },
    /// A tarball's digest is none.
    #[error("the digest of `{package}` is malformed")]
    Digest {
        /// The package.
        package: String,
    },
    /// The owner is not in the tree's passwd file.
    #[error("`{owner}`, who is to own {path}, is no user of the tree", path = path.display())]
    Owner {
        /// The owner's name.
        owner: String,
        /// The path in the tree.
        path: std::path::PathBuf,
    },
    /// The group is not in the tree's group file.
    #[error("`{group}`, whose {path} is to be, is no group of the tree", path = path.display())]
    Group {
        /// The group's name.
        group: String,
        /// The path in the tree.
        path: std::path::PathBuf,
    },
    /// A file that is to be added to is not of its format.
    #[error("{path} cannot be added to: {problem}", path = path.display())]
    Format {
        /// The path in the tree.
        path: std::path::PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The user is not in the tree's passwd file.
    #[error("`{user}`, who is to run the {what}, is no user of the tree")]
    User {
        /// The user's name.
        user: String,
        /// What it is to run.
        what: String,
    },
}

impl Cause for PartError {
    fn class(&self) -> Class {
        match self {
            Self::Command { source, .. } => source.class(),
            Self::Archive { source, .. } => source.class(),
            Self::Write { .. } | Self::Full { .. } => Class::Host,
            Self::Tarball { .. } | Self::Escape { .. } | Self::Digest { .. } => Class::Untrusted,
            Self::Format { .. }
            | Self::Owner { .. }
            | Self::Group { .. }
            | Self::User { .. }
            | Self::Unlocked { .. }
            | Self::Twice { .. } => Class::File,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Command { source, .. } => source.hints(),
            Self::Archive { source, .. } => source.hints(),
            Self::Full { shortage, .. } => vec![shortage.hint()],
            _ => Vec::new(),
        }
    }
}

/// Counts the parts of a layer, for progress.
pub(super) fn count(layer: &Layer) -> u64 {
    let own =
        fetched::count(layer) + layer.files.len() + layer.links.len() + layer.unit.len() + layer.steps.len();
    let commands = people::commands(layer, "").len() + units::commands(layer).len();
    (own + commands + settings::files(layer).len()) as u64
}

/// Lists the files and links that a layer's parts have by name; packages may not have them too.
pub(super) fn paths(layer: &Layer) -> Vec<PathBuf> {
    let files = layer.files.iter().map(|file| file.path.clone());
    let links = layer.links.iter().map(|link| link.path.clone());
    let settings = settings::files(layer).into_iter().map(|(path, _)| path);
    let units = layer.unit.iter().map(units::path);
    files.chain(links).chain(settings).chain(units).collect()
}

/// Puts every part of a layer in: users first, who own files; then what units may use, the units; steps last.
///
/// # Errors
/// Of the first part that fails.
pub(super) fn put(
    layer: &Layer,
    order: &Order,
    rootfs: &Rootfs,
    lock: &Lock,
    doors: &Doors<'_>,
) -> Result<()> {
    let epoch = lock.epoch;
    let root = rootfs.root();
    let step = |subject: &str| {
        doors.reporter.report(Event::At { phase: Phase::Customize, subject: subject.to_owned() });
        doors.reporter.report(Event::Advanced { phase: Phase::Customize, delta: 1 });
    };
    let run = |(what, argv): (String, Vec<String>)| {
        step(&what);
        let command = configure::environment(Command::new(argv).in_tree(rootfs.path()), epoch);
        let ran = doors.runner.run(&command);
        ran.map(drop)
            .map_err(|source| PartError::Command { what, source })
            .during("set up", format!("profile `{}`", layer.name))
    };
    let passwd = files::read(root, "etc/passwd").during("read", "the users of the tree")?;
    for command in people::commands(layer, &passwd) {
        run(command)?;
    }
    fetched::put(layer, fetched::Into { order, rootfs, lock, doors }, &step)?;
    for file in &layer.files {
        step(&file.path.display().to_string());
        files::write(root, file, epoch).during("write", format!("{}", file.path.display()))?;
    }
    for link in &layer.links {
        step(&link.path.display().to_string());
        files::make_link(root, &link.path, &link.target, epoch)
            .during("make", format!("the link {}", link.path.display()))?;
    }
    for (path, text) in settings::files(layer) {
        step(&path.display().to_string());
        files::write_text(root, &path, &text, epoch).during("write", format!("{}", path.display()))?;
    }
    for unit in &layer.unit {
        step(&unit.name);
        units::write(root, unit, epoch).during("write", format!("unit `{}`", unit.name))?;
    }
    for command in units::commands(layer) {
        run(command)?;
    }
    for one in &layer.steps {
        step(&steps::subject(one));
        told(one, layer, doors);
        steps::run(root, one, epoch, doors).during("set up", format!("profile `{}`", layer.name))?;
    }
    Ok(())
}

/// Says what no lock holds.
fn told(step: &Step, layer: &Layer, doors: &Doors<'_>) {
    if step.network {
        let text = format!(
            "profile `{}` runs `{}` with a network: what it fetches is in no lock, and may be another tomorrow",
            layer.name,
            steps::subject(step)
        );
        doors.reporter.report(Event::Notice { text });
    }
}
