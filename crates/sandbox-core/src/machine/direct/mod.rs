//! Machines where systemd is not PID 1 outside, or machined is absent: systemd-nspawn under a supervisor of
//! ours that outlives the command.
//!
//! ```text
//! <state>/machines/NAME/
//!   rootfs            the tree
//!   supervisor.lock   held (flock) by the supervisor as long as it lives
//!   run.json          what runs: this boot of the host, the guest's first process
//!   link.json         the addresses of the link, the same at every start
//!   host0.network     what the guest's networkd is told, bound into its /etc
//!   supervisor.log    what the supervisor says
//!   supervisor.sock   asked for the machine's console
//!   console.log       what nspawn and the guest's console say, the older part in `console.log.1`
//! ```

pub mod autostart;
mod command;
mod console;
pub(in crate::machine) mod link;
pub(in crate::machine) mod run;
pub(in crate::machine) mod supervise;

use std::{
    fs, io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

pub use console::LOG_SIZE;
pub use supervise::supervise;

use super::{Backend, Console, Definition, HostLog, Kind, Leader, limits, mounts, network};
use crate::{
    Result,
    error::{Cause, Class, Context as _, Hint},
    name::MachineName,
    report::Reporter,
};

/// How often a supervisor is asked whether it is there yet, or gone.
const PAUSE: Duration = Duration::from_millis(20);

/// The backend.
#[derive(Clone, Debug)]
pub struct Direct {
    state: PathBuf,
    program: PathBuf,
}

/// What can go wrong with a supervised machine.
#[derive(Debug, thiserror::Error)]
pub enum DirectError {
    /// The host has no systemd-nspawn.
    #[error("systemd-nspawn is not installed")]
    NoNspawn,
    /// The file system or the kernel refused.
    #[error("{doing} failed ({path})", path = path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program of the host failed.
    #[error("`{command}` failed: {said}")]
    Command {
        /// Its argv, joined.
        command: String,
        /// The end of what it wrote to stderr.
        said: String,
    },
    /// The wall cannot be put up.
    #[error("the machine's wall cannot be put up")]
    Wall {
        /// Why.
        #[source]
        source: network::Error,
    },
    /// A directory of the host is not mounted in it.
    #[error(transparent)]
    Mount(#[from] mounts::MountError),
    /// The supervisor ended before the machine ran.
    #[error("it ended while it started; the end of {log}:\n{tail}", log = log.display())]
    Ended {
        /// The log.
        log: PathBuf,
        /// Its end.
        tail: String,
    },
    /// It was not there in time.
    #[error("it had no first process after {seconds} s; the end of {log}:\n{tail}", log = log.display())]
    Slow {
        /// The deadline.
        seconds: u64,
        /// The log.
        log: PathBuf,
        /// Its end.
        tail: String,
    },
    /// It is still there after it was stopped by force.
    #[error("its supervisor, process {pid}, does not end")]
    Stuck {
        /// The supervisor.
        pid: i32,
    },
    /// Another supervisor is there.
    #[error("it is supervised already")]
    Supervised,
    /// A link of its name is there, and not its own.
    #[error("the link `{link}` belongs to a machine of the same name in another state directory")]
    LinkTaken {
        /// The interface.
        link: String,
    },
    /// The host's systemd does not start machines with the host.
    #[error("the host's systemd cannot be told to start it with the host")]
    Autostart {
        /// Why.
        #[source]
        source: Box<super::nspawn::Error>,
    },
    /// No free addresses.
    #[error("every subnet of 10.213.0.0/16, 172.30.0.0/16 and 192.168.0.0/16 is in use")]
    NoSubnet,
}

impl Cause for DirectError {
    fn class(&self) -> Class {
        match self {
            Self::Wall { source } => source.class(),
            Self::Mount(source) => source.class(),
            Self::Autostart { source } => source.class(),
            Self::Supervised | Self::LinkTaken { .. } => Class::Unavailable,
            _ => Class::Host,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::NoNspawn => vec![Hint::run("install it", "apt-get install systemd-container")],
            Self::Wall { source } => source.hints(),
            Self::Mount(source) => source.hints(),
            _ => Vec::new(),
        }
    }
}

fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DirectError {
    let path = path.to_owned();
    move |source| DirectError::Io { doing, path, source }
}

impl Direct {
    /// Makes the backend of a state directory; `program` is the absolute path of this program.
    #[must_use]
    pub fn new(state: &Path, program: &Path) -> Self {
        Self { state: state.to_owned(), program: program.to_owned() }
    }

    fn folder(&self, name: &MachineName) -> PathBuf {
        folder(&self.state, name)
    }

    fn begin(&self, definition: &Definition, deadline: Duration) -> Result<(), DirectError> {
        let folder = self.folder(&definition.name);
        let begun = Instant::now();
        // one whose machine has just ended tidies up
        while run::supervisor_lives(&folder)? {
            if begun.elapsed() >= deadline || run::leader(&folder)?.is_some() {
                return Err(DirectError::Supervised);
            }
            thread::sleep(PAUSE);
        }
        supervise::clean(definition, &folder)?;
        let log = folder.join("supervisor.log");
        let mut child = self.spawn(definition, &log)?;
        let begun = Instant::now();
        loop {
            if run::leader(&folder)?.is_some() {
                return Ok(());
            }
            if child.try_wait().map_err(io("waiting for the supervisor", &log))?.is_some() {
                let tail = run::tail(&[&log, &folder.join("console.log")]);
                return Err(DirectError::Ended { log, tail });
            }
            if begun.elapsed() >= deadline {
                let tail = run::tail(&[&log, &folder.join("console.log")]);
                let _ = self.end(definition, Duration::from_secs(5));
                return Err(DirectError::Slow { seconds: deadline.as_secs(), log, tail });
            }
            thread::sleep(PAUSE);
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the supervisor outlives this process and its Runner")]
    fn spawn(&self, definition: &Definition, log: &Path) -> Result<std::process::Child, DirectError> {
        let file = fs::File::create(log).map_err(io("making the log", log))?;
        let copy = file.try_clone().map_err(io("making the log", log))?;
        let mut command = std::process::Command::new(&self.program);
        command
            .arg("--state-dir")
            .arg(&self.state)
            .args(["internal", "supervise", definition.name.as_str()])
            .env_clear()
            .env("PATH", command::PATH)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(copy);
        #[allow(unsafe_code, reason = "what must happen between fork and exec has no safe form")]
        // SAFETY: the closure makes one system call. A session of its own: no terminal reaches the supervisor.
        unsafe {
            command.pre_exec(|| Ok(rustix::process::setsid().map(|_| ())?));
        }
        command.spawn().map_err(io("starting the supervisor", &self.program))
    }

    fn with_the_host(&self, definition: &Definition, gone: bool) -> Result<(), DirectError> {
        autostart::set(&self.state, &self.program, definition, gone)
            .map_err(|source| DirectError::Autostart { source: Box::new(source) })
    }

    fn end(&self, definition: &Definition, deadline: Duration) -> Result<(), DirectError> {
        let folder = self.folder(&definition.name);
        let patience = [deadline, Duration::from_secs(5), Duration::from_secs(5)];
        for (round, patience) in patience.into_iter().enumerate() {
            let Some(supervisor) = run::supervisor(&folder)? else {
                return supervise::clean(definition, &folder);
            };
            // first a clean shutdown, then nspawn's immediate one, then none at all: what runs below the
            // supervisor has asked to die with it
            let signal =
                if round < 2 { rustix::process::Signal::TERM } else { rustix::process::Signal::KILL };
            if let Some(pid) = rustix::process::Pid::from_raw(supervisor) {
                let _ = rustix::process::kill_process(pid, signal);
            }
            let begun = Instant::now();
            while begun.elapsed() < patience {
                if !run::supervisor_lives(&folder)? {
                    return supervise::clean(definition, &folder);
                }
                thread::sleep(PAUSE);
            }
        }
        match run::supervisor(&folder)? {
            Some(pid) => Err(DirectError::Stuck { pid }),
            None => supervise::clean(definition, &folder),
        }
    }
}

/// Gives the folder of a machine below a state directory.
fn folder(state: &Path, name: &MachineName) -> PathBuf {
    state.join("machines").join(name)
}

impl Backend for Direct {
    fn kind(&self) -> Kind {
        Kind::Direct
    }

    fn tree(&self, name: &MachineName) -> PathBuf {
        self.folder(name).join("rootfs")
    }

    fn admit(&self, definition: &Definition) -> Result<()> {
        self.define(definition)
    }

    fn define(&self, definition: &Definition) -> Result<()> {
        command::nspawn().map(drop).during("define", subject(definition))
    }

    fn start(&self, definition: &Definition, deadline: Duration, _reporter: &dyn Reporter) -> Result<()> {
        self.begin(definition, deadline).during("start", subject(definition))
    }

    fn stop(&self, definition: &Definition, deadline: Duration, _reporter: &dyn Reporter) -> Result<()> {
        self.end(definition, deadline).during("stop", subject(definition))
    }

    fn undefine(&self, definition: &Definition) -> Result<()> {
        self.end(definition, Duration::from_secs(10)).during("undefine", subject(definition))?;
        match definition.chosen.autostart {
            Some(_) => self.with_the_host(definition, true).during("undefine", subject(definition)),
            None => Ok(()),
        }
    }

    fn autostart(&self, definition: &Definition, _earlier: &[MachineName]) -> Result<()> {
        // `start --all` keeps the order
        self.with_the_host(definition, false).during("change the start of", subject(definition))
    }

    fn apply(&self, definition: &Definition) -> Result<()> {
        let Some(leader) = self.leader(&definition.name)? else { return Ok(()) };
        match leader.cgroup.and_then(|cgroup| cgroup.directory()) {
            Some(own) => limits::set(Path::new("/sys/fs/cgroup"), &own, &definition.chosen.limits)
                .during("change", subject(definition)),
            None => Ok(()),
        }
    }

    fn console(&self, name: &MachineName, rows: u16, columns: u16) -> Result<Option<Console>> {
        let folder = self.folder(name);
        match console::connect(&folder, &format!("console {rows} {columns}\n")) {
            Ok(stream) => Ok(Some(Console {
                stream,
                resize: Box::new(move |rows, columns| {
                    let _ = console::connect(&folder, &format!("size {rows} {columns}\n"));
                }),
            })),
            // a supervisor of an earlier version has none
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                Ok(None)
            }
            Err(source) => Err(io("connecting to the supervisor", &folder)(source))
                .during("attach to", format!("machine `{name}`")),
        }
    }

    fn host_log(&self, definition: &Definition) -> HostLog {
        let folder = self.folder(&definition.name);
        let files = ["supervisor.log", "console.log.1", "console.log"];
        HostLog::Files(files.map(|file| folder.join(file)).to_vec())
    }

    fn leader(&self, name: &MachineName) -> Result<Option<Leader>> {
        let folder = self.folder(name);
        let found = run::leader(&folder).during("look at", format!("machine `{name}`"))?;
        Ok(found.map(|leader| supervise::in_cgroup(leader, name, &folder)))
    }
}

fn subject(definition: &Definition) -> String {
    format!("machine `{}`", definition.name)
}
