//! Verbs that only our own units and processes call.

use std::path::PathBuf;

use clap::Subcommand;

/// Verbs that only our own units and processes call.
#[derive(Debug, Subcommand)]
pub enum Internal {
    /// Supervise a machine of the backend `direct`.
    Supervise { name: String },
    /// Put a machine's walls up.
    WallUp { name: String },
    /// Give a machine what nested containers need.
    Nesting { name: String },
    /// Let a machine go on that stands still, once this process's input ends.
    Thaw { cgroup: PathBuf },
    /// Make a tree of a layer ahead, for the next machine.
    Spare { layer: String },
    /// Undo what dead makers left, and what is named.
    Recover { paths: Vec<PathBuf> },
}
