//! The wall around machines: one table of the host's packet filter, where the guest's root cannot reach.
//!
//! A link between guest and host puts every service of the host, and the local network behind it, within
//! the guest's reach. The table lets a machine reach the internet and nothing else: not the host (but for
//! DHCP, DNS and ICMP), no private address and no network that the host is on but for the definition's
//! exceptions, no other machine. What comes
//! from a link of ours that the table does not know is dropped.

mod error;
mod exception;
mod forwarding;
mod neighbour;
mod nft;
mod range;
mod ruleset;
mod stamp;

use sha2::{Digest, Sha256};

pub(super) use self::range::{PRIVATE4, PRIVATE6};
pub use self::{
    error::Error,
    exception::{UPLINK_RESOLVERS, exceptions, nameservers},
    neighbour::on_link,
    range::{Subnet, is_private},
};
use super::{Definition, Network};
use crate::{
    name::MachineName,
    report::{Event, Reporter},
};

/// A machine's own end of its link, on every backend.
pub const GUEST_LINK: &str = "host0";

/// How the host's side of every machine's link begins; networkd serves `ve-*` without further ado.
pub const PREFIX: &str = "ve-sb";

/// Names the host's side of a machine's link, known before the machine starts.
///
/// **Shape**: `ve-sb` and eight hex digits of the name's SHA-256: 13 bytes, the kernel takes 15.
#[must_use]
pub fn interface(name: &MachineName) -> String {
    let digest = Sha256::digest(name.as_str());
    digest.iter().take(4).fold(PREFIX.to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// Tells whether a machine has a link to the host.
#[must_use]
pub const fn has_link(network: Network) -> bool {
    matches!(network, Network::Internet | Network::Open)
}

/// Puts a machine's wall up, in one transaction, before its link exists. May be repeated.
///
/// What leaves a link for the world gets the host's address.
///
/// # Errors
/// Where the host has no packet filter, refuses the rules, or does not forward packets and cannot be made
/// to: then the machine must not start.
pub fn wall_up(definition: &Definition, reporter: &dyn Reporter) -> Result<(), Error> {
    if !has_link(definition.network) {
        return wall_down(&definition.name);
    }
    let rules = ruleset::up(definition, &neighbour::on_link());
    let link = interface(&definition.name);
    // a machine's start waits for this: both are asked at once
    let foreign = std::thread::spawn(nft::foreign_table);
    nft::with_lock(|| {
        if !stamp::stands(&link, &rules, || nft::list().unwrap_or_default()) {
            nft::apply(&rules)?;
            stamp::keep(&link, &rules, &nft::list()?);
        }
        Ok(())
    })?;
    if forwarding::enable()? {
        let text = "turned on IPv4 forwarding on this host (net.ipv4.ip_forward=1)".to_owned();
        reporter.report(Event::Notice { text });
    }
    for text in forwarding::obstacles(&foreign.join().unwrap_or_default()) {
        reporter.report(Event::Warning { text });
    }
    Ok(())
}

/// Tells whether the table is there, so that some machine has a wall.
///
/// # Errors
/// Where the packet filter cannot be asked.
pub fn stands() -> Result<bool, Error> {
    Ok(nft::is_installed() && nft::has_table()?)
}

/// Takes a machine's wall down, and the table with the last one. May be repeated.
///
/// # Errors
/// Where the rules are still there.
pub fn wall_down(name: &MachineName) -> Result<(), Error> {
    nft::with_lock(|| {
        stamp::forget(&interface(name));
        if !stands()? {
            return Ok(());
        }
        nft::apply(&ruleset::down(&interface(name)))?;
        if nft::is_deserted()? { nft::apply(&ruleset::gone()) } else { Ok(()) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_has_a_name_that_the_kernel_and_networkd_take() {
        for name in ["a", "agents", &"x".repeat(63)] {
            let link = interface(&MachineName::new(name).unwrap());
            assert!(link.starts_with("ve-sb") && link.len() == 13, "{link}");
        }
        let [a, b] = ["agents", "agent"].map(|name| interface(&MachineName::new(name).unwrap()));
        assert_ne!(a, b);
    }
}
