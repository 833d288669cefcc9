//! Private addresses that a machine must reach all the same.

use std::net::IpAddr;

use super::{Names, Subnet, is_private, ways};
use crate::{
    host::address,
    machine::{Definition, Exception, Network},
};

/// Finds out which mirrors and resolvers are private or on a network of the host's, and gives exactly those,
/// in order.
///
/// `resolvers` are those that the machine is given; `resolve` turns a host's name into addresses.
pub fn exceptions(
    mirrors: &[String],
    resolvers: &[IpAddr],
    resolve: &dyn Fn(&str) -> Vec<IpAddr>,
) -> Vec<Exception> {
    behind(mirrors, resolvers, resolve, &ways::on_link())
}

/// Adds the resolvers that a machine is given now to what its wall lets through: they may be others than those when it
/// was made.
#[must_use]
pub fn with_resolvers(definition: &Definition, names: &Names) -> Definition {
    let mut definition = definition.clone();
    if definition.network == Network::Internet {
        definition.exceptions.extend(exceptions(&[], names.uplink(), &|_| Vec::new()));
        definition.exceptions.sort();
        definition.exceptions.dedup_by(|a, b| (a.address, a.port) == (b.address, b.port));
    }
    definition
}

fn behind(
    mirrors: &[String],
    resolvers: &[IpAddr],
    resolve: &dyn Fn(&str) -> Vec<IpAddr>,
    neighbours: &[Subnet],
) -> Vec<Exception> {
    let is_walled = |address| is_private(address) || neighbours.iter().any(|subnet| subnet.contains(address));
    let mirrors = mirrors.iter().filter_map(|url| endpoint(url).map(|at| (url, at)));
    let mirrors = mirrors.flat_map(|(url, (host, port))| {
        let reason = format!("mirror {}", address::without_user(url).0);
        let addresses = host.parse().map_or_else(|_| resolve(host), |address| vec![address]);
        addresses.into_iter().map(move |address| Exception { address, port, reason: reason.clone() })
    });
    let resolvers =
        resolvers.iter().map(|address| Exception { address: *address, port: 53, reason: "resolver".into() });
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

#[cfg(test)]
mod tests {
    use super::*;

    fn found(mirrors: &[&str], resolvers: &[&str]) -> Vec<(String, u16)> {
        let mirrors: Vec<_> = mirrors.iter().map(|&url| url.to_owned()).collect();
        let resolve = |host: &str| -> Vec<IpAddr> {
            match host {
                "mirror.lan" => vec!["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()],
                _ => vec!["151.101.2.132".parse().unwrap()],
            }
        };
        let resolvers: Vec<IpAddr> = resolvers.iter().map(|text| text.parse().unwrap()).collect();
        behind(&mirrors, &resolvers, &resolve, &["203.0.113.0/24".parse().unwrap()])
            .into_iter()
            .map(|exception| (exception.address.to_string(), exception.port))
            .collect()
    }

    #[test]
    fn public_mirrors_and_resolvers_need_none() {
        assert_eq!(found(&["http://deb.example/debian", "file:///srv/debian"], &["9.9.9.9"]), []);
    }

    #[test]
    fn private_ones_are_named_with_their_port_alone() {
        assert_eq!(
            found(&["http://mirror.lan:3142/debian", "https://user:pw@192.168.1.4/d"], &["192.168.1.1"]),
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
        assert_eq!(found(&["http://203.0.113.7/debian"], &[]), [("203.0.113.7".into(), 80)]);
    }

    #[test]
    fn the_stub_of_the_host_is_not_an_address_of_the_guest() {
        assert_eq!(found(&["http://[::1]/d"], &["127.0.0.53"]), []);
    }

    #[test]
    fn a_password_is_not_shown() {
        let mirror = ["http://u:secret@10.0.0.1/debian".to_owned()];
        let found = exceptions(&mirror, &[], &|_| Vec::new());
        assert_eq!(found[0].reason, "mirror http://10.0.0.1/debian");
    }
}
