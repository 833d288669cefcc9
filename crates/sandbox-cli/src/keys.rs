//! The end of what is shown live: `q`, or a signal.

use std::{
    io,
    os::{fd::AsFd as _, unix::net::UnixStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    stdio,
    termios::{LocalModes, OptionalActions, Termios, isatty, tcgetattr, tcsetattr},
};

use crate::exit::{ENDING, Exit};

/// What ends it: as in top(1) and less(1), and the end of the input.
const QUIT: &[u8] = b"qQ\x04";

/// The user's keys, each read as it is typed, and signals. The terminal is restored when this is dropped.
pub struct Keys {
    before: Option<Termios>,
    signal: Arc<AtomicUsize>,
    woken: UnixStream,
}

impl Keys {
    /// Begins to read keys, where stdin is a terminal.
    ///
    /// # Errors
    /// Where signals cannot be listened to.
    pub fn new() -> io::Result<Self> {
        let signal = Arc::new(AtomicUsize::new(0));
        let (woken, wakes) = UnixStream::pair()?;
        for number in ENDING {
            let value = usize::try_from(number).unwrap_or(0);
            // in this order: what is woken finds the number
            signal_hook::flag::register_usize(number, Arc::clone(&signal), value)?;
            signal_hook::low_level::pipe::register(number, wakes.try_clone()?)?;
        }
        let before = isatty(stdio::stdin()).then(|| tcgetattr(stdio::stdin()).ok()).flatten();
        if let Some(before) = &before {
            let mut modes = before.clone();
            // Ctrl-C stays a signal
            modes.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
            let _ = tcsetattr(stdio::stdin(), OptionalActions::Now, &modes);
        }
        Ok(Self { before, signal, woken })
    }

    /// Waits for a time; returns how the program ends, where the user wants that.
    pub fn wait(&mut self, pause: Duration) -> Option<Exit> {
        let until = Instant::now() + pause;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let left = rustix::time::Timespec::try_from(left).ok()?;
            let (stdin, woken) = (stdio::stdin(), self.woken.as_fd());
            let mut all = vec![PollFd::new(&woken, PollFlags::IN)];
            if self.before.is_some() {
                all.push(PollFd::new(&stdin, PollFlags::IN));
            }
            let ready = match poll(&mut all, Some(&left)) {
                Err(Errno::INTR) => 0,
                other => other.ok()?,
            };
            if let signal @ 1.. = self.signal.load(Ordering::Relaxed) {
                return Some(Exit::of_signal(i32::try_from(signal).unwrap_or(0)));
            }
            let typed = all.get(1).is_some_and(|stdin| !stdin.revents().is_empty());
            if typed && ends(read()) {
                return Some(Exit::OK);
            }
            if ready == 0 && Instant::now() >= until {
                return None;
            }
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(stdio::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Reads what was typed; none where the terminal is gone.
fn read() -> Option<Vec<u8>> {
    let mut bytes = [0; 64];
    let count = rustix::io::retry_on_intr(|| rustix::io::read(stdio::stdin(), &mut bytes)).ok()?;
    (count > 0).then(|| bytes[..count].to_vec())
}

fn ends(typed: Option<Vec<u8>>) -> bool {
    typed.is_none_or(|bytes| bytes.iter().any(|byte| QUIT.contains(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q_and_a_terminal_that_is_gone_end_it() {
        for (typed, expected) in [
            (Some(&b"q"[..]), true),
            (Some(b"jQ"), true),
            (Some(b"\x04"), true),
            (Some(b"j\n"), false),
            (None, true),
        ] {
            assert_eq!(ends(typed.map(<[u8]>::to_vec)), expected, "{typed:?}");
        }
    }
}
