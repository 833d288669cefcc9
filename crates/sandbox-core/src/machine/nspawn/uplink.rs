//! What networkd on the host gives a machine's link: an address for each end, a way out, and resolvers.
//!
//! The file that systemd ships for `ve-*` links would do, but for three things: it tells guests of resolvers
//! only where the host's uplink is networkd's own or systemd-resolved runs (not so on a plain Debian, where
//! `/etc/resolv.conf` is all there is); it announces the host over LLDP; and with its IPv6 masquerade the
//! host, before systemd 256, would stop listening to its own routers.
//!
//! **Source**: systemd.network(5); `80-container-ve.network` of systemd 252 and 257.

use std::{fmt::Write, fs, io, net::IpAddr, path::Path};

use futures_lite::future::block_on;

use super::{
    error::Error,
    files,
    machined::{BUS, Host},
};
use crate::machine::network;

/// The file, gone after a reboot and written again before the first machine starts.
const FILE: &str = "/run/systemd/network/60-sandbox.network";

/// Writes networkd's file for links of ours.
///
/// The link has no IPv6 address on the host's end: guests are offered none beyond it, and networkd's DHCP server would
/// wait for it.
///
/// Without a resolver networkd finds out itself; the host's loopback is its address on the link.
pub(super) fn settings(resolvers: &[IpAddr]) -> String {
    let mut text = format!(
        "# Written by sandbox.\n\n[Match]\nName={}*\n\n[Network]\nAddress=0.0.0.0/28\nDHCPServer=yes\n\
         IPMasquerade=no\nLinkLocalAddressing=no\nIPv6AcceptRA=no\nIPv6SendRA=no\nLLDP=no\nEmitLLDP=no\n",
        network::PREFIX
    );
    let mut words: Vec<String> = Vec::new();
    for resolver in resolvers.iter().filter(|resolver| resolver.is_ipv4()) {
        let word = if resolver.is_loopback() { "_server_address".into() } else { resolver.to_string() };
        if !words.contains(&word) {
            words.push(word);
        }
    }
    if !words.is_empty() {
        let _ = writeln!(text, "\n[DHCPServer]\nDNS={}", words.join(" "));
    }
    text
}

/// Tells whether the host's address on a link is among the resolvers that its guest is given.
pub(super) fn serves_names(resolvers: &[IpAddr]) -> bool {
    resolvers.iter().any(|resolver| resolver.is_ipv4() && resolver.is_loopback())
}

/// Makes networkd serve the links of ours, unless one is there and served already.
pub(super) fn serve(resolvers: &[IpAddr]) -> Result<(), Error> {
    let text = settings(resolvers);
    let path = Path::new(FILE);
    let present = fs::read_to_string(path).ok();
    // To reconfigure a link that is in use would take its guest's address away.
    if present.as_ref() == Some(&text) || (present.is_some() && has_links()) {
        return Ok(());
    }
    files::write(path, &text)?;
    block_on(async { Host::connect().await?.reload_network().await })
}

/// Tells networkd, where it runs, to leave a link alone that is about to be made. May be repeated.
pub(in crate::machine) fn leave_alone(link: &str) -> Result<(), Error> {
    let text = format!("# Written by sandbox.\n\n[Match]\nName={link}\n\n[Link]\nUnmanaged=yes\n");
    if !Path::new(BUS).exists() || !files::ensure(Path::new(&file_of(link)), &text)? {
        return Ok(());
    }
    block_on(async { Host::connect().await?.reload_network().await })
}

/// Takes back what [`leave_alone`] said.
pub(in crate::machine) fn manage_again(link: &str) -> Result<(), Error> {
    let path = file_of(link);
    if !Path::new(&path).exists() {
        return Ok(());
    }
    files::remove(Path::new(&path))?;
    block_on(async { Host::connect().await?.reload_network().await })
}

/// Before [`FILE`], which matches the link too.
fn file_of(link: &str) -> String {
    format!("/run/systemd/network/50-sandbox-{link}.network")
}

/// Takes the file away again.
pub(super) async fn withdraw(host: &Host) -> Result<(), Error> {
    if !Path::new(FILE).exists() {
        return Ok(());
    }
    files::remove(Path::new(FILE))?;
    host.reload_network().await
}

/// Gives the host's resolvers where networkd would not find them itself.
pub(super) fn resolvers() -> Result<Vec<IpAddr>, Error> {
    let [resolved, plain] = network::UPLINK_RESOLVERS;
    if Path::new(resolved).exists() {
        return Ok(Vec::new());
    }
    Ok(network::nameservers(&read(plain)?).collect())
}

/// Reads the file that names the resolvers a guest is told of.
pub(super) fn resolver_file() -> Result<String, Error> {
    let [resolved, plain] = network::UPLINK_RESOLVERS;
    read(if Path::new(resolved).exists() { resolved } else { plain })
}

fn read(path: &str) -> Result<String, Error> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        other => other.map_err(|source| Error::File { path: path.into(), done: "read", source }),
    }
}

fn has_links() -> bool {
    let links = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    links.into_iter().any(|link| link.file_name().to_string_lossy().starts_with(network::PREFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dns(resolvers: &[&str]) -> Option<String> {
        let resolvers: Vec<_> = resolvers.iter().map(|text| text.parse().unwrap()).collect();
        settings(&resolvers).lines().find_map(|line| line.strip_prefix("DNS=")).map(str::to_owned)
    }

    #[test]
    fn resolvers_are_handed_on_as_the_guest_can_reach_them() {
        assert_eq!(dns(&[]), None);
        assert_eq!(dns(&["192.168.1.1", "9.9.9.9", "fd00::1"]), Some("192.168.1.1 9.9.9.9".into()));
        assert_eq!(dns(&["127.0.0.1", "127.0.0.2"]), Some("_server_address".into()));
        assert_eq!(dns(&["::1"]), None);
        let serves = |text: &str| serves_names(&[text.parse().unwrap()]);
        assert_eq!(["127.0.0.53", "192.168.1.1", "::1"].map(serves), [true, false, false]);
    }

    #[test]
    fn the_file_serves_our_links_alone() {
        let text = settings(&[]);
        assert!(text.contains("[Match]\nName=ve-sb*\n"), "{text}");
        assert!(text.contains("EmitLLDP=no\n"), "a guest must not be told about the host");
    }
}
