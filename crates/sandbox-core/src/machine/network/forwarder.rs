//! Forwards a machine's questions for names to a resolver of the host's that the machine cannot ask itself.
//!
//! One process a link, without any privilege once it listens. It is bound to the link, so that it never hears another
//! machine, and to the host's address there; its end is the link's end. What it holds is bounded: questions, connections,
//! their sizes and their times.
//!
//! ```text
//! guest ── host0 ═ ve-sb… 10.213.4.177:53 ── forwarder (nobody) ── lo 127.0.0.1:53
//! ```

mod question;
mod stream;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
    process::Child,
    thread,
    time::{Duration, Instant},
};

use nix::{
    net::if_::if_nametoindex,
    sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, setsockopt, socket, sockopt,
    },
    unistd::{Gid, Uid, setgroups, setresgid, setresuid},
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::{
    question::{Checked, QUESTION},
    stream::Streams,
};
use super::{
    Error, PREFIX,
    background::Process,
    netlink::{News, Socket},
    resolvers::own_resolvers,
};

const PORT: u16 = 53;

/// How many questions of a machine are under way at once; those beyond wait in the socket.
const QUESTIONS: usize = 64;

/// How many questions are taken before answers are looked for.
const AT_ONCE: usize = 16;

/// How long a resolver may take.
pub(super) const WAIT: Duration = Duration::from_secs(3);

/// How often it looks whether the host has other resolvers now.
const PAUSE: Duration = Duration::from_secs(1);

/// How long the link may take to get an address: networkd gives it one once both ends are up.
const ADDRESS: Duration = Duration::from_secs(60);

/// `nobody` and `nogroup`.
const NOBODY: u32 = 65_534;

/// Starts a link's forwarder in the background. Where systemd does not run it, its process is returned.
///
/// # Errors
/// Where the link does not exist or no process can be started.
pub(super) fn start(program: &Path, link: &str) -> Result<Option<Child>, Error> {
    let failed = |source| Error::Forwarder { link: link.to_owned(), source };
    let index = if_nametoindex(link).map_err(|errno| failed(errno.into()))?;
    // a link of the same name that comes later has another one
    let (unit, number) = (format!("sandbox-names-{link}-{index}.service"), index.to_string());
    let process = Process {
        unit: &unit,
        properties: &[
            "Description=Names for a sandbox machine",
            "Restart=on-failure",
            "RestartSec=200ms",
            "NoNewPrivileges=yes",
            "ProtectSystem=strict",
            "CapabilityBoundingSet=CAP_NET_BIND_SERVICE CAP_NET_RAW CAP_SETUID CAP_SETGID",
            "MemoryMax=64M",
            "TasksMax=32",
        ],
        words: &["forward-names", link, &number],
    };
    if process.start_unit(program).unwrap_or(false) {
        return Ok(None);
    }
    process.start(program).map(Some).map_err(failed)
}

/// Returns the host's address on a link.
pub(super) fn address(link: &str) -> Option<Ipv4Addr> {
    let all = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let mut own = all.filter(|found| found.interface_name == link);
    own.find_map(|found| Some(found.address?.as_sockaddr_in()?.ip()))
}

/// Forwards the questions that come by a link until it is gone: the body of the hidden verb. `index` distinguishes a
/// link from a later one of the same name.
///
/// Where another server has the address it is left to answer.
///
/// # Errors
/// Where it cannot listen.
pub fn forward(link: &str, index: u32) -> Result<(), Error> {
    let failed = |source| Error::Forwarder { link: link.to_owned(), source };
    if !link.starts_with(PREFIX) {
        return Err(failed(io::ErrorKind::InvalidInput.into()));
    }
    let is_there = || if_nametoindex(link).is_ok_and(|found| found == index);
    let Some(address) = wait_for_address(link, &is_there) else { return Ok(()) };
    let at = SockaddrIn::from(std::net::SocketAddrV4::new(address, PORT));
    let (datagrams, streams) =
        match (bound(link, SockType::Datagram, &at), bound(link, SockType::Stream, &at)) {
            (Ok(datagrams), Ok(streams)) => (datagrams, streams),
            (Err(error), _) | (_, Err(error)) if error.kind() == io::ErrorKind::AddrInUse => return Ok(()),
            (Err(error), _) | (_, Err(error)) => return Err(failed(error)),
        };
    let news = Socket::of_news(News::Routes).map_err(failed)?;
    drop_privileges().map_err(failed)?;
    Forwarder::new(datagrams.into(), streams.into())
        .and_then(|mut forwarder| {
            while is_there() {
                forwarder.turn(Some(&news))?;
            }
            Ok(())
        })
        .map_err(failed)
}

fn wait_for_address(link: &str, is_there: &dyn Fn() -> bool) -> Option<Ipv4Addr> {
    let began = Instant::now();
    while is_there() && began.elapsed() < ADDRESS {
        if let Some(address) = address(link) {
            return Some(address);
        }
        thread::sleep(Duration::from_millis(20));
    }
    None
}

/// Opens a socket on the host's address of a link that hears that link alone.
///
/// **Source**: socket(7), `SO_BINDTODEVICE`.
fn bound(link: &str, kind: SockType, at: &SockaddrIn) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Inet, kind, flags, None)?;
    setsockopt(&socket, sockopt::BindToDevice, &link.into())?;
    if kind == SockType::Stream {
        // connections of a machine that was restarted do not keep the port
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    }
    bind(std::os::fd::AsRawFd::as_raw_fd(&socket), at)?;
    if kind == SockType::Stream {
        listen(&socket, Backlog::new(16)?)?;
    }
    Ok(socket)
}

/// Becomes a user who owns nothing; all capabilities go with that.
///
/// **Source**: capabilities(7), "Effect of user ID changes on capabilities".
fn drop_privileges() -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    setgroups(&[])?;
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    setresgid(gid, gid, gid)?;
    Ok(setresuid(uid, uid, uid)?)
}

/// A question under way.
struct Asked {
    from: SocketAddr,
    message: Vec<u8>,
    /// To the resolver that is asked.
    socket: UdpSocket,
    /// The next one, should this not answer.
    next: usize,
    until: Instant,
}

struct Forwarder {
    datagrams: UdpSocket,
    listener: TcpListener,
    streams: Streams,
    asked: Vec<Asked>,
    resolvers: Vec<SocketAddr>,
    looked: Instant,
    buffer: Vec<u8>,
}

impl Forwarder {
    fn new(datagrams: UdpSocket, listener: TcpListener) -> io::Result<Self> {
        datagrams.set_nonblocking(true)?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            datagrams,
            listener,
            streams: Streams::default(),
            asked: Vec::new(),
            resolvers: resolvers(),
            looked: Instant::now(),
            buffer: vec![0; usize::from(u16::MAX)],
        })
    }

    /// Waits for something to do, and does it.
    fn turn(&mut self, news: Option<&Socket>) -> io::Result<()> {
        let until = self.asked.iter().map(|asked| asked.until).min();
        let left = until.map_or(PAUSE, |until| until.saturating_duration_since(Instant::now())).min(PAUSE);
        let mut ready: Vec<PollFd<'_>> =
            self.asked.iter().map(|asked| PollFd::new(&asked.socket, PollFlags::IN)).collect();
        ready.push(PollFd::new(&self.listener, PollFlags::IN));
        ready.extend(news.map(|news| PollFd::from_borrowed_fd(news.as_fd(), PollFlags::IN)));
        if self.asked.len() < QUESTIONS {
            ready.push(PollFd::new(&self.datagrams, PollFlags::IN));
        }
        match poll(&mut ready, Timespec::try_from(left).ok().as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        drop(ready);
        if let Some(news) = news {
            news.drain();
        }
        if self.looked.elapsed() >= PAUSE {
            self.resolvers = resolvers();
            self.looked = Instant::now();
        }
        self.answer();
        self.ask();
        if let Ok((stream, _)) = self.listener.accept() {
            self.streams.serve(stream, &self.resolvers);
        }
        Ok(())
    }

    /// Takes questions.
    fn ask(&mut self) {
        for _ in 0..AT_ONCE {
            if self.asked.len() >= QUESTIONS {
                return;
            }
            let Ok((length, from)) = self.datagrams.recv_from(&mut self.buffer[..=QUESTION]) else { return };
            let message = self.buffer[..length].to_vec();
            match question::check(&message) {
                Checked::Question => self.try_next(message, from, 0),
                // one that cannot be sent is asked again
                Checked::Refused(answer) => drop(self.datagrams.send_to(&answer, from)),
                Checked::Dropped => {}
            }
        }
    }

    /// Asks a resolver, or the next where it cannot be asked.
    fn try_next(&mut self, message: Vec<u8>, from: SocketAddr, first: usize) {
        for (at, resolver) in self.resolvers.iter().enumerate().skip(first) {
            if let Ok(socket) = connected(*resolver, &message) {
                let until = Instant::now() + WAIT;
                self.asked.push(Asked { from, message, socket, next: at + 1, until });
                return;
            }
        }
        let _ = self.datagrams.send_to(&question::failure(&message), from);
    }

    /// Takes answers, and asks the next resolver where there is none.
    fn answer(&mut self) {
        let now = Instant::now();
        for asked in std::mem::take(&mut self.asked) {
            match asked.socket.recv(&mut self.buffer) {
                Ok(length) if question::answers(&self.buffer[..length], &asked.message) => {
                    let _ = self.datagrams.send_to(&self.buffer[..length], asked.from);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && now < asked.until => {
                    self.asked.push(asked);
                }
                Ok(_) if now < asked.until => self.asked.push(asked),
                _ => self.try_next(asked.message, asked.from, asked.next),
            }
        }
    }
}

/// Lists what the host's own programs ask.
fn resolvers() -> Vec<SocketAddr> {
    own_resolvers().into_iter().map(|address| SocketAddr::new(address, PORT)).collect()
}

/// Sends a question from a socket that hears its resolver alone.
fn connected(resolver: SocketAddr, message: &[u8]) -> io::Result<UdpSocket> {
    let any = if resolver.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.set_nonblocking(true)?;
    socket.connect(resolver)?;
    socket.send(message)?;
    Ok(socket)
}

#[cfg(test)]
mod tests;
