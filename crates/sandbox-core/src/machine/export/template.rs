//! A template as Proxmox VE makes containers of: the tree in a tar file with a name of a certain form.
//!
//! Proxmox leaves out `./dev/*` when it unpacks, writes host name, resolver and, for distributions that it knows,
//! `/etc/network/interfaces` or a file of networkd's, and renews machine id and host keys.
//!
//! **Source**: pve-container 9.1, `PVE/LXC/Create.pm`, `PVE/LXC/Setup/Base.pm`; pvesm(1) for names.

use std::{io::Write, path::Path};

use super::{ExportError, os_release, pack::Packer};
use crate::{
    host::{
        foreign::NATIVE,
        root::{Links, Root},
    },
    name::MachineName,
};

/// Where the template has what brings its link up.
const LINK: &str = "etc/systemd/network/80-sandbox-eth0.network";

/// For a link that Proxmox calls `eth0`; systemd's own file knows the name that nspawn gives only.
const LINK_TEXT: &str = "# Written by sandbox when this template was made: the link of a container of Proxmox VE.\n\
    [Match]\nName=eth0\nType=ether\n\n[Network]\nDHCP=yes\nLinkLocalAddressing=ipv6\n";

/// Names a template: `debian-13-agents_20261121_amd64.tar.zst`.
#[must_use]
pub fn name(tree: &Path, machine: &MachineName, now: i64) -> String {
    let word = |key, other: &str| os_release(tree, key).unwrap_or_else(|| other.to_owned());
    let date = jiff::Timestamp::from_second(now).unwrap_or_default().strftime("%Y%m%d");
    // an underscore stands between the parts of a name
    let (id, version) = (word("ID", "linux").replace('_', "-"), word("VERSION_ID", "0").replace('_', "-"));
    format!("{id}-{version}-{machine}_{date}_{NATIVE}.tar.zst")
}

/// Adds what a tree lacks to come up under Proxmox.
pub(super) fn complete<W: Write>(tree: &Path, packer: &mut Packer<'_, W>) -> Result<(), ExportError> {
    let failed = |source| ExportError::Read { path: LINK.into(), source };
    let root = Root::open(tree, Links::InTree).map_err(failed)?;
    let networkd = root.has(Path::new("usr/lib/systemd/systemd-networkd"));
    if networkd && root.kind(Path::new(LINK)).map_err(failed)?.is_none() {
        packer.text(Path::new(LINK), 0, LINK_TEXT)?;
    }
    Ok(())
}
