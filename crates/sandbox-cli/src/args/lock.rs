//! `sandbox lock`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::build::{Build, LOCK};

/// `sandbox lock`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  sandbox lock trixie --profile docker --include ripgrep
  sandbox lock                              the same anew, with the versions of today
  sandbox lock --check trixie --profile docker,claude
  sandbox lock diff old.lock sandbox.lock

Without a suite, what is not given is as the lock there is was made for. --check asks nobody; it ends with 0
where the lock still does and with 1 where it does not, one line for each wish. diff ends with 0 where both
are the same and with 1 where they differ."
)]
pub struct Lock {
    #[command(subcommand)]
    pub verb: Option<LockVerb>,
    /// Suite: the name of an image [default: that of the lock there is]
    pub suite: Option<String>,
    /// Profiles to build in; `sandbox create` always has `base`
    #[arg(long, value_name = "PROFILE,…", value_delimiter = ',')]
    pub profile: Vec<String>,
    /// Where to write the lock
    #[arg(long, short, value_name = "FILE", default_value = LOCK)]
    pub output: PathBuf,
    /// Write nothing: say without a network whether a lock meets what is asked for [default: sandbox.lock]
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = LOCK)]
    #[arg(conflicts_with = "output")]
    pub check: Option<PathBuf>,
    #[command(flatten)]
    pub build: Build,
}

/// Verbs of `sandbox lock`.
#[derive(Debug, Subcommand)]
pub enum LockVerb {
    /// Say what differs between two locks, and which versions went up or down
    Diff {
        /// The earlier lock
        before: PathBuf,
        /// The later lock
        #[arg(default_value = LOCK)]
        after: PathBuf,
    },
}
