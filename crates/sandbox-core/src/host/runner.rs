//! Programs, as data: what runs, in which tree, cut off from what.
//!
//! A contained program runs in mount, process, network, IPC and host-name namespaces of its own, with the
//! tree as its only root: it sees no process, no network and no file of the host. Between fork and exec only
//! system calls are made, on memory prepared before, because the caller has threads.
//!
//! **Source**: namespaces(7), pivot_root(2), seccomp(2), signal-safety(7).

#![allow(unsafe_code, reason = "what must happen between fork and exec has no safe form")]

use std::{
    ffi::{CStr, CString, OsStr, OsString},
    fmt,
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::{ffi::OsStrExt as _, process::CommandExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::Stdio,
    ptr,
};

use super::{
    descriptors,
    excerpt::excerpt,
    substitute::{Prepared, Substitute},
};
use crate::error::{Cause, Class, Hint};

/// The search path of programs, as Debian's login gives root.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Finds a program of the host that commands may name.
#[must_use]
pub fn program(name: &str) -> Option<PathBuf> {
    PATH.split(':').map(|directory| Path::new(directory).join(name)).find(|path| path.is_file())
}

/// A program to run.
#[derive(Clone, Debug, Default)]
pub struct Command {
    /// The program and its arguments.
    pub argv: Vec<OsString>,
    /// Variables beside `PATH`; nothing is inherited.
    pub env: Vec<(String, String)>,
    /// The tree that it runs contained in; none runs it on the host.
    pub tree: Option<PathBuf>,
    /// With the host's network; only for what declares that it needs it.
    pub network: bool,
    /// Requests to write to the disk at once are passed over: the tree is synced once, at the end.
    pub unsynced: bool,
    /// Who runs it in the tree; root where nobody is named.
    pub person: Option<Person>,
    /// Programs of the tree that it finds replaced.
    pub substitutes: Vec<Substitute>,
}

/// Somebody's numbers in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The user's.
    pub uid: u32,
    /// Its own group's.
    pub gid: u32,
    /// Its groups', its own among them.
    pub groups: Vec<u32>,
}

impl Command {
    /// Makes a command of its words.
    pub fn new<W: AsRef<OsStr>>(argv: impl IntoIterator<Item = W>) -> Self {
        Self { argv: argv.into_iter().map(|word| word.as_ref().to_owned()).collect(), ..Self::default() }
    }

    /// Runs it contained in a tree.
    #[must_use]
    pub fn in_tree(mut self, tree: &Path) -> Self {
        self.tree = Some(tree.to_owned());
        self
    }

    /// Adds a variable.
    #[must_use]
    pub fn env(mut self, key: &str, value: impl Into<String>) -> Self {
        self.env.push((key.to_owned(), value.into()));
        self
    }

    fn words(&self) -> String {
        let words: Vec<_> = self.argv.iter().map(|word| word.to_string_lossy()).collect();
        words.join(" ")
    }
}

/// What a program that ended well left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// What it wrote, both streams as they came.
    pub text: String,
}

/// Why a program did not end well.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    /// It could not be started.
    #[error("`{command}` cannot be run{place}")]
    Start {
        /// Its argv, joined.
        command: String,
        /// The tree.
        place: Place,
        /// Why.
        source: io::Error,
    },
    /// It failed.
    #[error("`{command}`{place} ended with {ended}; its last lines:\n{tail}")]
    Failed {
        /// Its argv, joined.
        command: String,
        /// The tree.
        place: Place,
        /// `status 1`, `signal 9`.
        ended: String,
        /// Its last lines.
        tail: String,
    },
}

/// Where a program ran, for messages.
#[derive(Clone, Debug)]
pub struct Place(Option<PathBuf>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(tree) => write!(f, " in {}", tree.display()),
            None => Ok(()),
        }
    }
}

impl RunnerError {
    /// Says that a command could not be started.
    pub(crate) fn start(command: &Command, source: io::Error) -> Self {
        Self::Start { command: command.words(), place: Place(command.tree.clone()), source }
    }
}

impl Cause for RunnerError {
    fn class(&self) -> Class {
        match self {
            Self::Start { .. } => Class::Host,
            Self::Failed { .. } => Class::Unavailable,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Start { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                vec![Hint::run("see what this host allows", "sandbox doctor")]
            }
            _ => Vec::new(),
        }
    }
}

/// Runs programs.
pub trait Runner: Send + Sync {
    /// Runs a program to its end.
    ///
    /// # Errors
    /// Where it cannot be started or does not end with status 0.
    fn run(&self, command: &Command) -> Result<Output, RunnerError>;
}

/// The runner of real processes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Processes;

impl Processes {
    /// Makes one.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl Runner for Processes {
    #[expect(clippy::disallowed_methods, reason = "this is the one door to programs")]
    fn run(&self, command: &Command) -> Result<Output, RunnerError> {
        let place = || Place(command.tree.clone());
        let start = |source| RunnerError::Start { command: command.words(), place: place(), source };
        let mut output = tempfile::tempfile().map_err(start)?;
        let (first, second) = (output.try_clone().map_err(start)?, output.try_clone().map_err(start)?);
        let mut process =
            std::process::Command::new(command.argv.first().map_or(OsStr::new(""), |word| word));
        process.args(command.argv.iter().skip(1)).env_clear().env("PATH", PATH);
        process.envs(command.env.iter().map(|(key, value)| (key, value)));
        process.stdin(Stdio::null()).stdout(first).stderr(second).current_dir("/");
        let walls = match &command.tree {
            Some(tree) => Some(Walls::new(tree, command).map_err(start)?),
            None => None,
        };
        // SAFETY: the closure makes system calls only, on memory that was prepared.
        unsafe {
            process.pre_exec(move || {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                inherit_nothing();
                libc::umask(0o022);
                walls.as_ref().map_or(Ok(()), |walls| walls.close_in())
            });
        }
        let status = process.status().map_err(start)?;
        let text = read(&mut output).map_err(start)?;
        if status.success() {
            return Ok(Output { text });
        }
        let ended = match (status.code(), status.signal()) {
            (Some(code), _) => format!("status {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "no status".to_owned(),
        };
        let tail = excerpt(&text);
        Err(RunnerError::Failed { command: command.words(), place: place(), ended, tail })
    }
}

fn read(output: &mut std::fs::File) -> io::Result<String> {
    let mut bytes = Vec::new();
    output.seek(SeekFrom::Start(0))?;
    output.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What is prepared before the fork.
struct Walls {
    tree: CString,
    flags: libc::c_int,
    filter: Option<Vec<libc::sock_filter>>,
    person: Option<Person>,
    substitutes: Vec<Prepared>,
}

/// Nodes of a tree's /dev, by name and number; links go beside them.
const NODES: &[(&CStr, u32, u32)] = &[
    (c"dev/null", 1, 3),
    (c"dev/zero", 1, 5),
    (c"dev/full", 1, 7),
    (c"dev/random", 1, 8),
    (c"dev/urandom", 1, 9),
    (c"dev/tty", 5, 0),
];

const LINKS: &[(&CStr, &CStr)] = &[
    (c"/proc/self/fd", c"dev/fd"),
    (c"/proc/self/fd/0", c"dev/stdin"),
    (c"/proc/self/fd/1", c"dev/stdout"),
    (c"/proc/self/fd/2", c"dev/stderr"),
    (c"pts/ptmx", c"dev/ptmx"),
];

impl Walls {
    fn new(tree: &Path, command: &Command) -> io::Result<Self> {
        let mut flags = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
        if !command.network {
            flags |= libc::CLONE_NEWNET;
        }
        Ok(Self {
            tree: CString::new(tree.as_os_str().as_bytes())?,
            flags,
            filter: if command.unsynced { unsynced_filter() } else { None },
            person: command.person.clone(),
            substitutes: command.substitutes.iter().map(Prepared::new).collect::<io::Result<_>>()?,
        })
    }

    /// Goes into the tree and closes everything behind. Returns in the process that is to execute, the first
    /// one of its namespace; the one between waits for it and ends as it ends.
    fn close_in(&self) -> io::Result<()> {
        // SAFETY: between fork and exec, system calls on prepared memory only.
        unsafe {
            check(libc::unshare(self.flags))?;
            let child = libc::fork();
            check(child)?;
            if child > 0 {
                wait_and_follow(child);
            }
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            self.mounts()?;
            for substitute in &self.substitutes {
                substitute.mount();
            }
            if let Some(filter) = &self.filter {
                let program = libc::sock_fprog {
                    len: u16::try_from(filter.len()).unwrap_or(0),
                    filter: filter.as_ptr().cast_mut(),
                };
                // without no_new_privs, which would take set-id programs their rights: we have CAP_SYS_ADMIN
                check(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program))?;
            }
            if let Some(person) = &self.person {
                become_person(person)?;
            }
        }
        Ok(())
    }

    unsafe fn mounts(&self) -> io::Result<()> {
        let none = ptr::null();
        let mount = |what: &CStr, to: &CStr, kind: &CStr, flags: libc::c_ulong, data: &CStr| {
            // SAFETY: all are strings with their ends.
            check(unsafe {
                libc::mount(what.as_ptr(), to.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast())
            })
        };
        let strict = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        // SAFETY: as in `close_in`.
        unsafe {
            check(libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, ptr::null()))?;
            let tree = self.tree.as_ptr();
            check(libc::mount(tree, tree, none, libc::MS_BIND, ptr::null()))?;
            check(libc::chdir(tree))?;
            for folder in [c"proc", c"sys", c"dev"] {
                libc::mkdir(folder.as_ptr(), 0o755);
            }
            mount(c"proc", c"proc", c"proc", strict, c"")?;
            mount(c"sysfs", c"sys", c"sysfs", strict | libc::MS_RDONLY, c"")
                .or_else(|_| mount(c"tmpfs", c"sys", c"tmpfs", strict | libc::MS_RDONLY, c""))?;
            mount(c"tmpfs", c"dev", c"tmpfs", libc::MS_NOSUID, c"mode=755")?;
            for (path, major, minor) in NODES {
                let kind = libc::S_IFCHR | 0o666;
                check(libc::mknod(path.as_ptr(), kind, libc::makedev(*major, *minor)))?;
                check(libc::chmod(path.as_ptr(), 0o666))?;
            }
            for (target, link) in LINKS {
                check(libc::symlink(target.as_ptr(), link.as_ptr()))?;
            }
            for folder in [c"dev/pts", c"dev/shm"] {
                check(libc::mkdir(folder.as_ptr(), 0o755))?;
            }
            let private = c"newinstance,ptmxmode=0666,mode=620,gid=5";
            mount(c"devpts", c"dev/pts", c"devpts", libc::MS_NOSUID | libc::MS_NOEXEC, private)?;
            mount(c"tmpfs", c"dev/shm", c"tmpfs", libc::MS_NOSUID | libc::MS_NODEV, c"mode=1777")?;
            // the old root ends up below the new one, and is taken away (pivot_root(2), NOTES)
            check(
                i32::try_from(libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()))
                    .unwrap_or(-1),
            )?;
            check(libc::umount2(c".".as_ptr(), libc::MNT_DETACH))?;
            check(libc::chdir(c"/".as_ptr()))?;
            libc::sethostname(c"localhost".as_ptr(), 9);
        }
        Ok(())
    }
}

/// Takes from a program to be what its caller happened to have: descriptors, the terminal, ignored signals,
/// core files. Neither a shell's pipe nor `nohup` nor the user's terminal is a package's script's to use.
///
/// The signal mask is the standard library's to empty.
///
/// # Safety
/// Between fork and exec.
unsafe fn inherit_nothing() {
    // SAFETY: system calls on stack memory.
    unsafe {
        // not closed: one of them is the pipe by which a failed exec is told
        descriptors::keep_private();
        // without a terminal of its own: nothing can be typed into the user's (TIOCSTI), nothing asked there
        libc::setsid();
        // by number, as libc refuses those that it keeps for itself and a caller may have ignored all the same
        let default = [0_u64; 4];
        for signal in 1..=64_i64 {
            let old = ptr::null_mut::<u64>();
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), old, size_of::<u64>());
        }
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
    }
}

/// Gives up root for good.
///
/// # Safety
/// Between fork and exec.
unsafe fn become_person(person: &Person) -> io::Result<()> {
    // SAFETY: system calls on prepared memory.
    unsafe {
        check(libc::setgroups(person.groups.len(), person.groups.as_ptr()))?;
        check(libc::setresgid(person.gid, person.gid, person.gid))?;
        check(libc::setresuid(person.uid, person.uid, person.uid))?;
        // becoming another user cleared it
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
    }
    Ok(())
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Waits for a child and ends as it ended.
unsafe fn wait_and_follow(child: libc::pid_t) -> ! {
    // SAFETY: system calls on stack memory.
    unsafe {
        // the pipe by which a failed exec is told must be the child's alone
        libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0);
        let mut status = 0;
        while libc::waitpid(child, &raw mut status, 0) < 0 {
            if io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
                libc::_exit(255);
            }
        }
        if libc::WIFSIGNALED(status) {
            let signal = libc::WTERMSIG(status);
            libc::signal(signal, libc::SIG_DFL);
            libc::kill(libc::getpid(), signal);
        }
        libc::_exit(libc::WEXITSTATUS(status))
    }
}

/// A filter that answers requests to sync with success.
///
/// **Source**: seccomp(2); mkosi's `--suppress-sync`, which measured what they cost.
fn unsynced_filter() -> Option<Vec<libc::sock_filter>> {
    #[cfg(target_arch = "x86_64")]
    const ARCH: u32 = 0xc000_003e;
    #[cfg(target_arch = "aarch64")]
    const ARCH: u32 = 0xc000_00b7;
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    const ARCH: u32 = 0;
    const LOAD: u16 = 0x20;
    const EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const ALLOW: u32 = 0x7fff_0000;
    const ERRNO_0: u32 = 0x0005_0000;
    if ARCH == 0 {
        return None;
    }
    let calls = [
        libc::SYS_fsync,
        libc::SYS_fdatasync,
        libc::SYS_sync,
        libc::SYS_syncfs,
        libc::SYS_msync,
        libc::SYS_sync_file_range,
    ];
    let op = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    // struct seccomp_data: the number at byte 0, the architecture at byte 4
    let mut filter =
        vec![op(LOAD, 0, 0, 4), op(EQUAL, 1, 0, ARCH), op(RETURN, 0, 0, ALLOW), op(LOAD, 0, 0, 0)];
    for (at, call) in calls.iter().enumerate() {
        let left = u8::try_from(calls.len() - at).ok()?;
        filter.push(op(EQUAL, left, 0, u32::try_from(*call).ok()?));
    }
    filter.push(op(RETURN, 0, 0, ALLOW));
    filter.push(op(RETURN, 0, 0, ERRNO_0));
    Some(filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_program_tells_its_story() {
        let error =
            Processes::new().run(&Command::new(["sh", "-c", "echo one; echo two >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(text.ends_with("ended with status 3; its last lines:\none\ntwo"), "{text}");
        let error = Processes::new().run(&Command::new(["sh", "-c", "kill -9 $$"])).unwrap_err();
        assert!(error.to_string().contains("signal 9"), "{error}");
        let error = Processes::new().run(&Command::new(["/nowhere/x"])).unwrap_err();
        assert!(matches!(error, RunnerError::Start { .. }));
    }

    #[test]
    fn the_filter_jumps_to_its_last_line() {
        let filter = unsynced_filter().unwrap();
        for (at, line) in filter.iter().enumerate().skip(4).take(6) {
            assert_eq!(at + 1 + usize::from(line.jt), filter.len() - 1);
        }
    }
}
