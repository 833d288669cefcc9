//! A command in a machine whose words are kept and whose time is limited.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd as _, OwnedFd},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{Mode, OFlags, open},
    pipe::{PipeFlags, pipe_with},
};

use super::{Exit, Request, SessionError, carrier, command, enter, local, soon};
use crate::machine::{
    Leader,
    guest::{Standard, Terminal},
};

/// The most bytes that are kept of what a command says.
const LIMIT: usize = 64 << 10;

/// What a command said, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    /// How it ended; by signal 9 where its time was over.
    pub exit: Exit,
    /// What it said on both streams, up to a limit.
    pub said: String,
}

/// Runs a command without input, for a time at most.
///
/// # Errors
/// Where it could not be tried.
pub fn probe(leader: &Leader, request: &Request, limit: Duration) -> Result<Probed, SessionError> {
    let payload = command(&Request { terminal: false, ..request.clone() });
    let until = Instant::now() + limit;
    let (from, to) =
        pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from).map_err(local("making a pipe"))?;
    let null = open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(io::Error::from)
        .map_err(local("opening /dev/null"))?;
    let files = Standard { input: null.as_fd(), output: to.as_fd(), error: to.as_fd() };
    let entered = enter(carrier()?, leader, &payload, Terminal::Files(files), until.min(soon()))?;
    let started = match entered {
        Ok(started) => started,
        Err(exit) => return Ok(Probed { exit, said: String::new() }),
    };
    drop((to, null));
    let words = collect(from);
    let pid = started.pid;
    let (done, over) = mpsc::channel::<()>();
    let watch = thread::spawn(move || {
        if over.recv_timeout(until.saturating_duration_since(Instant::now()))
            == Err(mpsc::RecvTimeoutError::Timeout)
            && let Some(pid) = rustix::process::Pid::from_raw(pid)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    });
    let status = started.wait().map_err(local("waiting for the command"));
    drop(done);
    let _ = watch.join();
    // what it left running may hold the pipe for as long as it likes
    let said = words.recv_timeout(Duration::from_millis(500)).unwrap_or_default();
    Ok(Probed { exit: Exit::of(status?), said })
}

fn collect(from: OwnedFd) -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        let mut kept = Vec::new();
        let mut from = File::from(from);
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            let room = LIMIT.saturating_sub(kept.len()).min(read);
            kept.extend_from_slice(&buffer[..room]);
        }
        let _ = send.send(String::from_utf8_lossy(&kept).into_owned());
    });
    receive
}
