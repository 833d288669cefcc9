//! `sandbox layer`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Verbs of `sandbox layer`.
#[derive(Debug, Subcommand)]
pub enum Layer {
    /// List the layers, each below what it stands on, with who needs it
    #[command(visible_alias = "ls")]
    List,
    /// Remove layers that no machine, lock or layer needs
    #[command(visible_alias = "rm")]
    Remove {
        /// Layers: the first digits of an id (at least four), or the name of an image or profile
        #[arg(required = true, value_name = "LAYER")]
        layers: Vec<String>,
        #[command(flatten)]
        keep: KeepLocks,
    },
    /// Remove every layer that no machine, lock or build needs
    Prune {
        /// Only those that were built longer ago than this: 12h, 7d, 4w
        #[arg(long, value_name = "TIME")]
        older_than: Option<String>,
        /// Say what would be removed, and remove nothing
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        keep: KeepLocks,
    },
}

/// Locks whose layers stay.
#[derive(Clone, Debug, Args)]
pub struct KeepLocks {
    /// Keep what this lock needs too; locks that machines were created from are known
    #[arg(long, value_name = "FILE")]
    pub keep_lock: Vec<PathBuf>,
}
