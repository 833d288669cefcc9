//! What the kernel does with a link's packets beside the table, and where the table does not see them.
//!
//! A second wall: the table has the same rules about sources. But ARP passes no table of family `inet`: without these
//! settings the host answers for all its addresses on each link, and enters what a machine claims into the one
//! neighbour table of the host.
//!
//! **Source**: `ip-sysctl.rst` of the kernel.

use std::{fs, path::PathBuf};

use super::PREFIX;
use crate::machine::Network;

/// What is set on the host's end of every link.
const SETTINGS: [(&str, &str); 8] = [
    // a source must be reached by the link
    ("ipv4", "rp_filter 1"),
    // only the link's own address is answered for, and used
    ("ipv4", "arp_ignore 1"),
    ("ipv4", "arp_announce 2"),
    ("ipv4", "accept_redirects 0"),
    ("ipv4", "send_redirects 0"),
    ("ipv4", "accept_source_route 0"),
    ("ipv6", "accept_ra 0"),
    ("ipv6", "accept_redirects 0"),
];

/// A walled machine is offered no IPv6, so the host hears none on its link: no neighbour discovery, no multicast.
const WALLED: (&str, &str) = ("ipv6", "disable_ipv6 1");

/// Sets the host's end of a link, which exists. What cannot be set (`/proc/sys` may be read-only) is left to the table;
/// [`unhardened`] finds it.
pub fn harden(link: &str, network: Network) {
    let walled = (network == Network::Internet).then_some(WALLED);
    for (family, setting) in SETTINGS.into_iter().chain(walled) {
        if let Some((path, value)) = file(link, family, setting) {
            let _ = fs::write(path, value);
        }
    }
}

/// Lists the settings of the links of machines that are not as [`harden`] sets them: `net.ipv4.conf.ve-sb….rp_filter`.
#[must_use]
pub fn unhardened() -> Vec<String> {
    let links = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let links = links.filter_map(|entry| entry.file_name().into_string().ok());
    let mut found = Vec::new();
    for link in links.filter(|link| link.starts_with(PREFIX)) {
        for (family, setting) in SETTINGS {
            let Some((path, value)) = file(&link, family, setting) else { continue };
            // a kernel without IPv6 has no such file
            if fs::read_to_string(&path).is_ok_and(|now| now.trim() != value) {
                let name = setting.split(' ').next().unwrap_or_default();
                found.push(format!("net.{family}.conf.{link}.{name}"));
            }
        }
    }
    found
}

fn file(link: &str, family: &str, setting: &'static str) -> Option<(PathBuf, &'static str)> {
    let (name, value) = setting.split_once(' ')?;
    Some((PathBuf::from(format!("/proc/sys/net/{family}/conf/{link}/{name}")), value))
}
