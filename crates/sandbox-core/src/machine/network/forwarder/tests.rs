use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::*;

/// A question of the number for `x.example`.
fn question(number: u16) -> Vec<u8> {
    [&number.to_be_bytes()[..], b"\x01\0\0\x01\0\0\0\0\0\0\x01x\x07example\0\0\x01\0\x01"].concat()
}

fn answer(question: &[u8]) -> Vec<u8> {
    let mut answer = question.to_vec();
    answer[2] |= 0x80;
    answer
}

/// Receives a datagram. Signals of other tests interrupt a socket that has a timeout.
///
/// **Source**: signal(7), "Interruption of system calls and library functions by signal handlers".
fn received(socket: &UdpSocket, buffer: &mut [u8]) -> (usize, SocketAddr) {
    loop {
        match socket.recv_from(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other.unwrap(),
        }
    }
}

/// A forwarder on the loopback, and what it asks.
struct Case {
    at: SocketAddr,
    resolver: UdpSocket,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<usize>>,
}

impl Case {
    /// Its first resolver is one that refuses, the second answers.
    fn new() -> Self {
        let loopback = || UdpSocket::bind("127.0.0.1:0").unwrap();
        let (datagrams, resolver) = (loopback(), loopback());
        let at = datagrams.local_addr().unwrap();
        let refusing = loopback().local_addr().unwrap();
        let listener = TcpListener::bind(at).unwrap();
        let mut forwarder = Forwarder::new(datagrams, listener).unwrap();
        let resolvers = vec![refusing, resolver.local_addr().unwrap()];
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut most = 0;
            while !stopped.load(Ordering::Relaxed) {
                forwarder.resolvers.clone_from(&resolvers);
                forwarder.looked = Instant::now();
                forwarder.turn(None).unwrap();
                most = most.max(forwarder.asked.len());
            }
            most
        });
        resolver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        Self { at, resolver, stop, thread: Some(thread) }
    }

    fn guest(&self) -> UdpSocket {
        let guest = UdpSocket::bind("127.0.0.1:0").unwrap();
        guest.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        guest.connect(self.at).unwrap();
        guest
    }

    fn end(&mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map_or(0, |thread| thread.join().unwrap())
    }
}

#[test]
fn each_answer_goes_to_who_asked_and_a_resolver_that_refuses_is_passed_over() {
    let mut case = Case::new();
    let guests = [case.guest(), case.guest()];
    for (number, guest) in guests.iter().enumerate() {
        guest.send(&question(number as u16)).unwrap();
    }
    let mut buffer = [0; 512];
    let mut seen = Vec::new();
    for _ in &guests {
        let (length, from) = received(&case.resolver, &mut buffer);
        seen.push((buffer[..length].to_vec(), from));
    }
    // another question's answer, and one of another sender, are none
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    other.send_to(&answer(&seen[0].0), seen[0].1).unwrap();
    case.resolver.send_to(&answer(&question(99)), seen[0].1).unwrap();
    for (asked, from) in seen.iter().rev() {
        case.resolver.send_to(&answer(asked), from).unwrap();
    }
    for (number, guest) in guests.iter().enumerate() {
        let (length, _) = received(guest, &mut buffer);
        assert_eq!(buffer[..length], answer(&question(number as u16)));
    }
    case.end();
}

#[test]
fn what_no_resolver_answers_fails_and_what_is_under_way_is_bounded() {
    let mut case = Case::new();
    let guest = case.guest();
    for number in 0..200 {
        guest.send(&question(number)).unwrap();
    }
    let mut buffer = [0; 512];
    let (length, _) = received(&guest, &mut buffer);
    assert!(length > 12 && buffer[3] & 0xf == 2, "no resolver answered: SERVFAIL");
    assert_eq!(case.end(), QUESTIONS);
}

#[test]
fn a_connection_is_answered_until_it_asks_for_too_much() {
    let mut case = Case::new();
    let at = case.resolver.local_addr().unwrap();
    let resolver = TcpListener::bind(at).unwrap();
    let served = thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = resolver.accept().unwrap();
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut asked = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut asked).unwrap();
            stream.write_all(&[&length[..], &answer(&asked)].concat()).unwrap();
        }
    });
    let mut stream = TcpStream::connect(case.at).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    for number in [1, 2] {
        let asked = question(number);
        let length = (asked.len() as u16).to_be_bytes();
        stream.write_all(&[&length[..], &asked].concat()).unwrap();
        let mut got = vec![0; asked.len() + 2];
        stream.read_exact(&mut got).unwrap();
        assert_eq!(got, [&length[..], &answer(&asked)].concat());
    }
    stream.write_all(&[0xff, 0xff]).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "a question of 65,535 bytes is not read");
    served.join().unwrap();
    case.end();
}
