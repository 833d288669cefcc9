//! Verbs of a machine that is there.

use std::{path::PathBuf, str::FromStr};

use clap::{Args, ValueEnum};
use sandbox_core::machine::{
    chosen::{Cpus, Size, Weight},
    signal::Signal,
};

use super::names::Names;

/// A verb with a machine's name.
#[derive(Debug, Args)]
pub struct Named {
    /// The machine's name
    pub name: String,
}

/// `sandbox stop`, `sandbox restart`.
#[derive(Clone, Debug, Args)]
#[command(mut_arg("all", |all| all.help("Every machine that runs")))]
pub struct Stop {
    #[command(flatten)]
    pub names: Names,
    /// Seconds until it is stopped by force
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub timeout: u64,
}

/// `sandbox remove`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  sandbox remove try-it
  sandbox remove one two --yes
  sandbox remove --all --keep-volumes

It is asked once, for all of them. A protected machine is left alone (`sandbox unprotect`).")]
pub struct Remove {
    #[command(flatten)]
    pub names: Names,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    /// Leave its volumes, for the next machine of the name
    #[arg(long)]
    pub keep_volumes: bool,
}

/// `sandbox logs`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandbox logs agents -f
  sandbox logs agents --unit docker --priority err --since -1h
  sandbox logs agents --outside              why it does not start

A machine that is stopped keeps its journal, which is read from its tree.")]
pub struct Logs {
    /// The machine's name
    pub name: String,
    /// Go on as lines come
    #[arg(long, short)]
    pub follow: bool,
    /// How many of the last lines
    #[arg(long, short = 'n', value_name = "LINES")]
    pub lines: Option<u32>,
    /// Show what the host says of it: its unit's journal, or its supervisor's and its console's log
    #[arg(long)]
    pub outside: bool,
    /// Lines of this unit alone; may be repeated
    #[arg(long, short = 'u', value_name = "UNIT")]
    pub unit: Vec<String>,
    /// Lines of this priority and more urgent ones: err, warning, 3
    #[arg(long, short = 'p', value_name = "PRIORITY")]
    pub priority: Option<String>,
    /// Lines from then on: today, -1h, 2026-01-31 12:00
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub since: Option<String>,
    /// Lines of its last boot alone
    #[arg(long, short = 'b')]
    pub boot: bool,
}

/// `sandbox start`.
#[derive(Clone, Debug, Args)]
#[command(mut_arg("all", |all| all.help("Every machine that starts with the host and does not run, in order, with the delays")))]
#[command(after_help = "\
Examples:
  sandbox start agents
  sandbox start one two three
  sandbox start --all                what a host without systemd calls when it boots")]
pub struct Start {
    #[command(flatten)]
    pub names: Names,
}

/// `sandbox kill`.
#[derive(Clone, Debug, Args)]
#[command(mut_arg("all", |all| all.help("Every machine that runs")))]
#[command(after_help = "\
Examples:
  sandbox kill agents                          SIGTERM to its first process: systemd starts itself anew
  sandbox kill agents --signal SIGRTMIN+4      an orderly power-off, not waited for
  sandbox kill agents --signal KILL --whom all")]
pub struct Kill {
    #[command(flatten)]
    pub names: Names,
    /// The signal, by name or number
    #[arg(long, short, value_name = "SIGNAL", default_value = "TERM")]
    pub signal: Signal,
    /// Who gets it
    #[arg(long, value_enum, default_value_t)]
    pub whom: Whom,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Whom {
    /// The machine's first process
    #[default]
    Leader,
    /// Every process of the machine
    All,
}

/// `sandbox copy`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandbox copy agents:/etc/os-release .
  sandbox copy ./project agents:/home/agent/ --owner agent
  sandbox copy agents:/var/log - | tar t
  date | sandbox copy - agents:/root/when
  tar c . | sandbox copy - agents:/srv/

A file or folder is copied into a target that is a folder, else it becomes the target. Owners keep their numbers,
those that the machine sees; one from 65536 on becomes the owner of the target directory. What is copied out of a machine has no set-id bits, and nothing is a device. What is
mounted in a tree is left out. `-` is a stream: a file's bytes, or of a folder a tar.")]
pub struct Copy {
    /// What: MACHINE:/PATH, a path of the host, or `-`
    pub from: String,
    /// Where: MACHINE:/PATH, a path of the host, or `-`
    pub to: String,
    /// Who is to own all of it on the side it comes to: USER, UID, USER:GROUP [default: as it was]
    #[arg(long, value_name = "OWNER")]
    pub owner: Option<String>,
}

/// `sandbox wait`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandbox wait agents --for healthy --timeout 120
  sandbox wait agents --for port:8080

Exits 0 once it is so, 1 where it is not after the time.")]
pub struct Wait {
    /// The machine's name
    pub name: String,
    /// What for
    #[arg(long = "for", value_name = "running|stopped|healthy|port:N", default_value = "running")]
    pub until: Until,
    /// Seconds to wait at most [default: for ever]
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
}

/// What a machine is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Its systemd has booted.
    Running,
    /// It does not run.
    Stopped,
    /// Every check of its profiles is well.
    Healthy,
    /// Something listens on a TCP port.
    Port(u16),
}

impl FromStr for Until {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "running" => Ok(Self::Running),
            "stopped" => Ok(Self::Stopped),
            "healthy" => Ok(Self::Healthy),
            _ => {
                let port = text.strip_prefix("port:").and_then(|port| port.parse().ok());
                let port = port.filter(|port| *port > 0).map(Self::Port);
                port.ok_or_else(|| "one of running, stopped, healthy, port:1 to port:65535".to_owned())
            }
        }
    }
}

/// A value, or `none` to take it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrNone<T>(pub Option<T>);

impl<T: FromStr> FromStr for OrNone<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        if text == "none" { Ok(Self(None)) } else { text.parse().map(|value| Self(Some(value))) }
    }
}

/// What a machine may use at most, as `create` and `set` are told.
#[derive(Clone, Debug, Default, Args)]
pub struct Limited {
    /// Processors it may use: 2, 0.5, or none
    #[arg(long, value_name = "NUMBER")]
    pub cpus: Option<OrNone<Cpus>>,
    /// Memory it may use: 512M, 4G, or none
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<OrNone<Size>>,
    /// Processes and threads it may have, or none
    #[arg(long, value_name = "NUMBER")]
    pub tasks: Option<OrNone<u64>>,
    /// Bytes that its tree may take, where the file system can limit them, or none
    #[arg(long, value_name = "SIZE")]
    pub disk: Option<OrNone<Size>>,
}

/// `sandbox set`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandbox set agents --cpus 1.5 --memory 4G --tasks 2000
  sandbox set agents --memory none
  sandbox set agents --env HTTP_PROXY=http://proxy:3128 --unset-env OLD
  sandbox set agents --autostart yes --start-order 10 --start-delay 5 --restart on-failure
  sandbox set agents                          shows what is set

Limits, variables (for what is run from then on) and restarts count at once.")]
pub struct Set {
    /// The machine's name
    pub name: String,
    #[command(flatten)]
    pub limits: Limited,
    /// Its share of the processors where others want them too: 1 to 10000, or none for the usual 100
    #[arg(long, value_name = "NUMBER")]
    pub cpu_weight: Option<OrNone<Weight>>,
    /// Whether a process that crashes leaves a copy of its memory; counts from the next start on
    #[arg(long, value_enum, value_name = "yes|no")]
    pub core_dumps: Option<YesNo>,
    /// Variable for everybody in it; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub env: Vec<String>,
    /// Take a variable back; may be repeated
    #[arg(long, value_name = "KEY")]
    pub unset_env: Vec<String>,
    /// Whether it starts with the host
    #[arg(long, value_enum, value_name = "yes|no")]
    pub autostart: Option<YesNo>,
    /// Its place among those that start with the host: lower ones first
    #[arg(long, value_name = "NUMBER")]
    pub start_order: Option<u32>,
    /// Seconds that pass before it is started with the host
    #[arg(long, value_name = "SECONDS")]
    pub start_delay: Option<u32>,
    /// Whether it is removed when it stops
    #[arg(long, value_enum, value_name = "yes|no")]
    pub ephemeral: Option<YesNo>,
    /// What happens when it ends by itself
    #[arg(long, value_enum)]
    pub restart: Option<Restart>,
    /// Write limits down that this host cannot enforce
    #[arg(long)]
    pub unenforced: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum YesNo {
    Yes,
    No,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Restart {
    /// It stays stopped
    No,
    /// It starts again unless it shut down cleanly
    OnFailure,
    /// It starts again
    Always,
}

/// `sandbox mount`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandbox mount agents ~/project /home/agent/project
  sandbox mount agents /srv/data /data --read-only --permanent

  sandbox mount agents /srv/www /var/www --owner www-data
  sandbox mount agents /srv/backup /backup --same-ids

The directory's owner on the host is the user `agent` in the machine, or root where there is no such user or the
directory is root's. What every other user of the machine makes there, root included, belongs on disk to an id that
no user of the host has. Files of other users of the host are shown as nobody's.

With --same-ids all users have the same numbers on both sides: the machine's root writes as the host's root, and can
leave set-id programs of root there.

A permanent mount is of this very directory: where another one has its path at a start, the machine does not start.
A directory that a machine could replace, since one above it is mounted writable, is refused.")]
pub struct Mount {
    /// The machine's name
    pub name: String,
    /// The directory of the host
    pub source: PathBuf,
    /// Where the machine has it; the directory is made
    pub path: PathBuf,
    /// The machine can only read it
    #[arg(long, visible_alias = "ro")]
    pub read_only: bool,
    /// Let the machine write to its .git too: git on the host runs hooks and settings from there
    #[arg(long, conflicts_with = "read_only")]
    pub writable_git: bool,
    /// Mount it again at each start
    #[arg(long)]
    pub permanent: bool,
    /// The machine's user that is the directory's owner [default: agent, else root]
    #[arg(long, value_name = "USER")]
    pub owner: Option<String>,
    /// Use the same user and group numbers on both sides
    #[arg(long, conflicts_with = "owner")]
    pub same_ids: bool,
}

/// `sandbox unmount`.
#[derive(Debug, Args)]
pub struct Unmount {
    /// The machine's name
    pub name: String,
    /// Where the machine has it
    pub path: PathBuf,
}

/// `sandbox top`.
#[derive(Debug, Args)]
#[command(after_help = "\
On a terminal it goes on until `q` or Ctrl-C. Where the host's cgroups have no controller for memory or tasks, what its
processes have is summed up.")]
pub struct Top {
    /// Machines [default: all that run]
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Show it once
    #[arg(long)]
    pub once: bool,
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    pub interval: f64,
}

/// `sandbox move`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandbox move agents --to lxc
  sandbox move agents --to nspawn --restart")]
pub struct Move {
    /// The machine's name
    pub name: String,
    /// What shall run it
    #[arg(long, value_enum, value_name = "BACKEND")]
    pub to: Place,
    /// Stop it first where it runs, and start it there
    #[arg(long)]
    pub restart: bool,
}

/// Where a machine of this host can go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Place {
    /// systemd-nspawn under systemd-machined
    Nspawn,
    /// LXC: an unprivileged container that root starts
    Lxc,
    /// systemd-nspawn under a supervisor of ours
    Direct,
    /// Not to be had: `sandbox export --to proxmox` makes a container of a machine
    Proxmox,
}
