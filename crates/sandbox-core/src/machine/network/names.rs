//! Which resolvers of the host a machine can ask.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
};

use super::{
    PREFIX,
    exception::{UPLINK_RESOLVERS, nameservers},
};

/// The sockets that take datagrams, of IPv4 and of both.
const SOCKETS: [&str; 2] = ["/proc/net/udp", "/proc/net/udp6"];

/// What is said where machines have no resolver.
pub(super) const NO_NAMES: &str = "this host's resolver answers on its loopback alone, so that machines resolve no names: \
    have it listen on all addresses (the wall lets machines ask it, and nothing else), or add a `nameserver` that machines \
    reach to /etc/resolv.conf";

/// Returns the host's resolvers, but for those on its loopback, which no machine reaches.
#[must_use]
pub fn uplink_resolvers() -> Vec<IpAddr> {
    let text = UPLINK_RESOLVERS.iter().find_map(|file| fs::read_to_string(file).ok()).unwrap_or_default();
    nameservers(&text).filter(|address| !address.is_loopback()).collect()
}

/// Returns whether machines have a resolver: one beyond the host, or one of the host's that listens on
/// all addresses or on a machine's link.
#[must_use]
pub fn has_resolver() -> bool {
    if !uplink_resolvers().is_empty() {
        return true;
    }
    let links = on_links();
    SOCKETS.iter().any(|path| fs::read_to_string(path).is_ok_and(|text| listens(&text, &links)))
}

/// Returns the host's addresses on links of machines.
fn on_links() -> Vec<Ipv4Addr> {
    let all = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let own = all.filter(|found| found.interface_name.starts_with(PREFIX));
    own.filter_map(|found| Some(found.address?.as_sockaddr_in()?.ip())).collect()
}

/// Looks for port 53 in a list of sockets, on all addresses or one of these.
///
/// **Source**: proc_pid_net(5), `/proc/net/udp`: an address is in words of 32 bits, in the host's order.
fn listens(sockets: &str, on: &[Ipv4Addr]) -> bool {
    let locals = sockets.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1));
    let mut addresses = locals.filter_map(|local| local.strip_suffix(":0035"));
    addresses.any(|address| {
        let word = u32::from_str_radix(address, 16).map(|word| Ipv4Addr::from(word.to_ne_bytes()));
        address.bytes().all(|digit| digit == b'0') || word.is_ok_and(|address| on.contains(&address))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_on_the_loopback_is_none_for_machines() {
        let of = |address: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(address));
        let link = [10, 213, 1, 1];
        for (address, expected) in [
            (of([127, 0, 0, 53]) + ":0035", false),
            (of([10, 0, 3, 1]) + ":0035", false),
            (of(link) + ":0035", true),
            (of(link) + ":0036", false),
            (of([0; 4]) + ":0035", true),
            ("0".repeat(32) + ":0035", true),
            ("0".repeat(24) + "01000000:0035", false),
        ] {
            let text = format!("  sl  local_address rem_address   st\n  1: {address} 00000000:0000 07\n");
            assert_eq!(listens(&text, &[link.into()]), expected, "{address}");
        }
        assert!(!listens("", &[]));
    }
}
