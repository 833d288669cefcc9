//! Verbs of a machine that is there.

use clap::Args;

/// A verb with a machine's name.
#[derive(Debug, Args)]
pub struct Named {
    /// The machine's name
    pub name: String,
}

/// `sandbox stop`, `sandbox restart`.
#[derive(Debug, Args)]
pub struct Stop {
    /// The machine's name
    pub name: String,
    /// Seconds until it is stopped by force
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub timeout: u64,
}

/// `sandbox remove`.
#[derive(Debug, Args)]
pub struct Remove {
    /// The machine's name
    pub name: String,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    /// Leave its volumes, for the next machine of the name
    #[arg(long)]
    pub keep_volumes: bool,
}

/// `sandbox logs`.
#[derive(Debug, Args)]
pub struct Logs {
    /// The machine's name
    pub name: String,
    /// Go on as lines come
    #[arg(long, short)]
    pub follow: bool,
    /// How many of the last lines
    #[arg(long, short = 'n', value_name = "LINES")]
    pub lines: Option<u32>,
}

/// `sandbox rename`.
#[derive(Debug, Args)]
pub struct Rename {
    /// The machine's name
    pub name: String,
    /// Its new name
    pub new: String,
    /// Stop it where it runs, and start it afterwards
    #[arg(long)]
    pub restart: bool,
}

/// `sandbox repair`.
#[derive(Debug, Args)]
pub struct Repair {
    /// The machine's name [default: every machine]
    pub name: Option<String>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
}
