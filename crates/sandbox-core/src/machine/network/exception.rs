//! Private addresses that a machine must reach all the same.

use std::net::IpAddr;

use super::{Subnet, is_private, ways};
use crate::machine::Exception;

/// Files that may name the resolvers that a guest is told of, best first: behind the stub of
/// systemd-resolved the first has the addresses that count.
pub const UPLINK_RESOLVERS: [&str; 2] = ["/run/systemd/resolve/resolv.conf", "/etc/resolv.conf"];

/// Finds out which mirrors and resolvers are private or on a network of the host's, and gives exactly those,
/// in order.
///
/// `resolver_file` is the text of the first file of [`UPLINK_RESOLVERS`] that exists; `resolve` turns a
/// host's name into addresses.
pub fn exceptions(
    mirrors: &[String],
    resolver_file: &str,
    resolve: &dyn Fn(&str) -> Vec<IpAddr>,
) -> Vec<Exception> {
    behind(mirrors, resolver_file, resolve, &ways::on_link())
}

fn behind(
    mirrors: &[String],
    resolver_file: &str,
    resolve: &dyn Fn(&str) -> Vec<IpAddr>,
    neighbours: &[Subnet],
) -> Vec<Exception> {
    let is_walled = |address| is_private(address) || neighbours.iter().any(|subnet| subnet.contains(address));
    let mirrors = mirrors.iter().filter_map(|url| endpoint(url).map(|at| (url, at)));
    let mirrors = mirrors.flat_map(|(url, (host, port))| {
        let reason = format!("mirror {}", without_secret(url));
        let addresses = host.parse().map_or_else(|_| resolve(host), |address| vec![address]);
        addresses.into_iter().map(move |address| Exception { address, port, reason: reason.clone() })
    });
    let resolvers =
        nameservers(resolver_file).map(|address| Exception { address, port: 53, reason: "resolver".into() });
    let mut found: Vec<_> = mirrors
        .chain(resolvers)
        // The host's own loopback is another one in the guest.
        .filter(|exception| is_walled(exception.address) && !exception.address.is_loopback())
        .filter(|exception| !exception.address.is_unspecified() && !exception.address.is_multicast())
        .collect();
    found.sort();
    found.dedup_by(|a, b| (a.address, a.port) == (b.address, b.port));
    found
}

/// Gives host and port of a URL over HTTP; other schemes need no network.
fn endpoint(url: &str) -> Option<(&str, u16)> {
    let (scheme, rest) = url.split_once("://")?;
    let default = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let authority = rest.split(['/', '?', '#']).next()?;
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        return Some((host, port.strip_prefix(':').map_or(Some(default), |port| port.parse().ok())?));
    }
    match authority.rsplit_once(':') {
        Some((host, port)) => Some((host, port.parse().ok()?)),
        None if authority.is_empty() => None,
        None => Some((authority, default)),
    }
}

/// A mirror's URL may carry a password, and a reason is shown.
fn without_secret(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    let start = rest[..end].rfind('@').map_or(0, |at| at + 1);
    format!("{scheme}://{}", &rest[start..])
}

/// Reads the resolvers of a resolv.conf(5). Scopes of link-local ones mean nothing in the guest.
pub fn nameservers(text: &str) -> impl Iterator<Item = IpAddr> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|rest| rest.split_whitespace().next()?.split('%').next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(mirrors: &[&str], resolver_file: &str) -> Vec<(String, u16)> {
        let mirrors: Vec<_> = mirrors.iter().map(|&url| url.to_owned()).collect();
        let resolve = |host: &str| -> Vec<IpAddr> {
            match host {
                "mirror.lan" => vec!["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()],
                _ => vec!["151.101.2.132".parse().unwrap()],
            }
        };
        behind(&mirrors, resolver_file, &resolve, &["203.0.113.0/24".parse().unwrap()])
            .into_iter()
            .map(|exception| (exception.address.to_string(), exception.port))
            .collect()
    }

    #[test]
    fn public_mirrors_and_resolvers_need_none() {
        assert_eq!(found(&["http://deb.example/debian", "file:///srv/debian"], "nameserver 9.9.9.9\n"), []);
    }

    #[test]
    fn private_ones_are_named_with_their_port_alone() {
        assert_eq!(
            found(
                &["http://mirror.lan:3142/debian", "https://user:pw@192.168.1.4/d"],
                "nameserver 192.168.1.1\n"
            ),
            [
                ("10.0.0.7".into(), 3142),
                ("192.168.1.1".into(), 53),
                ("192.168.1.4".into(), 443),
                ("fd00::7".into(), 3142)
            ]
        );
    }

    #[test]
    fn a_mirror_beside_the_host_is_named_though_its_address_is_public() {
        assert_eq!(found(&["http://203.0.113.7/debian"], ""), [("203.0.113.7".into(), 80)]);
    }

    #[test]
    fn the_stub_of_the_host_is_not_an_address_of_the_guest() {
        assert_eq!(found(&["http://[::1]/d"], "# x\nnameserver 127.0.0.53\noptions edns0\n"), []);
    }

    #[test]
    fn a_password_is_not_shown() {
        let mirror = ["http://u:secret@10.0.0.1/debian".to_owned()];
        let found = exceptions(&mirror, "", &|_| Vec::new());
        assert_eq!(found[0].reason, "mirror http://10.0.0.1/debian");
    }
}
