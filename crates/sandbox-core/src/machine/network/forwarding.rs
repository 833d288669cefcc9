//! Whether the host passes packets on at all.

use std::fs;

use super::Error;

const SWITCH: &str = "/proc/sys/net/ipv4/ip_forward";

/// Turns IPv4 forwarding on, and tells whether it was off.
///
/// networkd's `IPMasquerade=` does so for a link of its own, but from systemd 256 on no longer for the whole
/// host, which the way out needs.
pub(super) fn enable() -> Result<bool, Error> {
    let failed = |source| Error::Forwarding { source };
    if fs::read_to_string(SWITCH).map_err(failed)?.trim() == "1" {
        return Ok(false);
    }
    fs::write(SWITCH, "1").map_err(failed)?;
    Ok(true)
}

/// Says what to do where another firewall drops what is passed on, as Docker does.
pub(super) fn blocked() -> String {
    "the host's FORWARD chain drops by default (Docker's does), which cuts machines off; let them through \
     with `iptables -I DOCKER-USER -i ve-sb+ -j ACCEPT` and `iptables -I DOCKER-USER -o ve-sb+ -m conntrack \
     --ctstate RELATED,ESTABLISHED -j ACCEPT`"
        .to_owned()
}
