//! The carrier: a process of this program that enters a machine and becomes the payload's parent.
//!
//! What a guest's root could do to a process of the host that it can name decides the order here.
//!
//! 1. Nothing of the caller's is left: descriptors are closed, the environment is empty, there is a new session and a new
//!    keyring. The kernel refuses every process of the guest access to its memory and files from here on: it is not
//!    dumpable, and its memory belongs to the host's user namespace, because it was executed there.
//! 2. It joins the namespaces. It still has no number in the guest: joining a process namespace counts for children.
//! 3. It becomes the payload's user, with the guest's ids, groups and capabilities; no id of the host is left. Each such
//!    change may make it dumpable again (`fs.suid_dumpable`) and forgets whose end is its end, so that both are
//!    repeated.
//! 4. It is given the payload's files, and forks. The child has a number in the guest, the payload's three files and two pipes, and waits.
//! 5. The caller moves the child to a cgroup of the machine and lets it execute the payload.
//!
//! Where there is no user namespace (`--privileged`), the guest's root is the host's and may do all of it; what it finds
//! then is still only the request.
//!
//! **Source**: ptrace(2), "Ptrace access mode checking"; prctl(2), `PR_SET_DUMPABLE`, `PR_SET_PDEATHSIG`; capabilities(7);
//! keyctl(2), `KEYCTL_JOIN_SESSION_KEYRING`; CVE-2016-8649, CVE-2016-9962, CVE-2019-5736.

#![allow(unsafe_code, reason = "fork, execve, setresuid and some others have no safe form")]

use std::{
    ffi::CString,
    fs::File,
    io::{self, Read as _},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
    ptr,
};

use nix::sched::{CloneFlags, setns};
use rustix::{
    fs::{CWD, Mode, OFlags, open, openat},
    io::{Errno, fcntl_dupfd_cloexec, write},
    pipe::{PipeFlags, pipe_with},
    process::{
        DumpableBehavior, Pid, Signal, chroot, fchdir, getppid, set_dumpable_behavior,
        set_parent_process_death_signal, setsid, umask,
    },
};

use super::message::{
    CONFINE, DIRECTORY, EXEC, FORK, NAMESPACES, NEW_TERMINAL, Payload, REQUEST, ROOT, Report, Request, Runs,
    TAKE_TERMINAL, USER, USERS, receive_all, send,
};
use crate::{
    host::live,
    machine::{
        guest::{environment, passwd, terminfo},
        seccomp::Filter,
    },
};

/// The lowest number of a descriptor that is not the payload's.
const OURS: RawFd = 10;

/// A step that failed, and why.
struct Failed(u8, io::Error);

/// Lets a step be named.
trait At<T> {
    fn at(self, step: u8) -> Result<T, Failed>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, step: u8) -> Result<T, Failed> {
        self.map_err(|error| Failed(step, error.into()))
    }
}

/// What comes of it before there is a payload.
enum Refused {
    Step(Failed),
    NoUser,
}

impl From<Failed> for Refused {
    fn from(failed: Failed) -> Self {
        Self::Step(failed)
    }
}

/// Enters a machine as the socket at standard input requests, and waits for the payload's end.
///
/// To be called first of all in a process that was executed for it ([`super::CARRIER`]): with one thread, and nothing read
/// of its surroundings.
pub fn carry() {
    let Ok(socket) = secluded() else { return };
    let reported = match entered(&socket) {
        Ok(born) => wait(&socket, born),
        Err(Refused::NoUser) => send(&socket, &Report::NoUser, &[]),
        Err(Refused::Step(Failed(step, error))) => {
            let other = if live::is_excess(&error) { libc::EFBIG } else { libc::EIO };
            let errno = error.raw_os_error().unwrap_or(other);
            send(&socket, &Report::Failed { step, errno }, &[])
        }
    };
    // the caller is gone: there is no process to report that to
    drop(reported);
}

/// Leaves all of the caller's behind but the socket.
fn secluded() -> io::Result<OwnedFd> {
    guard()?;
    let socket = fcntl_dupfd_cloexec(rustix::stdio::stdin(), OURS)?;
    keep_only(&mut [0, 1, 2, socket.as_raw_fd()]);
    default_signals();
    // neither the caller's terminal nor what is sent to its process group
    setsid()?;
    // SAFETY: a plain system call without a pointer. A kernel without keys has none to leave behind.
    unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, 0) };
    // a payload may not be spared where the machine's other processes are not
    let score = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    if score.trim_start().starts_with('-') {
        std::fs::write("/proc/self/oom_score_adj", "0")?;
    }
    umask(Mode::from_raw_mode(0o022));
    Ok(socket)
}

/// Closes its memory and files to the guest, and has it end with the caller.
fn guard() -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// A child that waits to execute the payload.
struct Born {
    pid: libc::pid_t,
    /// Lets it.
    go: OwnedFd,
    /// Ends when it has, or gives why not.
    errors: OwnedFd,
}

fn entered(socket: &OwnedFd) -> Result<Born, Refused> {
    let ((), files) = receive_all(socket).at(REQUEST)?;
    let mut files = files.into_iter();
    let mut next = || files.next().ok_or(io::Error::from(io::ErrorKind::UnexpectedEof)).at(REQUEST);
    let (mut text, pidfd, root) = (File::from(next()?), next()?, next()?);
    let mut bytes = Vec::new();
    text.read_to_end(&mut bytes).at(REQUEST)?;
    let request: Request = serde_json::from_slice(&bytes).map_err(io::Error::from).at(REQUEST)?;
    drop(text);
    let proc = request.label.is_some().then(next).transpose()?;
    let filter = Filter::new(&request.system_calls, request.dumps);

    let flags = CloneFlags::from_bits_truncate(request.flags);
    let has_users = flags.contains(CloneFlags::CLONE_NEWUSER);
    if !flags.is_empty() {
        setns(&pidfd, flags).at(NAMESPACES)?;
    }
    if let (Some(proc), Some((file, label))) = (&proc, &request.label) {
        let file = openat(proc, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).at(CONFINE)?;
        write(&file, label.as_bytes()).at(CONFINE)?;
    }
    fchdir(&root).and_then(|()| chroot(".")).at(ROOT)?;
    bound(request.bounding).at(USER)?;
    if has_users {
        become_user(0, 0, &[]).at(USER)?;
    }
    // it is the machine's filter, which a process that joins from outside does not inherit
    filter.install().at(CONFINE)?;
    with_parent(&request).at(REQUEST)?;
    drop((pidfd, proc));

    let root = open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).at(ROOT)?;
    let user = first_user(&root, &request.payload)?;
    let execution = Execution::new(&root, &request.payload, user).at(REQUEST)?;
    drop(root);
    let account = &execution.account;
    let terminal = request.size.map(|size| new_terminal(socket, size, account.uid).at(NEW_TERMINAL));
    let terminal = terminal.transpose()?;
    become_user(account.uid, account.gid, &account.groups).at(USER)?;
    with_parent(&request).at(REQUEST)?;
    execution.enter_directory(request.payload.cwd.is_some()).at(DIRECTORY)?;
    // only now: a file system of the guest may have held this process for good, with all that it has
    let standard = match terminal {
        Some(terminal) => terminal,
        None => standard_files(socket).at(REQUEST)?,
    };
    Ok(born(standard, &execution, request.size.is_some())?)
}

/// Asks for the payload's three files.
fn standard_files(socket: &OwnedFd) -> io::Result<[OwnedFd; 3]> {
    send(socket, &Report::Ready, &[])?;
    let ((), files) = receive_all(socket)?;
    files.try_into().map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Guards it again after a change of its ids, and looks whether the caller is still there to end with.
fn with_parent(request: &Request) -> io::Result<()> {
    guard()?;
    match getppid().map(Pid::as_raw_nonzero).is_some_and(|parent| parent.get() == request.parent) {
        true => Ok(()),
        false => Err(io::ErrorKind::NotFound.into()),
    }
}

/// Gives up the capabilities that the machine's own processes cannot have.
fn bound(allowed: Option<u64>) -> io::Result<()> {
    let Some(allowed) = allowed else { return Ok(()) };
    for number in (0..64).filter(|number| allowed & (1 << number) == 0) {
        // SAFETY: a plain system call without a pointer.
        let done = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) };
        match io::Error::last_os_error() {
            error if done != 0 && error.raw_os_error() != Some(libc::EINVAL) => return Err(error),
            // a kernel has fewer than numbers
            _ => {}
        }
    }
    Ok(())
}

/// Takes ids and groups, for this process of one thread.
fn become_user(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    // SAFETY: plain system calls; the pointer and length are of one slice.
    let became = unsafe {
        libc::setgroups(groups.len(), groups.as_ptr()) == 0
            && libc::setresgid(gid, gid, gid) == 0
            && libc::setresuid(uid, uid, uid) == 0
    };
    if became { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Finds the first of the users that the guest has.
fn first_user(root: &OwnedFd, payload: &Payload) -> Result<passwd::Account, Refused> {
    for user in &payload.users {
        if let Some(account) = passwd::account(root, user).at(USERS)? {
            return Ok(account);
        }
    }
    Err(Refused::NoUser)
}

/// All that execve(2) takes.
struct Execution {
    account: passwd::Account,
    candidates: Vec<CString>,
    argv: Vec<CString>,
    env: Vec<CString>,
    directory: String,
}

impl Execution {
    fn new(root: &OwnedFd, payload: &Payload, user: passwd::Account) -> io::Result<Self> {
        let text = |word: String| CString::new(word).map_err(io::Error::from);
        let term = terminfo::known(root, &payload.term, &user.home);
        let mut argv = payload.argv.clone();
        match payload.runs {
            Runs::AsUser => {}
            Runs::AsRoot => argv.push(term.clone()),
            Runs::AsRootForUser => argv.push(user.name.clone()),
        }
        let account = match payload.runs {
            Runs::AsUser => user,
            Runs::AsRoot | Runs::AsRootForUser => {
                passwd::account(root, "root")?.ok_or(io::Error::from(io::ErrorKind::NotFound))?
            }
        };
        let env = environment::of(root, &Payload { term, ..payload.clone() }, &account);
        let directory = payload.cwd.clone().unwrap_or_else(|| account.home.clone());
        let directory = if directory.is_empty() { "/".to_owned() } else { directory };
        let path = env.iter().find(|(key, _)| key == "PATH").map_or("/usr/bin:/bin", |(_, path)| path);
        let command = argv.first().cloned().unwrap_or_default();
        let candidates = if command.contains('/') {
            vec![text(command)?]
        } else {
            path.split(':')
                .map(|directory| text(format!("{directory}/{command}")))
                .collect::<Result<_, _>>()?
        };
        let env = env.into_iter().map(|(key, value)| text(format!("{key}={value}")));
        let env = env.collect::<Result<_, _>>()?;
        let argv = argv.into_iter().map(text).collect::<Result<_, _>>()?;
        Ok(Self { account, candidates, argv, env, directory })
    }

    /// Goes to its directory. A home that is not there, or not for its user, is `/`, as for login(1).
    fn enter_directory(&self, was_asked_for: bool) -> rustix::io::Result<()> {
        match rustix::process::chdir(&*self.directory) {
            Err(_) if !was_asked_for => rustix::process::chdir("/"),
            entered => entered,
        }
    }

    /// Executes the payload; returns only why it could not.
    fn execute(&self) -> Errno {
        let pointers = |words: &[CString]| {
            words.iter().map(|word| word.as_ptr()).chain([ptr::null()]).collect::<Vec<_>>()
        };
        let (argv, env) = (pointers(&self.argv), pointers(&self.env));
        let mut seen = Errno::NOENT;
        for candidate in &self.candidates {
            // SAFETY: strings that outlive the call, in arrays that end with a null pointer.
            unsafe { libc::execve(candidate.as_ptr(), argv.as_ptr(), env.as_ptr()) };
            match Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO) {
                Errno::NOENT | Errno::NOTDIR => {}
                other => {
                    seen = other;
                    // as a shell does, a later directory may still have one that works
                    if other != Errno::ACCESS {
                        break;
                    }
                }
            }
        }
        seen
    }
}

/// Makes a terminal in the guest's devpts and hands its controlling end to the caller.
fn new_terminal(socket: &OwnedFd, (rows, columns): (u16, u16), owner: u32) -> io::Result<[OwnedFd; 3]> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let near = openat(CWD, "/dev/pts/ptmx", flags, Mode::empty())?;
    rustix::io::ioctl_fionbio(&near, false)?;
    rustix::pty::unlockpt(&near)?;
    let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&near, size)?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the request takes flags and gives a new descriptor or -1.
    let far = unsafe {
        match libc::ioctl(near.as_raw_fd(), libc::TIOCGPTPEER, flags) {
            -1 => return Err(io::Error::last_os_error()),
            far => OwnedFd::from_raw_fd(far),
        }
    };
    // one whose owner cannot be changed still works
    let _ = rustix::fs::fchown(&far, Some(rustix::fs::Uid::from_raw(owner)), None);
    send(socket, &Report::Terminal, &[std::os::fd::AsFd::as_fd(&near)])?;
    Ok([far.try_clone()?, far.try_clone()?, far])
}

/// Forks the child that is to be the payload.
fn born(standard: [OwnedFd; 3], execution: &Execution, terminal: bool) -> Result<Born, Failed> {
    let high = |fd: OwnedFd| fcntl_dupfd_cloexec(&fd, OURS);
    let pipe = || pipe_with(PipeFlags::CLOEXEC).and_then(|(from, to)| Ok((high(from)?, high(to)?))).at(FORK);
    let ((wait, go), (errors, errors_in)) = (pipe()?, pipe()?);
    // above the three first, so that none is overwritten before its turn
    let standard = standard.map(high);
    for (to, from) in (0..).zip(standard) {
        let from = from.at(TAKE_TERMINAL)?;
        // SAFETY: plain system calls with numbers of descriptors.
        if unsafe { libc::dup2(from.as_raw_fd(), to) } < 0 {
            return Err(io::Error::last_os_error()).at(TAKE_TERMINAL);
        }
    }
    // SAFETY: this process has one thread, so that its child may do what any process may.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()).at(FORK),
        0 => {
            // ended with all that it has: none of it is to be dropped twice
            std::mem::forget((go, errors));
            let Failed(step, error) = inner(&wait, &errors_in, execution, terminal);
            let [a, b, c, d] = error.raw_os_error().unwrap_or(libc::EIO).to_ne_bytes();
            let _ = write(&errors_in, &[step, a, b, c, d]);
            // SAFETY: ends the child without running anything of its parent's.
            unsafe { libc::_exit(1) }
        }
        pid => Ok(Born { pid, go, errors }),
    }
}

/// The child: executes the payload when it may; returns only why it could not.
fn inner(wait: &OwnedFd, errors: &OwnedFd, execution: &Execution, terminal: bool) -> Failed {
    let prepared = || {
        keep_only(&mut [0, 1, 2, wait.as_raw_fd(), errors.as_raw_fd()]);
        set_parent_process_death_signal(Some(Signal::KILL)).at(FORK)?;
        // neither can it take or feed a terminal of the carrier's, which has none
        setsid().at(FORK)?;
        if terminal {
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()).at(TAKE_TERMINAL)?;
        }
        // a carrier that has ended closes its end
        match rustix::io::retry_on_intr(|| rustix::io::read(wait, &mut [0_u8; 1][..])) {
            Ok(1) => Ok(()),
            other => Err(other.err().unwrap_or(Errno::PIPE)).at(FORK),
        }
    };
    match prepared() {
        Ok(()) => Failed(EXEC, execution.execute().into()),
        Err(failed) => failed,
    }
}

/// Reports the payload's begin and end.
fn wait(socket: &OwnedFd, born: Born) -> io::Result<()> {
    let Born { pid, go, errors } = born;
    // pipes and terminals must end when their own sides end, not when this process does
    keep_only(&mut [socket.as_raw_fd(), go.as_raw_fd(), errors.as_raw_fd()]);
    send(socket, &Report::Born { pid }, &[])?;
    receive_all::<()>(socket)?;
    // a child that is gone is reported below
    let _ = write(&go, &[1]);
    let mut failed = [0; 5];
    match File::from(errors).read_exact(&mut failed) {
        Ok(()) => {
            let [step, errno @ ..] = failed;
            send(socket, &Report::Failed { step, errno: i32::from_ne_bytes(errno) }, &[])?;
        }
        Err(_) => send(socket, &Report::Executed, &[])?,
    }
    let mut status = 0;
    // SAFETY: the child is this process's own, and the pointer is to this frame.
    while unsafe { libc::waitpid(pid, &raw mut status, 0) } == -1
        && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
    {}
    send(socket, &Report::Ended { status }, &[])
}

/// Closes all descriptors but some.
fn keep_only(keep: &mut [RawFd]) {
    keep.sort_unstable();
    let mut first = 0;
    for kept in keep.iter().chain([&RawFd::MAX]) {
        if *kept > first {
            // SAFETY: the descriptors belong to values that are not used or dropped after this, see the callers.
            unsafe { libc::syscall(libc::SYS_close_range, first, kept - 1, 0) };
        }
        first = kept.saturating_add(1);
    }
}

/// Undoes what this program does about signals, which exec would hand on.
fn default_signals() {
    // SAFETY: plain system calls on stack memory.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
        for signal in 1..=libc::SIGRTMAX() {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
}
