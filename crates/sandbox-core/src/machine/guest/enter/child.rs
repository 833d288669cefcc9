//! What happens between fork and exec: only system calls, on memory that the parent has prepared.

use std::{
    ffi::CString,
    fs::File,
    os::fd::{AsRawFd as _, RawFd},
    ptr,
};

use super::{EnterError, Entry, Payload, Standard, Terminal, errno};
use crate::machine::{
    guest::{label::Label, passing},
    seccomp::Filter,
};

/// The steps that children report, by number.
pub(super) const STEPS: &[&str] = &[
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
pub(super) const EXEC: u8 = 8;
const CONFINE: u8 = 9;

/// Strings as execve(2) wants them, and pointers to them.
pub(super) struct Prepared {
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
    pub(super) fn new(payload: &Payload) -> Result<Self, EnterError> {
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
pub(super) struct Child<'a> {
    pub(super) entry: &'a Entry,
    /// The list of processes of the cgroup that it goes to.
    pub(super) cgroup: Option<File>,
    /// How it is confined.
    pub(super) label: Option<Label>,
    /// The filter of the machine, which a process that joins it does not inherit.
    pub(super) filter: Filter,
    pub(super) payload: &'a Prepared,
    pub(super) terminal: Terminal,
    /// Where a step that failed is told.
    pub(super) errors: RawFd,
    /// Where the payload's number and its status are told.
    pub(super) status: RawFd,
    /// Where the controlling end of its terminal goes.
    pub(super) socket: RawFd,
    pub(super) parent: libc::pid_t,
}

impl Child<'_> {
    /// The outer child: joins, forks, waits, tells.
    ///
    /// # Safety
    /// Called once, in a freshly forked child.
    pub(super) unsafe fn outer(&self) -> ! {
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
            if self.label.as_ref().is_some_and(|label| !confine(label)) || self.filter.install().is_err() {
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
