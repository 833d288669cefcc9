//! Why a machine does not become a container of Proxmox VE, or is not reached as one.

use std::{io, path::PathBuf};

use super::config::Unfit;
use crate::{
    error::{Cause, Class, Hint},
    host::{api::ApiError, runner::RunnerError},
};

/// Why a machine does not become a container of Proxmox VE, or is not reached as one.
#[derive(Debug, thiserror::Error)]
pub enum ProxmoxError {
    /// This is no node.
    #[error("this host is no node of Proxmox VE: there is no /etc/pve")]
    NoNode,
    /// It is nothing that a container can be.
    #[error("{0}")]
    Unfit(#[from] Unfit),
    /// The filter is off.
    #[error("the packet filter of this cluster is off, so that no wall would stand around the container")]
    FilterOff,
    /// The rules that stand are not those that were made.
    #[error("the wall around container {id} is not as it was asked for")]
    Wall {
        /// The container's number.
        id: u32,
    },
    /// A program of Proxmox did not do it.
    #[error("Proxmox did not do it")]
    Program {
        /// What it said.
        source: RunnerError,
    },
    /// A program or the interface said what is not understood.
    #[error("`{command}` said `{said}`, which is not understood")]
    Said {
        /// The program, or the method and path.
        command: String,
        /// What it said.
        said: String,
    },
    /// A file cannot be written.
    #[error("{path} cannot be written", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("{path} cannot be read", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A token's file is none.
    #[error("{path} {what}", path = path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The interface cannot be asked.
    #[error("the interface of Proxmox VE cannot be asked")]
    Api(#[from] ApiError),
    /// It does not take the token.
    #[error("the token of `{owner}` is not taken: it is unknown, expired, or its secret is another")]
    Unknown {
        /// Whose.
        owner: String,
    },
    /// It says no.
    #[error("Proxmox answered {status} to {call}: {said}")]
    Refused {
        /// The method and path.
        call: String,
        /// The HTTP status.
        status: u16,
        /// What it said.
        said: String,
    },
    /// The token may not do what has to be done.
    #[error("the token of `{owner}` may not do all of it: it lacks {lacks}", lacks = lacks.join(", "))]
    Rights {
        /// Whose.
        owner: String,
        /// Privileges, each with its path.
        lacks: Vec<String>,
    },
    /// No token may.
    #[error("no token may ask for {what}: Proxmox leaves that to root@pam, on the node", what = what.join(", "))]
    RootOnly {
        /// Features and devices.
        what: Vec<String>,
        /// The words that leave them out.
        words: Vec<&'static str>,
    },
    /// There is no such storage, or it does not hold such things.
    #[error("node {node} has no storage `{storage}` that holds {what}")]
    Storage {
        /// The node.
        node: String,
        /// The storage.
        storage: String,
        /// `templates`, `trees of containers`.
        what: &'static str,
        /// Those that do.
        others: Vec<String>,
    },
    /// There is no such bridge.
    #[error("node {node} has no bridge `{bridge}`")]
    Bridge {
        /// The node.
        node: String,
        /// The bridge.
        bridge: String,
        /// Those that it has.
        others: Vec<String>,
    },
    /// A node has to be chosen.
    #[error("{why}; nodes: {nodes}", nodes = nodes.join(", "))]
    Node {
        /// Why.
        why: &'static str,
        /// Those that there are.
        nodes: Vec<String>,
    },
    /// The number has a container already.
    #[error("the number {id} is taken")]
    Taken {
        /// The number.
        id: u32,
    },
    /// A task ended with an error.
    #[error("the task `{kind}` ended with `{said}`{log}", log = log.iter().map(|line| format!("\n{line}")).collect::<String>())]
    Task {
        /// What it was: `vzcreate`.
        kind: String,
        /// How it ended.
        said: String,
        /// The last lines of its log.
        log: Vec<String>,
    },
    /// A task did not end in time.
    #[error("the task `{kind}` had not ended after {seconds} s")]
    Slow {
        /// What it was.
        kind: String,
        /// The deadline.
        seconds: u64,
    },
    /// The container of that number is not the machine's.
    #[error("container {id} is none that `sandbox` made for this machine: its description has no `{mark}`")]
    Stranger {
        /// The number.
        id: u32,
        /// What would stand there.
        mark: String,
    },
    /// A template of that name is there.
    #[error("the template {volume} is there already")]
    Template {
        /// Where.
        volume: String,
    },
    /// A container is being made, or whoever made it died.
    #[error("container {id} is locked: it is being made, or was when its maker died")]
    Locked {
        /// The number.
        id: u32,
    },
    /// The machine's container is not there.
    #[error("container {id} is not there any more")]
    Gone {
        /// The number.
        id: u32,
    },
    /// The record does not say where it is.
    #[error("its record does not say which container it is")]
    Nowhere,
    /// Proxmox has no way to do it.
    #[error("`{verb}` is not to be had for a machine on Proxmox VE: {why}")]
    Not {
        /// The verb.
        verb: String,
        /// Why.
        why: &'static str,
        /// What does it instead.
        instead: Option<Hint>,
    },
}

impl Cause for ProxmoxError {
    fn class(&self) -> Class {
        match self {
            Self::Unfit(_)
            | Self::Storage { .. }
            | Self::Bridge { .. }
            | Self::Taken { .. }
            | Self::Template { .. }
            | Self::Locked { .. }
            | Self::Gone { .. }
            | Self::Stranger { .. }
            | Self::Not { .. } => Class::Unavailable,
            Self::Node { .. } => Class::Usage,
            Self::Token { .. } | Self::Read { .. } => Class::File,
            Self::Nowhere => Class::State,
            Self::Slow { .. } => Class::Unreachable,
            Self::Api(problem) => problem.class(),
            _ => Class::Host,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::NoNode => vec![
                Hint::run(
                    "go through the interface",
                    "sandbox export NAME --to proxmox --api https://NODE:8006 --token-file FILE",
                ),
                Hint::run("write a template, and upload that", "sandbox export NAME --format proxmox"),
            ],
            Self::FilterOff => vec![
                Hint::Note("Datacenter, Firewall, Options, Firewall: Yes".to_owned()),
                Hint::Note("or make the machine with --network open: it reaches whatever the node does".to_owned()),
            ],
            Self::Api(problem) => problem.hints(),
            Self::RootOnly { words, .. } => vec![
                Hint::Note("on the node itself the same command without --api has them all".to_owned()),
                Hint::Note(format!("have it without them:  --leave-out {}", words.join(","))),
            ],
            Self::Storage { others, .. } | Self::Bridge { others, .. } if !others.is_empty() => {
                vec![Hint::Note(format!("it has: {}", others.join(", ")))]
            }
            Self::Token { path, .. } => {
                vec![Hint::run("have it read by nobody else", format!("chmod 600 {}", path.display()))]
            }
            Self::Rights { .. } => vec![Hint::Note(
                "Datacenter, Permissions, Add, API Token Permission; a token with privilege separation has its own"
                    .to_owned(),
            )],
            Self::Locked { id } => vec![Hint::run(
                "where nobody makes it, remove it on the node",
                format!("pct unlock {id} && pct destroy {id}"),
            )],
            Self::Not { instead, .. } => instead.iter().cloned().collect(),
            _ => Vec::new(),
        }
    }
}
