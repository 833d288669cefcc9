//! The link between host and guest where no networkd serves it: fixed addresses, told to the guest by a file.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

use sha2::Digest as _;

use super::{DirectError, command, run};
use crate::{
    host::root::{Links, Meta, Root},
    machine::{
        Definition,
        network::{self, Names, Subnet},
    },
    name::MachineName,
};

/// The first two bytes of links' addresses; each link has four of the 65,536 of a pool. The second and the third are for
/// hosts whose networks have the first.
const POOLS: [[u8; 2]; COUNT as usize] = [[10, 213], [172, 30], [192, 168]];

/// How many links a pool has.
const LINKS: u16 = 1 << 14;

/// How many all pools have.
const ALL: u16 = LINKS * COUNT;
const COUNT: u16 = 3;

/// Where the guest's networkd finds what it is told. Not below /run: what nspawn makes there for a mount is
/// the host's root's, and the guest's systemd could make nothing beside it.
pub const IN_TREE: &str = "etc/systemd/network/10-sandbox-host0.network";

/// A link's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Link {
    /// Which four addresses of the pools.
    pub number: u16,
}

impl Link {
    fn address(self, last: u16) -> Ipv4Addr {
        let [high, low] = (self.number % LINKS * 4 + last).to_be_bytes();
        let [first, second] = POOLS[usize::from(self.number / LINKS % COUNT)];
        Ipv4Addr::new(first, second, high, low)
    }

    /// The host's side.
    pub fn host(self) -> Ipv4Addr {
        self.address(1)
    }

    /// The guest's side.
    pub fn guest(self) -> Ipv4Addr {
        self.address(2)
    }

    /// All of it.
    pub fn subnet(self) -> Option<Subnet> {
        Subnet::new(IpAddr::V4(self.address(0)), 30)
    }
}

/// Gives the machine its addresses: those it had, else the first free ones from a place its name picks.
///
/// Those are free that no address and no route of the host is among; where routes leave none, that no address is among.
pub fn of(name: &MachineName, folder: &Path) -> Result<Link, DirectError> {
    let own = network::interface(name);
    let addresses: Vec<IpAddr> = nix::ifaddrs::getifaddrs()
        .into_iter()
        .flatten()
        .filter(|interface| interface.interface_name != own)
        .filter_map(|interface| Some(IpAddr::V4(interface.address?.as_sockaddr_in()?.ip())))
        .collect();
    let networks = network::networks(&own);
    let known: Option<Link> =
        fs::read(folder.join("link.json")).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let known = known.filter(|link| link.number < ALL);
    let others = others(folder);
    let link = pick(name, known, &others, &addresses, &networks).ok_or(DirectError::NoSubnet)?;
    if known != Some(link) {
        let text = serde_json::to_vec(&link).unwrap_or_default();
        run::write(folder, "link.json", &text)?;
    }
    Ok(link)
}

fn pick(
    name: &MachineName,
    known: Option<Link>,
    others: &[Link],
    addresses: &[IpAddr],
    networks: &[Subnet],
) -> Option<Link> {
    let digest = sha2::Sha256::digest(name.as_str());
    let first = u16::from_be_bytes([digest[0], digest[1]]) % LINKS;
    let all = || {
        let pool =
            |pool: u16| (0..LINKS).map(move |step| Link { number: pool * LINKS + (first + step) % LINKS });
        (0..COUNT).flat_map(pool).filter(|link| !others.contains(link))
    };
    let unused = |link: &Link| {
        let subnet = link.subnet();
        subnet.is_some_and(|subnet| !addresses.iter().any(|address| subnet.contains(*address)))
    };
    let unrouted = |link: &Link| !networks.iter().any(|network| network.contains(link.host().into()));
    let known = known.filter(unused);
    known
        .filter(unrouted)
        .or_else(|| all().find(|link| unused(link) && unrouted(link)))
        .or(known)
        .or_else(|| all().find(unused))
}

/// The links of the other machines of the same state directory.
fn others(folder: &Path) -> Vec<Link> {
    let Some(entries) = folder.parent().and_then(|machines| fs::read_dir(machines).ok()) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|other| other != folder)
        .filter_map(|other| serde_json::from_slice(&fs::read(other.join("link.json")).ok()?).ok())
        .collect()
}

/// Writes what the guest's networkd is to do with its side.
///
/// **Source**: systemd.network(5).
pub fn network_file(link: Link, resolvers: &[IpAddr]) -> String {
    let mut text = format!(
        "# Written by sandbox for this start of the machine.\n[Match]\nName=host0\n\n[Network]\n\
         Address={}/30\nGateway={}\nDHCP=no\nLinkLocalAddressing=ipv6\nIPv6AcceptRA=no\n",
        link.guest(),
        link.host()
    );
    for resolver in resolvers {
        text.push_str(&format!("DNS={resolver}\n"));
    }
    text
}

/// Lists the resolvers that a guest is given: those beyond the host, or the host's address on the link.
pub fn resolvers(names: &Names, link: Link) -> Vec<IpAddr> {
    if names.is_host() { vec![link.host().into()] } else { names.uplink().to_vec() }
}

/// Tells what the host serves on a link: its addresses are fixed, names come from it where it is the guest's resolver.
pub const fn served(names: &Names) -> network::Served {
    network::Served { dhcp: false, dns: names.is_host() }
}

/// Makes the empty file that the guest's one is mounted on. Without the mount networkd passes it over.
pub fn mount_point(tree: &Path) -> Result<(), DirectError> {
    let path = Path::new(IN_TREE);
    let meta = |mode| Meta::of_root(mode, 0);
    let make = || {
        let root = Root::open(tree, Links::InTree)?;
        root.make_folders(path.parent().unwrap_or(path), meta(0o755))?;
        if root.kind(path)?.is_none() { root.write(path, b"", meta(0o644)) } else { Ok(()) }
    };
    make().map_err(super::io("making the mount point", &tree.join(path)))
}

/// Gives the host's side its address.
pub fn bring_up(definition: &Definition, link: Link) -> Result<(), DirectError> {
    let interface = network::interface(&definition.name);
    network::harden(&interface, definition.network);
    let address = format!("{}/30", link.host());
    command::run(&["ip", "address", "replace", &address, "dev", &interface])?;
    command::run(&["ip", "link", "set", &interface, "up"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_keeps_its_addresses_and_shares_none() {
        let machines = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| {
            let folder = machines.path().join(name);
            fs::create_dir(&folder).unwrap();
            (MachineName::new(name).unwrap(), folder)
        });
        let first = of(&a.0, &a.1).unwrap();
        assert_eq!(of(&a.0, &a.1).unwrap(), first);
        fs::write(b.1.join("link.json"), serde_json::to_vec(&first).unwrap()).unwrap();
        fs::remove_file(a.1.join("link.json")).unwrap();
        let moved = of(&a.0, &a.1).unwrap();
        assert_ne!(moved, first, "another machine has these");
    }

    #[test]
    fn a_link_is_where_the_host_has_no_route() {
        let name = MachineName::new("a").unwrap();
        let of = |known, networks: &[&str]| {
            let networks: Vec<Subnet> = networks.iter().map(|text| text.parse().unwrap()).collect();
            pick(&name, known, &[], &["10.213.0.1".parse().unwrap()], &networks).unwrap()
        };
        let free = of(None, &[]);
        assert!(free.host().to_string().starts_with("10.213."));
        assert_eq!(of(Some(free), &["192.168.1.0/24"]), free);
        assert!(of(Some(free), &["10.213.0.0/16"]).host().to_string().starts_with("172.30."));
        let only = of(None, &["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/17"]);
        assert!(
            only.host().to_string().starts_with("192.168.") && only.host().octets()[2] >= 128,
            "{only:?}"
        );
        // a network that takes all private addresses has four less
        assert_eq!(of(Some(free), &["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]), free);
        assert_eq!(of(None, &["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]), free);
    }

    #[test]
    fn the_guest_is_told_its_side() {
        let link = Link { number: 300 };
        assert_eq!(
            (link.host().to_string(), link.guest().to_string()),
            ("10.213.4.177".into(), "10.213.4.178".into())
        );
        let text = network_file(link, &["192.0.2.53".parse().unwrap()]);
        assert!(text.contains("Address=10.213.4.178/30\nGateway=10.213.4.177\n"), "{text}");
        assert!(text.ends_with("DNS=192.0.2.53\n"), "{text}");
    }
}
