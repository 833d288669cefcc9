//! The resolvers that the host knows: the one reader of resolv.conf(5) and of what network managers write beside it.
//!
//! A machine cannot ask what listens on the host's loopback, and its wall keeps it from the host's other addresses.
//! Links have IPv4 alone. So of the host's resolvers those count that are IPv4 and beyond the host; where
//! `/etc/resolv.conf` has none, because a resolver of the host's own stands in front of them, they are looked for where
//! that one's own upstream comes from.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

/// How a file names resolvers.
#[derive(Clone, Copy)]
enum Form {
    /// Lines `nameserver ADDRESS`.
    ResolvConf,
    /// A line `DNS=ADDRESS…`.
    Variables,
    /// Leases of dhclient.
    Leases,
}

/// Files that name resolvers, best first. Behind the stub of systemd-resolved the first has the addresses that count.
///
/// **Source**: systemd-resolved.service(8), "/etc/resolv.conf"; NetworkManager.conf(5), `rc-manager`; resolvconf(8);
/// `/run/systemd/netif/state` of systemd-networkd (sd-network); dhclient.leases(5).
const FILES: [(&str, Form); 8] = [
    ("run/systemd/resolve/resolv.conf", Form::ResolvConf),
    (OWN, Form::ResolvConf),
    ("run/NetworkManager/no-stub-resolv.conf", Form::ResolvConf),
    ("run/NetworkManager/resolv.conf", Form::ResolvConf),
    ("run/systemd/netif/state", Form::Variables),
    ("run/resolvconf/interface", Form::ResolvConf),
    ("run/resolvconf/interfaces", Form::ResolvConf),
    ("var/lib/dhcp", Form::Leases),
];

/// What the host's own programs read.
const OWN: &str = "etc/resolv.conf";

/// The most bytes that are read of a file.
const SIZE: u64 = 1 << 20;

/// What the host's own programs ask where no file says it.
///
/// **Source**: resolv.conf(5): "If this file does not exist, only the name server on the local machine will be queried".
const DEFAULT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Reads the resolvers of a resolv.conf(5). Scopes of link-local ones mean nothing in the guest.
pub fn nameservers(text: &str) -> impl Iterator<Item = IpAddr> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        words.next().filter(|word| *word == "nameserver")?;
        words.next()?.split('%').next()?.parse().ok()
    })
}

/// Finds the host's resolvers that machines reach, IPv4 and beyond the host, in the file that knows some.
#[must_use]
pub fn uplink_resolvers() -> Vec<IpAddr> {
    uplink(Path::new("/"), &addresses())
}

/// Lists what the host's own programs ask.
pub(super) fn own_resolvers() -> Vec<IpAddr> {
    let found: Vec<_> = nameservers(&read(Path::new("/").join(OWN).as_path())).collect();
    if found.is_empty() { vec![DEFAULT] } else { found }
}

/// Reports whether a file names what the host's own programs ask.
pub(super) fn has_own_resolvers() -> bool {
    nameservers(&read(Path::new("/").join(OWN).as_path())).next().is_some()
}

/// Lists the host's addresses.
fn addresses() -> Vec<IpAddr> {
    let all = nix::ifaddrs::getifaddrs().into_iter().flatten();
    all.filter_map(|found| Some(IpAddr::V4(found.address?.as_sockaddr_in()?.ip()))).collect()
}

fn uplink(root: &Path, own: &[IpAddr]) -> Vec<IpAddr> {
    let reached = |address: &IpAddr| {
        let is_hosts = address.is_loopback() || address.is_unspecified() || own.contains(address);
        address.is_ipv4() && !is_hosts && !address.is_multicast()
    };
    let of = |(path, form): &(&str, Form)| {
        let mut found: Vec<IpAddr> = Vec::new();
        for file in files(&root.join(path)) {
            let text = read(&file);
            let all: Vec<IpAddr> = match form {
                Form::ResolvConf => nameservers(&text).collect(),
                Form::Variables => variables(&text),
                Form::Leases => leases(&text, own),
            };
            for address in all.into_iter().filter(reached) {
                if !found.contains(&address) {
                    found.push(address);
                }
            }
        }
        (!found.is_empty()).then_some(found)
    };
    FILES.iter().find_map(of).unwrap_or_default()
}

/// Lists the files of a directory; another path stands for itself.
fn files(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return vec![path.to_owned()] };
    let mut all: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    all.sort();
    all
}

fn read(path: &Path) -> String {
    let mut bytes = Vec::new();
    let read = fs::File::open(path)
        .and_then(|file| io::Read::read_to_end(&mut io::Read::take(file, SIZE), &mut bytes));
    read.map_or_else(|_| String::new(), |_| String::from_utf8_lossy(&bytes).into_owned())
}

fn variables(text: &str) -> Vec<IpAddr> {
    let values = text.lines().filter_map(|line| line.strip_prefix("DNS="));
    // `ADDRESS:PORT#NAME` for those of DNS over TLS
    let words = values.flat_map(str::split_whitespace).map(|word| word.split('#').next().unwrap_or_default());
    words.filter_map(|word| word.parse().ok()).collect()
}

/// Reads the resolvers of leases whose address the host has: others are of networks that it has left.
fn leases(text: &str, own: &[IpAddr]) -> Vec<IpAddr> {
    let mut last = Vec::new();
    for lease in text.split("lease {").skip(1) {
        let lines = || lease.lines().map(|line| line.trim().trim_end_matches(';'));
        let value = |key: &str| lines().find_map(|line| line.strip_prefix(key));
        let address = value("fixed-address ").and_then(|text| text.trim().parse().ok());
        if address.is_some_and(|address| own.contains(&address)) {
            let found = value("option domain-name-servers ").unwrap_or_default();
            last = found.split(',').filter_map(|text| text.trim().parse().ok()).collect();
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: &str = "nameserver 127.0.0.1\n";

    #[test]
    fn one_line_is_read_as_resolvers_of_the_c_library_read_it() {
        for (text, expected) in [
            ("nameserver 9.9.9.9\n", &["9.9.9.9"][..]),
            ("nameserver 9.9.9.9 # office\n", &["9.9.9.9"]),
            ("  nameserver\t9.9.9.9\n", &["9.9.9.9"]),
            ("nameserver fe80::1%eth0\n", &["fe80::1"]),
            (
                "#nameserver 9.9.9.9\n;nameserver 9.9.9.9\nnameserver9.9.9.9\nnameservers 9.9.9.9\nnameserver\n",
                &[],
            ),
            ("nameserver x\noptions edns0\nnameserver ::1", &["::1"]),
        ] {
            let found: Vec<_> = nameservers(text).map(|address| address.to_string()).collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn what_stands_behind_a_resolver_of_the_hosts_own_is_found() {
        let lease = |address: &str, resolvers: &str| {
            format!(
                "lease {{\n  interface \"eth0\";\n  fixed-address {address};\n  \
                 option domain-name-servers {resolvers};\n  expire 3 2026/11/30 20:00:00;\n}}\n"
            )
        };
        let leases = lease("192.168.1.5", "192.168.1.2") + &lease("192.168.1.5", "192.168.1.1,9.9.9.9");
        let left = lease("10.9.9.9", "10.9.9.1");
        let networkd = "OPER_STATE=routable\nDNS=192.168.1.1 fd00::1 192.0.2.1#dns.example\n";
        let cases: [(&[(&str, &str)], &str); 15] = [
            (&[], ""),
            (&[("etc/resolv.conf", LOCAL)], ""),
            (&[("etc/resolv.conf", "nameserver 192.168.1.1 # office\n")], "192.168.1.1"),
            // the host itself, by another name than its loopback's
            (&[("etc/resolv.conf", "nameserver 192.168.1.5\n")], ""),
            (&[("etc/resolv.conf", "nameserver 0.0.0.0\n")], ""),
            // links have no IPv6
            (&[("etc/resolv.conf", "nameserver 2001:db8::53\n")], ""),
            (&[("etc/resolv.conf", "nameserver 2001:db8::53\nnameserver 9.9.9.9\n")], "9.9.9.9"),
            (&[("etc/resolv.conf", LOCAL), (FILES[0].0, "nameserver 192.168.1.1\n")], "192.168.1.1"),
            // systemd-resolved without an uplink
            (&[("etc/resolv.conf", "nameserver 127.0.0.53\n"), (FILES[0].0, "search .\n")], ""),
            (&[("etc/resolv.conf", LOCAL), (FILES[2].0, "nameserver 192.168.1.1\n")], "192.168.1.1"),
            (&[("etc/resolv.conf", LOCAL), (FILES[4].0, networkd)], "192.168.1.1 192.0.2.1"),
            (
                &[
                    ("etc/resolv.conf", LOCAL),
                    ("run/resolvconf/interface/lo.dnsmasq", LOCAL),
                    ("run/resolvconf/interface/eth0.dhclient", "nameserver 192.168.1.1\n"),
                ],
                "192.168.1.1",
            ),
            (
                &[("etc/resolv.conf", LOCAL), ("var/lib/dhcp/dhclient.eth0.leases", &leases)],
                "192.168.1.1 9.9.9.9",
            ),
            (&[("etc/resolv.conf", LOCAL), ("var/lib/dhcp/dhclient.eth0.leases", &left)], ""),
            (
                &[("etc/resolv.conf", "nameserver 9.9.9.9\n"), ("var/lib/dhcp/dhclient.leases", &leases)],
                "9.9.9.9",
            ),
        ];
        for (files, expected) in cases {
            let root = tempfile::tempdir().unwrap();
            for (path, text) in files {
                let path = root.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            let found: Vec<_> = uplink(root.path(), &["192.168.1.5".parse().unwrap()])
                .iter()
                .map(ToString::to_string)
                .collect();
            assert_eq!(found.join(" "), expected, "{files:?}");
        }
    }
}
