//! A payload in a running machine, started by a process that is executed afresh for it.
//!
//! ```text
//!   sandbox exec                 what the user started: in no namespace of the guest
//!     └ sandbox internal enter   the carrier: joins all but the process namespace, becomes the user, forks
//!         └ the payload          the only one with a number in the guest
//! ```
//!
//! A guest's root may trace, stop and read any process that has a number in its process namespace. So the carrier, not
//! a fork of the caller, is what enters: its memory has the request and nothing else of the host, it has closed every
//! other descriptor, and the kernel lets no process of the guest trace it ([`carrier`]). What the fork inherits is
//! the guest's own. The payload is moved to a cgroup of the guest's last, when all that is left is to execute it.
//!
//! **Source**: setns(2), pidfd_open(2), ptrace(2), "Ptrace access mode checking"; CVE-2016-8649, CVE-2016-9962.

mod carrier;
mod message;

use std::{
    fs::{self, File},
    io::{self, Seek as _, SeekFrom, Write as _},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    fs::{MemfdFlags, memfd_create},
    net::{AddressFamily, SocketFlags, SocketType, socketpair},
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open},
};

pub use self::carrier::carry;
use self::message::{EXEC, Report, Request, STEPS, receive, send};
pub use self::message::{Payload, Runs};
use super::{
    label,
    patience::readable,
    sessions::{self, Joined},
};
use crate::{
    error::{Cause, Class},
    machine::{Leader, cgroup::MachineCgroup, frozen, seccomp::Dumps},
};

/// How long a guest may keep a payload from being executed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How long a process that was killed may take to go: one that waits for a file system of the guest's is left to it.
const LAST: Duration = Duration::from_millis(200);

/// Its three standard files.
#[derive(Clone, Copy, Debug)]
pub struct Standard<'a> {
    /// Standard input.
    pub input: BorrowedFd<'a>,
    /// Standard output.
    pub output: BorrowedFd<'a>,
    /// Standard error.
    pub error: BorrowedFd<'a>,
}

/// Whether it gets a terminal of the guest.
#[derive(Clone, Copy, Debug)]
pub enum Terminal<'a> {
    /// None: these files.
    Files(Standard<'a>),
    /// One, whose other end comes back in [`Started::terminal`].
    New {
        /// Rows, columns at the beginning.
        size: (u16, u16),
    },
}

/// A process that has been executed to enter a machine, and waits for which and for what.
///
/// To execute it takes as long as to find a machine, so that both are done at once. One that is dropped ends by itself.
#[derive(Debug)]
pub struct Carrier {
    process: Child,
    /// Takes the request; gives the payload's wait status when it ends.
    socket: OwnedFd,
}

/// A running payload.
#[derive(Debug)]
pub struct Started {
    carrier: Carrier,
    /// The payload in the host's numbers.
    pub pid: i32,
    /// The controlling end of its terminal.
    pub terminal: Option<OwnedFd>,
    joined: Option<Joined>,
}

/// Why a machine cannot be entered.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// A step failed.
    #[error("{step} failed")]
    Step {
        /// Which.
        step: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The guest has no such user.
    #[error("the machine has no user `{user}`")]
    User {
        /// The name.
        user: String,
    },
    /// A word has a NUL byte.
    #[error("`{word}` has a NUL byte")]
    Nul {
        /// The word.
        word: String,
    },
    /// The command is not in the guest.
    #[error("`{command}` is not there")]
    NotFound {
        /// The command.
        command: String,
    },
    /// The command is there and cannot be executed.
    #[error("`{command}` cannot be executed")]
    NotExecutable {
        /// The command.
        command: String,
        /// Why.
        source: io::Error,
    },
}

impl Cause for EnterError {
    fn class(&self) -> Class {
        match self {
            Self::Step { source, .. } if source.kind() == io::ErrorKind::TimedOut => Class::Unavailable,
            // a file of the guest's that is larger than what is read of it
            Self::Step { source, .. } if source.raw_os_error() == Some(libc::EFBIG) => Class::Untrusted,
            Self::Step { .. } => Class::Host,
            Self::Nul { .. } => Class::Usage,
            _ => Class::Unavailable,
        }
    }
}

fn step(step: &'static str) -> impl FnOnce(io::Error) -> EnterError {
    move |source| EnterError::Step { step, source }
}

/// A running machine, ready to be entered.
#[derive(Debug)]
pub struct Entry {
    pidfd: OwnedFd,
    root: OwnedFd,
    flags: libc::c_int,
    leader: Leader,
}

impl Entry {
    /// Opens a machine by its leader.
    ///
    /// # Errors
    /// Where the leader is gone.
    pub fn open(leader: &Leader) -> Result<Self, EnterError> {
        let pid = leader.pid;
        let gone = "opening the machine's first process";
        let raw = Pid::from_raw(pid).ok_or(io::ErrorKind::NotFound);
        let raw = raw.map_err(|kind| step(gone)(kind.into()))?;
        let pidfd = pidfd_open(raw, PidfdFlags::empty()).map_err(|errno| step(gone)(errno.into()))?;
        let root = File::open(format!("/proc/{pid}/root")).map_err(step("opening the machine's root"))?;
        let namespace = |of: &str, name: &str| fs::read_link(format!("/proc/{of}/ns/{name}"));
        let mut flags = 0;
        for (name, flag) in [
            ("user", libc::CLONE_NEWUSER),
            ("mnt", libc::CLONE_NEWNS),
            ("pid", libc::CLONE_NEWPID),
            ("uts", libc::CLONE_NEWUTS),
            ("ipc", libc::CLONE_NEWIPC),
            ("net", libc::CLONE_NEWNET),
            ("cgroup", libc::CLONE_NEWCGROUP),
        ] {
            let theirs =
                namespace(&pid.to_string(), name).map_err(step("reading the machine's namespaces"))?;
            // joining the user namespace that one is in already is refused (setns(2), EINVAL)
            if namespace("self", name).map_err(step("reading the caller's namespaces"))? != theirs {
                flags |= flag;
            }
        }
        Ok(Self { pidfd, root: root.into(), flags, leader: leader.clone() })
    }

    /// Starts a payload in the machine, which has until a deadline to let it be executed.
    ///
    /// # Errors
    /// [`EnterError::NotFound`] and [`EnterError::NotExecutable`] are the payload's, all others the machine's or the
    /// host's.
    pub fn start(
        &self,
        carrier: Carrier,
        payload: &Payload,
        terminal: Terminal<'_>,
        until: Instant,
    ) -> Result<Started, EnterError> {
        if let Some(word) = payload.words().find(|word| word.contains('\0')) {
            return Err(EnterError::Nul { word: word.clone() });
        }
        let mut started = Started { carrier, pid: 0, terminal: None, joined: None };
        let begun = self.order(payload, terminal, &started.carrier.socket);
        let begun = begun.map_err(step("asking for the payload"));
        let begun = begun.and_then(|()| self.follow(payload, terminal, &mut started, until));
        match begun {
            Ok(()) => Ok(started),
            Err(error) => {
                started.end();
                Err(error)
            }
        }
    }

    /// Hands the carrier all that it needs.
    fn order(&self, payload: &Payload, terminal: Terminal<'_>, socket: &OwnedFd) -> io::Result<()> {
        let pid = self.leader.pid;
        let label = label::Label::of(pid);
        let request = Request {
            payload: payload.clone(),
            flags: self.flags,
            parent: i32::try_from(std::process::id()).unwrap_or(0),
            bounding: bounding(pid),
            label: label.as_ref().map(|label| (label.file.to_owned(), label.text.clone())),
            system_calls: self.leader.system_calls.clone(),
            dumps: Dumps::of_machine(pid),
            size: match terminal {
                Terminal::Files(_) => None,
                Terminal::New { size } => Some(size),
            },
        };
        let mut text = File::from(memfd_create("request", MemfdFlags::CLOEXEC)?);
        text.write_all(&serde_json::to_vec(&request)?)?;
        text.seek(SeekFrom::Start(0))?;
        let mut files = vec![text.as_fd(), self.pidfd.as_fd(), self.root.as_fd()];
        if let Some(label) = &label {
            files.push(label.proc.as_fd());
        }
        send(socket, &(), &files)
    }

    /// Follows the carrier until it has executed the payload.
    fn follow(
        &self,
        payload: &Payload,
        terminal: Terminal<'_>,
        started: &mut Started,
        until: Instant,
    ) -> Result<(), EnterError> {
        let waiting = || step("waiting for the payload");
        loop {
            while let Err(late) = readable(&started.carrier.socket, until.max(Instant::now() + LAST)) {
                // one that the host has frozen cannot answer
                if !frozen::stands_still(&self.leader) {
                    return Err(waiting()(late));
                }
            }
            let (report, file) = receive(&started.carrier.socket).map_err(waiting())?;
            match report {
                Report::Terminal => {
                    let near = file.filter(|file| rustix::termios::isatty(file));
                    let near = near.ok_or_else(|| io::ErrorKind::InvalidData.into());
                    started.terminal = Some(near.map_err(step("making a terminal"))?);
                }
                Report::Ready => {
                    let Terminal::Files(Standard { input, output, error }) = terminal else {
                        return Err(waiting()(io::ErrorKind::InvalidData.into()));
                    };
                    let files = [input, output, error];
                    send(&started.carrier.socket, &(), &files).map_err(waiting())?;
                }
                Report::Born { pid } => {
                    started.pid = pid;
                    started.joined = self.join(pid).map_err(step("joining the machine's cgroup"))?;
                    send(&started.carrier.socket, &(), &[]).map_err(waiting())?;
                }
                Report::Executed => return Ok(()),
                Report::NoUser => {
                    return Err(EnterError::User { user: payload.users.last().cloned().unwrap_or_default() });
                }
                Report::Failed { step, errno } => {
                    return Err(explain(step, io::Error::from_raw_os_error(errno), payload));
                }
                Report::Ended { .. } => return Err(waiting()(io::ErrorKind::InvalidData.into())),
            }
        }
    }

    /// Moves a payload that waits to be executed to the machine's cgroup, where the hierarchy is mounted.
    fn join(&self, pid: i32) -> io::Result<Option<Joined>> {
        let delegated = self.leader.cgroup.as_ref().and_then(MachineCgroup::delegated);
        delegated.map(|directory| sessions::join(&directory, pid)).transpose()
    }
}

impl Carrier {
    /// Starts it.
    ///
    /// # Errors
    /// Where this program cannot be executed again.
    pub fn start() -> Result<Self, EnterError> {
        let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(|errno| step("making a socket pair")(errno.into()))?;
        let process = spawn(far).map_err(step("starting the process that enters the machine"))?;
        Ok(Self { process, socket: near })
    }
}

impl Started {
    /// Sends the payload a signal.
    pub fn signal(&self, signal: i32) {
        // its number is not used again before `wait`, because the carrier has not reported its end
        if let (Some(pid), Some(signal)) = (Pid::from_raw(self.pid), Signal::from_named_raw(signal)) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Tells whether the payload has ended, or does so within a time.
    #[must_use]
    pub fn ends_within(&self, patience: Duration) -> bool {
        readable(&self.carrier.socket, Instant::now() + patience).is_ok()
    }

    /// Waits for the payload's end and gives its status as waitpid(2) gives it.
    ///
    /// # Errors
    /// Where the carrier was killed before it could report.
    pub fn wait(mut self) -> io::Result<i32> {
        let report = receive(&self.carrier.socket);
        let _ = self.carrier.process.wait();
        if let Some(joined) = self.joined.take() {
            joined.leave();
        }
        match report?.0 {
            Report::Ended { status } => Ok(status),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Ends the payload and the carrier, whatever they do, and waits for nothing of the machine's.
    fn end(&mut self) {
        self.signal(libc::SIGKILL);
        let _ = self.carrier.process.kill();
        let until = Instant::now() + LAST;
        while matches!(self.carrier.process.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        if let Some(joined) = self.joined.take() {
            joined.leave();
        }
    }
}

fn explain(number: u8, source: io::Error, payload: &Payload) -> EnterError {
    let command = || payload.argv.first().cloned().unwrap_or_default();
    match (number, source.raw_os_error()) {
        (EXEC, Some(libc::ENOENT)) => EnterError::NotFound { command: command() },
        (EXEC, _) => EnterError::NotExecutable { command: command(), source },
        (number, _) => {
            let name = STEPS.get(usize::from(number)).copied().unwrap_or("a step");
            EnterError::Step { step: name, source }
        }
    }
}

/// Starts the carrier: this program once more, with a socket as its only file of the caller's.
#[expect(clippy::disallowed_methods, reason = "a Runner waits for its program, and this one is spoken with")]
fn spawn(socket: OwnedFd) -> io::Result<Child> {
    use std::os::unix::process::CommandExt as _;
    std::process::Command::new("/proc/self/exe")
        .arg0("sandbox")
        .args(CARRIER)
        .env_clear()
        .current_dir("/")
        .stdin(socket)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

/// The arguments of this program that make it a carrier, to be looked for before all others.
pub const CARRIER: [&str; 2] = ["internal", "enter"];

/// Reads which capabilities a machine's processes may have at most: what the kernel gives to a process that joins a user
/// namespace is more than the machine's own first process has.
///
/// **Source**: user_namespaces(7), "Capabilities"; proc_pid_status(5), `CapBnd`.
fn bounding(pid: i32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let set = status.lines().find_map(|line| line.strip_prefix("CapBnd:"))?;
    u64::from_str_radix(set.trim(), 16).ok()
}
