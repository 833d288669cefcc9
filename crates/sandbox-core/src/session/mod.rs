//! One command or shell in a machine.

mod health;
mod probe;
mod pty;
mod pump;

use std::{
    os::fd::AsFd,
    time::{Duration, Instant},
};

pub use health::{Outcome, health};
pub use probe::{Probed, probe};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use crate::{
    error::{Cause, Class},
    machine::{
        Console, Leader,
        guest::{
            Carrier, EnterError, Entry, LOCALE_VARIABLES, PATIENCE, Payload, Runs, Standard, Started,
            Terminal,
        },
    },
};

/// Whose shell opens where nobody is named and the guest has such a user.
const AGENT: &str = "agent";

/// What to run, and how.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The command and its arguments.
    pub argv: Vec<String>,
    /// Who runs it, by name or number; root where none is named.
    pub user: Option<String>,
    /// Variables beside the session's own.
    pub env: Vec<(String, String)>,
    /// Where; the user's home where none is named.
    pub cwd: Option<String>,
    /// On a terminal of the guest's, joined to the caller's.
    pub terminal: bool,
    /// The caller's terminal.
    pub emulator: Emulator,
}

/// The caller's terminal, as its environment describes it.
#[derive(Clone, Debug, Default)]
pub struct Emulator {
    /// `TERM`.
    pub term: String,
    /// `COLORTERM`: the colours that it has beyond its type.
    pub color: Option<String>,
}

impl Emulator {
    /// Returns the terminal type where the payload has a terminal that is joined to it.
    fn kind(&self, terminal: bool) -> String {
        if terminal && pty::is_terminal() { self.term.clone() } else { "dumb".to_owned() }
    }

    /// Returns its colours as a variable in the same case.
    fn color(&self, terminal: bool) -> Vec<(String, String)> {
        let color = self.color.iter().filter(|_| terminal && pty::is_terminal());
        color.map(|color| ("COLORTERM".to_owned(), color.clone())).collect()
    }
}

/// How a payload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With this status.
    Status(u8),
    /// By this signal.
    Signal(u8),
    /// It was not there.
    NotFound,
    /// It was there and not executable.
    NotExecutable,
    /// The caller left its terminal; the payload was hung up.
    Detached,
}

impl Exit {
    /// Gives the exit code for the caller, as a shell would.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Status(status) => status,
            Self::Signal(signal) => 128_u8.saturating_add(signal),
            Self::NotFound => 127,
            Self::NotExecutable => 126,
            Self::Detached => 0,
        }
    }

    /// Reads a wait status of waitpid(2).
    fn of(status: i32) -> Self {
        let low = |value: i32| u8::try_from(value & 0xff).unwrap_or(u8::MAX);
        if libc::WIFSIGNALED(status) {
            Self::Signal(low(libc::WTERMSIG(status)))
        } else {
            Self::Status(low(libc::WEXITSTATUS(status)))
        }
    }
}

/// Why a session did not come about.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The machine could not be entered.
    #[error("the machine cannot be entered")]
    Enter {
        /// Why.
        #[source]
        source: EnterError,
    },
    /// The guest has no such user.
    #[error("the machine has no user `{user}`")]
    User {
        /// The name.
        user: String,
    },
    /// A terminal or pipe of ours failed.
    #[error("{doing} failed")]
    Local {
        /// What.
        doing: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

impl Cause for SessionError {
    fn class(&self) -> Class {
        match self {
            Self::Enter { source } => source.class(),
            Self::User { .. } => Class::Unavailable,
            Self::Local { .. } => Class::Host,
        }
    }
}

fn local(doing: &'static str) -> impl FnOnce(std::io::Error) -> SessionError {
    move |source| SessionError::Local { doing, source }
}

/// Runs a command in a machine, with the caller's standard files, and tells how it ended.
///
/// # Errors
/// Where it could not be tried; a command that is not there is no error but an [`Exit`].
pub fn exec(leader: &Leader, request: &Request) -> Result<Exit, SessionError> {
    exec_by(carrier()?, leader, request)
}

/// As [`exec`], by a carrier that was started before the machine was looked for.
///
/// # Errors
/// As [`exec`].
pub fn exec_by(carrier: Carrier, leader: &Leader, request: &Request) -> Result<Exit, SessionError> {
    let payload = command(request);
    let run = if request.terminal { on_terminal } else { on_files };
    run(carrier, leader, &payload)
}

/// Starts what enters a machine, which is not known yet.
///
/// # Errors
/// Where this program cannot be executed again.
pub fn carrier() -> Result<Carrier, SessionError> {
    Carrier::start().map_err(|source| SessionError::Enter { source })
}

/// Words a request as a payload.
fn command(request: &Request) -> Payload {
    let mut env = request.emulator.color(request.terminal);
    // what was asked for by name counts
    env.retain(|(key, _)| !request.env.iter().any(|(asked, _)| asked == key));
    env.extend(request.env.iter().cloned());
    Payload {
        argv: request.argv.clone(),
        users: vec![request.user.clone().unwrap_or_else(|| "root".to_owned())],
        runs: Runs::AsUser,
        env,
        term: request.emulator.kind(request.terminal),
        cwd: request.cwd.clone(),
    }
}

/// Opens a login shell in a machine, on the caller's terminal. Needs no D-Bus in the guest.
///
/// It is util-linux's `runuser --login`, so that the guest's PAM makes it a session like any login.
///
/// # Errors
/// Where it could not be tried.
pub fn shell(
    carrier: Carrier,
    leader: &Leader,
    user: Option<&str>,
    emulator: &Emulator,
) -> Result<Exit, SessionError> {
    let terminal = pty::is_terminal();
    let users = user.map_or_else(|| vec![AGENT, "root"], |user| vec![user]);
    let env = emulator.color(terminal);
    let payload = Payload {
        argv: login(),
        users: users.into_iter().map(str::to_owned).collect(),
        runs: Runs::AsRootForUser,
        env,
        term: emulator.kind(terminal),
        cwd: Some("/".to_owned()),
    };
    let run = if terminal { on_terminal } else { on_files };
    run(carrier, leader, &payload)
}

/// Keeps the variables of a list in the login of the user behind it, where the guest's runuser can: before util-linux
/// 2.35 it cannot. Its PAM reads no locale, other than that of login(1) and sshd(8).
const LOGIN: &str = "runuser --help | grep -q -e --whitelist-environment && \
    exec runuser --whitelist-environment \"$1\" --login \"$2\"; exec runuser --login \"$2\"";

/// Words the login of a user, whose name comes behind: of all variables but `TERM` it keeps those that it is asked to.
fn login() -> Vec<String> {
    let kept = [&["COLORTERM"], &LOCALE_VARIABLES[..]].concat().join(",");
    ["sh", "-c", LOGIN, "sh", &kept].map(str::to_owned).into()
}

/// Runs agetty(8) with the arguments behind it. What is a user's own is left to login(1), which keeps all else.
///
/// **Source**: login(1), `-p`, and its source: a `HOME` that is there is not replaced.
const GETTY: &str = "unset HOME USER LOGNAME SHELL; exec agetty \"$@\"";

/// Words a console on which a user is logged in, or the one who names himself; the terminal type comes behind.
fn getty(user: Option<&str>) -> Vec<String> {
    let mut argv = vec!["sh", "-c", GETTY, "sh", "--noclear", "--noissue", "--keep-baud", "--login-options"];
    match user {
        Some(user) => argv.extend(["-p -f -- \\u", "--autologin", user]),
        None => argv.push("-p -- \\u"),
    }
    argv.push("-");
    argv.into_iter().map(str::to_owned).collect()
}

/// Opens a console of a machine on the caller's terminal: the guest's own agetty(8) and login(1), which ask who is
/// there, unless a user is named. Needs no D-Bus in the guest.
///
/// # Errors
/// Where it could not be tried.
pub fn console(leader: &Leader, user: Option<&str>, emulator: &Emulator) -> Result<Exit, SessionError> {
    let payload = Payload {
        argv: getty(user),
        users: vec![user.unwrap_or("root").to_owned()],
        runs: Runs::AsRoot,
        env: emulator.color(true),
        term: emulator.kind(true),
        cwd: Some("/".to_owned()),
    };
    on_terminal(carrier()?, leader, &payload)
}

/// Sits at a console that its backend holds, which goes on when the caller leaves.
///
/// # Errors
/// Where the caller's terminal cannot be joined to it.
pub fn attach(console: Console) -> Result<Exit, SessionError> {
    pty::attach(console).map_err(local("joining the terminals"))
}

/// Gives the caller's window as rows and columns.
#[must_use]
pub fn window() -> (u16, u16) {
    pty::size()
}

fn on_files(carrier: Carrier, leader: &Leader, payload: &Payload) -> Result<Exit, SessionError> {
    let files = pump::Files::new().map_err(local("making pipes"))?;
    let [input, output, error] = files.payload.each_ref().map(AsFd::as_fd);
    let entered =
        enter(carrier, leader, payload, Terminal::Files(Standard { input, output, error }), soon())?;
    let started = match entered {
        Ok(started) => started,
        Err(exit) => return Ok(exit),
    };
    let pumps = files.run().map_err(local("starting to copy"))?;
    let guard = forward_signals(started.pid).map_err(local("listening for signals"))?;
    let status = started.wait().map_err(local("waiting for the command"));
    let copied = pumps.finish().map_err(local("writing what the command wrote"));
    drop(guard);
    let exit = Exit::of(status?);
    copied.map(|()| exit)
}

/// When a payload must have been executed at the latest.
fn soon() -> Instant {
    Instant::now() + PATIENCE
}

fn on_terminal(carrier: Carrier, leader: &Leader, payload: &Payload) -> Result<Exit, SessionError> {
    let size = pty::size();
    let mut started = match enter(carrier, leader, payload, Terminal::New { size }, soon())? {
        Ok(started) => started,
        Err(exit) => return Ok(exit),
    };
    let Some(terminal) = started.terminal.take() else { return Ok(Exit::NotExecutable) };
    pty::join(terminal, started).map_err(local("joining the terminals"))
}

/// Enters; the inner result is the payload's own failure to begin.
fn enter(
    carrier: Carrier,
    leader: &Leader,
    payload: &Payload,
    terminal: Terminal<'_>,
    until: Instant,
) -> Result<Result<Started, Exit>, SessionError> {
    let entered = Entry::open(leader).and_then(|entry| entry.start(carrier, payload, terminal, until));
    match entered {
        Ok(started) => Ok(Ok(started)),
        Err(EnterError::NotFound { .. }) => Ok(Err(Exit::NotFound)),
        Err(EnterError::NotExecutable { .. }) => Ok(Err(Exit::NotExecutable)),
        Err(EnterError::User { user }) => Err(SessionError::User { user }),
        Err(source) => Err(SessionError::Enter { source }),
    }
}

/// How many signals within a second end this process, whatever the payload does with them.
const INSISTING: usize = 3;

/// Hands signals on to the payload until the guard is dropped.
fn forward_signals(pid: i32) -> std::io::Result<Forwarding> {
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT])?;
    let handle = signals.handle();
    std::thread::spawn(move || {
        let mut seen = Vec::new();
        for signal in signals.forever() {
            if insists(&mut seen, Instant::now()) {
                send(pid, rustix::process::Signal::KILL);
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            } else if let Some(signal) = rustix::process::Signal::from_named_raw(signal) {
                send(pid, signal);
            }
        }
    });
    Ok(Forwarding(handle))
}

/// Sends a payload a signal as the kernel would: what a terminal sends goes to all that the payload, which leads a
/// process group, has started in it. A shell that waits for a command ends with the command alone.
///
/// **Source**: termios(3), `ISIG`; setsid(2).
fn send(pid: i32, signal: rustix::process::Signal) {
    use rustix::process::{Pid, Signal, kill_process, kill_process_group};
    let Some(pid) = Pid::from_raw(pid) else { return };
    // one that has ended needs none
    let _ = match signal {
        Signal::TERM => kill_process(pid, signal),
        _ => kill_process_group(pid, signal),
    };
}

/// Returns whether one more signal is one too many.
fn insists(seen: &mut Vec<Instant>, now: Instant) -> bool {
    seen.retain(|at| now.duration_since(*at) < Duration::from_secs(1));
    seen.push(now);
    seen.len() >= INSISTING
}

struct Forwarding(signal_hook::iterator::Handle);

impl Drop for Forwarding {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_a_shells() {
        assert_eq!(Exit::of(42 << 8).code(), 42);
        assert_eq!(Exit::of(libc::SIGKILL).code(), 137);
        assert_eq!(Exit::NotFound.code(), 127);
        assert_eq!(Exit::NotExecutable.code(), 126);
    }

    #[test]
    fn three_signals_within_a_second_insist() {
        let (mut seen, now) = (Vec::new(), Instant::now());
        let at = [0, 900, 1900, 2800, 2850].map(|at| now + Duration::from_millis(at));
        assert_eq!(at.map(|at| insists(&mut seen, at)), [false, false, false, false, true]);
    }
}
