//! What can go wrong with a tree or a boot.

use std::{io, path::PathBuf};

use crate::{
    error::{Cause, Class, Hint},
    host::live,
    machine::Kind,
    name::MachineName,
};

/// What can go wrong with a tree or a boot, beyond the backend and the records.
#[derive(Debug, thiserror::Error)]
pub enum LifeError {
    /// The file system refused.
    #[error("{path}: {doing} failed", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A file of the machine cannot be written: its tree may have a link in the place of a directory.
    #[error("{path} cannot be written in the machine's tree", path = path.display())]
    Inside {
        /// The path in the tree.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It runs already.
    #[error("it runs already")]
    Running,
    /// It is where it shall go.
    #[error("it is a machine of the backend `{backend}` already")]
    There {
        /// The backend.
        backend: &'static str,
    },
    /// It does not run.
    #[error("it does not run")]
    Stopped {
        /// Its name.
        name: MachineName,
    },
    /// It is protected.
    #[error("it is protected")]
    Protected {
        /// Its name.
        name: MachineName,
    },
    /// It is removed when it stops, so that nothing can be done with it after that.
    #[error("it is ephemeral, and would be removed")]
    Ephemeral {
        /// Its name.
        name: MachineName,
    },
    /// It did not come up in time.
    #[error("its systemd was still `{state}` after {seconds} s")]
    Slow {
        /// What the guest said last.
        state: String,
        /// The deadline.
        seconds: u64,
        /// Its name.
        name: MachineName,
        /// The verb that waited.
        verb: String,
    },
    /// Something that a verb was to move is gone.
    #[error("{path} is not there any more, or is another folder than it was", path = path.display())]
    Lost {
        /// Where it was.
        path: PathBuf,
    },
    /// What an earlier machine of the name left is in the way.
    #[error("what an earlier machine `{name}` left is in the way, and cannot be removed")]
    Left {
        /// The name.
        name: MachineName,
        /// Why.
        source: Box<crate::Error>,
    },
    /// It cannot be made to stand still.
    #[error("it cannot be made to stand still: {path} does not do it", path = path.display())]
    Moving {
        /// Its cgroup's file.
        path: PathBuf,
        /// Its name.
        name: String,
    },
    /// The backend of its record is not in this program.
    #[error("its backend `{kind:?}` is not at hand")]
    Backend {
        /// Which.
        kind: Kind,
    },
}

impl Cause for LifeError {
    fn class(&self) -> Class {
        match self {
            Self::Running
            | Self::There { .. }
            | Self::Stopped { .. }
            | Self::Protected { .. }
            | Self::Ephemeral { .. }
            | Self::Slow { .. } => Class::Unavailable,
            Self::Io { source, .. } => live::class_of(source, Class::Host),
            Self::Backend { .. } | Self::Moving { .. } => Class::Host,
            Self::Inside { source, .. } => Class::of_path(source),
            Self::Lost { .. } => Class::State,
            Self::Left { source, .. } => source.class(),
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Stopped { name } => vec![Hint::run("start it", format!("sandbox start {name}"))],
            Self::Protected { name } => {
                vec![Hint::run("allow it again", format!("sandbox unprotect {name}"))]
            }
            Self::Ephemeral { name } => vec![
                Hint::run("reboot it", format!("sandbox exec {name} reboot")),
                Hint::run("have it stay when it stops", format!("sandbox set {name} --ephemeral no")),
            ],
            Self::Left { name, .. } => vec![Hint::run("try that alone", format!("sandbox repair {name}"))],
            Self::Slow { name, verb, .. } => slow(name, verb),
            _ => Vec::new(),
        }
    }
}

/// Says how to find out why a machine does not boot; what a failed `create` or `import` made is removed.
fn slow(name: &MachineName, verb: &str) -> Vec<Hint> {
    let leave = |command: &str| {
        let command = format!("sandbox {command} --no-start && sandbox start {name}");
        vec![Hint::run("leave it stopped, then look on", command)]
    };
    match verb {
        "create" => leave(&format!("create {name}")),
        "import" => leave(&format!("import FILE {name}")),
        _ => vec![
            Hint::run("read what it logged", format!("sandbox logs {name}")),
            Hint::run("look at its console", format!("sandbox console {name}")),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_about_the_verb_that_was_typed() {
        for (verb, commands) in [
            ("create", &["sandbox create um --no-start && sandbox start um"][..]),
            ("import", &["sandbox import FILE um --no-start && sandbox start um"]),
            ("start", &["sandbox logs um", "sandbox console um"]),
            ("clone", &["sandbox logs um", "sandbox console um"]),
        ] {
            let name = MachineName::new("um").unwrap();
            let error =
                LifeError::Slow { state: "starting".to_owned(), seconds: 1, name, verb: verb.to_owned() };
            let hints = error.hints();
            let found: Vec<_> = hints
                .iter()
                .map(|hint| match hint {
                    Hint::Run { command, .. } => command.as_str(),
                    Hint::Note(note) => note.as_str(),
                })
                .collect();
            assert_eq!(found, commands, "{verb}");
        }
    }
}
