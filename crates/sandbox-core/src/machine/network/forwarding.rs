//! Whether the host forwards packets at all.

use std::fs;

use super::Error;

const SWITCH: &str = "/proc/sys/net/ipv4/ip_forward";

/// Returns whether the host forwards IPv4 packets.
pub(super) fn is_on() -> Result<bool, Error> {
    let failed = |source| Error::Forwarding { source };
    Ok(fs::read_to_string(SWITCH).map_err(failed)?.trim() == "1")
}

/// Turns IPv4 forwarding on, and returns whether it was off.
///
/// networkd's `IPMasquerade=` does so for a link of its own, but from systemd 256 on no longer for the whole
/// host, which the way out needs.
pub(super) fn enable() -> Result<bool, Error> {
    let failed = |source| Error::Forwarding { source };
    if is_on()? {
        return Ok(false);
    }
    fs::write(SWITCH, "1").map_err(failed)?;
    Ok(true)
}
