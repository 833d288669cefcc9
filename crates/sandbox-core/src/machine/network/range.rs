//! Address ranges that are not the internet.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// IPv4 ranges that a walled machine does not reach.
///
/// `168.63.129.16` is a public address, but on Azure it is the host's own: it serves a virtual machine's settings and
/// credentials to any process that asks.
///
/// **Source**: the IANA IPv4 special-purpose registry (RFC 6890), but for documentation ranges, which are
/// routed nowhere on the internet and by purpose on test networks; Azure, "What is IP address 168.63.129.16?".
pub(in crate::machine) const PRIVATE4: [&str; 11] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "168.63.129.16/32",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/3",
];

/// IPv6 ranges that a walled machine does not reach; with them the private IPv4 ones as NAT64 (RFC 6052),
/// 6to4 (RFC 3056) and mapped addresses write them.
pub(in crate::machine) const PRIVATE6: [&str; 18] = [
    "::/96",
    "::ffff:0:0/96",
    "64:ff9b::/104",
    "64:ff9b::a00:0/104",
    "64:ff9b::6440:0/106",
    "64:ff9b::7f00:0/104",
    "64:ff9b::a83f:8110/128",
    "64:ff9b::a9fe:0/112",
    "64:ff9b::ac10:0/108",
    "64:ff9b::c000:0/120",
    "64:ff9b::c0a8:0/112",
    "64:ff9b::c612:0/111",
    "64:ff9b::e000:0/99",
    "64:ff9b:1::/48",
    "2002::/16",
    "fc00::/7",
    "fe80::/9",
    "ff00::/8",
];

/// A range of addresses: an address and the number of leading bits that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subnet {
    address: IpAddr,
    bits: u8,
}

impl Subnet {
    /// Makes a range, none where the address has fewer bits.
    #[must_use]
    pub fn new(address: IpAddr, bits: u8) -> Option<Self> {
        let most = if address.is_ipv4() { 32 } else { 128 };
        (bits <= most).then_some(Self { address, bits })
    }

    /// Tells whether an address is in the range.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                Ipv4Addr::to_bits(own) & mask == Ipv4Addr::to_bits(other) & mask
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                Ipv6Addr::to_bits(own) & mask == Ipv6Addr::to_bits(other) & mask
            }
            _ => false,
        }
    }

    /// Gives its first address, as it was made.
    #[must_use]
    pub const fn address(self) -> IpAddr {
        self.address
    }

    /// Tells whether it is a range of IPv4.
    #[must_use]
    pub const fn is_ipv4(self) -> bool {
        self.address.is_ipv4()
    }
}

impl FromStr for Subnet {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, bits) = text.split_once('/').ok_or(())?;
        let address = address.parse().map_err(|_| ())?;
        Self::new(address, bits.parse().map_err(|_| ())?).ok_or(())
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// Tells whether a walled machine would not reach an address.
#[must_use]
pub fn is_private(address: IpAddr) -> bool {
    let ranges = PRIVATE4.iter().chain(&PRIVATE6);
    ranges.filter_map(|range| range.parse::<Subnet>().ok()).any(|range| range.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_is_one() {
        for range in PRIVATE4.iter().chain(&PRIVATE6) {
            assert!(range.parse::<Subnet>().is_ok(), "{range}");
        }
    }

    #[test]
    fn every_private_range_is_private_in_each_of_its_forms() {
        for range in PRIVATE4 {
            let subnet: Subnet = range.parse().unwrap();
            let IpAddr::V4(first) = subnet.address() else { panic!("{range}") };
            let last =
                Ipv4Addr::from_bits(first.to_bits() | u32::MAX.checked_shr(subnet.bits.into()).unwrap_or(0));
            for address in [first, last].map(Ipv4Addr::to_bits) {
                for prefix in [0_u128, 0xffff << 32, 0x0064_ff9b << 96] {
                    let form = Ipv6Addr::from_bits(prefix | u128::from(address));
                    assert!(is_private(form.into()), "{range}: {form}");
                }
                let form = Ipv6Addr::from_bits((0x2002 << 112) | (u128::from(address) << 80));
                assert!(is_private(form.into()), "{range}: {form}");
            }
        }
    }

    #[test]
    fn private_and_public_addresses_are_told_apart() {
        for private in [
            "10.1.2.3",
            "172.31.255.255",
            "192.168.1.1",
            "100.127.0.1",
            "169.254.169.254",
            "168.63.129.16",
            "224.0.0.1",
            "255.255.255.255",
            "0.0.0.0",
            "127.0.0.53",
            "198.19.0.1",
            "240.0.0.1",
            "::1",
            "fd00::1",
            "fe80::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "64:ff9b::c0a8:101",
            "64:ff9b::a83f:8110",
            "2002:c0a8:101::1",
        ] {
            assert!(is_private(private.parse().unwrap()), "{private}");
        }
        for public in [
            "1.1.1.1",
            "172.32.0.1",
            "168.63.129.17",
            "100.128.0.1",
            "203.0.113.7",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "64:ff9b::101:101",
        ] {
            assert!(!is_private(public.parse().unwrap()), "{public}");
        }
    }
}
