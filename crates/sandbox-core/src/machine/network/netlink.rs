//! What is asked of the kernel without a program between: its routes, news of them, and the ownership of a table.
//!
//! **Source**: netlink(7), rtnetlink(7); `linux/netfilter/nf_tables.h`, `nf_tables_updtable` of the kernel: a table with
//! `NFT_TABLE_F_PERSIST` that no socket owns can be taken over by one; from then on no other may change it, a flush of
//! the whole ruleset passes it over, and it stays when the socket is closed.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};

const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;
const ERROR: u16 = 2;
const DONE: u16 = 3;

/// `NFT_MSG_NEWTABLE`; `NFT_MSG_GETTABLE` is the next.
const NEW_TABLE: u16 = 10 << 8;
/// `NFPROTO_INET`.
const INET: u8 = 1;
/// `NFTA_TABLE_NAME`.
const NAME: u16 = 1;
/// `NFTA_TABLE_FLAGS`.
const FLAGS: u16 = 2;

/// A socket of the kernel's.
pub(super) struct Socket(OwnedFd);

/// What happens on the host that a [`Socket`] may be notified of.
#[derive(Clone, Copy, Debug)]
pub(super) enum News {
    /// Links, addresses and routes.
    Routes,
    /// Rules of the packet filter.
    Rules,
}

impl Socket {
    /// Opens a socket that is notified.
    pub(super) fn of_news(news: News) -> io::Result<Self> {
        // RTMGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE; NFNLGRP_NFTABLES
        let (protocol, groups) = match news {
            News::Routes => (SockProtocol::NetlinkRoute, 0x1 | 0x10 | 0x40 | 0x100 | 0x400),
            News::Rules => (SockProtocol::NetlinkNetFilter, 1 << 6),
        };
        Self::open(protocol, groups, SockFlag::SOCK_NONBLOCK)
    }

    fn open(protocol: SockProtocol, groups: u32, flags: SockFlag) -> io::Result<Self> {
        let flags = flags | SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        Ok(Self(socket))
    }

    /// Takes what there is to be read away, and tells whether there was anything. What was lost counts.
    pub(super) fn drain(&self) -> bool {
        let mut any = false;
        let mut buffer = vec![0; 32 << 10];
        loop {
            match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(_) | Err(nix::errno::Errno::ENOBUFS | nix::errno::Errno::EINTR) => any = true,
                Err(_) => return any,
            }
        }
    }

    fn messages(&self) -> io::Result<Vec<(u16, Vec<u8>)>> {
        let mut buffer = vec![0; 256 << 10];
        let length = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let mut rest = buffer.get(..length).unwrap_or_default();
        let mut all = Vec::new();
        while let Some(length) = rest.first_chunk::<4>().map(|raw| u32::from_ne_bytes(*raw) as usize) {
            let (Some(kind), Some(body)) = (number16(rest, 4), rest.get(16..length)) else { break };
            all.push((kind, body.to_vec()));
            rest = rest.get(aligned(length)..).unwrap_or_default();
        }
        Ok(all)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Makes a table of family `inet` belong to the socket that is returned, until it is closed. The table must exist: the
/// kernel would make it, empty.
///
/// # Errors
/// Where another socket owns it, or it is not one that may be taken over: the kernel is older than 6.9, or the table was
/// not made to stay.
pub(super) fn own(table: &str) -> io::Result<Socket> {
    const BATCH_BEGIN: u16 = 0x10;
    const BATCH_END: u16 = 0x11;
    /// `NFT_TABLE_F_OWNER` and `NFT_TABLE_F_PERSIST`.
    const OWNED: u32 = 0x2 | 0x4;
    let socket = Socket::open(SockProtocol::NetlinkNetFilter, 0, SockFlag::empty())?;
    // family, version, and in a batch's ends the subsystem, nf_tables
    let batch = [0, 0, 0, 10];
    let body = [
        [INET, 0, 0, 0].to_vec(),
        attribute(NAME, &terminated(table)),
        attribute(FLAGS, &OWNED.to_be_bytes()),
    ];
    let parts = [
        message(BATCH_BEGIN, REQUEST, &batch),
        message(NEW_TABLE, REQUEST | ACK, &body.concat()),
        message(BATCH_END, REQUEST, &batch),
    ];
    send(socket.0.as_raw_fd(), &parts.concat(), MsgFlags::empty())?;
    for (kind, body) in socket.messages()? {
        if kind == ERROR {
            let code = body.first_chunk::<4>().map_or(0, |raw| i32::from_ne_bytes(*raw));
            if code != 0 {
                return Err(io::Error::from_raw_os_error(-code));
            }
        }
    }
    Ok(socket)
}

/// Tells whether a socket owns a table of family `inet`, so that no other can change it.
///
/// # Errors
/// Where the kernel does not tell, or has no such table.
pub(super) fn is_owned(table: &str) -> io::Result<bool> {
    /// `NFT_TABLE_F_OWNER`.
    const OWNER: u32 = 0x2;
    let socket = Socket::open(SockProtocol::NetlinkNetFilter, 0, SockFlag::empty())?;
    let body = [&[INET, 0, 0, 0][..], &attribute(NAME, &terminated(table))].concat();
    send(socket.0.as_raw_fd(), &message(NEW_TABLE | 1, REQUEST, &body), MsgFlags::empty())?;
    for (kind, body) in socket.messages()? {
        if kind == NEW_TABLE {
            let found = attributes(body.get(4..).unwrap_or_default());
            let flags =
                found.iter().find(|(kind, _)| *kind == FLAGS).and_then(|(_, value)| value.first_chunk::<4>());
            return Ok(flags.is_some_and(|raw| u32::from_be_bytes(*raw) & OWNER != 0));
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

fn terminated(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// A route of the host to somewhere, by one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// Where it leads.
    pub(super) to: IpAddr,
    /// How many bits of that count.
    pub(super) bits: u8,
    /// The next hop, of whichever family.
    pub(super) gateway: Option<IpAddr>,
    /// The interface's number.
    pub(super) interface: u32,
    /// The table it is in.
    pub(super) table: u32,
}

/// Reads the host's routes that lead out, of all tables and both families; those with several next hops are listed
/// once for each.
///
/// # Errors
/// Where the kernel does not list them.
pub(super) fn routes() -> io::Result<Vec<Route>> {
    const GET_ROUTE: u16 = 26;
    const NEW_ROUTE: u16 = 24;
    let mut all = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let socket = Socket::open(SockProtocol::NetlinkRoute, 0, SockFlag::empty())?;
        let mut body = [0_u8; 12];
        body[0] = u8::try_from(family).unwrap_or_default();
        send(socket.0.as_raw_fd(), &message(GET_ROUTE, REQUEST | DUMP, &body), MsgFlags::empty())?;
        'dump: loop {
            for (kind, body) in socket.messages()? {
                match kind {
                    NEW_ROUTE => all.extend(entries(&body)),
                    DONE => break 'dump,
                    // a kernel without this family has no routes of it
                    ERROR => break 'dump,
                    _ => {}
                }
            }
        }
    }
    Ok(all)
}

/// Reads an rtmsg and its attributes.
fn entries(body: &[u8]) -> Vec<Route> {
    const UNICAST: u8 = 1;
    const TO: u16 = 1;
    const INTERFACE: u16 = 4;
    const GATEWAY: u16 = 5;
    const SEVERAL: u16 = 9;
    const TABLE: u16 = 15;
    const VIA: u16 = 18;
    let Some([family, bits, _, _, table, _, _, UNICAST, ..]) = body.first_chunk::<12>() else {
        return Vec::new();
    };
    let v4 = i32::from(*family) == libc::AF_INET;
    let unspecified = if v4 { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let mut route =
        Route { to: unspecified, bits: *bits, gateway: None, interface: 0, table: u32::from(*table) };
    let mut several = None;
    for (kind, value) in attributes(body.get(12..).unwrap_or_default()) {
        match kind {
            TO => route.to = address(value).unwrap_or(unspecified),
            INTERFACE => route.interface = number32(value),
            TABLE => route.table = number32(value),
            GATEWAY => route.gateway = address(value),
            // struct rtvia: a family, then an address of it
            VIA => route.gateway = value.get(2..).and_then(address),
            SEVERAL => several = Some(value),
            _ => {}
        }
    }
    let Some(mut rest) = several else { return vec![route] };
    let mut all = Vec::new();
    // struct rtnexthop: length, flags, hops, interface, attributes
    while let Some(length) = number16(rest, 0).map(usize::from).filter(|length| *length >= 8) {
        let Some(hop) = rest.get(..length) else { break };
        let gateway = attributes(&hop[8..]).into_iter().find_map(|(kind, value)| match kind {
            GATEWAY => address(value),
            VIA => value.get(2..).and_then(address),
            _ => None,
        });
        all.push(Route { gateway, interface: number32(&hop[4..]), ..route.clone() });
        rest = rest.get(aligned(length)..).unwrap_or_default();
    }
    all
}

fn attributes(mut rest: &[u8]) -> Vec<(u16, &[u8])> {
    let mut all = Vec::new();
    while let (Some(length), Some(kind)) = (number16(rest, 0).map(usize::from), number16(rest, 2)) {
        let Some(value) = rest.get(4..length) else { break };
        // the two highest bits are flags
        all.push((kind & 0x3fff, value));
        rest = rest.get(aligned(length)..).unwrap_or_default();
    }
    all
}

fn address(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => value.first_chunk::<4>().map(|raw| IpAddr::from(*raw)),
        16 => value.first_chunk::<16>().map(|raw| IpAddr::from(*raw)),
        _ => None,
    }
}

fn number16(value: &[u8], at: usize) -> Option<u16> {
    value.get(at..at + 2)?.first_chunk::<2>().map(|raw| u16::from_ne_bytes(*raw))
}

fn number32(value: &[u8]) -> u32 {
    value.first_chunk::<4>().map_or(0, |raw| u32::from_ne_bytes(*raw))
}

const fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let mut all = u32::try_from(16 + body.len()).unwrap_or_default().to_ne_bytes().to_vec();
    all.extend(kind.to_ne_bytes());
    all.extend(flags.to_ne_bytes());
    all.extend([0; 8]);
    all.extend(body);
    all.resize(aligned(all.len()), 0);
    all
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut all = u16::try_from(4 + value.len()).unwrap_or_default().to_ne_bytes().to_vec();
    all.extend(kind.to_ne_bytes());
    all.extend(value);
    all.resize(aligned(all.len()), 0);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route4(bits: u8, kind: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![2, bits, 0, 0, 254, 3, 0, kind, 0, 0, 0, 0];
        body.extend(attributes.concat());
        body
    }

    #[test]
    fn a_route_is_read_with_all_its_next_hops() {
        let hop = |interface: u32, kind, gateway: &[u8]| {
            let inner = attribute(kind, gateway);
            let mut all = u16::try_from(8 + inner.len()).unwrap().to_ne_bytes().to_vec();
            all.extend([0, 0]);
            all.extend(interface.to_ne_bytes());
            all.extend(inner);
            all
        };
        let via: Vec<u8> = [10, 0].into_iter().chain(Ipv6Addr::LOCALHOST.octets()).collect();
        let hops = [hop(2, 5, &[192, 0, 2, 1]), hop(3, 18, &via)].concat();
        let found = entries(&route4(0, 1, &[attribute(15, &254_u32.to_ne_bytes()), attribute(9, &hops)]));
        let told: Vec<_> =
            found.iter().map(|route| (route.interface, route.gateway.unwrap().to_string())).collect();
        assert_eq!(told, [(2, "192.0.2.1".to_owned()), (3, "::1".to_owned())]);
        assert!(found.iter().all(|route| route.to.is_unspecified() && route.bits == 0));
    }

    #[test]
    fn routes_that_lead_nowhere_and_nonsense_are_none() {
        let own = route4(32, 2, &[attribute(1, &[192, 0, 2, 7])]);
        assert_eq!(entries(&own), []);
        for end in 0..40 {
            let body = route4(24, 1, &[attribute(1, &[9, 9, 9, 0]), attribute(9, &[255; 12])]);
            let _ = entries(&body[..end.min(body.len())]);
        }
        assert_eq!(entries(&[]), []);
    }

    #[test]
    fn the_kernel_lists_its_routes() {
        routes().unwrap();
        assert!(!is_owned("no-such-table-of-sandbox").unwrap_or_default());
    }
}
