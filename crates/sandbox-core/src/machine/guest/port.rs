//! Whether something listens in a machine.

use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use super::{addresses, enter::EnterError};
use crate::machine::Leader;

/// How long one attempt may take: nothing is far away.
const PATIENCE: Duration = Duration::from_millis(500);

/// Tells whether a TCP connection to a port of a machine is taken, also where it listens on its own loopback alone.
///
/// # Errors
/// Where the machine's network namespace cannot be entered.
pub fn is_open(leader: &Leader, port: u16) -> Result<bool, EnterError> {
    let failed = |step| move |source| EnterError::Step { step, source };
    let mut all = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    all.extend(addresses(leader)?);
    let namespace = File::open(format!("/proc/{}/ns/net", leader.pid))
        .map_err(failed("opening the machine's network namespace"))?;
    // a thread of its own: the namespace is a thread's, and it ends with it
    let tried = thread::spawn(move || {
        nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNET)?;
        let mut addresses = all.into_iter().map(|address| SocketAddr::new(address, port));
        Ok(addresses.any(|address| TcpStream::connect_timeout(&address, PATIENCE).is_ok()))
    });
    let tried = tried.join().unwrap_or(Err(nix::errno::Errno::EIO));
    tried.map_err(|errno| failed("entering the machine's network")(errno.into()))
}
