//! Whether a machine gets answers from the resolvers that it asks.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use super::{enter::EnterError, port::in_network};
use crate::machine::Leader;

/// How long the resolvers may take together.
const DEADLINE: Duration = Duration::from_secs(2);

/// After which time they are asked again: a packet may be lost.
const AGAIN: Duration = Duration::from_millis(500);

/// The port of all of them.
const PORT: u16 = 53;

/// What the question and its answer begin with.
const ID: [u8; 2] = [0x5a, 0x62];

/// A question for the name servers of the root, which every resolver answers.
///
/// **Source**: RFC 1035, §4.1.
const QUESTION: [u8; 17] = [ID[0], ID[1], 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1];

/// Returns whether one of the resolvers answers a question from the machine's network, whatever the answer is: a packet
/// and its reply have passed all that is between the two.
///
/// # Errors
/// Where the machine's network namespace cannot be entered.
pub fn is_answered(leader: &Leader, resolvers: &[IpAddr]) -> Result<bool, EnterError> {
    in_network(leader, || ask(resolvers, PORT).unwrap_or(false))
}

fn ask(resolvers: &[IpAddr], port: u16) -> io::Result<bool> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(AGAIN))?;
    let began = Instant::now();
    let mut answer = [0; 512];
    while began.elapsed() < DEADLINE {
        for resolver in resolvers {
            // one that has no route is not asked; another may have one
            let _ = socket.send_to(&QUESTION, (*resolver, port));
        }
        match socket.recv_from(&mut answer) {
            Ok((length, from)) if is_answer(&answer[..length]) && is_one_of(from, resolvers) => {
                return Ok(true);
            }
            Ok(_) => {}
            Err(error) => match error.kind() {
                // signal(7): a call on a socket with a timeout is not restarted after a signal
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => {}
                _ => std::thread::sleep(AGAIN),
            },
        }
    }
    Ok(false)
}

fn is_answer(message: &[u8]) -> bool {
    message.len() >= 12 && message.starts_with(&ID) && message[2] & 0x80 != 0
}

fn is_one_of(from: SocketAddr, resolvers: &[IpAddr]) -> bool {
    resolvers.contains(&from.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a resolver that answers each question by what is given, and asks it.
    fn asked(answers: &'static [&'static [u8]]) -> bool {
        let resolver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = resolver.local_addr().unwrap().port();
        let served = std::thread::spawn(move || {
            let mut question = [0; 512];
            for answer in answers {
                let (length, from) = resolver.recv_from(&mut question).unwrap();
                assert_eq!(question[..length], QUESTION);
                resolver.send_to(answer, from).unwrap();
            }
        });
        let seen = ask(&[Ipv4Addr::LOCALHOST.into()], port).unwrap();
        served.join().unwrap();
        seen
    }

    #[test]
    fn an_answer_is_told_from_what_is_none() {
        // "server failure" is an answer: it came through
        assert!(asked(&[&[ID[0], ID[1], 0x81, 0x82, 0, 1, 0, 0, 0, 0, 0, 0]]));
        assert!(asked(&[b"short", &QUESTION, &[ID[0], ID[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0]]));
    }

    #[test]
    fn a_resolver_that_is_not_there_does_not_answer() {
        let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        assert!(!ask(&[Ipv4Addr::LOCALHOST.into()], port).unwrap());
    }
}
