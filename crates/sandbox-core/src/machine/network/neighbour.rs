//! The networks that the host itself is on: a local network may well have public addresses.
//!
//! **Source**: `/proc/net/route` and `/proc/net/ipv6_route`, proc(5) and the kernel's `fib_trie.c` and
//! `net/ipv6/route.c`.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{PREFIX, Subnet, is_private};

/// Shorter prefixes are a way out (a VPN's halves of the internet), not a network that the host is on.
const LEAST_BITS: (u8, u8) = (16, 48);

/// Gives the public ranges that the host reaches without a gateway, in order.
#[must_use]
pub fn on_link() -> Vec<Subnet> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    parse(&read("/proc/net/route"), &read("/proc/net/ipv6_route"))
}

fn parse(route4: &str, route6: &str) -> Vec<Subnet> {
    let found = route4.lines().filter_map(entry4).chain(route6.lines().filter_map(entry6));
    let mut found: Vec<_> = found.filter(|subnet| !is_private(subnet.address())).collect();
    found.sort();
    found.dedup();
    found
}

/// Reads `Iface Destination Gateway Flags RefCnt Use Metric Mask …`; addresses in the host's byte order.
fn entry4(line: &str) -> Option<Subnet> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [link, destination, "00000000", _, _, _, _, mask, ..] = words[..] else { return None };
    let number =
        |text: &str| u32::from_str_radix(text, 16).ok().map(|raw| u32::from_be_bytes(raw.to_ne_bytes()));
    let bits = u8::try_from(number(mask)?.count_ones()).ok()?;
    let subnet = Subnet::new(IpAddr::V4(Ipv4Addr::from_bits(number(destination)?)), bits)?;
    ((LEAST_BITS.0..32).contains(&bits) && is_outer(link)).then_some(subnet)
}

/// Reads `destination length source length gateway metric … flags link`.
fn entry6(line: &str) -> Option<Subnet> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [destination, length, _, _, gateway, .., link] = words[..] else { return None };
    let address = Ipv6Addr::from_bits(u128::from_str_radix(destination, 16).ok()?);
    let bits = u8::from_str_radix(length, 16).ok()?;
    let direct = gateway.bytes().all(|byte| byte == b'0');
    let subnet = Subnet::new(IpAddr::V6(address), bits)?;
    (direct && (LEAST_BITS.1..128).contains(&bits) && is_outer(link)).then_some(subnet)
}

fn is_outer(link: &str) -> bool {
    link != "lo" && !link.starts_with(PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_networks_of_the_host_are_found_and_gateways_are_not() {
        let route4 = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
            tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0\n\
            wg0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n";
        let none = "0".repeat(32);
        let route6 = format!(
            "20010db8000100020000000000000000 40 {none} 00 {none} 00000100 00000001 00000000 00000001 eth0\n\
             20010db8000100020000000000000005 80 {none} 00 {none} 00000000 00000002 00000000 80200001 lo\n\
             fe800000000000000000000000000000 40 {none} 00 {none} 00000100 00000001 00000000 00000001 eth0\n"
        );
        let found: Vec<_> = parse(route4, &route6).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.0/24", "2001:db8:1:2::/64"]);
    }
}
