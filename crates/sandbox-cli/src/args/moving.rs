//! `sandbox export`, `sandbox import`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use sandbox_core::machine::chosen::Size;

use super::{
    create::{Backend, Network},
    node::Node,
    profile::Costs,
};

/// `sandbox export`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandbox export agents
  sandbox export agents backup/agents.tar.zst --stop --with-volumes
  sandbox export agents - --live | ssh other sandbox import - agents
  sandbox export agents agents.squashfs
  sandbox export agents ./image --format oci && skopeo inspect oci:./image
  sandbox export agents --format proxmox
  sandbox export agents --to proxmox --rootfs local-lvm:32
  sandbox export agents --to proxmox --api https://pve.lan:8006 --token-file token --fingerprint AA:BB:…

Logins are in no export: volumes that hold them are never read, and a file that looks like one is refused by
name. A file that is there already is not written over.")]
pub struct Export {
    /// The machine's name
    pub name: String,
    /// File, for `oci` a directory; `-` is stdout [default: NAME with the format's ending, or the template's name]
    pub target: Option<PathBuf>,
    /// What is written [default: by the target's ending, else tar.zst]
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// Make a container of it on a node of Proxmox VE
    ///
    /// On this node, or with --api on another: a template in a storage, the container, its wall.
    #[arg(long, value_enum, conflicts_with_all = ["target", "format"])]
    pub to: Option<To>,
    /// Start the container, with --to
    #[arg(long, requires = "to")]
    pub start: bool,
    /// How layers of an OCI image are compressed
    #[arg(long, value_enum, default_value_t)]
    pub compression: Compression,
    /// Take a running machine as it is: as after a crash, and marked so
    #[arg(long)]
    pub live: bool,
    /// Shut a running machine down first, and start it again afterwards
    #[arg(long, conflicts_with = "live")]
    pub stop: bool,
    /// Take volumes along, but for those that hold logins
    #[arg(long)]
    pub with_volumes: bool,
    /// Do not look for logins in files
    #[arg(long)]
    pub allow_credentials: bool,
    #[command(flatten)]
    pub node: Node,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum To {
    /// Proxmox VE, on one of its nodes
    Proxmox,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A tar file of the tree, not compressed
    Tar,
    /// A tar file, compressed with gzip
    #[value(name = "tar.gz")]
    TarGz,
    /// A tar file, compressed with bzip2
    #[value(name = "tar.bz2")]
    TarBz2,
    /// A tar file, compressed with xz
    #[value(name = "tar.xz")]
    TarXz,
    /// A tar file, compressed with Zstandard
    #[value(name = "tar.zst")]
    TarZst,
    /// A squashfs image of the tree
    Squashfs,
    /// An ext2 image of the tree
    Ext2,
    /// An ext4 image of the tree
    Ext4,
    /// A folder with an OCI image
    Oci,
    /// A template of Proxmox VE
    Proxmox,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Compression {
    /// What every program reads
    #[default]
    Gzip,
    /// Faster and smaller; older programs do not read it
    Zstd,
}

/// `sandbox import`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandbox import agents.tar.zst
  sandbox import ./image other
  docker export container | sandbox import - legacy
  debootstrap trixie tree && tar -C tree -c . | sandbox import - fresh

What is taken: what `sandbox export` writes, an OCI image in a folder, tar files of debootstrap and `docker
export`, plain or compressed with gzip, bzip2, xz or Zstandard. There has to be an init in it.")]
pub struct Import {
    /// File, folder of an OCI image, or `-` for stdin
    pub source: PathBuf,
    /// The machine's name [default: that of the exported machine]
    pub name: Option<String>,
    /// What runs the machine
    #[arg(long, value_enum, default_value_t)]
    pub backend: Backend,
    /// What the machine may reach [default: as exported, where that is `internet` or `none`; else `internet`]
    #[arg(long, value_enum)]
    pub network: Option<Network>,
    /// Which image of a folder that has several
    #[arg(long, value_name = "NAME")]
    pub reference: Option<String>,
    /// What becomes of devices outside /dev
    #[arg(long, value_enum, default_value_t)]
    pub devices: Devices,
    /// The most that all files together may have
    #[arg(long, value_name = "SIZE", default_value = "100G")]
    pub max_size: Size,
    #[command(flatten)]
    pub costs: Costs,
    /// Leave it stopped
    #[arg(long)]
    pub no_start: bool,
    /// Seconds that the machine may take to boot
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub timeout: u64,
    #[command(flatten)]
    pub node: Node,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Devices {
    /// Refuse the whole file
    #[default]
    Refuse,
    /// Leave them out
    Skip,
}
