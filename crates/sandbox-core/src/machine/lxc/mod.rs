//! Machines run by liblxc: unprivileged containers that root starts.
//!
//! ```text
//! /var/lib/lxc/NAME/config    written whole; `lxc-start`, `lxc-attach` and `lxc-ls` work with it
//! <state>/machines/NAME/
//!   rootfs                    the tree
//!   idmap.json                the first of the host's ids that are the guest's
//!   link.json                 the addresses of the link, the same at every start
//!   host0.network             what the guest's networkd is told, mounted into its /etc
//!   seccomp.policy, init      the filter on its system calls, and what installs all of it
//!   stopping, again           who stops it; that its guest rebooted
//!   run.json                  what runs: this boot of the host, the guest's first process
//!   lxc.log, start.log        what liblxc and lxc-start say
//!   console.log, …log.1       what the guest's console says, rotated by liblxc
//! ```

pub mod config;
mod error;
mod foreign;
mod hooks;
pub mod idmap;
mod mounts;
mod reboot;
mod refusal;
mod tool;

use std::{
    fs, iter,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

pub use error::LxcError;
use error::io;
pub use hooks::{leave_profile, prepare, started};
pub use reboot::{is_wanted, rebooted};
pub use tool::{Version, apparmor, version};

use super::{
    Backend, Definition, Foreign, HostLog, Kind, Leader,
    cgroup::MachineCgroup,
    direct::{run, supervise},
    limits, network,
    seccomp::{self, Dumps},
};
use crate::{
    Result,
    error::Context as _,
    host::tail,
    name::MachineName,
    report::{Event, Phase, Reporter},
};

/// Where LXC's containers are.
pub const CONTAINERS: &str = "/var/lib/lxc";

/// A container's configuration in its folder.
const CONFIG: &str = "config";

const STOPPED: &str = "STOPPED";

/// How often a container is asked whether it is there yet, or gone.
const PAUSE: Duration = Duration::from_millis(20);

/// How long a machine has to begin its shutdown before it is asked again: one that has not come so far as to handle
/// the signal drops it.
const REPEAT: Duration = Duration::from_secs(3);

/// How long killed processes may take to go.
const LAST: Duration = Duration::from_secs(60);

/// The backend.
#[derive(Clone, Debug)]
pub struct Lxc {
    state: PathBuf,
}

impl Lxc {
    /// Makes the backend of a state directory.
    #[must_use]
    pub fn new(state: &Path) -> Self {
        Self { state: state.to_owned() }
    }

    /// Tells whether the host has what this backend needs: an LXC that is new enough, and ids.
    ///
    /// # Errors
    /// What is missing, with a hint.
    pub fn probe(&self) -> Result<Version, LxcError> {
        let version = tool::version()?;
        idmap::check(&self.state.join("machines"))?;
        Ok(version)
    }

    fn folder(&self, name: &MachineName) -> PathBuf {
        self.state.join("machines").join(name)
    }

    /// Sees that no container of somebody else's has the name.
    fn is_free(&self, definition: &Definition) -> Result<(), LxcError> {
        let path = config_of(&definition.name);
        let folder = path.parent().unwrap_or(&path);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // a container that LXC is making has a folder first; ours, whose writer was killed, a file at most
                let partial = run::partial(folder, CONFIG);
                let taken = fs::read_dir(folder)
                    .is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(|it| it.path() != partial)));
                return if taken { Err(LxcError::Foreign { path: folder.to_owned() }) } else { Ok(()) };
            }
            Err(error) => return Err(io("reading the file", path)(error)),
        };
        if is_of(&text, &self.tree(&definition.name)) { Ok(()) } else { Err(LxcError::Foreign { path }) }
    }

    fn write(&self, definition: &Definition) -> Result<(), LxcError> {
        tool::version()?;
        refusal::check(definition)?;
        self.is_free(definition)?;
        let folder = self.folder(&definition.name);
        let lock = idmap::lock()?;
        let base = idmap::of(&definition.name, &folder)?;
        let facts = config::Facts {
            definition,
            state: &self.state,
            base,
            apparmor: tool::apparmor(),
            dumps: Dumps::of(&definition.chosen.limits),
            controllers: &limits::controllers(),
        };
        let policy = seccomp::policy(&definition.needs.system_calls, facts.dumps);
        run::write(&folder, config::POLICY, policy.as_bytes()).map_err(LxcError::Link)?;
        if config::HAS_STUB {
            self.write_stub(definition, facts.dumps)?;
        }
        let path = config_of(&definition.name);
        ensure(&path, &config::config(&facts))?;
        drop(lock);
        Ok(())
    }

    /// Writes the guest's first program, which its machine's directory shows to no user of the host.
    fn write_stub(&self, definition: &Definition, dumps: Dumps) -> Result<(), LxcError> {
        let folder = self.folder(&definition.name);
        let filter = seccomp::Filter::new(&definition.needs.system_calls, dumps);
        let path = folder.join(config::STUB);
        run::write(&folder, config::STUB, &seccomp::stub(&filter, "/sbin/init")).map_err(LxcError::Link)?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&path, mode).map_err(io("making it executable", path))
    }

    fn begin(&self, definition: &Definition, deadline: Duration) -> Result<(), LxcError> {
        let name = &definition.name;
        // also what the host's AppArmor is may have changed
        self.write(definition)?;
        let begun = Instant::now();
        let mut state = tool::state(name)?;
        // the monitor of one that has just ended has its name for a moment longer
        while (state != STOPPED || tool::is_running(name.as_str())) && begun.elapsed() < REPEAT {
            thread::sleep(PAUSE);
            state = tool::state(name)?;
        }
        if state != STOPPED {
            return Err(LxcError::Running { state });
        }
        self.end_remains(name);
        let folder = self.folder(name);
        let (log, said) = (folder.join("lxc.log"), folder.join("start.log"));
        let _ = fs::remove_file(&log);
        let file = fs::File::create(&said).map_err(io("making the log", &said))?;
        let copy = file.try_clone().map_err(io("making the log", &said))?;
        // what hooks say is told at this level only
        let arguments = ["-o", &log.to_string_lossy(), "-l", "DEBUG"];
        let mut child = tool::command("lxc-start", &["-P", CONTAINERS, "-n", name.as_str(), "-d"])
            .args(arguments)
            .stdout(file)
            .stderr(copy)
            .spawn()
            .map_err(io("starting the program", "lxc-start"))?;
        let begun = Instant::now();
        let tail = || tail(&log, &said);
        loop {
            if let Some(status) = child.try_wait().map_err(io("waiting for lxc-start", &said))? {
                return match status.success() && self.recorded(name)?.is_some() {
                    true => Ok(()),
                    false => Err(LxcError::Ended { tail: tail(), log: log.clone() }),
                };
            }
            if begun.elapsed() >= deadline {
                let _ = child.kill();
                let _ = child.wait();
                let _ = tool::kill(name);
                return Err(LxcError::Slow { seconds: deadline.as_secs(), tail: tail(), log: log.clone() });
            }
            thread::sleep(PAUSE);
        }
    }

    fn recorded(&self, name: &MachineName) -> Result<Option<Leader>, LxcError> {
        run::recorded(&self.folder(name)).map_err(LxcError::Link)
    }

    fn end(&self, name: &MachineName, deadline: Duration, reporter: &dyn Reporter) -> Result<(), LxcError> {
        let until = Instant::now() + deadline;
        let folder = self.folder(name);
        let _stopping = reboot::Stopping::note(&folder)?;
        let mut state = tool::state(name)?;
        while state != STOPPED && Instant::now() < until {
            let left = until.saturating_duration_since(Instant::now()).min(REPEAT);
            tool::shut_down(name, left.as_secs().max(1))?;
            state = tool::state(name)?;
        }
        if state != STOPPED {
            let text =
                format!("{name} did not shut down within {} s and is ended by force", deadline.as_secs());
            reporter.report(Event::Warning { text });
            tool::kill(name)?;
            let until = Instant::now() + LAST;
            state = tool::state(name)?;
            while state != STOPPED && Instant::now() < until {
                thread::sleep(PAUSE);
                state = tool::state(name)?;
            }
        }
        if state != STOPPED {
            return Err(LxcError::Stuck { state });
        }
        // one that was rebooting is not started again by who asks before its monitor is gone
        let begun = Instant::now();
        while tool::is_running(name.as_str()) && begun.elapsed() < REPEAT {
            thread::sleep(PAUSE);
        }
        self.end_remains(name);
        Ok(())
    }

    /// Ends what outlives a monitor that was killed, and waits a little for the link to go: the kernel takes a dead
    /// network namespace down behind one's back.
    fn end_remains(&self, name: &MachineName) {
        for kind in ["payload", "monitor"] {
            let cgroup = Path::new("/sys/fs/cgroup").join(format!("lxc.{kind}.{name}"));
            // a name that only differs at its end is another container's
            if cgroup.exists() && config_of(name).exists() {
                supervise::end_cgroup(&cgroup);
            }
        }
        // liblxc takes another name where the first one is in use; one that is in use cannot be removed
        for number in 1..10 {
            let _ = fs::remove_dir(format!("/sys/fs/cgroup/lxc.monitor.{name}-{number}"));
        }
        // where there are hierarchies of version 1, each has them, and liblxc leaves them after a start that failed
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = fs::remove_dir(hierarchy.path().join(format!("lxc.monitor.{name}")));
            let _ = fs::remove_dir(hierarchy.path().join(format!("lxc.payload.{name}")));
        }
        let link = Path::new("/sys/class/net").join(network::interface(name));
        let begun = Instant::now();
        while link.exists() && begun.elapsed() < REPEAT {
            thread::sleep(PAUSE);
        }
        let _ = fs::remove_file(self.folder(name).join("run.json"));
    }

    fn remove(&self, definition: &Definition) -> Result<(), LxcError> {
        let name = &definition.name;
        let path = config_of(name);
        let folder = path.parent().unwrap_or(&path);
        let ours = fs::read_to_string(&path).is_ok_and(|text| is_of(&text, &self.tree(name)));
        if ours {
            self.end(name, Duration::ZERO, &crate::report::Silent)?;
            // what liblxc wrote itself
            let _ = fs::remove_dir_all(folder.join("apparmor"));
            let _ = fs::remove_file(format!("/run/lxc/lock{CONTAINERS}/.{name}"));
            fs::remove_file(&path).map_err(io("removing the file", &path))?;
        }
        if !path.exists() {
            // also what a killed writer or remover left
            let _ = fs::remove_file(run::partial(folder, CONFIG));
            // snapshots that were made by hand stay, and their folder with them
            let _ = fs::remove_dir(folder);
        }
        hooks::sweep(name, &self.folder(name))
    }
}

/// Gives what matters of the logs of a start that failed.
fn tail(log: &Path, said: &Path) -> String {
    let text = String::from_utf8_lossy(&tail::tail(log, 1 << 20).unwrap_or_default()).into_owned();
    let mut lines: Vec<&str> = Vec::new();
    let mut of_hook = false;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        // what a hook says follows its line in the log
        of_hook = line.contains(" produced output: ") || (of_hook && !line.starts_with("lxc-start "));
        if of_hook || line.contains(" ERROR ") || line.contains(" WARN ") {
            lines.push(line.split_once(" - ").map_or(line, |(_, text)| text));
        }
    }
    let lines: Vec<_> = lines.iter().take(16).copied().collect();
    if lines.is_empty() { run::tail(&[said]) } else { lines.join("\n") }
}

/// Adds the container's cgroup to its first process: the one of its name, or the first of those that liblxc takes
/// where that is in use.
fn in_cgroup(leader: Leader, name: &MachineName) -> Leader {
    let named = format!("lxc.payload.{name}");
    let others = (1..10).map(|number| format!("{named}-{number}"));
    let found = iter::once(named.clone())
        .chain(others)
        .find_map(|path| MachineCgroup::of_container(&path, leader.pid));
    Leader { cgroup: found, ..leader }
}

/// Names the configuration of a container.
fn config_of(name: &MachineName) -> PathBuf {
    Path::new(CONTAINERS).join(name).join(CONFIG)
}

/// Tells whether a configuration is that of a tree.
fn is_of(config: &str, tree: &Path) -> bool {
    let line = format!("lxc.rootfs.path = {}", config::rootfs(tree));
    config.lines().any(|found| found == line)
}

/// Writes a file whole unless it has this text already.
fn ensure(path: &Path, text: &str) -> Result<(), LxcError> {
    if fs::read_to_string(path).is_ok_and(|present| present == text) {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(io("making the folder", folder))?;
    run::write(folder, CONFIG, text.as_bytes()).map_err(LxcError::Link)?;
    let synced = fs::File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(io("syncing the folder", folder))
}

impl Backend for Lxc {
    fn kind(&self) -> Kind {
        Kind::Lxc
    }

    fn tree(&self, name: &MachineName) -> PathBuf {
        self.folder(name).join("rootfs")
    }

    fn admit(&self, definition: &Definition) -> Result<()> {
        let admitted = || {
            self.probe()?;
            refusal::check(definition)?;
            self.is_free(definition)
        };
        admitted().during("define", subject(&definition.name))
    }

    fn define(&self, definition: &Definition) -> Result<()> {
        self.write(definition).during("define", subject(&definition.name))
    }

    fn start(&self, definition: &Definition, deadline: Duration, reporter: &dyn Reporter) -> Result<()> {
        reporter.report(Event::At { phase: Phase::Boot, subject: format!("lxc-start {}", definition.name) });
        self.begin(definition, deadline).during("start", subject(&definition.name))
    }

    fn stop(&self, definition: &Definition, deadline: Duration, reporter: &dyn Reporter) -> Result<()> {
        self.end(&definition.name, deadline, reporter).during("stop", subject(&definition.name))
    }

    fn undefine(&self, definition: &Definition) -> Result<()> {
        self.remove(definition).during("undefine", subject(&definition.name))
    }

    fn apply(&self, definition: &Definition) -> Result<()> {
        self.define(definition)?;
        let leader = self.leader(&definition.name)?;
        match leader.and_then(|leader| leader.cgroup).and_then(|cgroup| cgroup.directory()) {
            Some(own) => limits::set(Path::new("/sys/fs/cgroup"), &own, &definition.chosen.limits)
                .during("change", subject(&definition.name)),
            None => Ok(()),
        }
    }

    fn autostart(&self, definition: &Definition, _earlier: &[MachineName]) -> Result<()> {
        // LXC's own service reads it, and the order with it
        self.define(definition)
    }

    fn foreign(&self) -> Result<Vec<Foreign>> {
        Ok(foreign::list(Path::new(CONTAINERS), &self.state.join("machines")))
    }

    fn host_log(&self, definition: &Definition) -> HostLog {
        let folder = self.folder(&definition.name);
        let files = ["start.log", "lxc.log", "console.log.1", "console.log"];
        HostLog::Files(files.map(|file| folder.join(file)).to_vec())
    }

    fn leader(&self, name: &MachineName) -> Result<Option<Leader>> {
        let found = self.recorded(name).during("look at", subject(name))?;
        Ok(found.map(|leader| in_cgroup(leader, name)))
    }
}

fn subject(name: &MachineName) -> String {
    format!("machine `{name}`")
}
