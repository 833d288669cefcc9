//! `sandbox create`.

use clap::{Args, ValueEnum};

use super::{
    build::{Build, Locked},
    node::Node,
    profile::Costs,
    provision::Given,
};

/// `sandbox create`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandbox create agents --release trixie --profile docker,claude,codex
  sandbox create plain --release bookworm --backend direct
  sandbox create --release 24.04 --ephemeral --memory 2G
  sandbox create agents --mount ./project:/home/agent/project --copy ~/.gitconfig:/home/agent/.gitconfig:agent
  sandbox create agents --locked
  sandbox create agents --backend proxmox --api https://pve.lan:8006 --token-file token --rootfs local-zfs:32")]
pub struct Create {
    /// Name: a-z, 0-9 and inner hyphens [default: made up and printed]
    pub name: Option<String>,
    /// Image: trixie, 24.04, debian-13 [default: trixie]
    ///
    /// With --locked the default is the image of the lock.
    #[arg(long, value_name = "IMAGE")]
    pub release: Option<String>,
    #[command(flatten)]
    pub locked: Locked,
    /// Profiles on the image; `base` always is
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
    /// Remove it when it stops
    #[arg(long, alias = "rm", conflicts_with_all = ["no_start", "protect"])]
    pub ephemeral: bool,
    /// Refuse to remove it until `sandbox unprotect`
    #[arg(long)]
    pub protect: bool,
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
    pub given: Given,
    #[command(flatten)]
    pub build: Build,
    #[command(flatten)]
    pub node: Node,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// The first that this host can run: nspawn, lxc, direct
    #[default]
    Auto,
    /// systemd-nspawn under systemd-machined
    Nspawn,
    /// LXC: an unprivileged container that root starts
    Lxc,
    /// systemd-nspawn under a supervisor of ours
    Direct,
    /// A container of Proxmox VE, on this node or with --api elsewhere
    Proxmox,
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

impl From<Network> for sandbox_core::machine::Network {
    fn from(word: Network) -> Self {
        match word {
            Network::Internet => Self::Internet,
            Network::Open => Self::Open,
            Network::Host => Self::Host,
            Network::None => Self::None,
        }
    }
}
