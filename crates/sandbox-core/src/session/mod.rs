//! One command or shell in a machine.

mod health;
mod probe;
mod pty;
mod pump;

use std::os::fd::AsRawFd as _;

pub use health::{Outcome, health};
pub use probe::{Probed, probe};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use crate::{
    error::{Cause, Class},
    machine::{
        Console, Leader,
        guest::{self, Account, EnterError, Entry, Payload, Standard, Started, Terminal},
    },
};

/// The search path of a session, as Debian's login gives root.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

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
    /// The caller's terminal type.
    pub term: String,
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
    let account = find(leader, request.user.as_deref().unwrap_or("root"))?;
    let payload = Payload {
        argv: request.argv.clone(),
        env: environment(leader, &account, request, request.terminal),
        cwd: request.cwd.clone().unwrap_or_else(|| account.home.clone()),
        account,
    };
    let payload = with_a_folder(payload, request.cwd.is_none());
    if request.terminal { on_terminal(leader, &payload) } else { on_files(leader, &payload) }
}

/// Opens a login shell in a machine, on the caller's terminal. Needs no D-Bus in the guest.
///
/// It is util-linux's `runuser --login`, so that the guest's PAM makes it a session like any login.
///
/// # Errors
/// Where it could not be tried.
pub fn shell(leader: &Leader, user: Option<&str>, term: &str) -> Result<Exit, SessionError> {
    let account = match user {
        Some(user) => find(leader, user)?,
        None => match guest::account(leader, AGENT).map_err(|source| SessionError::Enter { source })? {
            Some(account) => account,
            None => find(leader, "root")?,
        },
    };
    let root = find(leader, "root")?;
    let terminal = pty::is_terminal();
    let request = Request { term: term.to_owned(), ..Request::default() };
    let payload = Payload {
        argv: ["runuser", "--login", &account.name].map(str::to_owned).to_vec(),
        env: own_environment(&root, &request, terminal),
        cwd: "/".to_owned(),
        account: root,
    };
    if terminal { on_terminal(leader, &payload) } else { on_files(leader, &payload) }
}

/// Opens a console of a machine on the caller's terminal: the guest's own agetty(8) and login(1), which ask who is
/// there, unless a user is named. Needs no D-Bus in the guest.
///
/// # Errors
/// Where it could not be tried.
pub fn console(leader: &Leader, user: Option<&str>, term: &str) -> Result<Exit, SessionError> {
    let root = find(leader, "root")?;
    let mut argv = vec!["agetty", "--noclear", "--noissue", "--keep-baud"];
    if let Some(user) = user {
        find(leader, user)?;
        argv.extend(["--autologin", user]);
    }
    argv.extend(["-", term]);
    let request = Request { term: term.to_owned(), ..Request::default() };
    let payload = Payload {
        argv: argv.into_iter().map(str::to_owned).collect(),
        env: own_environment(&root, &request, true),
        cwd: "/".to_owned(),
        account: root,
    };
    on_terminal(leader, &payload)
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

fn find(leader: &Leader, user: &str) -> Result<Account, SessionError> {
    match guest::account(leader, user).map_err(|source| SessionError::Enter { source })? {
        Some(account) => Ok(account),
        None => Err(SessionError::User { user: user.to_owned() }),
    }
}

/// A home that is not there is no reason not to run: then it is `/`, as login(1) does it.
fn with_a_folder(mut payload: Payload, is_home: bool) -> Payload {
    if is_home && payload.cwd.is_empty() {
        "/".clone_into(&mut payload.cwd);
    }
    payload
}

/// The environment of a command: a session's own, over it what the guest sets for everybody, over that what is
/// asked for. So a profile's variables are there as a login would have them.
fn environment(
    leader: &Leader,
    account: &Account,
    request: &Request,
    terminal: bool,
) -> Vec<(String, String)> {
    let own = own_environment(account, &Request { env: Vec::new(), ..request.clone() }, terminal);
    asked_over(guest::variables(leader, own), request)
}

fn own_environment(account: &Account, request: &Request, terminal: bool) -> Vec<(String, String)> {
    let term = if terminal && pty::is_terminal() { request.term.as_str() } else { "dumb" };
    let own = [
        ("PATH", PATH),
        ("HOME", &account.home),
        ("USER", &account.name),
        ("LOGNAME", &account.name),
        ("SHELL", &account.shell),
        ("LANG", "C.UTF-8"),
        ("TERM", term),
    ];
    asked_over(own.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(), request)
}

fn asked_over(mut all: Vec<(String, String)>, request: &Request) -> Vec<(String, String)> {
    all.retain(|(key, _)| !request.env.iter().any(|(asked, _)| asked == key));
    all.extend(request.env.iter().cloned());
    all
}

fn on_files(leader: &Leader, payload: &Payload) -> Result<Exit, SessionError> {
    let files = pump::Files::new().map_err(local("making pipes"))?;
    let standard = Standard {
        input: files.payload[0].as_raw_fd(),
        output: files.payload[1].as_raw_fd(),
        error: files.payload[2].as_raw_fd(),
    };
    let started = match enter(leader, payload, Terminal::Files(standard))? {
        Ok(started) => started,
        Err(exit) => return Ok(exit),
    };
    let pumps = files.run();
    let pid = started.pid;
    let guard = forward_signals(pid).map_err(local("listening for signals"))?;
    let status = started.wait().map_err(local("waiting for the command"));
    drop(guard);
    pumps.finish();
    status.map(Exit::of)
}

fn on_terminal(leader: &Leader, payload: &Payload) -> Result<Exit, SessionError> {
    let size = pty::size();
    let mut started = match enter(leader, payload, Terminal::New { size })? {
        Ok(started) => started,
        Err(exit) => return Ok(exit),
    };
    let Some(terminal) = started.terminal.take() else { return Ok(Exit::NotExecutable) };
    pty::join(terminal, started).map_err(local("joining the terminals"))
}

/// Enters; the inner result is the payload's own failure to begin.
fn enter(
    leader: &Leader,
    payload: &Payload,
    terminal: Terminal,
) -> Result<Result<Started, Exit>, SessionError> {
    let entered = Entry::open(leader).and_then(|entry| entry.start(payload, terminal));
    match entered {
        Ok(started) => Ok(Ok(started)),
        Err(EnterError::NotFound { .. }) => Ok(Err(Exit::NotFound)),
        Err(EnterError::NotExecutable { .. }) => Ok(Err(Exit::NotExecutable)),
        Err(source) => Err(SessionError::Enter { source }),
    }
}

/// Hands signals on to the payload until the guard is dropped.
fn forward_signals(pid: i32) -> std::io::Result<Forwarding> {
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT])?;
    let handle = signals.handle();
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if let (Some(pid), Some(signal)) =
                (rustix::process::Pid::from_raw(pid), rustix::process::Signal::from_named_raw(signal))
            {
                let _ = rustix::process::kill_process(pid, signal);
            }
        }
    });
    Ok(Forwarding(handle))
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
    fn what_is_asked_for_replaces_the_sessions_own() {
        let account = Account {
            name: "agent".to_owned(),
            uid: 1000,
            gid: 1000,
            groups: Vec::new(),
            home: "/home/agent".to_owned(),
            shell: "/bin/bash".to_owned(),
        };
        let env = vec![("PATH".to_owned(), "/x".to_owned()), ("A".to_owned(), "b=c".to_owned())];
        let request = Request { env, ..Request::default() };
        let all = own_environment(&account, &request, false);
        let get = |key: &str| all.iter().filter(|(name, _)| name == key).collect::<Vec<_>>();
        assert_eq!(get("PATH"), [&("PATH".to_owned(), "/x".to_owned())]);
        assert_eq!(get("A")[0].1, "b=c");
        assert_eq!(get("HOME")[0].1, "/home/agent");
        assert_eq!(get("TERM")[0].1, "dumb");
    }
}
