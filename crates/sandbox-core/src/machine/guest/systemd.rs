//! A guest's systemd, asked over its own private socket. No program runs in the guest for that, and it needs no D-Bus.
//!
//! systemd answers there whom the kernel names as one of the guest's processes and its root, so that a child joins the
//! guest's user, process and mount namespaces, connects, and hands the connection back. What answers may be hostile: each answer has a size and a
//! deadline, and nothing of it is believed but of the guest itself.
//!
//! **Source**: the D-Bus specification, "Message Protocol" and "Authentication Protocol"; org.freedesktop.systemd1(5);
//! unix(7), `SO_PEERCRED`.

#![allow(unsafe_code, reason = "fork, setns and what must happen between them has no safe form")]

use std::{
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::Timespec,
    process::{Pid, Signal, WaitOptions, kill_process, waitpid},
};

use super::{enter::Entry, passing};
use crate::machine::Leader;

/// Where systemd listens, whatever else is on the machine's bus.
const SOCKET: &[u8] = b"/run/systemd/private\0";

/// The largest answer that is read: a list of some thousand units.
const LARGEST: usize = 1 << 20;

/// As the guest's root, by number, without files to be passed.
const GREETING: &[u8] = b"\0AUTH EXTERNAL 30\r\nBEGIN\r\n";

/// A connection to a guest's systemd.
#[derive(Debug)]
pub struct Systemd {
    stream: UnixStream,
    greeted: bool,
    serial: u32,
}

impl Systemd {
    /// Connects to the systemd of a machine, which may be on its way up.
    ///
    /// # Errors
    /// `NotFound` and `ConnectionRefused` where it does not listen yet, `TimedOut` where the guest holds whoever comes.
    pub fn connect(leader: &Leader, patience: Duration) -> io::Result<Self> {
        let entry = Entry::open(leader).map_err(io::Error::other)?;
        // a stream: it ends with the child, whatever the child does
        let (near, far) = UnixStream::pair()?;
        let near = OwnedFd::from(near);
        let until = Instant::now() + patience;
        // SAFETY: the child makes only system calls on memory that was prepared, and never returns.
        let child = match unsafe { libc::fork() } {
            -1 => return Err(io::Error::last_os_error()),
            // SAFETY: this is the single-threaded child of a fork.
            0 => unsafe { connect_in(&entry, far.as_raw_fd()) },
            child => Pid::from_raw(child).ok_or(io::ErrorKind::NotFound)?,
        };
        drop(far);
        let came = wait_for(&near, until);
        if came.is_err() {
            let _ = kill_process(child, Signal::KILL);
        }
        let status = match came {
            // it has connected or failed, and ends
            Ok(()) => {
                waitpid(Some(child), WaitOptions::empty())?.and_then(|(_, status)| status.exit_status())
            }
            Err(_) => reap(child),
        };
        let received = came.and_then(|()| passing::receive(&near));
        let stream = received.map_err(|error| match status {
            Some(status) if status != 0 => io::Error::from_raw_os_error(status),
            _ => error,
        })?;
        let stream = UnixStream::from(stream);
        stream.set_nonblocking(true)?;
        Ok(Self { stream, greeted: false, serial: 0 })
    }

    /// Asks for the word of `systemctl is-system-running`.
    ///
    /// # Errors
    /// Where it does not answer in time, or not as systemd does.
    pub fn state(&mut self, patience: Duration) -> io::Result<String> {
        let asked = |body: &mut Writer| {
            body.text("org.freedesktop.systemd1.Manager");
            body.text("SystemState");
        };
        let answer = self.call(("org.freedesktop.DBus.Properties", "Get", "ss"), asked, patience)?;
        let mut body = Reader { bytes: &answer, at: 0 };
        if body.signature()? != "s" {
            return Err(strange());
        }
        body.text()
    }

    /// Lists the units that failed.
    ///
    /// # Errors
    /// Where it does not answer in time, or not as systemd does.
    pub fn failed(&mut self, patience: Duration) -> io::Result<Vec<String>> {
        let asked = |body: &mut Writer| body.texts(&["failed"]);
        let answer =
            self.call(("org.freedesktop.systemd1.Manager", "ListUnitsFiltered", "as"), asked, patience)?;
        units(&answer)
    }

    fn call(
        &mut self,
        (interface, member, signature): (&str, &str, &str),
        write: impl FnOnce(&mut Writer),
        patience: Duration,
    ) -> io::Result<Vec<u8>> {
        let until = Instant::now() + patience;
        self.serial += 1;
        if !self.greeted {
            // it looks at what comes behind a greeting only when more comes
            self.write(GREETING)?;
            self.line(until)?;
            self.greeted = true;
        }
        self.write(&call(self.serial, (interface, member, signature), write))?;
        loop {
            let (kind, body) = self.message(until)?;
            match kind {
                METHOD_RETURN => return Ok(body),
                ERROR => return Err(io::Error::other("systemd refused the question")),
                // signals come to whoever has a private connection
                _ => {}
            }
        }
    }

    /// Writes a few hundred bytes: a socket that does not take them at once is none of systemd's.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.stream.write(bytes)? == bytes.len() { Ok(()) } else { Err(strange()) }
    }

    /// Reads the server's half of the greeting, `OK` and its number.
    fn line(&mut self, until: Instant) -> io::Result<()> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.extend(self.read(1, until)?);
            if line.len() > 256 {
                return Err(strange());
            }
        }
        if line.starts_with(b"OK ") { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }

    fn message(&mut self, until: Instant) -> io::Result<(u8, Vec<u8>)> {
        let head = self.read(16, until)?;
        let number = |at: usize| <[u8; 4]>::try_from(&head[at..at + 4]).map(u32::from_ne_bytes);
        let (Ok(body), Ok(fields)) = (number(4), number(12)) else { return Err(strange()) };
        let (body, fields) = (body as usize, (fields as usize).next_multiple_of(8));
        if head[0] != ENDIAN || body > LARGEST || fields > LARGEST {
            return Err(strange());
        }
        self.read(fields, until)?;
        Ok((head[1], self.read(body, until)?))
    }

    fn read(&mut self, length: usize, until: Instant) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while filled < length {
            match self.stream.read(&mut bytes[filled..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait_for(&self.stream, until)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(bytes)
    }
}

fn strange() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "what answers is not systemd")
}

/// Waits until something can be read.
fn wait_for(file: &impl std::os::fd::AsFd, until: Instant) -> io::Result<()> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(file, PollFlags::IN)], Some(&left)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Gives a child's exit status; none where it does not end: what a guest mounts below the path may hold it for good.
fn reap(child: Pid) -> Option<i32> {
    for _ in 0..50 {
        match waitpid(Some(child), WaitOptions::NOHANG) {
            Ok(Some((_, status))) => return status.exit_status(),
            Ok(None) => std::thread::sleep(Duration::from_millis(1)),
            Err(_) => return None,
        }
    }
    None
}

/// The child: connects as the guest's root and hands the connection over; its exit status is the kernel's number of what
/// failed.
///
/// # Safety
/// Called once, in a freshly forked child.
unsafe fn connect_in(entry: &Entry, socket: libc::c_int) -> ! {
    let own = |failed: bool| {
        if failed {
            let errno = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
            // SAFETY: a plain system call; numbers of errors fit a status.
            unsafe { libc::_exit(errno & 0xff) }
        }
    };
    // SAFETY: only system calls, on memory of this frame and of `entry`, as after a fork of a threaded process there
    // must be. The address is as long as is said.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        let flags = entry.flags() & (libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWPID);
        own(flags != 0 && libc::setns(entry.pidfd().as_raw_fd(), flags) != 0);
        own(libc::fchdir(entry.root().as_raw_fd()) != 0 || libc::chroot(c".".as_ptr()) != 0);
        if flags & libc::CLONE_NEWUSER != 0 {
            own(libc::setresgid(0, 0, 0) != 0 || libc::setresuid(0, 0, 0) != 0);
        }
        // whoever has no number in the guest is nobody to its systemd
        let inner = libc::fork();
        own(inner < 0);
        if inner > 0 {
            libc::close(socket);
            let mut status = 0;
            libc::waitpid(inner, &raw mut status, 0);
            libc::_exit(libc::WEXITSTATUS(status))
        }
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        let stream =
            libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0);
        own(stream < 0);
        let mut address: libc::sockaddr_un = std::mem::zeroed();
        address.sun_family = libc::AF_UNIX as libc::sa_family_t;
        std::ptr::copy_nonoverlapping(SOCKET.as_ptr().cast(), address.sun_path.as_mut_ptr(), SOCKET.len());
        let length = std::mem::size_of::<libc::sockaddr_un>() as libc::socklen_t;
        own(libc::connect(stream, (&raw const address).cast(), length) != 0);
        own(!passing::send(socket, stream));
        libc::_exit(0)
    }
}

const ENDIAN: u8 = if cfg!(target_endian = "big") { b'B' } else { b'l' };
const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;

/// Writes a call of systemd's manager.
fn call(
    serial: u32,
    (interface, member, signature): (&str, &str, &str),
    write: impl FnOnce(&mut Writer),
) -> Vec<u8> {
    let mut body = Writer::default();
    write(&mut body);
    let mut fields = Writer::default();
    for (code, kind, value) in [
        (1, "o", "/org/freedesktop/systemd1"),
        (2, "s", interface),
        (3, "s", member),
        (6, "s", "org.freedesktop.systemd1"),
        (8, "g", signature),
    ] {
        fields.align(8);
        fields.0.push(code);
        fields.signature(kind);
        if kind == "g" { fields.signature(value) } else { fields.text(value) }
    }
    let mut whole = Writer(vec![ENDIAN, METHOD_CALL, 0, 1]);
    whole.number(body.0.len());
    whole.0.extend(serial.to_ne_bytes());
    whole.number(fields.0.len());
    whole.0.extend(fields.0);
    whole.align(8);
    whole.0.extend(body.0);
    whole.0
}

/// Finds the names in an answer of `ListUnitsFiltered`, of type `a(ssssssouso)`.
fn units(answer: &[u8]) -> io::Result<Vec<String>> {
    let mut body = Reader { bytes: answer, at: 0 };
    body.number()?;
    let mut names = Vec::new();
    loop {
        body.align(8);
        if body.at >= answer.len() {
            return Ok(names);
        }
        names.push(body.text()?);
        // description, load, active and sub state, what it follows, its object
        (0..6).try_for_each(|_| body.text().map(drop))?;
        body.number()?;
        // its job's kind and object
        (0..2).try_for_each(|_| body.text().map(drop))?;
    }
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn number(&mut self, number: usize) {
        self.align(4);
        self.0.extend(u32::try_from(number).unwrap_or(u32::MAX).to_ne_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len());
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn texts(&mut self, all: &[&str]) {
        let mut array = Self::default();
        all.iter().for_each(|text| array.text(text));
        self.number(array.0.len());
        self.0.extend(array.0);
    }

    fn signature(&mut self, text: &str) {
        self.0.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, length: usize) -> io::Result<&'a [u8]> {
        let end = self.at.checked_add(length).ok_or_else(strange)?;
        let taken = self.bytes.get(self.at..end).ok_or_else(strange)?;
        self.at = end;
        Ok(taken)
    }

    fn number(&mut self) -> io::Result<u32> {
        self.align(4);
        let bytes = self.take(4)?.try_into().map_err(|_| strange())?;
        Ok(u32::from_ne_bytes(bytes))
    }

    fn text(&mut self) -> io::Result<String> {
        let length = self.number()? as usize;
        let text = self.take(length)?.to_vec();
        self.take(1)?;
        String::from_utf8(text).map_err(|_| strange())
    }

    fn signature(&mut self) -> io::Result<String> {
        let length = usize::from(self.take(1)?[0]);
        let text = self.take(length)?.to_vec();
        self.take(1)?;
        String::from_utf8(text).map_err(|_| strange())
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    fn answer(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut whole = Writer(vec![ENDIAN, kind, 0, 1]);
        whole.number(body.len());
        whole.number(7);
        whole.number(0);
        whole.0.extend(body);
        whole.0
    }

    /// A connection whose other side says something once it was asked.
    fn answered(says: Vec<u8>) -> Systemd {
        let (near, mut far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        thread::spawn(move || {
            let mut seen = [0; 4096];
            let _ = far.read(&mut seen);
            let _ = far.write_all(&says);
            while far.read(&mut seen).is_ok_and(|read| read > 0) {}
        });
        Systemd { stream: near, greeted: false, serial: 0 }
    }

    #[test]
    fn the_answer_is_found_behind_signals() {
        let mut body = Writer::default();
        body.signature("s");
        body.text("degraded");
        let says = [b"OK 0123\r\n".to_vec(), answer(4, b"xyz"), answer(METHOD_RETURN, &body.0)].concat();
        assert_eq!(answered(says).state(SOON).unwrap(), "degraded");
    }

    #[test]
    fn what_is_no_answer_is_an_error_and_takes_no_more_time_or_memory() {
        let huge = {
            let mut head = answer(METHOD_RETURN, b"");
            head[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
            head
        };
        for says in [
            b"REJECTED\r\n".to_vec(),
            [b'x'; 5000].to_vec(),
            [b"OK 1\r\n".to_vec(), huge].concat(),
            [b"OK 1\r\n".to_vec(), answer(METHOD_RETURN, b"\x01s")].concat(),
            [b"OK 1\r\n".to_vec(), answer(METHOD_RETURN, b"\x01u\0\0\0\0\0\0")].concat(),
            [b"OK 1\r\n".to_vec(), answer(ERROR, b"")].concat(),
        ] {
            answered(says.clone()).state(SOON).expect_err(&format!("{says:?}"));
        }
        let late = answered(b"OK 1\r\n".to_vec()).state(Duration::from_millis(20)).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn names_of_units_are_read_and_a_short_list_is_an_error() {
        let mut list = Writer::default();
        list.number(0);
        for unit in ["a.service", "longer-name.mount"] {
            list.align(8);
            for text in [unit, "what it is", "loaded", "failed", "failed", "", "/org/x"] {
                list.text(text);
            }
            list.number(0);
            list.text("");
            list.text("/");
        }
        assert_eq!(units(&list.0).unwrap(), ["a.service", "longer-name.mount"]);
        units(&list.0[..list.0.len() - 3]).unwrap_err();
        assert_eq!(units(&0_u32.to_ne_bytes()).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_call_is_what_the_bus_library_would_write() {
        let bytes = call(3, ("org.freedesktop.DBus.Properties", "Get", "ss"), |body| {
            body.text("org.freedesktop.systemd1.Manager");
            body.text("SystemState");
        });
        let message = zbus::Message::method_call("/org/freedesktop/systemd1", "Get")
            .interface("org.freedesktop.DBus.Properties")
            .build(&("org.freedesktop.systemd1.Manager", "SystemState"))
            .unwrap();
        let body = message.body();
        assert!(bytes.ends_with(body.data().bytes()), "{bytes:?}");
        assert_eq!(bytes.len() % 4, 0);
    }
}
