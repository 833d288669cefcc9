//! What may be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

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
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Build a root file system of a suite
    Bootstrap(Bootstrap),
    /// Print the packages that a build would have, in install order
    Resolve(Resolve),
    /// Build a machine and start it
    Create(Create),
    /// Write down every package with version and digest, check that, compare it
    Lock(Lock),
    /// Start a machine
    Start(Named),
    /// Shut a machine down
    Stop(Stop),
    /// Shut a machine down and start it again
    Restart(Stop),
    /// Remove a machine with all it has
    #[command(visible_alias = "rm")]
    Remove(Remove),
    /// List the machines
    #[command(visible_alias = "ls")]
    List,
    /// Show a machine
    Status(Named),
    /// Give a stopped machine another name
    Rename(Rename),
    /// End what a command that died left: completed or undone
    Repair(Repair),
    /// Show a machine's journal
    Logs(Logs),
    /// Run a command in a machine
    Exec(Exec),
    /// Open a login shell in a machine
    Shell(Shell),
    /// List, remove and prune the built layers that machines are made of
    Layer {
        #[command(subcommand)]
        verb: Layer,
    },
    /// Tell whether what the machine's profiles brought works
    Health(Named),
    /// List, show, check and write profiles
    Profile {
        #[command(subcommand)]
        verb: ProfileVerb,
    },
    /// List images and profiles
    #[command(hide = true)]
    Profiles,
    /// Check what this host can do
    Doctor,
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
    /// What units and supervisors call
    #[command(hide = true)]
    Internal {
        #[command(subcommand)]
        verb: Internal,
    },
}

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
    /// Undo what dead makers left, and what is named.
    Recover { paths: Vec<PathBuf> },
}

/// What a tree is built of.
#[derive(Clone, Debug, Default, Args)]
pub struct Build {
    /// Package set: essential, apt, minbase (= required), buildd, important (= -), standard
    /// [default: minbase, or with a lock what it was made for]
    #[arg(long, value_name = "SET")]
    pub variant: Option<String>,
    /// Packages beside the variant's: NAME, NAME=VERSION, or NAME/SUITE for a suite's version
    #[arg(long, value_name = "PACKAGE,…", value_delimiter = ',')]
    pub include: Vec<String>,
    /// Packages that must not be installed
    #[arg(long, value_name = "PACKAGE,…", value_delimiter = ',')]
    pub exclude: Vec<String>,
    /// Mirror to use; `security=URL` names the mirror of the security archive. May be repeated
    #[arg(long, value_name = "[ARCHIVE=]URL")]
    pub mirror: Vec<String>,
    /// Pockets to use beside `release`, or `none` [default: those of the image file]
    #[arg(long, value_name = "POCKET,…", value_delimiter = ',')]
    pub pocket: Vec<String>,
    /// Components to use [default: those of the image file]
    #[arg(long, value_name = "COMPONENT,…", value_delimiter = ',')]
    pub component: Vec<String>,
    /// Trust this keyring beside the suite's own
    #[arg(long, value_name = "FILE")]
    pub keyring: Vec<PathBuf>,
    /// Trust this keyring instead of the suite's own
    #[arg(long, value_name = "FILE")]
    pub keyring_only: Vec<PathBuf>,
    /// Take packages from the archives of this deb822 file too, each trusted by its Signed-By alone
    #[arg(long, value_name = "FILE.sources")]
    pub extra_source: Vec<PathBuf>,
    /// Debian architecture [default: the host's]
    #[arg(long, value_name = "ARCH")]
    pub arch: Option<String>,
    /// Install recommended packages too
    #[arg(long)]
    pub recommends: bool,
    /// Accept indexes past their Valid-Until date
    #[arg(long)]
    pub ignore_valid_until: bool,
    /// Accept a Release file older than one that was seen before, which may be a replayed one
    #[arg(long)]
    pub allow_older_release: bool,
    /// npm registry for profiles that take something from one
    #[arg(long, value_name = "URL", env = "SANDBOX_NPM_REGISTRY", hide_env_values = true)]
    pub npm_registry: Option<String>,
    /// Python index for profiles that take something from one
    #[arg(long, value_name = "URL", env = "SANDBOX_PYTHON_INDEX", hide_env_values = true)]
    pub python_index: Option<String>,
    /// Ask URL for what is at addresses that begin with PREFIX; digests stay those of the lock. May be repeated
    #[arg(long, value_name = "PREFIX=URL", env = "SANDBOX_VENDOR_MIRROR", hide_env_values = true)]
    #[arg(value_delimiter = ',')]
    pub vendor_mirror: Vec<String>,
    /// Trust the certificate authorities of this PEM file too
    #[arg(long, value_name = "FILE")]
    pub ca: Vec<PathBuf>,
}

/// `sandbox bootstrap`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandbox bootstrap trixie ./tree
  sandbox bootstrap bookworm base.tar.zst --include openssh-server,vim
  sandbox bootstrap --locked=web.lock web.tar")]
pub struct Bootstrap {
    /// Suite: the name of an image, such as trixie; may be left out with --locked
    pub suite: String,
    /// Folder (new or empty), or a file ending in .tar or .tar.zst
    #[arg(required_unless_present = "locked")]
    pub target: Option<PathBuf>,
    #[command(flatten)]
    pub locked: Locked,
    /// Profiles to build in
    #[arg(long, value_name = "PROFILE,…", value_delimiter = ',')]
    pub profile: Vec<String>,
    /// Host name of the tree
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
    #[command(flatten)]
    pub build: Build,
}

/// A lock to build from.
#[derive(Clone, Debug, Args)]
pub struct Locked {
    /// Build exactly the lock [default: sandbox.lock]. What is not given is as the lock was made for; what is
    /// given must be met by it
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = LOCK)]
    pub locked: Option<PathBuf>,
}

/// Where a lock is unless told otherwise.
pub const LOCK: &str = "sandbox.lock";

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

/// `sandbox resolve`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandbox resolve trixie --include docker.io
  sandbox resolve bookworm --include git --recommends --why perl
  sandbox resolve trixie --json | jq '.packages[].size'")]
pub struct Resolve {
    /// Suite: the name of an image, such as trixie
    pub suite: String,
    /// Profiles to build in
    #[arg(long, value_name = "PROFILE,…", value_delimiter = ',')]
    pub profile: Vec<String>,
    /// Print what brings this package in, from the wish down to it
    #[arg(long, value_name = "PACKAGE")]
    pub why: Option<String>,
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

/// `sandbox create`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandbox create agents --release trixie --profile docker,claude,codex
  sandbox create plain --release bookworm --backend direct
  sandbox create agents --locked")]
pub struct Create {
    /// The machine's name: a-z, 0-9 and inner hyphens
    pub name: String,
    /// Suite: the name of an image [default: trixie, or with --locked that of the lock]
    #[arg(long, value_name = "SUITE")]
    pub release: Option<String>,
    #[command(flatten)]
    pub locked: Locked,
    /// Profiles to stack on the image; `base` always is
    #[arg(long, value_name = "PROFILE,…", value_delimiter = ',')]
    pub profile: Vec<String>,
    /// What runs the machine
    #[arg(long, value_enum, default_value_t)]
    pub backend: Backend,
    /// What the machine may reach
    #[arg(long, value_enum, default_value_t)]
    pub network: Network,
    /// Build everything anew: take no layer that is kept, and keep none
    #[arg(long)]
    pub fresh: bool,
    #[command(flatten)]
    pub costs: Costs,
    /// Leave it stopped
    #[arg(long)]
    pub no_start: bool,
    /// Wait until every health check of the profiles is well; exit 1 where one is not
    #[arg(long, conflicts_with = "no_start")]
    pub wait_healthy: bool,
    /// Seconds that the machine may take to boot
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub timeout: u64,
    /// No user namespace and every capability: the guest's root is the host's. For test hosts
    #[arg(long)]
    pub privileged: bool,
    #[command(flatten)]
    pub build: Build,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// The first that this host can run: nspawn, direct
    #[default]
    Auto,
    /// systemd-nspawn under systemd-machined
    Nspawn,
    /// systemd-nspawn under a supervisor of ours
    Direct,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Network {
    /// The internet; not the host, its LAN, or other machines
    #[default]
    Internet,
    /// Whatever the host reaches
    Open,
    /// The host's own network, no wall at all
    Host,
    /// Nothing
    None,
}

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

/// `sandbox exec`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandbox exec agents -- systemctl is-system-running
  sandbox exec agents --user agent --cwd /home/agent -t -- claude
  tar c . | sandbox exec agents -- tar x -C /srv")]
pub struct Exec {
    /// The machine's name
    pub name: String,
    /// Who runs it
    #[arg(long, short, value_name = "USER")]
    pub user: Option<String>,
    /// Environment variable; may be repeated
    #[arg(long, short, value_name = "KEY=VALUE")]
    pub env: Vec<String>,
    /// Working directory
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<String>,
    /// Give it a terminal
    #[arg(long, short)]
    pub terminal: bool,
    /// The command and its arguments
    #[arg(required = true, last = true, value_name = "CMD")]
    pub command: Vec<String>,
}

/// `sandbox shell`.
#[derive(Debug, Args)]
pub struct Shell {
    /// The machine's name
    pub name: String,
    /// Whose shell [default: agent where there is one, else root]
    #[arg(long, short, value_name = "USER")]
    pub user: Option<String>,
}
