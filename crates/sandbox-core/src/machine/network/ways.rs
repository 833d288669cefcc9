//! The host's ways to the internet, as its routes are now.
//!
//! The internet is what a default route leads to. The table's rules compare each packet's next hop with the gateways
//! that are listed here ([`ruleset`](super::ruleset)), so a route, an interface or an address that comes later is out
//! of reach from its first packet on, whether it is listed or not; a default route that comes later is reached once it
//! is listed. [`watch`](super::watch) does that within milliseconds.
//!
//! **Source**: rtnetlink(7); netdevice(7), `SIOCGIFFLAGS`; `rt_nexthop` of the kernel: the next hop of a destination
//! on a link is the destination.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    net::IpAddr,
};

use super::{
    Error, PREFIX, Subnet, is_private,
    netlink::{self, Route},
    ruleset::{SETS, TABLE},
};

/// Longer prefixes are networks; shorter ones, such as the halves of the internet that VPNs route, are ways out.
const DEFAULT_BITS: u8 = 7;

/// The main table's number.
const MAIN: u32 = 254;

/// The local table's number.
const LOCAL: u32 = 255;

/// What leads out, and what is beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ways {
    /// Interface and address of each gateway of a default route.
    gateways: BTreeSet<(String, IpAddr)>,
    /// Interfaces of default routes that have no gateway in the route's own family.
    direct: BTreeSet<String>,
    /// What else is on the latter, where more than one host can be on them.
    near: BTreeSet<Subnet>,
}

impl Ways {
    /// Reads them.
    ///
    /// # Errors
    /// Where the kernel does not list its routes.
    pub(super) fn read() -> Result<Self, Error> {
        let routes = netlink::routes().map_err(|source| Error::Routes { source })?;
        Ok(Self::of(&routes, &names(&routes), is_point_to_point))
    }

    fn of(routes: &[Route], names: &BTreeMap<u32, String>, is_point_to_point: impl Fn(&str) -> bool) -> Self {
        let mut ways = Self::default();
        let outer = || {
            let outer = routes.iter().filter(|route| route.table != LOCAL);
            outer.filter_map(|route| Some((route, names.get(&route.interface)?)))
        };
        for (route, name) in outer().filter(|(route, _)| route.is_default()) {
            match route.gateway.filter(|gateway| gateway.is_ipv4() == route.to.is_ipv4()) {
                Some(gateway) => drop(ways.gateways.insert((name.clone(), gateway))),
                None => drop(ways.direct.insert(name.clone())),
            }
        }
        for (route, name) in outer().filter(|(route, _)| !route.is_default()) {
            if ways.direct.contains(name) && !is_point_to_point(name) {
                ways.near.extend(Subnet::new(route.to, route.bits));
            }
        }
        ways
    }

    /// Writes the commands that fill the table's sets.
    pub(super) fn commands(&self) -> String {
        let mut text = String::new();
        for (set, _) in SETS {
            let _ = writeln!(text, "flush set inet {TABLE} {set}");
        }
        let mut add = |set: &str, element: String| {
            let _ = writeln!(text, "add element inet {TABLE} {set} {{ {element} }}");
        };
        for (name, gateway) in &self.gateways {
            let set = if gateway.is_ipv4() { "gateways4" } else { "gateways6" };
            add(set, format!("\"{name}\" . {gateway}"));
        }
        for name in &self.direct {
            add("direct", format!("\"{name}\""));
        }
        for subnet in &self.near {
            add(if subnet.is_ipv4() { "near4" } else { "near6" }, subnet.to_string());
        }
        text
    }
}

impl Route {
    const fn is_default(&self) -> bool {
        self.bits <= DEFAULT_BITS
    }
}

/// Returns the public ranges that the host reaches by another route than a default one, in order: networks that it is
/// on, those behind a gateway of their own, and its gateways.
#[must_use]
pub fn on_link() -> Vec<Subnet> {
    let routes = netlink::routes().unwrap_or_default();
    walled(&routes, &names(&routes))
}

fn walled(routes: &[Route], names: &BTreeMap<u32, String>) -> Vec<Subnet> {
    let main = routes.iter().filter(|route| route.table == MAIN && names.contains_key(&route.interface));
    let found = main.filter_map(|route| match route.is_default() {
        true => {
            route.gateway.and_then(|gateway| Subnet::new(gateway, if gateway.is_ipv4() { 32 } else { 128 }))
        }
        false => Subnet::new(route.to, route.bits),
    });
    let found: BTreeSet<_> = found.filter(|subnet| !is_private(subnet.address())).collect();
    found.into_iter().collect()
}

/// Returns the IPv4 networks that the host reaches by another route than a default one, but for that of a link; none where
/// the kernel does not list its routes.
#[must_use]
pub fn networks(but: &str) -> Vec<Subnet> {
    let number = nix::net::if_::if_nametoindex(but).unwrap_or_default();
    let routes = netlink::routes().unwrap_or_default();
    let known = routes.into_iter().filter(|route| route.to.is_ipv4() && !route.is_default());
    let known = known.filter(|route| route.table != LOCAL && route.interface != number);
    known.filter_map(|route| Subnet::new(route.to, route.bits)).collect()
}

/// Finds the names of the interfaces of routes, machines' own and the loopback left out. A name that nft would not
/// take as one word is nothing that a machine gets out by.
fn names(routes: &[Route]) -> BTreeMap<u32, String> {
    let numbers: BTreeSet<u32> = routes.iter().map(|route| route.interface).collect();
    let named = numbers.into_iter().filter_map(|number| {
        let name = nix::net::if_::if_indextoname(number).ok()?.into_string().ok()?;
        let plain = name.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"*\\".contains(&byte));
        (plain && name != "lo" && !name.starts_with(PREFIX)).then_some((number, name))
    });
    named.collect()
}

/// Tells whether nothing but one other end can be on an interface.
fn is_point_to_point(name: &str) -> bool {
    let text = fs::read_to_string(format!("/sys/class/net/{name}/flags")).unwrap_or_default();
    let flags = u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).unwrap_or_default();
    let either = (libc::IFF_POINTOPOINT | libc::IFF_NOARP).cast_unsigned();
    flags & either != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [(u32, &str); 4] = [(2, "eth0"), (3, "wg0"), (4, "eth1"), (5, "dmz0")];

    fn names() -> BTreeMap<u32, String> {
        NAMES.map(|(number, name)| (number, name.to_owned())).into()
    }

    fn route(to: &str, via: &str, interface: u32) -> Route {
        let subnet: Subnet = to.parse().unwrap();
        let bits = to.rsplit_once('/').unwrap().1.parse().unwrap();
        Route { to: subnet.address(), bits, gateway: via.parse().ok(), interface, table: MAIN }
    }

    fn ways(routes: &[Route]) -> (Vec<String>, Vec<String>, Vec<String>) {
        let ways = Ways::of(routes, &names(), |name| name == "wg0");
        let gateways = ways.gateways.iter().map(|(name, address)| format!("{name} {address}"));
        let near = ways.near.iter().map(ToString::to_string);
        (gateways.collect(), ways.direct.iter().cloned().collect(), near.collect())
    }

    #[test]
    fn the_gateways_of_default_routes_lead_out_and_no_other_does() {
        let mut other = route("0.0.0.0/0", "198.51.100.1", 4);
        other.table = 51820;
        let routes = [
            route("0.0.0.0/0", "192.0.2.1", 2),
            route("::/0", "fe80::1", 2),
            route("9.0.0.0/8", "192.0.2.9", 2),
            route("44.0.0.0/12", "", 4),
            route("5.5.5.5/32", "", 4),
            route("10.0.0.0/8", "192.0.2.9", 2),
            other,
        ];
        let (gateways, direct, near) = ways(&routes);
        assert_eq!(gateways, ["eth0 192.0.2.1", "eth0 fe80::1", "eth1 198.51.100.1"]);
        assert_eq!((direct.len(), near.len()), (0, 0));
        let walled: Vec<_> = walled(&routes, &names()).iter().map(ToString::to_string).collect();
        assert_eq!(walled, ["5.5.5.5/32", "9.0.0.0/8", "44.0.0.0/12", "192.0.2.1/32"]);
    }

    #[test]
    fn a_tunnel_that_is_the_default_route_leads_out_whole() {
        let halves = [route("0.0.0.0/1", "", 3), route("128.0.0.0/1", "", 3), route("9.9.9.0/24", "", 3)];
        assert_eq!(ways(&halves), (vec![], vec!["wg0".to_owned()], vec![]));
    }

    #[test]
    fn what_shares_an_ethernet_with_a_default_route_without_gateway_does_not() {
        let routes = [route("0.0.0.0/0", "", 5), route("203.0.113.0/24", "", 5), route("5.5.5.5/32", "", 4)];
        assert_eq!(ways(&routes), (vec![], vec!["dmz0".to_owned()], vec!["203.0.113.0/24".to_owned()]));
        // IPv4 by a gateway that has no IPv4 address (RFC 5549): the next hop reads as the destination
        let (gateways, direct, _) = ways(&[route("0.0.0.0/0", "fe80::1", 5)]);
        assert_eq!((gateways.len(), direct), (0, vec!["dmz0".to_owned()]));
    }

    #[test]
    fn the_sets_are_filled_in_one_transaction() {
        let routes =
            [route("0.0.0.0/0", "192.0.2.1", 2), route("::/0", "fe80::1", 2), route("0.0.0.0/0", "", 3)];
        let text = Ways::of(&routes, &names(), |_| true).commands();
        for line in [
            "flush set inet sandbox gateways4",
            "add element inet sandbox gateways4 { \"eth0\" . 192.0.2.1 }",
            "add element inet sandbox gateways6 { \"eth0\" . fe80::1 }",
            "add element inet sandbox direct { \"wg0\" }",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
