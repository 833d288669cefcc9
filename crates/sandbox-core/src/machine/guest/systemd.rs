//! A guest's systemd, asked from outside on the guest's bus ([`bus`]): no process enters the guest for that.
//!
//! What answers may be hostile: each answer has a size and a deadline, and nothing of it is believed but of the guest
//! itself.
//!
//! **Source**: the D-Bus specification, "Authentication Protocol"; org.freedesktop.systemd1(5).

mod bus;
mod wire;

use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

pub(super) use self::bus::{held_in, root_of};
use self::wire::{ERROR, Head, METHOD_RETURN, Question, Writer, strange};
use super::patience::readable;
use crate::machine::Leader;

/// What a bus wants to be told first.
const HELLO: Question = Question {
    peer: "org.freedesktop.DBus",
    object: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
    member: "Hello",
    signature: "",
};

const GET: Question =
    Question { interface: "org.freedesktop.DBus.Properties", member: "Get", signature: "ss", ..OF_MANAGER };

const LIST: Question = Question { member: "ListUnitsFiltered", signature: "as", ..OF_MANAGER };

const OF_MANAGER: Question = Question {
    peer: "org.freedesktop.systemd1",
    object: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
    member: "",
    signature: "",
};

pub(super) use wire::{text, units};

/// Reads a whole message; returns its kind, the number of the message that it answers, and its body.
pub(super) fn message(bytes: &[u8]) -> io::Result<(u8, Option<u32>, &[u8])> {
    let head = Head::read(bytes)?;
    let rest = bytes.get(Head::LENGTH..).ok_or_else(strange)?;
    let (fields, rest) = rest.split_at_checked(head.fields).ok_or_else(strange)?;
    Ok((head.kind, wire::answers(fields)?, rest.get(..head.body).ok_or_else(strange)?))
}

/// A connection to a guest's systemd.
#[derive(Debug)]
pub struct Systemd {
    stream: UnixStream,
    greeted: bool,
    serial: u32,
    /// What has come and was not read.
    ahead: Vec<u8>,
}

impl Systemd {
    /// Connects to the systemd of a machine by the machine's bus. A machine that boots may hold the caller until its bus is
    /// there.
    ///
    /// # Errors
    /// Where it has no bus, or one that is not where it should be.
    pub fn on_bus(leader: &Leader) -> io::Result<Self> {
        Ok(Self::of(bus::connect(leader)?))
    }

    const fn of(stream: UnixStream) -> Self {
        Self { stream, greeted: false, serial: 0, ahead: Vec::new() }
    }

    /// Asks for the word of `systemctl is-system-running`.
    ///
    /// # Errors
    /// Where it does not answer in time, or not as systemd does.
    pub fn state(&mut self, patience: Duration) -> io::Result<String> {
        let asked = |body: &mut Writer| {
            body.text(OF_MANAGER.interface);
            body.text("SystemState");
        };
        wire::text(&self.call(&GET, asked, patience)?)
    }

    /// Lists the units that failed.
    ///
    /// # Errors
    /// Where it does not answer in time, or not as systemd does.
    pub fn failed(&mut self, patience: Duration) -> io::Result<Vec<String>> {
        wire::units(&self.call(&LIST, |body| body.texts(&["failed"]), patience)?)
    }

    fn call(
        &mut self,
        question: &Question,
        arguments: impl FnOnce(&mut Writer),
        patience: Duration,
    ) -> io::Result<Vec<u8>> {
        let until = Instant::now() + patience;
        let mut says = Vec::new();
        if !self.greeted {
            self.greet(until)?;
            self.serial += 1;
            says = HELLO.write(self.serial, |_| {});
        }
        self.serial += 1;
        says.extend(question.write(self.serial, arguments));
        self.write(&says)?;
        loop {
            let (kind, to, body) = self.message(until)?;
            if Instant::now() >= until {
                return Err(io::ErrorKind::TimedOut.into());
            }
            // a bus answers the greeting first
            match kind {
                METHOD_RETURN if to == Some(self.serial) => return Ok(body),
                ERROR if to == Some(self.serial) => {
                    return Err(io::Error::other("systemd refused the question"));
                }
                _ => {}
            }
        }
    }

    /// Says who this is. systemd looks at what comes behind a greeting only when more comes: so nothing does.
    fn greet(&mut self, until: Instant) -> io::Result<()> {
        self.write(bus::GREETING)?;
        let mut line = self.line(until)?;
        if line.starts_with(b"DATA") {
            line = self.line(until)?;
        }
        self.greeted = line.starts_with(b"OK ");
        if self.greeted { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }

    /// Writes a few hundred bytes: a socket that does not take them at once is none of systemd's.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.stream.write(bytes)? == bytes.len() { Ok(()) } else { Err(strange()) }
    }

    /// Reads a line of the server's half of the greeting.
    fn line(&mut self, until: Instant) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.extend(self.read(1, until)?);
            if line.len() > 256 {
                return Err(strange());
            }
        }
        Ok(line)
    }

    /// Reads a message: its kind, the number of what it answers, what it says.
    fn message(&mut self, until: Instant) -> io::Result<(u8, Option<u32>, Vec<u8>)> {
        let head = Head::read(&self.read(Head::LENGTH, until)?)?;
        let to = wire::answers(&self.read(head.fields, until)?)?;
        Ok((head.kind, to, self.read(head.body, until)?))
    }

    fn read(&mut self, length: usize, until: Instant) -> io::Result<Vec<u8>> {
        let mut some = [0; 4096];
        while self.ahead.len() < length {
            match self.stream.read(&mut some) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.ahead.extend(&some[..read]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => readable(&self.stream, until)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.ahead.drain(..length).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::{
        wire::tests::{answer, any},
        *,
    };

    const SOON: Duration = Duration::from_secs(5);
    const SIGNAL: u8 = 4;

    /// A connection whose other side says one thing when it is greeted, and another when it is asked.
    fn answered(greets: &[u8], says: &[u8]) -> Systemd {
        let (near, mut far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let (greets, says) = (greets.to_vec(), says.to_vec());
        thread::spawn(move || {
            let mut seen = [0; 4096];
            for says in [greets, says] {
                let _ = far.read(&mut seen);
                let _ = far.write_all(&says);
            }
            while far.read(&mut seen).is_ok_and(|read| read > 0) {}
        });
        Systemd::of(near)
    }

    /// A bus that says something behind its own answer.
    fn on_bus(says: &[u8]) -> Systemd {
        answered(b"DATA\r\nOK 0123\r\n", &[&answer(METHOD_RETURN, 1, &any(":1.70")), says].concat())
    }

    #[test]
    fn the_answer_is_found_behind_that_of_the_bus_and_signals() {
        let says = [answer(SIGNAL, 0, &any(":1.70")), answer(METHOD_RETURN, 2, &any("running"))].concat();
        assert_eq!(on_bus(&says).state(SOON).unwrap(), "running");
        let refused = answered(b"DATA\r\nREJECTED EXTERNAL\r\n", b"").state(SOON).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn what_is_no_answer_is_an_error_and_takes_no_more_time_or_memory() {
        for greets in [b"REJECTED\r\n".to_vec(), [b'x'; 5000].to_vec()] {
            answered(&greets, b"").state(SOON).expect_err(&format!("{greets:?}"));
        }
        let huge = |at: usize| {
            let mut whole = answer(METHOD_RETURN, 2, b"");
            whole[at..at + 4].copy_from_slice(&u32::MAX.to_ne_bytes());
            whole
        };
        for says in [
            huge(4),
            huge(12),
            answer(METHOD_RETURN, 2, b"\x01s"),
            answer(METHOD_RETURN, 2, b"\x01u\0\0\0\0\0\0"),
            answer(ERROR, 2, b""),
        ] {
            let error = on_bus(&says).state(SOON).expect_err(&format!("{says:?}"));
            assert_ne!(error.kind(), io::ErrorKind::TimedOut, "{says:?}");
        }
        for says in [b"".to_vec(), answer(METHOD_RETURN, 7, &any("running"))] {
            let late = on_bus(&says).state(Duration::from_millis(20)).unwrap_err();
            assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        }
    }

    #[test]
    fn one_that_never_stops_talking_is_not_listened_to_for_longer() {
        let (near, mut far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let talks = thread::spawn(move || {
            let _ = far.write_all(b"OK 1\r\n");
            let signals = answer(SIGNAL, 0, b"xyz").repeat(100);
            while far.write_all(&signals).is_ok() {}
        });
        let late = Systemd::of(near).state(Duration::from_millis(50)).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        talks.join().unwrap();
    }
}
