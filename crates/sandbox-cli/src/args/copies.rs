//! Verbs that rename, copy and keep machines.

use clap::{Args, Subcommand};

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

/// `sandbox clone`, `sandbox fork`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandbox fork agents try-it
  sandbox clone agents spare --snapshot before-upgrade

The new machine has the tree and the volumes of kind `home`; it has no login of the other (volumes of kind
`auth` begin anew, as do those of kind `cache`), and a machine-id, SSH host keys and addresses of its own. A
machine that runs stands still while it is copied. `fork` starts the new machine where the other runs; `clone`
leaves it stopped.")]
pub struct Duplicate {
    /// The machine's name
    pub name: String,
    /// The new machine's name
    pub new: String,
    /// Copy this snapshot of it instead of what it is now
    #[arg(long, value_name = "SNAPSHOT")]
    pub snapshot: Option<String>,
    /// Leave the new machine stopped
    #[arg(long)]
    pub no_start: bool,
    /// Seconds that it may take to boot
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub timeout: u64,
}

/// Verbs of `sandbox snapshot`.
#[derive(Debug, Subcommand)]
pub enum Snapshot {
    /// Take a snapshot of a machine, stopped or running
    #[command(visible_alias = "take")]
    Create {
        /// The machine's name
        name: String,
        /// The snapshot's name [default: the time]
        snapshot: Option<String>,
    },
    /// List the snapshots of a machine, or of all
    #[command(visible_alias = "ls")]
    List {
        /// The machine's name [default: every machine]
        name: Option<String>,
    },
    /// Make a stopped machine what a snapshot of it says
    #[command(aliases = ["rollback", "revert"])]
    Restore(Restore),
    /// Remove snapshots
    #[command(visible_alias = "rm", aliases = ["delete", "destroy"])]
    Remove {
        /// The machine's name
        name: String,
        /// The snapshots
        #[arg(required = true, value_name = "SNAPSHOT")]
        snapshots: Vec<String>,
    },
    /// Say what differs between a snapshot and a later one, or what the machine is now; exit 1 where something does
    Diff {
        /// The machine's name
        name: String,
        /// The snapshot [default: the last one]
        before: Option<String>,
        /// A later one [default: what the machine is now]
        after: Option<String>,
    },
    /// Take snapshots by themselves and thin them out, or show when that is done
    Schedule(Schedule),
    /// Take the snapshots that are due, and remove those that are not to be kept
    Run {
        /// Only what is due; there is nothing else yet
        #[arg(long, required = true)]
        due: bool,
    },
}

/// `sandbox snapshot restore`.
#[derive(Debug, Args)]
pub struct Restore {
    /// The machine's name
    pub name: String,
    /// The snapshot
    pub snapshot: String,
    /// Leave the volumes of kind `home` as they are
    #[arg(long)]
    pub keep_volumes: bool,
    /// Stop it where it runs, and start it afterwards
    #[arg(long)]
    pub restart: bool,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// `sandbox snapshot schedule`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandbox snapshot schedule agents --every 1h --keep \"6h, 7d, 4w\"
  sandbox snapshot schedule agents --off
  sandbox snapshot schedule

--keep: numbers with l (last), h, d, w, m, y. `7d` keeps the newest snapshot of each of the last seven days that
have one. Snapshots that were taken by hand are never removed. Where systemd runs, a timer does it; elsewhere
have cron run `sandbox snapshot run --due`.")]
pub struct Schedule {
    /// The machine's name [default: show every machine's]
    pub name: Option<String>,
    /// Time between two snapshots: 30m, 1h, 1d
    #[arg(long, value_name = "TIME", requires_all = ["name", "keep"])]
    pub every: Option<String>,
    /// Which are kept: "6h, 7d, 4w"
    #[arg(long, value_name = "RULES", requires = "every")]
    pub keep: Option<String>,
    /// Take none any more; those that are there stay
    #[arg(long, requires = "name", conflicts_with = "every")]
    pub off: bool,
}
