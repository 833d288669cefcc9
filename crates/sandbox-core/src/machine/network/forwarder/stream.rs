//! Questions over TCP, which resolvers of the C library ask where an answer does not fit a datagram.
//!
//! **Source**: RFC 7766: each message has its length in front, and several may follow each other.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    WAIT,
    question::{self, Checked, QUESTION},
};

/// How many connections of a machine are served at once.
const CONNECTIONS: usize = 16;

/// How long a connection may last.
const LIFE: Duration = Duration::from_secs(30);

/// Serves connections, each in a thread of its own.
#[derive(Debug, Default)]
pub(super) struct Streams(Arc<AtomicUsize>);

/// Counts a connection as long as it lasts.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Streams {
    /// Serves a connection; one too many is closed.
    pub(super) fn serve(&self, stream: TcpStream, resolvers: &[SocketAddr]) {
        let counted = Counted(Arc::clone(&self.0));
        if self.0.fetch_add(1, Ordering::AcqRel) >= CONNECTIONS {
            return;
        }
        let resolvers = resolvers.to_vec();
        let serve = move || {
            let _counted = counted;
            // the machine sees the connection closed
            let _ = converse(stream, &resolvers, Instant::now() + LIFE);
        };
        let _ = thread::Builder::new().stack_size(256 << 10).spawn(serve);
    }
}

fn converse(mut stream: TcpStream, resolvers: &[SocketAddr], until: Instant) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(WAIT))?;
    loop {
        let asked = read(&mut stream, QUESTION, until)?;
        let answer = match question::check(&asked) {
            Checked::Question => ask(&asked, resolvers).unwrap_or_else(|| question::failure(&asked)),
            Checked::Refused(answer) => answer,
            Checked::Dropped => return Ok(()),
        };
        write(&mut stream, &answer)?;
    }
}

fn ask(asked: &[u8], resolvers: &[SocketAddr]) -> Option<Vec<u8>> {
    resolvers.iter().find_map(|resolver| {
        let mut stream = TcpStream::connect_timeout(resolver, WAIT).ok()?;
        stream.set_write_timeout(Some(WAIT)).ok()?;
        write(&mut stream, asked).ok()?;
        let answer = read(&mut stream, usize::from(u16::MAX), Instant::now() + WAIT).ok()?;
        question::answers(&answer, asked).then_some(answer)
    })
}

fn write(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    // in one piece, which some servers want
    stream.write_all(&[&length.to_be_bytes()[..], message].concat())
}

/// Reads a message of at most some bytes.
fn read(stream: &mut TcpStream, most: usize, until: Instant) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    fill(stream, &mut length, until)?;
    let length = usize::from(u16::from_be_bytes(length));
    if length > most {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length];
    fill(stream, &mut message, until)?;
    Ok(message)
}

/// Reads until a buffer is full: a byte at a time does not put the end off.
fn fill(stream: &mut TcpStream, mut buffer: &mut [u8], until: Instant) -> io::Result<()> {
    while !buffer.is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => buffer = &mut buffer[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
