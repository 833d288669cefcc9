//! What may be typed, a file for each group of verbs.

mod build;
mod copies;
mod create;
mod internal;
mod layer;
mod list;
mod lock;
mod machine;
mod moving;
mod names;
mod node;
mod profile;
mod provision;
mod secret;
mod session;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use self::{
    build::{Bootstrap, Build, Resolve},
    copies::{Duplicate, Rename, Repair, Restore, Schedule, Snapshot},
    create::{Backend, Create},
    internal::Internal,
    layer::Layer,
    list::{List, ListColumn, ListFormat},
    lock::{Lock, LockVerb},
    machine::{
        Copy, Kill, Limited, Logs, Mount, Move, Named, Place, Remove, Restart, Set, Start, Stop, Top,
        Unmount, Until, Wait, Whom, YesNo,
    },
    moving::{Compression, Devices, Export, Format, Import, To},
    names::{Names, Running, Several},
    node::{LeaveOut, Node},
    profile::{Costs, New, ProfileVerb, Show},
    provision::Given,
    secret::Secret,
    session::{Console, Exec, Shell},
};

/// Builds machines for coding agents from a distribution's archive, and runs them.
#[derive(Debug, Parser)]
#[command(
    name = "sandbox",
    version,
    propagate_version = true,
    max_term_width = 100,
    arg_required_else_help = true
)]
#[command(after_help = EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  sandbox create agents --release trixie --profile docker,claude,codex
  sandbox shell agents
  sandbox exec agents --user agent -- claude --version
  sandbox bootstrap bookworm ./tree
  sandbox lock trixie --profile docker && sandbox create agents --locked
  sandbox doctor

Exit codes: 0 well; 1 cannot be had, or name taken; 2 usage; 3 a file is wrong; 4 untrusted;
5 unreachable; 6 the host lacks something; 7 own state damaged; 70 a bug. `exec` and `shell` give the
payload's own status, 125 for our failures, 126 not executable, 127 not found, 128+n by signal.";

/// Options of every verb.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Where fetched packages are kept
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "SANDBOX_CACHE_DIR",
        default_value = "/var/cache/sandbox"
    )]
    #[arg(hide_env_values = true, help_heading = "Global options")]
    pub cache_dir: PathBuf,
    /// Where machines are kept
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "SANDBOX_STATE_DIR",
        default_value = "/var/lib/sandbox"
    )]
    #[arg(hide_env_values = true, help_heading = "Global options")]
    pub state_dir: PathBuf,
    /// Show errors and warnings only
    #[arg(long, short, global = true, help_heading = "Global options")]
    pub quiet: bool,
    /// Show results and events as JSON
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// Show at the end where the time went, by phase
    #[arg(long, global = true, help_heading = "Global options")]
    pub timings: bool,
    /// Seconds to wait for another command that holds the machine
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 300)]
    #[arg(help_heading = "Global options")]
    pub lock_timeout: u64,
    /// Fail at once where another command holds the machine
    #[arg(long, global = true, conflicts_with = "lock_timeout", help_heading = "Global options")]
    pub no_wait: bool,
    /// Make a machine that somebody else made one of ours, before it is changed
    #[arg(long, global = true, help_heading = "Global options")]
    pub adopt: bool,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Build a root file system of a suite
    Bootstrap(Bootstrap),
    /// Print the packages that a build would have, in install order
    Resolve(Resolve),
    /// Build a machine and start it
    #[command(aliases = ["launch", "new"])]
    Create(Box<Create>),
    /// Write down every package with version and digest, check that, compare it
    Lock(Lock),
    /// Start machines
    Start(Start),
    /// Shut machines down
    Stop(Stop),
    /// Shut machines down and start them again
    Restart(Stop),
    /// Send a signal to the processes of machines
    Kill(Kill),
    /// Wait until a machine is in a state
    Wait(Wait),
    /// Show or change limits, variables, restarts and the start with the host
    Set(Set),
    /// Set, list and remove secrets of a machine, as systemd credentials
    Secret {
        #[command(subcommand)]
        verb: Secret,
    },
    /// Start machines at boot
    Enable(Several),
    /// Do not start machines at boot
    Disable(Several),
    /// Refuse to remove machines, and to restore a snapshot of them
    Protect(Several),
    /// Allow again what `protect` refuses
    Unprotect(Several),
    /// Mount a folder of the host in a machine
    Mount(Mount),
    /// Take a folder of the host out of a machine
    #[command(visible_alias = "umount")]
    Unmount(Unmount),
    /// Copy files and trees between a machine and the host
    #[command(visible_alias = "cp")]
    Copy(Copy),
    /// Remove machines with all they have
    #[command(visible_alias = "rm", aliases = ["delete", "destroy", "del"])]
    Remove(Remove),
    /// List the machines
    #[command(visible_alias = "ls", alias = "ps")]
    List(List),
    /// Show a machine
    #[command(aliases = ["info", "show", "inspect"])]
    Status(Named),
    /// Give a stopped machine another backend: same tree, same name, same volumes
    Move(Move),
    /// Give a stopped machine another name
    Rename(Rename),
    /// Make another machine of a machine
    Clone(Duplicate),
    /// Make another machine of one as it is now, running or not, and start it
    Fork(Duplicate),
    /// Take, list, restore, compare and remove snapshots of machines
    Snapshot {
        #[command(subcommand)]
        verb: Snapshot,
    },
    /// Finish or roll back interrupted operations, and put missing walls up
    Repair(Repair),
    /// Show what machines use: processors, memory, tasks, disks, network
    Top(Top),
    /// Show a machine's journal, or what its host says of it
    Logs(Logs),
    /// Attach to a machine's console
    Console(Console),
    /// Run a command in a machine
    Exec(Exec),
    /// Open a login shell in a machine
    #[command(aliases = ["enter", "login"])]
    Shell(Shell),
    /// Write a machine into a file: its tree, and what is needed to make it again
    Export(Export),
    /// Make a machine of a file: exported, an OCI image, a tree in a tar file
    Import(Import),
    /// List, remove and prune the built layers that machines are made of
    Layer {
        #[command(subcommand)]
        verb: Layer,
    },
    /// Run the health checks of machines' profiles
    Health(Running),
    /// List, show, check and write profiles
    Profile {
        #[command(subcommand)]
        verb: ProfileVerb,
    },
    /// List images and profiles
    #[command(hide = true, alias = "images")]
    Profiles,
    /// Check what this host can do
    Doctor,
    /// Print the completion script of a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write those of every verb
    Man {
        /// Write a page for each verb into this folder
        #[arg(long, value_name = "FOLDER")]
        dir: Option<PathBuf>,
    },
    /// What units and supervisors call
    #[command(hide = true)]
    Internal {
        #[command(subcommand)]
        verb: Internal,
    },
}
