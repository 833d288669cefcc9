//! The wall around machines: one table of the host's packet filter, where the guest's root cannot reach.
//!
//! A link between guest and host puts every service of the host, and the local network behind it, within
//! the guest's reach. The table lets a machine reach the internet and nothing else: not the host (but for
//! DHCP and DNS where the host serves them on the link), no private address and no network that the host is on but for
//! the definition's exceptions, no other machine. What comes from a link of ours that the table does not know is
//! dropped. A process keeps the table as it is ([`watch`]).

mod background;
mod error;
mod exception;
mod forwarder;
mod forwarding;
mod link;
mod names;
mod netlink;
mod nft;
mod obstacles;
mod range;
mod resolvers;
mod ruleset;
mod stamp;
mod watch;
mod ways;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::Path,
    process::Child,
    thread,
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};

pub(super) use self::range::{PRIVATE4, PRIVATE6};
use self::stamp::{Part, SHARED, Table, WAYS};
pub use self::{
    error::Error,
    exception::{exceptions, with_resolvers},
    forwarder::forward,
    link::{harden, unhardened},
    names::Names,
    obstacles::{Obstacle, obstacles},
    range::{Subnet, is_private},
    resolvers::nameservers,
    stamp::Wall,
    watch::keep_walls,
    ways::{networks, on_link},
};
use super::{Definition, Leader, Network, guest};
use crate::{
    name::MachineName,
    report::{Event, Reporter},
};

/// A machine's own end of its link, on every backend.
pub const GUEST_LINK: &str = "host0";

/// How the host's side of every machine's link begins; networkd serves `ve-*` without further ado.
pub const PREFIX: &str = "ve-sb";

/// Names the host's side of a machine's link, known before the machine starts.
///
/// **Shape**: `ve-sb` and eight hex digits of the name's SHA-256: 13 bytes, the kernel takes 15.
#[must_use]
pub fn interface(name: &MachineName) -> String {
    let digest = Sha256::digest(name.as_str());
    digest.iter().take(4).fold(PREFIX.to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// Tells whether a machine has a link to the host.
#[must_use]
pub const fn has_link(network: Network) -> bool {
    matches!(network, Network::Internet | Network::Open)
}

/// What the host serves on a machine's link, at its own address there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Addresses by DHCP.
    pub dhcp: bool,
    /// Names by DNS: the machine is given the host's address as its resolver.
    pub dns: bool,
}

/// Puts a machine's wall up before its link exists, and has it kept. May be repeated.
///
/// What leaves a link for the world gets the host's address.
///
/// # Errors
/// Where the host has no packet filter, refuses the rules, cannot keep them, or does not forward packets and cannot be
/// made to: then the machine must not start.
pub fn wall_up(definition: &Definition, served: Served, reporter: &dyn Reporter) -> Result<(), Error> {
    if !has_link(definition.network) {
        return wall_down(&definition.name);
    }
    let rules = ruleset::up(definition, served);
    nft::with_lock(|| {
        let parts = [
            (SHARED.to_owned(), ruleset::shared()),
            (WAYS.to_owned(), ways::Ways::read()?.commands()),
            (interface(&definition.name), rules),
        ];
        let table = Table::read().unwrap_or_default();
        let missing: Vec<Part> = parts.into_iter().filter(|part| !stamp::stands(part, &table)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let _released = watch::release()?;
        put(&missing)
    })?;
    watch::ensure(&definition.program)?;
    if forwarding::enable()? {
        reporter.report(Event::Notice { text: SWITCHED.to_owned() });
    }
    Ok(())
}

/// What is said when a machine's start has changed the host.
const SWITCHED: &str = "turned on IPv4 forwarding on this host (net.ipv4.ip_forward=1)";

/// Starts the forwarder of a machine's link where questions for names need one. The machine runs without it, and the
/// start's caller is notified.
pub(super) fn forward_names(definition: &Definition, names: &Names) -> Option<Child> {
    if *names != Names::Forwarded {
        return None;
    }
    forwarder::start(&definition.program, &interface(&definition.name)).ok().flatten()
}

/// A look at what a machine's start changes of the host's network, and what is in the machine's way there.
///
/// The wall is put up by a unit, a hook or a supervisor, whose messages go to a log: the caller of the start gets them from
/// here.
#[derive(Debug)]
pub struct Outlook {
    forwards: bool,
    obstacles: std::thread::JoinHandle<Vec<Obstacle>>,
    names: Names,
    link: String,
}

/// How long a forwarder may take until it listens, once the machine has an address.
const LISTENS: Duration = Duration::from_secs(2);

impl Outlook {
    /// Looks at the host before a machine starts; the machine's start need not wait for it.
    #[must_use]
    pub fn new(definition: &Definition) -> Option<Self> {
        has_link(definition.network).then(|| {
            let names = Names::of_host();
            let of_others = names.clone();
            Self {
                forwards: forwarding::is_on().unwrap_or(true),
                obstacles: thread::spawn(move || obstacles::obstacles(&of_others)),
                names,
                link: interface(&definition.name),
            }
        })
    }

    /// Reports what was found once the machine runs. Where nothing is known to be in its way, a packet and a name are tried
    /// from it, if it has an address.
    pub fn report(self, has_address: Option<&Leader>, reporter: &dyn Reporter) {
        if !self.forwards && forwarding::is_on().unwrap_or_default() {
            reporter.report(Event::Notice { text: SWITCHED.to_owned() });
        }
        let obstacles = self.obstacles.join().unwrap_or_default();
        for Obstacle { text, cure } in &obstacles {
            reporter.report(Event::Warning { text: format!("{text}; let them pass:  {cure}") });
        }
        let resolvers = match &self.names {
            Names::Missing => {
                return reporter.report(Event::Warning { text: self.names.sentence() });
            }
            Names::Forwarded if !is_forwarded(&self.link) => {
                return reporter.report(Event::Warning { text: names::NOT_FORWARDED.to_owned() });
            }
            Names::Forwarded => {
                reporter.report(Event::Notice { text: self.names.sentence() });
                own_address(&self.link)
            }
            Names::Host => own_address(&self.link),
            Names::Uplink(resolvers) => resolvers.clone(),
        };
        let tries = has_address.filter(|_| obstacles.is_empty() && !resolvers.is_empty());
        let answered = tries.map(|leader| guest::is_answered(leader, &resolvers));
        if matches!(answered, Some(Ok(false))) {
            reporter.report(Event::Warning { text: unanswered(&resolvers) });
        }
    }
}

/// Returns the address of the host's end of a link.
fn own_address(link: &str) -> Vec<IpAddr> {
    forwarder::address(link).map(IpAddr::V4).into_iter().collect()
}

/// Returns the warning about a machine that its resolvers do not answer.
fn unanswered(resolvers: &[IpAddr]) -> String {
    let words: Vec<_> = resolvers.iter().map(ToString::to_string).collect();
    format!(
        "no resolver answers the machine ({}), so that it resolves no names: try whether they answer this host, and see \
         what machines are kept from with:  sandbox doctor",
        words.join(", ")
    )
}

/// Waits until the forwarder of a link listens.
fn is_forwarded(link: &str) -> bool {
    let began = Instant::now();
    while !names::is_served(link) {
        if began.elapsed() > LISTENS {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
    true
}

/// Puts parts of the table up in one transaction and stores them.
fn put(parts: &[Part]) -> Result<(), Error> {
    let commands: String = parts.iter().map(|(_, commands)| commands.as_str()).collect();
    nft::put(&commands)?;
    let table = Table::read()?;
    parts.iter().try_for_each(|part| stamp::store(part, &table))
}

/// Tells whether the table is there, so that some machine has a wall.
///
/// # Errors
/// Where the packet filter cannot be asked.
pub fn stands() -> Result<bool, Error> {
    Ok(nft::is_installed() && nft::has_table()?)
}

/// Tells what became of the walls of machines that have a link, for one that shows many machines: a table that the process
/// that keeps it owns is not listed, since no other process can have changed it.
///
/// # Errors
/// Where the packet filter cannot be asked.
pub fn walls_at_a_glance(names: &[MachineName]) -> Result<BTreeMap<MachineName, Wall>, Error> {
    let of = |name: &MachineName| [SHARED, WAYS, &interface(name)].into_iter().all(stamp::is_stored);
    if is_kept() && netlink::is_owned(ruleset::TABLE).unwrap_or_default() && names.iter().all(of) {
        return Ok(names.iter().map(|name| (name.clone(), Wall::Up)).collect());
    }
    walls(names)
}

/// Tells what became of the walls of machines that have a link.
///
/// # Errors
/// Where the packet filter cannot be asked.
pub fn walls(names: &[MachineName]) -> Result<BTreeMap<MachineName, Wall>, Error> {
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let table = Table::read()?;
    Ok(names.iter().map(|name| (name.clone(), Wall::of(&interface(name), &table))).collect())
}

/// Tells whether a process keeps the walls.
#[must_use]
pub fn is_kept() -> bool {
    watch::is_running()
}

/// Puts up every wall that should be up and is not, and has the walls kept; `program` is the absolute path of this
/// program. Tells how many parts of the table were put up.
///
/// # Errors
/// Where the packet filter refuses, or the walls cannot be kept.
pub fn repair(program: &Path) -> Result<usize, Error> {
    if !stamp::has_links() {
        return Ok(0);
    }
    let count = nft::with_lock(|| {
        let mut parts = stamp::stored();
        let table = Table::read()?;
        parts.retain(|part| !stamp::stands(part, &table));
        if !parts.is_empty() {
            let _released = watch::release()?;
            put(&parts)?;
        }
        Ok(parts.len())
    })?;
    watch::ensure(program)?;
    Ok(count)
}

/// Takes a machine's wall down, and the table with the last one. May be repeated.
///
/// # Errors
/// Where the rules are still there.
pub fn wall_down(name: &MachineName) -> Result<(), Error> {
    nft::with_lock(|| {
        stamp::forget(&interface(name));
        let _released = watch::release()?;
        if !stands()? {
            return Ok(());
        }
        nft::apply(&ruleset::down(&interface(name)))?;
        if nft::is_deserted()? { nft::apply(&ruleset::gone()) } else { Ok(()) }
    })?;
    if !stamp::has_links() {
        watch::ended();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_has_a_name_that_the_kernel_and_networkd_take() {
        for name in ["a", "agents", &"x".repeat(63)] {
            let link = interface(&MachineName::new(name).unwrap());
            assert!(link.starts_with("ve-sb") && link.len() == 13, "{link}");
        }
        let [a, b] = ["agents", "agent"].map(|name| interface(&MachineName::new(name).unwrap()));
        assert_ne!(a, b);
    }
}
