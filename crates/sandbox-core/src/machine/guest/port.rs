//! Whether something listens in a machine.

use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

use super::{addresses, apart::apart, enter::EnterError};
use crate::machine::Leader;

/// How long one attempt may take: nothing is far away.
const PATIENCE: Duration = Duration::from_millis(500);

/// Tells whether a TCP connection to a port of a machine is taken, also where it listens on its own loopback alone.
///
/// # Errors
/// Where the machine's network namespace cannot be entered.
pub fn is_open(leader: &Leader, port: u16) -> Result<bool, EnterError> {
    let mut all = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    all.extend(addresses(leader)?);
    in_network(leader, || {
        let mut addresses = all.into_iter().map(|address| SocketAddr::new(address, port));
        addresses.any(|address| TcpStream::connect_timeout(&address, PATIENCE).is_ok())
    })
}

/// Does something in a machine's network, on a thread of its own.
///
/// # Errors
/// Where the machine's network namespace cannot be entered.
pub(super) fn in_network<R: Send>(leader: &Leader, work: impl FnOnce() -> R + Send) -> Result<R, EnterError> {
    let failed = |step| move |source| EnterError::Step { step, source };
    let namespace = File::open(format!("/proc/{}/ns/net", leader.pid))
        .map_err(failed("opening the machine's network namespace"))?;
    let done = apart(|| {
        nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNET)?;
        Ok(work())
    });
    done.map_err(|errno: nix::errno::Errno| failed("entering the machine's network")(errno.into()))
}
