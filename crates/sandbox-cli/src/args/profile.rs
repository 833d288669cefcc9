//! `sandbox profile`, and what profiles cost.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Verbs of `sandbox profile`.
#[derive(Debug, Subcommand)]
pub enum ProfileVerb {
    /// List images and profiles
    List,
    /// Show every value of profiles with the file and line that it comes from
    Show(Show),
    /// Tell everything that is wrong with files or folders of profiles; exit 3 where there is something
    Check {
        /// Files, and folders of files [default: ./profiles]
        paths: Vec<PathBuf>,
    },
    /// Write a profile to begin with
    New(New),
    /// Print the JSON schema of images and profiles
    Schema {
        /// Print the reference of all keys instead
        #[arg(long, hide = true)]
        reference: bool,
    },
}

/// `sandbox profile show`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandbox profile show docker
  sandbox profile show --resolved docker,claude --release bookworm

A line that begins with `-` does not count; what counts instead, or what took it back, stands behind it.")]
pub struct Show {
    /// Profiles: names, or paths of files
    #[arg(required = true, value_name = "PROFILE", value_delimiter = ',')]
    pub names: Vec<String>,
    /// Show what they make together with all that they require, as `create` would stack them
    #[arg(long)]
    pub resolved: bool,
    /// The image at the bottom; implies --resolved [default: trixie]
    #[arg(long, value_name = "SUITE")]
    pub release: Option<String>,
}

/// `sandbox profile new`.
#[derive(Debug, Args)]
pub struct New {
    /// Its name
    pub name: String,
    /// The folder for it
    #[arg(long = "in", value_name = "FOLDER", default_value = "profiles")]
    pub folder: PathBuf,
}

/// What profiles cost.
#[derive(Clone, Debug, Args)]
pub struct Costs {
    /// Accept what the profiles cost in isolation, unasked
    #[arg(long, env = "SANDBOX_ACCEPT_COSTS", hide_env_values = true)]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    pub accept_costs: bool,
}
