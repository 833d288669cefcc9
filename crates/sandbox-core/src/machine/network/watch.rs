//! The process that keeps the table: it owns it where the kernel has owners, puts it up again where another process
//! took it down, and lists the host's ways out as they change.
//!
//! One process serves all machines of a host, whatever their backends and state directories are: what should be in the
//! table is stored in [`stamp`]. It starts with the first wall and ends with the last.
//!
//! ```text
//! /run/sandbox/walls.lock   held (flock) as long as it lives
//! /run/sandbox/walls.sock   a process that connects may change the table until it hangs up
//! ```
//!
//! Nothing but the socket that owns the table can change it, so the owner lets go while `nft` runs, and looks whether
//! all is in place after it took it again.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::Mode,
    process::umask,
};

use super::{
    Error,
    background::Process,
    netlink::{self, News, Socket},
    nft, ruleset,
    stamp::{self, Part, Table, WAYS},
    ways::Ways,
};
use crate::{
    host::lock,
    report::{Event, Reporter},
};

const LOCK: &str = "walls.lock";
const SOCKET: &str = "/run/sandbox/walls.sock";

/// What it says to a process that connects: which form what is stored has. One that knows another form says so, and the
/// keeper ends.
const FORM: [u8; 1] = [1];

/// The unit that runs it, where systemd does.
const UNIT: &str = "sandbox-walls.service";

/// How long a process that starts or ends it waits for that.
const DEADLINE: Duration = Duration::from_secs(5);

/// How long a process may take to change the table.
const CHANGE: Duration = Duration::from_secs(60);

/// How soon it looks again where it could not.
const AGAIN: Duration = Duration::from_millis(20);

/// The longest rest between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// How many times in a row another process may undo what it does before it takes a rest.
const ROUNDS: usize = 5;

/// Asks the process that keeps the table, if there is one, to let go of it until the value is dropped. The caller holds
/// the lock of the table.
///
/// # Errors
/// Where it does not answer.
pub(super) fn release() -> Result<Option<UnixStream>, Error> {
    let failed = |source| Error::Keeper { source };
    let Ok(mut stream) = UnixStream::connect(SOCKET) else { return Ok(None) };
    stream.set_read_timeout(Some(DEADLINE)).map_err(failed)?;
    let mut form = [0];
    match stream.read_exact(&mut form) {
        // it has just ended
        Err(error)
            if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) =>
        {
            return Ok(None);
        }
        read => read.map_err(failed)?,
    }
    if form == FORM {
        return Ok(Some(stream));
    }
    // a keeper of another version reads what is stored in another way
    stream.write_all(&FORM).map_err(failed)?;
    ended();
    Ok(None)
}

/// Tells whether the process is there.
pub(super) fn is_running() -> bool {
    lock::is_held(LOCK)
}

/// Starts it unless it is there: as a unit where systemd runs, which starts it again should it be killed.
///
/// # Errors
/// Where it does not start.
pub(super) fn ensure(program: &Path) -> Result<(), Error> {
    if is_running() {
        return Ok(());
    }
    let failed = |source| Error::Keeper { source };
    let as_unit = PROCESS.start_unit(program).unwrap_or(false);
    if !as_unit && !is_running() {
        PROCESS.start(program).map_err(failed)?;
    }
    if wait_until(is_running) { Ok(()) } else { Err(failed(io::ErrorKind::TimedOut.into())) }
}

/// Waits until it has ended, which it does when it finds no wall to keep.
pub(super) fn ended() {
    wait_until(|| !is_running());
}

fn wait_until(reached: impl Fn() -> bool) -> bool {
    let began = Instant::now();
    while !reached() {
        if began.elapsed() > DEADLINE {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
    true
}

const PROCESS: Process<'_> = Process {
    unit: UNIT,
    properties: &[
        "Description=Walls of sandbox machines",
        "After=nftables.service",
        "After=firewalld.service",
        "Restart=on-failure",
        "RestartSec=200ms",
        "StartLimitIntervalSec=0",
        "OOMScoreAdjust=-900",
    ],
    words: &["keep-walls"],
};

/// Keeps the table until no wall is left: the body of the hidden verb.
///
/// # Errors
/// Where it cannot listen, or the kernel has no news of routes.
pub fn keep_walls(reporter: &dyn Reporter) -> Result<(), Error> {
    let Some(lock) = lock::try_take(LOCK).map_err(Error::lock(LOCK))? else { return Ok(()) };
    let mut keeper = Keeper::new().map_err(|source| Error::Keeper { source })?;
    // before the lock of the table falls, a process that looks for a keeper must find none
    let end = |lock: File| {
        let _ = fs::remove_file(SOCKET);
        drop(lock);
    };
    let mut lock = Some(lock);
    while lock.is_some() {
        let began = Instant::now();
        let settled = nft::try_lock(|| {
            let is_over = keeper.settle(reporter)?;
            lock.take_if(|_| is_over).map(end);
            Ok(())
        });
        // a host whose routes change all the time, or are very many, is left half of its time at least
        thread::sleep(began.elapsed().min(PAUSE));
        match settled {
            Ok(Some(())) if lock.is_none() => {}
            Ok(Some(())) => keeper.wait(None),
            Ok(None) => keeper.wait(Some(AGAIN)),
            Err(error) => {
                reporter.report(Event::Warning { text: error.to_string() });
                keeper.wait(Some(PAUSE));
            }
        }
        if keeper.is_dismissed {
            lock.take().map(end);
        }
    }
    Ok(())
}

struct Keeper {
    listener: UnixListener,
    routes: Socket,
    rules: Socket,
    /// The socket that owns the table.
    owner: Option<Socket>,
    /// Another process may have changed the table.
    doubtful: bool,
    /// A program of another version has taken over.
    is_dismissed: bool,
}

impl Keeper {
    fn new() -> io::Result<Self> {
        match fs::remove_file(SOCKET) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        umask(Mode::RWXG | Mode::RWXO);
        let listener = UnixListener::bind(SOCKET)?;
        let (routes, rules) = (Socket::of_news(News::Routes)?, Socket::of_news(News::Rules)?);
        Ok(Self { listener, routes, rules, owner: None, doubtful: true, is_dismissed: false })
    }

    /// Puts up what is missing, under the lock of the table. Tells whether nothing is left to keep.
    fn settle(&mut self, reporter: &dyn Reporter) -> Result<bool, Error> {
        if !stamp::has_links() {
            return Ok(true);
        }
        for _ in 0..ROUNDS {
            let mut parts = stamp::stored();
            let ways: Part = (WAYS.to_owned(), Ways::read()?.commands());
            if !self.doubtful && parts.contains(&ways) {
                return Ok(false);
            }
            let mut table = Table::read()?;
            if self.owner.is_none() && !table.is_empty() {
                self.owner = netlink::own(ruleset::TABLE).ok();
                if self.owner.is_some() {
                    table = Table::read()?;
                }
            }
            parts.retain(|(name, _)| name != WAYS);
            parts.insert(parts.len().min(1), ways);
            parts.retain(|part| !stamp::stands(part, &table));
            if parts.is_empty() {
                self.doubtful = false;
                return Ok(false);
            }
            self.owner = None;
            self.doubtful = true;
            super::put(&parts)?;
            let names: Vec<_> = parts.iter().map(|(name, _)| name.as_str()).collect();
            reporter.report(Event::Notice { text: format!("put in place again: {}", names.join(", ")) });
        }
        Err(Error::Contested)
    }

    /// Waits for something to do.
    fn wait(&mut self, longest: Option<Duration>) {
        let mut ready =
            vec![PollFd::new(&self.listener, PollFlags::IN), PollFd::new(&self.routes, PollFlags::IN)];
        if self.owner.is_none() {
            ready.push(PollFd::new(&self.rules, PollFlags::IN));
        }
        let longest = longest.and_then(|longest| Timespec::try_from(longest).ok());
        if poll(&mut ready, longest.as_ref()).is_err() {
            return;
        }
        let has_guest = !ready.first().is_none_or(|ready| ready.revents().is_empty());
        self.routes.drain();
        if self.rules.drain() && self.owner.is_none() {
            self.doubtful = true;
        }
        if has_guest && let Ok((stream, _)) = self.listener.accept() {
            self.owner = None;
            self.doubtful = true;
            self.is_dismissed = lend(stream).unwrap_or_default();
        }
    }
}

/// Lets the process at the other end change the table until it hangs up. Tells whether it says that this process is to
/// end.
fn lend(mut stream: UnixStream) -> io::Result<bool> {
    stream.set_read_timeout(Some(CHANGE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    stream.write_all(&FORM)?;
    Ok(stream.read(&mut [0])? > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_lent_until_the_other_end_hangs_up_or_dismisses_the_keeper() {
        for dismisses in [false, true] {
            let (near, mut far) = UnixStream::pair().unwrap();
            let lent = thread::spawn(|| lend(near));
            let mut form = [0];
            far.read_exact(&mut form).unwrap();
            assert_eq!(form, FORM);
            assert!(!lent.is_finished(), "it is another process's turn");
            if dismisses {
                far.write_all(&FORM).unwrap();
            }
            drop(far);
            assert_eq!(lent.join().unwrap().unwrap(), dismisses);
        }
    }
}
