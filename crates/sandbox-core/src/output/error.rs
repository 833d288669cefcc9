//! Why an output is not written.

use std::{io, path::PathBuf};

use super::Format;
use crate::{
    error::{Cause, Class, Hint, shell_word},
    host::{runner::RunnerError, space},
};

/// Why an output is not written. All but the last three are found before the work.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The name has the ending of a file that is not written.
    #[error("`{ending}` of {path} is the ending of a file that is not written; there are {endings}", path = path.display(), endings = Format::endings())]
    Ending {
        /// The target.
        path: PathBuf,
        /// Its ending.
        ending: &'static str,
    },
    /// The name, or what is there, means another format than the one that was requested.
    #[error("{path} stands for the format `{by_name}`, and `{requested}` was requested", path = path.display())]
    Conflict {
        /// The target.
        path: PathBuf,
        /// The format that the name means.
        by_name: String,
        /// The format that was requested.
        requested: String,
    },
    /// The format cannot be written to a stream.
    #[error("`{format}` cannot be written to stdout, which cannot be read back or positioned")]
    Stream {
        /// The format.
        format: Format,
    },
    /// The stream is a terminal.
    #[error("stdout is a terminal, which cannot show a tar file")]
    Terminal,
    /// stdout has the events of `--json`.
    #[error("stdout cannot have both a tar file and the events of `--json`")]
    Events,
    /// The path names nothing that can be created.
    #[error("{path} is not a name that a file or directory can have", path = path.display())]
    Name {
        /// The path.
        path: PathBuf,
    },
    /// The target exists.
    #[error("{path} exists{}", if *is_directory { ", and is not an empty directory" } else { "" }, path = path.display())]
    Taken {
        /// The target.
        path: PathBuf,
        /// Whether it is a directory, where one is requested.
        is_directory: bool,
    },
    /// No program runs on the file system, so maintainer scripts cannot.
    #[error("{mount} is mounted `noexec`: the packages' scripts cannot run in a tree on it", mount = mount.display())]
    NoExec {
        /// The mount point.
        mount: PathBuf,
        /// Whether a file is written there, for which a tree is built beside it.
        is_file: bool,
    },
    /// The file system cannot be written.
    #[error("{mount} is mounted read-only", mount = mount.display())]
    ReadOnly {
        /// The mount point.
        mount: PathBuf,
    },
    /// The file system has too few inodes for any tree.
    #[error("the file system of {path} has {free} free inodes, and a tree has thousands of files", path = path.display())]
    Inodes {
        /// The directory.
        path: PathBuf,
        /// How many are free.
        free: u64,
    },
    /// The file system has too little space for any tree.
    #[error("the file system of {path} has {free} KiB of free space, which is not enough for a tree", path = path.display())]
    Space {
        /// The directory.
        path: PathBuf,
        /// How much is free.
        free: u64,
    },
    /// The host has no program that writes the format.
    #[error("this host has none of the programs that write `{format}`: {}", programs.join(", "))]
    Tool {
        /// The format.
        format: Format,
        /// The programs.
        programs: &'static [&'static str],
        /// The package that has the first of them.
        package: &'static str,
    },
    /// The program that writes the format failed.
    #[error("{path} cannot be written", path = path.display())]
    Program {
        /// The target.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<RunnerError>,
    },
    /// The result cannot be moved to the target.
    #[error("the tree cannot be moved to {path}", path = path.display())]
    Move {
        /// The target.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file system refused something else.
    #[error("{path} cannot be {doing}", path = path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// `created`, `read`, `removed`.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl OutputError {
    /// Makes an error of something that the file system refused.
    pub(crate) fn io(path: &std::path::Path, doing: &'static str) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { path: path.clone(), doing, source }
    }
}

impl Cause for OutputError {
    fn class(&self) -> Class {
        match self {
            Self::Taken { .. } => Class::Unavailable,
            Self::Ending { .. }
            | Self::Conflict { .. }
            | Self::Stream { .. }
            | Self::Terminal
            | Self::Events
            | Self::Name { .. } => Class::Usage,
            _ => Class::Host,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        let quoted = |path: &PathBuf| shell_word(&path.to_string_lossy());
        match self {
            Self::Ending { path, .. } => {
                vec![Hint::run(
                    "a directory of that name is used where it exists",
                    format!("mkdir {}", quoted(path)),
                )]
            }
            Self::Terminal => vec![Hint::Note("redirect stdout, or name a file as the target".to_owned())],
            Self::NoExec { mount, is_file } => {
                let remount =
                    Hint::run("allow programs on it", format!("mount -o remount,exec {}", quoted(mount)));
                let elsewhere =
                    "the tree is built beside the file: write it to another file system, and copy it";
                let note = is_file.then(|| Hint::Note(elsewhere.to_owned()));
                std::iter::once(remount).chain(note).collect()
            }
            Self::ReadOnly { mount } => {
                vec![Hint::run("have it written", format!("mount -o remount,rw {}", quoted(mount)))]
            }
            Self::Inodes { path, .. } => {
                vec![Hint::run("see how many are left", format!("df -i {}", quoted(path)))]
            }
            Self::Space { path, .. } => {
                vec![Hint::run("see how much is left", format!("df -h {}", quoted(path)))]
            }
            Self::Tool { package, .. } => {
                vec![Hint::run("install one", format!("apt-get install {package}"))]
            }
            Self::Program { source, .. } => source.hints(),
            Self::Io { source, .. } | Self::Move { source, .. } => space::hint(source).into_iter().collect(),
            _ => Vec::new(),
        }
    }
}
