//! A process of ours in a running machine: every namespace joined, then forked and executed.
//!
//! Between fork and exec only system calls are made, on memory prepared before, because the caller may have
//! threads. There are two children: the outer one joins the namespaces and stays outside the guest's process
//! namespace, the inner one is the payload in it. Both die with their parent.
//!
//! **Source**: setns(2), pidfd_open(2), signal-safety(7), nsenter(1).

#![allow(unsafe_code, reason = "fork, setns and what must happen between them and exec have no safe form")]

use std::{
    ffi::CString,
    fs::File,
    io::{self, Read as _},
    os::fd::{AsRawFd as _, OwnedFd, RawFd},
    path::Path,
    ptr,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::Timespec,
};

use super::{label::Label, passing};
use crate::{
    error::{Cause, Class},
    machine::{Leader, guest::Account, processes},
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
            Self::Step { .. } => Class::Host,
            Self::Nul { .. } => Class::Usage,
            _ => Class::Unavailable,
        }
    }
}

/// The steps that children report, by number.
const STEPS: &[&str] = &[
    "joining the machine's cgroup",
    "joining the machine's namespaces",
    "forking in the machine",
    "entering the machine's root",
    "making a terminal",
    "taking the terminal",
    "becoming the user",
    "entering the working directory",
    "executing the command",
    "taking over the machine's confinement",
];
const CGROUP: u8 = 0;
const NAMESPACES: u8 = 1;
const FORK: u8 = 2;
const ROOT: u8 = 3;
const NEW_TERMINAL: u8 = 4;
const TAKE_TERMINAL: u8 = 5;
const USER: u8 = 6;
const CWD_STEP: u8 = 7;
const EXEC: u8 = 8;
const CONFINE: u8 = 9;

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
        let prepared = Prepared::new(payload)?;
        let (errors, errors_in) = pipe().map_err(step("making a pipe"))?;
        let (status, status_in) = pipe().map_err(step("making a pipe"))?;
        let (near, far) = socketpair().map_err(step("making a socket pair"))?;
        let child = Child {
            entry: self,
            cgroup: cgroup(&self.leader),
            label: Label::of(self.leader.pid),
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
        let Ok(patience) = Timespec::try_from(patience) else { return false };
        poll(&mut [PollFd::new(&self.status, PollFlags::IN)], Some(&patience)).is_ok_and(|ready| ready > 0)
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

/// Strings as execve(2) wants them, and pointers to them.
struct Prepared {
    candidates: Vec<CString>,
    _words: Vec<CString>,
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
    cwd: CString,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

impl Prepared {
    fn new(payload: &Payload) -> Result<Self, EnterError> {
        let text = |word: String| CString::new(word.clone()).map_err(|_| EnterError::Nul { word });
        let command = payload.argv.first().cloned().unwrap_or_default();
        let path =
            payload.env.iter().find(|(key, _)| key == "PATH").map_or("/usr/bin:/bin", |(_, path)| path);
        let candidates = if command.contains('/') {
            vec![text(command)?]
        } else {
            path.split(':').map(|folder| text(format!("{folder}/{command}"))).collect::<Result<_, _>>()?
        };
        let arguments = payload.argv.iter().cloned().map(text).collect::<Result<Vec<_>, _>>()?;
        let environment = payload.env.iter().map(|(key, value)| text(format!("{key}={value}")));
        let environment = environment.collect::<Result<Vec<_>, _>>()?;
        let pointers = |words: &[CString]| {
            words.iter().map(|word| word.as_ptr()).chain([ptr::null()]).collect::<Vec<_>>()
        };
        let (argv, envp) = (pointers(&arguments), pointers(&environment));
        let mut words = arguments;
        words.extend(environment);
        Ok(Self {
            candidates,
            _words: words,
            argv,
            envp,
            cwd: text(payload.cwd.clone())?,
            uid: payload.account.uid,
            gid: payload.account.gid,
            groups: payload.account.groups.clone(),
        })
    }
}

/// All that the children need, on the parent's memory.
struct Child<'a> {
    entry: &'a Entry,
    cgroup: Option<File>,
    label: Option<Label>,
    payload: &'a Prepared,
    terminal: Terminal,
    errors: RawFd,
    status: RawFd,
    socket: RawFd,
    parent: libc::pid_t,
}

impl Child<'_> {
    /// The outer child: joins, forks, waits, tells.
    ///
    /// # Safety
    /// Called once, in a freshly forked child.
    unsafe fn outer(&self) -> ! {
        // SAFETY: only system calls, on prepared memory, as after a fork of a threaded process there must be.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            if libc::getppid() != self.parent {
                libc::_exit(1);
            }
            default_signals();
            if let Some(cgroup) = &self.cgroup
                && libc::write(cgroup.as_raw_fd(), c"0".as_ptr().cast(), 1) != 1
            {
                self.fail(CGROUP);
            }
            if self.entry.flags != 0 && libc::setns(self.entry.pidfd.as_raw_fd(), self.entry.flags) != 0 {
                self.fail(NAMESPACES);
            }
            let outer = libc::getpid();
            let inner = libc::fork();
            match inner {
                -1 => self.fail(FORK),
                0 => self.inner(outer),
                _ => {}
            }
            // pipes and terminals must end when their own sides end, not when this process does
            libc::dup2(self.status, 0);
            libc::syscall(libc::SYS_close_range, 1, u32::MAX, 0);
            tell(0, &inner.to_ne_bytes());
            let mut status = 0;
            while libc::waitpid(inner, &raw mut status, 0) == -1 && errno() == libc::EINTR {}
            tell(0, &status.to_ne_bytes());
            libc::_exit(0)
        }
    }

    /// The inner child: becomes the payload.
    unsafe fn inner(&self, outer: libc::pid_t) -> ! {
        let payload = self.payload;
        // SAFETY: as above.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            // seen from inside the guest's process namespace the parent has no number
            let parent = libc::getppid();
            if parent != 0 && parent != outer {
                libc::_exit(1);
            }
            if self.label.as_ref().is_some_and(|label| !confine(label)) {
                self.fail(CONFINE);
            }
            if libc::fchdir(self.entry.root.as_raw_fd()) != 0 || libc::chroot(c".".as_ptr()) != 0 {
                self.fail(ROOT);
            }
            // a session of its own: it can neither take nor feed the caller's terminal
            libc::setsid();
            if self.entry.flags & libc::CLONE_NEWUSER != 0
                && (libc::setresgid(0, 0, 0) != 0 || libc::setresuid(0, 0, 0) != 0)
            {
                self.fail(USER);
            }
            let standard = match self.terminal {
                Terminal::Files(standard) => standard,
                Terminal::New { size } => self.new_terminal(size),
            };
            for (to, from) in [standard.input, standard.output, standard.error].into_iter().enumerate() {
                // moved above the three first, so that none is overwritten before its turn
                let high = libc::fcntl(from, libc::F_DUPFD, 10);
                if high < 0 || libc::dup2(high, to as libc::c_int) < 0 {
                    self.fail(TAKE_TERMINAL);
                }
                libc::close(high);
            }
            if matches!(self.terminal, Terminal::New { .. }) {
                libc::fchown(0, payload.uid, u32::MAX);
                if libc::ioctl(0, libc::TIOCSCTTY, 0) != 0 {
                    self.fail(TAKE_TERMINAL);
                }
            }
            if libc::setgroups(payload.groups.len(), payload.groups.as_ptr()) != 0
                || libc::setresgid(payload.gid, payload.gid, payload.gid) != 0
                || libc::setresuid(payload.uid, payload.uid, payload.uid) != 0
            {
                self.fail(USER);
            }
            // becoming another user cleared it
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            if libc::chdir(payload.cwd.as_ptr()) != 0 {
                self.fail(CWD_STEP);
            }
            libc::umask(0o022);
            close_above(3, &[self.errors]);
            let mut seen = libc::ENOENT;
            for candidate in &payload.candidates {
                libc::execve(candidate.as_ptr(), payload.argv.as_ptr(), payload.envp.as_ptr());
                match errno() {
                    libc::ENOENT | libc::ENOTDIR => {}
                    other => {
                        seen = other;
                        // as a shell does, a later folder may still have one that works
                        if other != libc::EACCES {
                            break;
                        }
                    }
                }
            }
            self.fail_with(EXEC, seen)
        }
    }

    /// Makes a terminal in the guest's own devpts and hands its controlling end to the parent.
    unsafe fn new_terminal(&self, (rows, columns): (u16, u16)) -> Standard {
        // SAFETY: as above.
        unsafe {
            let near = libc::open(c"/dev/pts/ptmx".as_ptr(), libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC);
            let unlocked: libc::c_int = 0;
            if near < 0 || libc::ioctl(near, libc::TIOCSPTLCK, &raw const unlocked) != 0 {
                self.fail(NEW_TERMINAL);
            }
            let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
            libc::ioctl(near, libc::TIOCSWINSZ, &raw const size);
            let far = libc::ioctl(near, libc::TIOCGPTPEER, libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC);
            if far < 0 || !passing::send(self.socket, near) {
                self.fail(NEW_TERMINAL);
            }
            libc::close(near);
            Standard { input: far, output: far, error: far }
        }
    }

    unsafe fn fail(&self, step: u8) -> ! {
        // SAFETY: as above.
        unsafe { self.fail_with(step, errno()) }
    }

    unsafe fn fail_with(&self, step: u8, errno: i32) -> ! {
        let [a, b, c, d] = errno.to_ne_bytes();
        // SAFETY: as above.
        unsafe {
            tell(self.errors, &[step, a, b, c, d]);
            libc::_exit(1)
        }
    }
}

/// Asks the kernel to confine what this process executes; its file must be opened and written with the same rights.
unsafe fn confine(label: &Label) -> bool {
    let (proc, text) = (label.proc.as_raw_fd(), label.text.as_bytes());
    // SAFETY: system calls with a string and a slice that outlive them.
    unsafe {
        let file = libc::openat(proc, label.file.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        file >= 0 && libc::write(file, text.as_ptr().cast(), text.len()) == text.len().cast_signed()
    }
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Undoes what this program does about signals, which exec would hand on.
unsafe fn default_signals() {
    // SAFETY: plain system calls on stack memory.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
        for signal in 1..32 {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
}

/// Closes every file from a number on but for one, on exec at the latest.
unsafe fn close_above(from: RawFd, keep: &[RawFd]) {
    // SAFETY: close_range only touches this process's table of files.
    unsafe {
        libc::syscall(libc::SYS_close_range, from, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
        for fd in keep {
            libc::fcntl(*fd, libc::F_SETFD, libc::FD_CLOEXEC);
        }
    }
}

unsafe fn tell(fd: RawFd, bytes: &[u8]) {
    // SAFETY: the pointer and length are of one slice.
    unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
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

fn wait_for(pid: libc::pid_t) {
    let mut status = 0;
    // SAFETY: the child is ours and is waited for once.
    while unsafe { libc::waitpid(pid, &raw mut status, 0) } == -1 && errno() == libc::EINTR {}
}
