//! Which resolver machines of this host ask.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
};

use super::{
    forwarder,
    resolvers::{has_own_resolvers, uplink_resolvers},
};

/// The sockets that take datagrams, of IPv4 and of both.
const SOCKETS: [&str; 2] = ["/proc/net/udp", "/proc/net/udp6"];

/// What is reported where questions should be forwarded and are not.
pub(super) const NOT_FORWARDED: &str = "the process that forwards a machine's questions to this host's resolver does not \
    listen, so that it resolves no names: add a `nameserver` beyond this host to /etc/resolv.conf";

/// The resolver that machines are given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// Resolvers beyond the host.
    Uplink(Vec<IpAddr>),
    /// One of the host's own, which listens on all addresses.
    Host,
    /// One of the host's own, which listens on other addresses than those of links: a process of sandbox on each link
    /// forwards to it.
    Forwarded,
    /// The host has none.
    Missing,
}

impl Names {
    /// Finds out which resolver machines of this host are given now.
    #[must_use]
    pub fn of_host() -> Self {
        let uplink = uplink_resolvers();
        if !uplink.is_empty() {
            return Self::Uplink(uplink);
        }
        let any = Ipv4Addr::UNSPECIFIED;
        match () {
            () if listens(any) => Self::Host,
            () if has_own_resolvers() || listens(Ipv4Addr::LOCALHOST) => Self::Forwarded,
            () => Self::Missing,
        }
    }

    /// Returns the resolvers beyond the host.
    #[must_use]
    pub fn uplink(&self) -> &[IpAddr] {
        match self {
            Self::Uplink(resolvers) => resolvers,
            _ => &[],
        }
    }

    /// Reports whether machines ask the host's address on their link.
    #[must_use]
    pub const fn is_host(&self) -> bool {
        matches!(self, Self::Host | Self::Forwarded)
    }

    /// Returns a sentence about it for the user.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self {
            Self::Uplink(resolvers) => {
                let words: Vec<_> = resolvers.iter().map(ToString::to_string).collect();
                format!("machines ask the resolvers beyond this host: {}", words.join(", "))
            }
            Self::Host => "machines ask this host's resolver, which listens on all addresses".to_owned(),
            Self::Forwarded => {
                "this host's resolver does not listen on links of machines: sandbox forwards their \
                                questions to it"
                    .to_owned()
            }
            Self::Missing => {
                "this host has no resolver, so that machines resolve no names: add a `nameserver` line to \
                              /etc/resolv.conf"
                    .to_owned()
            }
        }
    }
}

/// Reports whether a resolver listens on the host's end of a link.
pub(super) fn is_served(link: &str) -> bool {
    listens(Ipv4Addr::UNSPECIFIED) || forwarder::address(link).is_some_and(listens)
}

fn listens(on: Ipv4Addr) -> bool {
    SOCKETS.iter().any(|path| fs::read_to_string(path).is_ok_and(|text| has_socket(&text, on)))
}

/// Looks for port 53 of an address in a list of sockets.
///
/// **Source**: proc_pid_net(5), `/proc/net/udp`: an address is in words of 32 bits, in the host's order.
fn has_socket(sockets: &str, on: Ipv4Addr) -> bool {
    let locals = sockets.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1));
    let mut addresses = locals.filter_map(|local| local.strip_suffix(":0035"));
    addresses.any(|address| {
        let all = on.is_unspecified() && address.bytes().all(|digit| digit == b'0');
        let word = u32::from_str_radix(address, 16).map(|word| Ipv4Addr::from(word.to_ne_bytes()));
        all || (address.len() == 8 && word == Ok(on))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_is_asked_where_it_listens() {
        let of = |address: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(address));
        let link = [10, 213, 1, 1];
        for (address, on, expected) in [
            (of([127, 0, 0, 53]) + ":0035", link, false),
            (of([127, 0, 0, 53]) + ":0035", [0; 4], false),
            (of([10, 0, 3, 1]) + ":0035", link, false),
            (of(link) + ":0035", link, true),
            (of(link) + ":0036", link, false),
            (of([0; 4]) + ":0035", [0; 4], true),
            ("0".repeat(32) + ":0035", [0; 4], true),
            ("0".repeat(24) + "01000000:0035", [0; 4], false),
        ] {
            let text = format!("  sl  local_address rem_address   st\n  1: {address} 00000000:0000 07\n");
            assert_eq!(has_socket(&text, on.into()), expected, "{address}");
        }
        assert!(!has_socket("", link.into()));
    }
}
