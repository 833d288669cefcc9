//! What networkd on the host gives a machine's link: an address for each end, a way out, and resolvers.
//!
//! The file that systemd ships for `ve-*` links would do, but for three things: it tells guests of resolvers
//! only where the host's uplink is networkd's own or systemd-resolved runs (not so on a plain Debian, where
//! `/etc/resolv.conf` is all there is); it announces the host over LLDP; and with its IPv6 masquerade the
//! host, before systemd 256, would stop listening to its own routers.
//!
//! **Source**: systemd.network(5); `80-container-ve.network` of systemd 252 and 257.

use std::{fmt::Write, fs, path::Path};

use futures_lite::future::block_on;

use super::{
    error::Error,
    files,
    machined::{BUS, Host},
};
use crate::machine::network::{self, Names};

/// The file, gone after a reboot and written again before the first machine starts.
const FILE: &str = "/run/systemd/network/60-sandbox.network";

/// Where systemd-resolved lists the resolvers beyond the host, which networkd reads too.
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// The word for the host's address on the link.
///
/// **Source**: systemd.network(5), `[DHCPServer] DNS=`.
const SERVER: &str = "_server_address";

/// Writes networkd's file for links of ours.
///
/// The link has no IPv6 address on the host's end: guests are offered none beyond it, and networkd's DHCP server would
/// wait for it.
///
/// Where systemd-resolved runs and knows resolvers beyond the host, networkd finds them itself, also when they change.
fn settings(names: &Names, resolved: bool) -> String {
    let mut text = format!(
        "# Written by sandbox.\n\n[Match]\nName={}*\n\n[Network]\nAddress=0.0.0.0/28\nDHCPServer=yes\n\
         IPMasquerade=no\nLinkLocalAddressing=no\nIPv6AcceptRA=no\nIPv6SendRA=no\nLLDP=no\nEmitLLDP=no\n",
        network::PREFIX
    );
    let words = match names {
        Names::Uplink(_) if resolved => Vec::new(),
        Names::Uplink(resolvers) => resolvers.iter().map(ToString::to_string).collect(),
        Names::Host | Names::Forwarded => vec![SERVER.to_owned()],
        Names::Missing => Vec::new(),
    };
    if !words.is_empty() {
        let _ = writeln!(text, "\n[DHCPServer]\nDNS={}", words.join(" "));
    }
    text
}

/// Reports whether a file gives guests the host's address on their link as their resolver.
pub(super) fn serves_names(text: &str) -> bool {
    text.lines().any(|line| line.strip_prefix("DNS=") == Some(SERVER))
}

/// Returns the file that is there.
pub(super) fn present() -> String {
    fs::read_to_string(FILE).unwrap_or_default()
}

/// Returns what the file must be for a machine that starts now. As long as other machines have links it stays what it is:
/// to reconfigure a link that is in use would take its guest's address away.
pub(super) fn wanted(names: &Names) -> String {
    let present = present();
    if !present.is_empty() && has_links() {
        return present;
    }
    settings(names, Path::new(RESOLVED).exists())
}

/// Makes networkd serve sandbox's links, unless it does so already.
pub(super) fn serve(text: &str) -> Result<(), Error> {
    if present() == text {
        return Ok(());
    }
    files::write(Path::new(FILE), text)?;
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

fn has_links() -> bool {
    let links = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    links.into_iter().any(|link| link.file_name().to_string_lossy().starts_with(network::PREFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dns(names: &Names, resolved: bool) -> Option<String> {
        settings(names, resolved).lines().find_map(|line| line.strip_prefix("DNS=")).map(str::to_owned)
    }

    #[test]
    fn resolvers_are_handed_on_as_the_guest_can_reach_them() {
        let uplink = Names::Uplink(["192.168.1.1", "9.9.9.9"].map(|text| text.parse().unwrap()).to_vec());
        for (names, resolved, expected) in [
            (&uplink, false, Some("192.168.1.1 9.9.9.9")),
            (&uplink, true, None),
            (&Names::Host, false, Some("_server_address")),
            (&Names::Forwarded, true, Some("_server_address")),
            (&Names::Missing, false, None),
        ] {
            assert_eq!(dns(names, resolved).as_deref(), expected, "{names:?}");
            assert_eq!(serves_names(&settings(names, resolved)), names.is_host(), "{names:?}");
        }
    }

    #[test]
    fn the_file_serves_our_links_alone() {
        let text = settings(&Names::Missing, false);
        assert!(text.contains("[Match]\nName=ve-sb*\n"), "{text}");
        assert!(text.contains("EmitLLDP=no\n"), "a guest must not be told about the host");
    }
}
