//! Where a container of Proxmox VE goes, and how its cluster is reached.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use sandbox_core::{host::api::Fingerprint, machine::proxmox::config::MountPoint};

const HEADING: &str = "Options of Proxmox VE";

/// Options of `--to proxmox` and `--backend proxmox`.
#[derive(Clone, Debug, Args)]
pub struct Node {
    /// Address of the interface, https://HOST:8006 [default: the programs of this host, which is a node]
    #[arg(long, value_name = "URL", help_heading = HEADING)]
    pub api: Option<String>,
    /// File with the API token, USER@REALM!ID=SECRET [default: the systemd credential `proxmox-token`]
    #[arg(long, value_name = "FILE", env = "SANDBOX_PROXMOX_TOKEN_FILE", hide_env_values = true)]
    #[arg(help_heading = HEADING)]
    pub token_file: Option<PathBuf>,
    /// Certificates of the authority that signed the interface's, PEM [default: the system's]
    #[arg(long, value_name = "FILE", requires = "api", help_heading = HEADING)]
    pub api_ca: Option<PathBuf>,
    /// The interface's certificate by its SHA-256, as Proxmox shows it, whoever signed it
    #[arg(long, value_name = "AA:BB:…", requires = "api", conflicts_with = "api_ca", help_heading = HEADING)]
    pub fingerprint: Option<Fingerprint>,
    /// The node, with --api [default: the only one]
    #[arg(long, value_name = "NAME", requires = "api", help_heading = HEADING)]
    pub node: Option<String>,
    /// Storage of the template [default: local]
    #[arg(long, value_name = "STORAGE", help_heading = HEADING)]
    pub storage: Option<String>,
    /// Storage of the container's tree, and its size in GB [default: local-lvm:16]
    #[arg(long, value_name = "STORAGE:GB", help_heading = HEADING)]
    pub rootfs: Option<String>,
    /// A disk of its own for a folder of the container; may be repeated
    #[arg(long, value_name = "PATH=STORAGE:GB", help_heading = HEADING)]
    pub mount_point: Vec<MountPoint>,
    /// The node's bridge [default: vmbr0]
    #[arg(long, value_name = "BRIDGE", help_heading = HEADING)]
    pub bridge: Option<String>,
    /// The container's number [default: the next free one]
    #[arg(long, value_name = "NUMBER", help_heading = HEADING)]
    pub id: Option<u32>,
    /// What the container is made without, where that cannot be had
    #[arg(long, value_enum, value_name = "WHAT,…", value_delimiter = ',', help_heading = HEADING)]
    pub leave_out: Vec<LeaveOut>,
    /// A folder with `etc` and `bin` in the place of the node's own
    #[arg(long, hide = true, conflicts_with = "api", value_name = "FOLDER")]
    pub stand_in: Option<PathBuf>,
}

/// What a container can be made without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LeaveOut {
    /// The kernel's keyring, which Docker wants
    Keyctl,
    /// /dev/fuse
    Fuse,
    /// Devices of the host
    Devices,
}

impl Node {
    /// Tells whether any of it was typed.
    pub fn is_asked_for(&self) -> bool {
        let Self { api, token_file: _, api_ca, fingerprint, node, storage, rootfs, .. } = self;
        let Self { mount_point, bridge, id, leave_out, stand_in, .. } = self;
        let words = [api, node, storage, rootfs, bridge].iter().any(|word| word.is_some());
        let lists = !mount_point.is_empty() || !leave_out.is_empty();
        words || lists || api_ca.is_some() || fingerprint.is_some() || id.is_some() || stand_in.is_some()
    }
}
