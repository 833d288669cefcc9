//! The caller's terminal joined to one of the guest's.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::{AsFd as _, OwnedFd},
    sync::{
        Arc, Mutex,
        atomic::{AtomicI32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    stdio,
    termios::{OptionalActions, Termios, Winsize, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize},
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH};

use super::Exit;
use crate::machine::{Console, guest::Started};

/// `^]`, as machinectl(1) and telnet have it.
const ESCAPE: u8 = 0x1d;

/// How often it must be typed within a second to leave.
const TIMES: usize = 3;

/// How long a terminal that nobody has open is left alone.
const HUNG_UP: Duration = Duration::from_millis(10);

/// Tells whether the caller has a terminal on both sides.
pub fn is_terminal() -> bool {
    isatty(stdio::stdin()) && isatty(stdio::stdout())
}

/// Gives the caller's window as rows and columns; 24 by 80 where there is none.
pub fn size() -> (u16, u16) {
    match tcgetwinsize(stdio::stdout()) {
        Ok(Winsize { ws_row, ws_col, .. }) if ws_row > 0 && ws_col > 0 => (ws_row, ws_col),
        _ => (24, 80),
    }
}

/// The caller's terminal as it was, put back however this ends.
struct Raw(Arc<Mutex<Option<Termios>>>);

impl Raw {
    fn new() -> Self {
        let before = tcgetattr(stdio::stdin()).ok().filter(|_| is_terminal());
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.make_raw();
            let _ = tcsetattr(stdio::stdin(), OptionalActions::Drain, &raw);
        }
        Self(Arc::new(Mutex::new(before)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let before = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(before) = before {
            let _ = tcsetattr(stdio::stdin(), OptionalActions::Drain, &before);
        }
    }
}

/// Whether the caller has left its terminal, and by what.
#[derive(Default)]
struct Departure(AtomicI32);

impl Departure {
    const BY_ESCAPE: i32 = -1;

    /// Notes that the caller typed the escape.
    fn escape(&self) {
        self.0.store(Self::BY_ESCAPE, Ordering::Relaxed);
    }

    /// Notes that the caller got a signal that ends it.
    fn signal(&self, signal: i32) {
        self.0.store(signal, Ordering::Relaxed);
    }

    /// Returns how the session ends by it; none while the caller is there.
    fn exit(&self) -> Option<Exit> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            Self::BY_ESCAPE => Some(Exit::Detached),
            signal => Some(Exit::Signal(u8::try_from(signal).unwrap_or(u8::MAX))),
        }
    }
}

/// Joins the terminals until the payload ends or the caller leaves.
///
/// # Errors
/// Where signals cannot be listened to.
pub fn join(terminal: OwnedFd, started: Started) -> io::Result<Exit> {
    let terminal = Arc::new(terminal);
    let mut signals = signal_hook::iterator::Signals::new([SIGWINCH, SIGTERM, SIGHUP, SIGINT, SIGQUIT])?;
    let handle = signals.handle();
    let left = Arc::new(Departure::default());
    let raw = Raw::new();
    let resized = Arc::clone(&terminal);
    let pid = started.pid;
    let gone = Arc::clone(&left);
    let listener = thread::spawn(move || {
        for signal in signals.forever() {
            if signal == SIGWINCH {
                let (ws_row, ws_col) = size();
                let size = Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
                let _ = tcsetwinsize(&*resized, size);
            } else {
                // the caller is being ended: hang the payload up, as a terminal that goes away would
                gone.signal(signal);
                hang_up(pid);
            }
        }
    });
    let typed = Arc::clone(&terminal);
    let leaver = Arc::clone(&left);
    // not waited for: it may wait for a key that never comes
    thread::spawn(move || type_in(&typed, &leaver, || hang_up(pid)));

    let output = Arc::clone(&terminal);
    // whoever logs in hangs the terminal up and opens it anew: without a reader it is gone for a moment
    show(&output, &left, || started.ends_within(HUNG_UP));
    let ended = if let Some(exit) = left.exit() {
        hang_up(pid);
        exit
    } else {
        started.wait().map_or(Exit::Signal(1), Exit::of)
    };
    handle.close();
    let _ = listener.join();
    drop(raw);
    Ok(ended)
}

/// Joins the caller's terminal to a console that goes on without it, until the caller leaves or the console ends.
///
/// # Errors
/// Where signals cannot be listened to.
pub fn attach(console: Console) -> io::Result<Exit> {
    let terminal = Arc::new(OwnedFd::from(console.stream));
    let mut signals = signal_hook::iterator::Signals::new([SIGWINCH, SIGTERM, SIGHUP, SIGINT, SIGQUIT])?;
    let handle = signals.handle();
    let left = Arc::new(Departure::default());
    let raw = Raw::new();
    let (resize, gone) = (console.resize, Arc::clone(&left));
    let listener = thread::spawn(move || {
        for signal in signals.forever() {
            if signal == SIGWINCH {
                let (rows, columns) = size();
                resize(rows, columns);
            } else {
                gone.signal(signal);
            }
        }
    });
    let (typed, leaver) = (Arc::clone(&terminal), Arc::clone(&left));
    // not waited for: it may wait for a key that never comes
    thread::spawn(move || type_in(&typed, &leaver, || {}));
    show(&terminal, &left, || true);
    handle.close();
    let _ = listener.join();
    drop(raw);
    Ok(left.exit().unwrap_or(Exit::Detached))
}

fn hang_up(pid: i32) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::HUP);
    }
}

/// Copies what the guest writes, until its side is closed for good or the caller has left.
fn show(terminal: &OwnedFd, left: &Departure, has_ended: impl Fn() -> bool) {
    let Ok(mut from) = terminal.try_clone().map(File::from) else { return };
    let mut to = io::stdout();
    let mut buffer = [0; 16 << 10];
    while left.exit().is_none() {
        let mut ready = [PollFd::new(terminal, PollFlags::IN)];
        let patience = rustix::time::Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        match poll(&mut ready, Some(&patience)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            Ok(_) => {}
            Err(_) => return,
        }
        match from.read(&mut buffer) {
            // EIO: nobody has the other side open
            Ok(0) | Err(_) => {
                if has_ended() {
                    return;
                }
            }
            Ok(read) => {
                if to.write_all(&buffer[..read]).and_then(|()| to.flush()).is_err() {
                    return;
                }
            }
        }
    }
}

/// Copies what the caller types. Its end does not end the session.
fn type_in(terminal: &OwnedFd, left: &Departure, leave: impl Fn()) {
    let Ok(mut to) = terminal.as_fd().try_clone_to_owned().map(File::from) else { return };
    let mut from = io::stdin();
    let mut escapes = Escapes::default();
    let mut buffer = [0; 4 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) | Err(_) => {
                if !is_terminal() {
                    // what was piped in is over: say so as a terminal would
                    let _ = to.write_all(&[4]);
                }
                return;
            }
            Ok(read) => {
                if isatty(stdio::stdin()) && escapes.seen(&buffer[..read], Instant::now()) {
                    left.escape();
                    leave();
                    return;
                }
                if to.write_all(&buffer[..read]).is_err() {
                    return;
                }
            }
        }
    }
}

/// Counts escapes within a second.
#[derive(Default)]
struct Escapes(Vec<Instant>);

impl Escapes {
    fn seen(&mut self, typed: &[u8], now: Instant) -> bool {
        for byte in typed {
            if *byte == ESCAPE {
                self.0.retain(|at| now.duration_since(*at) < Duration::from_secs(1));
                self.0.push(now);
            } else {
                self.0.clear();
            }
        }
        self.0.len() >= TIMES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_as_its_caller_left() {
        for (left, code) in [(None, None), (Some(0), Some(0)), (Some(SIGINT), Some(130))]
            .into_iter()
            .chain([(Some(SIGTERM), Some(143)), (Some(SIGHUP), Some(129))])
        {
            let departure = Departure::default();
            match left {
                None => {}
                Some(0) => departure.escape(),
                Some(signal) => departure.signal(signal),
            }
            assert_eq!(departure.exit().map(Exit::code), code, "{left:?}");
        }
    }

    #[test]
    fn three_escapes_within_a_second_leave() {
        let now = Instant::now();
        assert!(Escapes::default().seen(&[ESCAPE; 3], now));
        let mut slow = Escapes::default();
        assert!(!slow.seen(&[ESCAPE, ESCAPE], now));
        assert!(!slow.seen(&[ESCAPE], now + Duration::from_secs(2)));
        let mut broken = Escapes::default();
        assert!(!broken.seen(&[ESCAPE, ESCAPE, b'a', ESCAPE], now));
    }
}
