//! What the walls of machines need of the host, and whether they are up.

use std::{fs, path::Path};

use sandbox_core::machine::{
    network::{self, Wall},
    record::Records,
};

use super::{Finding, Verdict, finding, with};
use crate::settings::Settings;

const REPAIR: &str = "sandbox repair";

/// Finds out whether the wall of each machine that has a link is what was put up.
pub(super) fn walls(settings: &Settings) -> Finding {
    let records = Records::new(&settings.state).list().unwrap_or_default();
    let names = records.into_iter().map(|record| record.definition).filter(|definition| {
        let link = Path::new("/sys/class/net").join(network::interface(&definition.name));
        definition.place.is_none() && network::has_link(definition.network) && link.exists()
    });
    let names: Vec<_> = names.map(|definition| definition.name).collect();
    if names.is_empty() {
        return finding("walls", Verdict::Good, "no machine has a link");
    }
    let Ok(walls) = network::walls(&names) else {
        return finding("walls", Verdict::Lacking, "they cannot be read: root may");
    };
    let of = |which: Wall| {
        let found = walls.iter().filter(|(_, wall)| **wall == which).map(|(name, _)| format!("`{name}`"));
        found.collect::<Vec<_>>().join(", ")
    };
    let (missing, altered) = (of(Wall::Missing), of(Wall::Altered));
    if !missing.is_empty() {
        let text = format!("missing, so that they may reach the host, the LAN and other machines: {missing}");
        return with(finding("walls", Verdict::Bad, text), REPAIR);
    }
    if !altered.is_empty() {
        let text = format!("another program has changed the table `inet sandbox`: {altered}");
        return with(finding("walls", Verdict::Bad, text), REPAIR);
    }
    if !network::is_kept() {
        let text = "up, but no process keeps them so: a flush of the packet filter would take them down";
        return with(finding("walls", Verdict::Bad, text), REPAIR);
    }
    finding("walls", Verdict::Good, format!("up and kept, of {} machines", walls.len()))
}

/// Finds out whether the kernel treats the host's ends of links as a start sets them.
pub(super) fn links() -> Finding {
    let found = network::unhardened();
    if found.is_empty() {
        return finding("links", Verdict::Good, "sources and ARP are checked on each");
    }
    let text = format!("not as a machine's start sets them: {}", found.join(", "));
    finding("links", Verdict::Lacking, text)
}

/// Finds out whether other firewalls of the host drop what machines send.
pub(super) fn firewalls() -> Vec<Finding> {
    let found = network::obstacles(&network::Names::of_host());
    if found.is_empty() {
        return vec![finding("other firewalls", Verdict::Good, "none drops what machines send")];
    }
    let one = |obstacle: network::Obstacle| {
        with(finding("other firewalls", Verdict::Bad, obstacle.text), obstacle.cure)
    };
    found.into_iter().map(one).collect()
}

/// Finds out whether machines have a resolver.
pub(super) fn names() -> Finding {
    let names = network::Names::of_host();
    let verdict = if names == network::Names::Missing { Verdict::Bad } else { Verdict::Good };
    finding("names", verdict, names.sentence())
}

/// How many neighbours the host should have room for: a machine's root may enter as many as it likes, into the one table
/// that the kernel has for all network namespaces.
const NEIGHBOURS: u32 = 32_768;

const RAISE: &str = "sysctl -w net.ipv4.neigh.default.gc_thresh1=8192 net.ipv4.neigh.default.gc_thresh2=32768 \
    net.ipv4.neigh.default.gc_thresh3=65536 net.ipv6.neigh.default.gc_thresh1=8192 \
    net.ipv6.neigh.default.gc_thresh2=32768 net.ipv6.neigh.default.gc_thresh3=65536";

/// Finds out whether a machine could fill the host's neighbour table.
///
/// **Source**: arp(7), `gc_thresh3`.
pub(super) fn neighbours() -> Finding {
    let most = |family: &str| {
        let path = format!("/proc/sys/net/{family}/neigh/default/gc_thresh3");
        fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u32>().ok())
    };
    let least = ["ipv4", "ipv6"].into_iter().filter_map(most).min();
    match least {
        None => {
            finding("neighbours", Verdict::Good, "the table's size is set outside of this network namespace")
        }
        Some(least) if least >= NEIGHBOURS => {
            finding("neighbours", Verdict::Good, format!("room for {least}"))
        }
        Some(least) => with(
            finding(
                "neighbours",
                Verdict::Lacking,
                format!("room for {least}: a machine can fill the table, which takes ARP from the host"),
            ),
            RAISE,
        ),
    }
}
