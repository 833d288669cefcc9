//! Verbs that only our own units and processes call.

use std::{ffi::OsString, path::PathBuf};

use clap::Subcommand;

/// Verbs that only our own units and processes call.
#[derive(Debug, Subcommand)]
pub enum Internal {
    /// Supervise a machine of the backend `direct`.
    Supervise { name: String },
    /// Put a machine's walls up.
    WallUp { name: String },
    /// Keep the walls of all machines of the host as they are, until the last is gone.
    KeepWalls,
    /// Forward what a machine asks for names on its link to the host's resolver, until the link is gone.
    ForwardNames { link: String, index: u32 },
    /// Give a container of LXC's its addresses, and write down its first process.
    LxcStarted { name: String, leader: i32 },
    /// Give a machine of machined, once it has begun, what nested containers need, and its link a carrier.
    Started { name: String, main: Option<i32> },
    /// See what is to become of a container of LXC's that has ended: `stop` or `reboot`.
    LxcEnded { name: String, target: String },
    /// Start a container of LXC's anew whose guest rebooted.
    LxcAgain { name: String },
    /// Let a machine go on that stands still, once this process's input ends.
    Thaw { cgroup: PathBuf },
    /// Make a tree of a layer ahead, for the next machine.
    Spare { layer: String },
    /// Pack or unpack files as one of a machine's processes.
    Carry { leader: i32, began: u64, errand: String },
    /// Wait, where the host itself is on its way up.
    Delay { seconds: u64 },
    /// Remove an ephemeral machine that has stopped.
    Reap { name: String },
    /// End what a verb began with a machine and died.
    RecoverMachine { name: String },
    /// Take a machine's snapshot where one is due, and remove those that are not to be kept.
    Snapshot { name: String },
    /// Run a command below the filter on a machine's system calls.
    Confined {
        /// A system call that a profile allows by name.
        #[arg(long)]
        allow: Vec<String>,
        /// Its processes leave no core dumps.
        #[arg(long)]
        no_core_dumps: bool,
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Read the journal of a guest whose root directory is the input.
    Journal {
        /// Go on as lines come.
        #[arg(long)]
        follow: bool,
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// Undo what dead makers left, and what is named.
    Recover {
        /// The signal that ended the maker, whose exit code this is to have.
        #[arg(long, default_value_t = libc::SIGINT)]
        signal: i32,
        paths: Vec<PathBuf>,
    },
}
