//! A process of ours in a running machine: every namespace joined, then forked and executed.
//!
//! Between fork and exec only system calls are made, on memory prepared before, because the caller may have
//! threads. There are two children: the outer one joins the namespaces and stays outside the guest's process
//! namespace, the inner one is the payload in it. Both die with their parent.
//!
//! **Source**: setns(2), pidfd_open(2), signal-safety(7), nsenter(1).

#![allow(unsafe_code, reason = "fork, setns and what must happen between them and exec have no safe form")]

mod child;

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsRawFd as _, OwnedFd, RawFd},
    path::Path,
    time::{Duration, Instant},
};

use self::child::{Child, EXEC, Prepared, STEPS};
use super::{label::Label, passing, patience::readable};
use crate::{
    error::{Cause, Class},
    machine::{
        Leader,
        guest::Account,
        processes,
        seccomp::{Dumps, Filter},
    },
};

/// What runs in the guest.
#[derive(Clone, Debug)]
pub struct Payload {
    /// The command and its arguments; the first is looked for in `PATH` where it has no slash.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// The working directory.
    pub cwd: String,
    /// Who it runs as.
    pub account: Account,
}

/// Its three standard files.
#[derive(Clone, Copy, Debug)]
pub struct Standard {
    /// Standard input.
    pub input: RawFd,
    /// Standard output.
    pub output: RawFd,
    /// Standard error.
    pub error: RawFd,
}

/// Whether it gets a terminal of the guest.
#[derive(Clone, Copy, Debug)]
pub enum Terminal {
    /// None: these files.
    Files(Standard),
    /// One, whose other end comes back in [`Started::terminal`].
    New {
        /// Rows, columns at the beginning.
        size: (u16, u16),
    },
}

/// A running payload.
#[derive(Debug)]
pub struct Started {
    /// The outer child, ours to wait for.
    outer: libc::pid_t,
    /// The payload in the host's numbers.
    pub pid: i32,
    /// Gives the payload's wait status when it ends.
    status: File,
    /// The controlling end of its terminal.
    pub terminal: Option<OwnedFd>,
}

/// Why a machine cannot be entered.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// A step of ours failed.
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
            Self::Step { source, .. } => crate::host::live::class_of(source, Class::Host),
            Self::Nul { .. } => Class::Usage,
            _ => Class::Unavailable,
        }
    }
}

/// The cgroup of what is run in a machine from outside, beside those of its own systemd.
const SESSIONS: &str = ".sandbox";

/// The open doors of a running machine.
#[derive(Debug)]
pub struct Entry {
    pidfd: OwnedFd,
    root: OwnedFd,
    flags: libc::c_int,
    leader: Leader,
}

fn step(step: &'static str) -> impl FnOnce(io::Error) -> EnterError {
    move |source| EnterError::Step { step, source }
}

impl Entry {
    /// Opens a machine by its leader.
    ///
    /// # Errors
    /// Where the leader is gone.
    pub fn open(leader: &Leader) -> Result<Self, EnterError> {
        let pid = leader.pid;
        let gone = "opening the machine's first process";
        let raw = rustix::process::Pid::from_raw(pid)
            .ok_or_else(|| EnterError::Step { step: gone, source: io::ErrorKind::NotFound.into() })?;
        let pidfd = rustix::process::pidfd_open(raw, rustix::process::PidfdFlags::empty())
            .map_err(|errno| step(gone)(errno.into()))?;
        let root = File::open(format!("/proc/{pid}/root")).map_err(step("opening the machine's root"))?;
        let namespace = |of: &str, name: &str| std::fs::read_link(format!("/proc/{of}/ns/{name}"));
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
            if namespace("self", name).map_err(step("reading our namespaces"))? != theirs {
                flags |= flag;
            }
        }
        Ok(Self { pidfd, root: root.into(), flags, leader: *leader })
    }

    /// Gives the machine's first process as setns(2) takes it.
    pub(super) const fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }

    /// Gives the machine's root folder.
    pub(super) const fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// Gives those namespaces that are not ours, as flags of setns(2).
    pub(super) const fn flags(&self) -> libc::c_int {
        self.flags
    }

    /// Starts a payload in the machine.
    ///
    /// # Errors
    /// [`EnterError::NotFound`] and [`EnterError::NotExecutable`] are the payload's, all others ours.
    pub fn start(&self, payload: &Payload, terminal: Terminal) -> Result<Started, EnterError> {
        self.start_by(payload, terminal, None)
    }

    /// Starts a payload in the machine, which may not let it begin: until then is waited for it.
    pub(super) fn start_by(
        &self,
        payload: &Payload,
        terminal: Terminal,
        until: Option<Instant>,
    ) -> Result<Started, EnterError> {
        let prepared = Prepared::new(payload)?;
        let (errors, errors_in) = pipe().map_err(step("making a pipe"))?;
        let (status, status_in) = pipe().map_err(step("making a pipe"))?;
        let (near, far) = socketpair().map_err(step("making a socket pair"))?;
        let child = Child {
            entry: self,
            cgroup: cgroup(&self.leader),
            label: Label::of(self.leader.pid),
            filter: Filter::new::<&str>(&[], Dumps::of_host()),
            payload: &prepared,
            terminal,
            errors: errors_in.as_raw_fd(),
            status: status_in.as_raw_fd(),
            socket: far.as_raw_fd(),
            parent: i32::try_from(std::process::id()).unwrap_or(0),
        };
        // SAFETY: the child makes only system calls on memory that was prepared, and never returns.
        let outer = unsafe { libc::fork() };
        match outer {
            -1 => return Err(step("forking")(io::Error::last_os_error())),
            // SAFETY: this is the single-threaded child of a fork.
            0 => unsafe { child.outer() },
            _ => {}
        }
        drop((errors_in, status_in, far));
        if let Some(Err(late)) = until.map(|until| readable(&errors, until)) {
            end(outer);
            return Err(step("waiting for the payload")(late));
        }
        let mut status = File::from(status);
        let mut report = [0_u8; 5];
        let failed =
            read_all(&mut File::from(errors), &mut report).map_err(step("waiting for the payload"))?;
        if failed {
            wait_for(outer);
            let errno = io::Error::from_raw_os_error(i32::from_ne_bytes([
                report[1], report[2], report[3], report[4],
            ]));
            return Err(explain(report[0], errno, payload));
        }
        let mut pid = [0_u8; 4];
        if !read_all(&mut status, &mut pid).map_err(step("waiting for the payload"))? {
            wait_for(outer);
            return Err(step("starting the payload")(io::ErrorKind::UnexpectedEof.into()));
        }
        let terminal = match terminal {
            Terminal::Files(_) => None,
            Terminal::New { .. } => Some(receive(&near).map_err(step("making a terminal"))?),
        };
        Ok(Started { outer, pid: i32::from_ne_bytes(pid), status, terminal })
    }
}

impl Started {
    /// Sends the payload a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: a plain system call; a process that is gone gives an error that means nothing here. Its
        // number is not reused before `wait`, because the outer child has not reported its end.
        unsafe { libc::kill(self.pid, signal) };
    }

    /// Tells whether the payload has ended, or does so within a time.
    #[must_use]
    pub fn ends_within(&self, patience: Duration) -> bool {
        readable(&self.status, Instant::now() + patience).is_ok()
    }

    /// Ends the payload, whatever it does, and waits for nothing of the machine's.
    pub(super) fn abandon(self) {
        end(self.outer);
    }

    /// Waits for the payload's end and gives its status as waitpid(2) gives it.
    ///
    /// # Errors
    /// Where the outer child was killed before it could tell.
    pub fn wait(mut self) -> io::Result<i32> {
        let mut status = [0_u8; 4];
        let told = read_all(&mut self.status, &mut status);
        wait_for(self.outer);
        if told? { Ok(i32::from_ne_bytes(status)) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
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

/// Opens the list of processes of a cgroup of the machine that is nobody's but its sessions', where there is a unified
/// hierarchy; the first process's own where that is not systemd.
///
/// With it, in `init.scope`, they would all be ended together by the guest's systemd when one of them had taken too
/// much memory.
///
/// **Source**: systemd.scope(5), `OOMPolicy=`; lxc-attach(1) has `.lxc` for the same.
fn cgroup(leader: &Leader) -> Option<File> {
    let open = |folder: &Path| File::options().write(true).open(folder.join("cgroup.procs")).ok();
    let own = processes::cgroup_folder(leader)?;
    if !processes::is_in_scope(leader) {
        return open(&own);
    }
    let (scope, sessions) = (own.join("init.scope"), own.join(SESSIONS));
    match std::fs::create_dir(&sessions) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => open(&scope),
        _ => open(&sessions).or_else(|| open(&scope)),
    }
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Receives one file that must be a terminal: the guest's side may lie.
fn receive(socket: &OwnedFd) -> io::Result<OwnedFd> {
    let fd = passing::receive(socket)?;
    if rustix::termios::isatty(&fd) { Ok(fd) } else { Err(io::ErrorKind::InvalidData.into()) }
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

fn socketpair() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?)
}

/// Reads a whole buffer; false where the other side ended before its first byte.
fn read_all(file: &mut File, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Kills the outer child, with which the payload goes, and waits for it: it waits outside the guest.
fn end(outer: libc::pid_t) {
    // SAFETY: a plain system call; the child is ours, and its number is taken until it is waited for.
    unsafe { libc::kill(outer, libc::SIGKILL) };
    wait_for(outer);
}

fn wait_for(pid: libc::pid_t) {
    let mut status = 0;
    // SAFETY: the child is ours and is waited for once.
    while unsafe { libc::waitpid(pid, &raw mut status, 0) } == -1 && errno() == libc::EINTR {}
}
