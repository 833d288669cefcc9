//! What can be wrong with records.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::Doing;
use crate::{
    error::{Cause, Class, Hint},
    name::MachineName,
};

/// What can be wrong with records.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is taken.
    #[error("there is a machine `{name}` already")]
    Taken {
        /// The name.
        name: MachineName,
    },
    /// Something of that name is there that we did not make.
    #[error("{path} is there already, and `sandbox` did not make it", path = path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
    },
    /// No machine of that name.
    #[error("there is no machine `{name}`")]
    Missing {
        /// The name.
        name: MachineName,
        /// A name that is near.
        nearest: Option<String>,
    },
    /// Its removal or its creation is not finished.
    #[error("machine `{name}` is half {}: its `{verb}` has not ended", if *removed { "removed" } else { "made" })]
    Half {
        /// The name.
        name: MachineName,
        /// It was being removed; otherwise it was being made.
        removed: bool,
        /// The verb.
        verb: String,
    },
    /// Another process makes, changes or removes it.
    #[error("machine `{name}` is being {} by {holder}", doing.word())]
    Busy {
        /// The name.
        name: MachineName,
        /// The process, as it noted itself: `process 12 (sandbox create)`.
        holder: String,
        /// What it does.
        doing: Doing,
    },
    /// An earlier verb died in the middle, and what it left cannot be ended.
    #[error("an earlier `{verb}` of it is not ended")]
    Unfinished {
        /// The name.
        name: MachineName,
        /// The verb.
        verb: String,
    },
    /// A record cannot be understood.
    #[error("{path} is damaged", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
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
}

impl Cause for Error {
    fn class(&self) -> Class {
        match self {
            Self::Taken { .. } | Self::Foreign { .. } | Self::Missing { .. } | Self::Busy { .. } => {
                Class::Unavailable
            }
            Self::Damaged { .. } | Self::Unfinished { .. } | Self::Half { .. } => Class::State,
            Self::Io { .. } => Class::Host,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Taken { name } => vec![Hint::run("go into it", format!("sandbox shell {name}"))],
            Self::Missing { nearest: Some(nearest), .. } => {
                vec![Hint::Note(format!("did you mean `{nearest}`?"))]
            }
            Self::Missing { .. } => vec![Hint::run("see which there are", "sandbox list")],
            Self::Half { name, .. } => {
                vec![Hint::run("remove what is left of it", format!("sandbox remove {name}"))]
            }
            Self::Unfinished { name, .. } => {
                vec![Hint::run("see why", format!("sandbox repair {name}"))]
            }
            Self::Busy { name, holder, doing: Doing::Making } => {
                let mut hints = vec![Hint::run("wait until it is there", format!("sandbox wait {name}"))];
                if let Some(pid) = pid(holder) {
                    hints
                        .push(Hint::run("or end what makes it, which is then undone", format!("kill {pid}")));
                }
                hints
            }
            Self::Busy { name, doing: Doing::Removing, .. } => {
                vec![Hint::run("see whether it is gone", format!("sandbox status {name}"))]
            }
            Self::Busy { .. } => {
                vec![Hint::Note(
                    "a verb waits for it without --no-wait, as long as --lock-timeout says".into(),
                )]
            }
            _ => Vec::new(),
        }
    }
}

/// Reads the number in a holder's words: 12 of `process 12 (sandbox create)`.
fn pid(holder: &str) -> Option<u32> {
    holder.strip_prefix("process ")?.split(' ').next()?.parse().ok()
}

pub(super) fn failed(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { path, doing, source }
}
