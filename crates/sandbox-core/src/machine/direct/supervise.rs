//! The supervisor: one process a machine, from its start to its end.

#![allow(unsafe_code, reason = "what must happen between fork and exec has no safe form")]

use std::{
    cell::Cell,
    fs, io as stdio,
    io::Write as _,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{ffi::OsStrExt as _, net::UnixStream, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::Child,
    thread,
    time::{Duration, Instant},
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open},
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::{
    DirectError, command,
    console::{self, Console},
    io,
    link::{self, Link},
    run::{self, Run},
};
use crate::{
    Result,
    digest::Sha256,
    error::Context as _,
    machine::{
        Definition, Leader, Limits, Restart,
        cgroup::MachineCgroup,
        limits, mounts, nesting,
        network::{self, Names},
        processes,
        record::Records,
        seccomp::{Dumps, Filter},
        secret,
    },
    name::MachineName,
    report::{Event, Reporter},
};

/// nspawn's status when the guest rebooted (systemd-nspawn(1), "Exit status").
const REBOOTED: i32 = 133;

/// How long nspawn may take until the guest has a first process.
const PATIENCE: Duration = Duration::from_secs(30);

/// Says notices on stderr, which is the supervisor's log.
struct Log;

impl Reporter for Log {
    fn report(&self, event: Event) {
        if let Event::Notice { text } | Event::Warning { text } = event {
            let _ = writeln!(stdio::stderr(), "{text}");
        }
    }
}

/// Supervises a machine until it is shut down: the body of the hidden verb that the backend starts.
///
/// # Errors
/// Where the machine did not start, or another supervisor has it.
pub fn supervise(definition: &Definition, state: &Path) -> Result<()> {
    let folder = super::folder(state, &definition.name);
    let subject = || format!("machine `{}`", definition.name);
    let Some(_lock) = run::lock(&folder).during("supervise", subject())? else {
        return Err(DirectError::Supervised).during("supervise", subject());
    };
    let ended = hold(definition, &folder, state).during("supervise", subject());
    let cleaned = clean(definition, &folder).during("clean up after", subject());
    ended.and(cleaned)
}

fn hold(definition: &Definition, folder: &Path, state: &Path) -> Result<(), DirectError> {
    let asked = Asked::new().map_err(io("listening for signals", folder))?;
    let mut definition = definition.clone();
    let mut restarts = Restarts::default();
    let mut console = Console::new(folder).map_err(io("making the console", folder))?;
    loop {
        let status = once(&definition, folder, &asked, &mut console)?;
        console.serve();
        let _ = writeln!(stdio::stderr(), "nspawn ended with {status:?}");
        if asked.ended() {
            return Ok(());
        }
        // what was chosen may have changed since this process began
        if let Ok(now) = Records::new(state).definition(&definition.name) {
            definition = now;
        }
        if status == Some(REBOOTED) {
            continue;
        }
        if !wanted(definition.chosen.restart, status) {
            return Ok(());
        }
        if !restarts.again(Instant::now()) {
            let _ = writeln!(
                stdio::stderr(),
                "it ended {BURST} times within {} s and stays so",
                WINDOW.as_secs()
            );
            return Ok(());
        }
        clean(&definition, folder)?;
        thread::sleep(REST);
        if asked.to_end() {
            return Ok(());
        }
        let _ = writeln!(stdio::stderr(), "it starts again ({})", definition.chosen.restart.word());
    }
}

/// systemd's own numbers for a unit that ends again and again (systemd.unit(5), `StartLimitBurst=`).
const BURST: usize = 5;
const WINDOW: Duration = Duration::from_secs(10);

/// The rest before a new start (systemd.service(5), `RestartSec=`).
const REST: Duration = Duration::from_millis(100);

/// Tells whether a machine that ended by itself is to start again.
fn wanted(restart: Restart, status: Option<i32>) -> bool {
    match restart {
        Restart::No => false,
        Restart::OnFailure => status != Some(0),
        Restart::Always => true,
    }
}

/// When a machine was started again.
#[derive(Default)]
struct Restarts(Vec<Instant>);

impl Restarts {
    fn again(&mut self, now: Instant) -> bool {
        self.0.retain(|at| now.duration_since(*at) < WINDOW);
        self.0.push(now);
        self.0.len() < BURST
    }
}

/// One boot of the guest; gives nspawn's status.
fn once(
    definition: &Definition,
    folder: &Path,
    asked: &Asked,
    console: &mut Console,
) -> Result<Option<i32>, DirectError> {
    let mut record = Run {
        boot: run::boot()?,
        supervisor: i32::try_from(std::process::id()).unwrap_or(0),
        leader: None,
        began: None,
    };
    write(folder, &record)?;
    let link = match network::has_link(definition.network) {
        true => Some(link::of(&definition.name, folder)?),
        false => None,
    };
    if link.is_some() && !link_is_gone(definition) {
        return Err(DirectError::LinkTaken { link: network::interface(&definition.name) });
    }
    let names = Names::of_host();
    wall(definition, &names)?;
    mounts::prepare(definition)?;
    let network_file = link.map(|link| network_file(definition, folder, (&names, link))).transpose()?;
    let mut nspawn = spawn(definition, folder, network_file.as_deref(), console)?;
    let began = Instant::now();
    let mut link_is_up = link.is_none();
    let mut forwarder = Forwarder(None);
    let leader = loop {
        console.serve();
        if let Some(status) = nspawn.try_wait().map_err(io("waiting for nspawn", folder))? {
            return Ok(status.code());
        }
        if let Some(link) = link.filter(|_| !link_is_up)
            && Path::new("/sys/class/net").join(network::interface(&definition.name)).exists()
        {
            link::bring_up(definition, link)?;
            forwarder = Forwarder(network::forward_names(definition, &names));
            link_is_up = true;
        }
        if let Some(leader) = first_process(nspawn.id()).filter(|_| link_is_up) {
            break leader;
        }
        if asked.to_end() || began.elapsed() > PATIENCE {
            let _ = nspawn.kill();
        }
        thread::sleep(Duration::from_millis(5));
    };
    if let Err(error) = equip(definition, folder, leader) {
        let _ = nspawn.kill();
        let _ = nspawn.wait();
        return Err(error);
    }
    record.leader = Some(leader);
    record.began = processes::began(leader);
    write(folder, &record)?;
    let status = wait(&mut nspawn, asked, console).map_err(io("waiting for nspawn", folder));
    drop(forwarder);
    status
}

/// Makes the mounts that a machine lacks once it has begun: those for containers in it, and directories of the host.
fn equip(definition: &Definition, folder: &Path, leader: i32) -> Result<(), DirectError> {
    if definition.needs.nesting.is_any() && !definition.privileged {
        // without them Docker in the guest fails with a message that helps no user: better no machine
        nesting::cure(leader).map_err(|error| DirectError::Io {
            doing: "preparing the machine for containers in it",
            path: folder.to_owned(),
            source: stdio::Error::other(error),
        })?;
    }
    Ok(mounts::start(&Leader::new(leader), definition)?)
}

/// A link's forwarder of questions for names, which ends with the boot.
struct Forwarder(Option<Child>);

impl Drop for Forwarder {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn write(folder: &Path, record: &Run) -> Result<(), DirectError> {
    run::write(folder, "run.json", &serde_json::to_vec(record).unwrap_or_default())
}

fn wall(definition: &Definition, names: &Names) -> Result<(), DirectError> {
    let definition = network::with_resolvers(definition, names);
    network::wall_up(&definition, link::served(names), &Log).map_err(|source| DirectError::Wall { source })
}

/// Writes what the guest's networkd is to do with its end of the link.
fn network_file(
    definition: &Definition,
    folder: &Path,
    (names, link): (&Names, Link),
) -> Result<PathBuf, DirectError> {
    link::mount_point(&definition.tree)?;
    let text = link::network_file(link, &link::resolvers(names, link));
    run::write(folder, "host0.network", text.as_bytes())?;
    Ok(folder.join("host0.network"))
}

#[expect(clippy::disallowed_methods, reason = "nspawn is this process's purpose")]
fn spawn(
    definition: &Definition,
    folder: &Path,
    network_file: Option<&Path>,
    console: &mut Console,
) -> Result<Child, DirectError> {
    let program = command::nspawn()?;
    let log = folder.join("console.log");
    console.log_to(&log).map_err(io("making the log", &log))?;
    let terminal = || console.terminal().map_err(io("opening the console", &log));
    let (input, output, error) = (terminal()?, terminal()?, terminal()?);
    let cgroup = cgroup(folder, &definition.name);
    let limits = definition.chosen.limits;
    let filter = Filter::new(&definition.needs.system_calls, Dumps::of(&limits));
    let mut nspawn = std::process::Command::new(&program);
    nspawn
        .args(command::arguments(definition, network_file, secret::options(folder)))
        .env_clear()
        .envs(command::environment(definition))
        .stdin(input)
        .stdout(output)
        .stderr(error);
    // SAFETY: the supervisor has one thread, so that its child may do what any process may.
    unsafe {
        nspawn.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            // the console is its own terminal, so that it is told of the window's size
            rustix::process::setsid()?;
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
            seclude(&cgroup, &limits)?;
            filter.install()
        });
    }
    nspawn.spawn().map_err(io("starting the program", &program))
}

/// The name of the machine's cgroup, at the top of the unified hierarchy: another state directory may have a
/// machine of the same name.
fn cgroup(folder: &Path, name: &MachineName) -> String {
    let digest = Sha256::of(folder.as_os_str().as_bytes()).to_string();
    format!("sandbox-{name}-{}", &digest[..8])
}

/// Adds the machine's cgroup to its first process.
pub(super) fn in_cgroup(leader: Leader, name: &MachineName, folder: &Path) -> Leader {
    let cgroup = MachineCgroup::of_nspawn(&cgroup(folder, name), leader.pid);
    Leader { cgroup, ..leader }
}

/// Gives nspawn a mount namespace with a unified hierarchy and a /run of its own.
///
/// On a host whose cgroups are of version 1 the unified one is mounted nowhere, or where the guest's systemd
/// does not look.
fn seclude(cgroup: &str, limits: &Limits) -> stdio::Result<()> {
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let top = Path::new("/sys/fs/cgroup");
    if !top.join("cgroup.controllers").exists() {
        // what is mounted below goes with it; a hierarchy that is not mounted is no error
        while umount2(top, MntFlags::MNT_DETACH).is_ok() {}
        mount(Some("cgroup2"), top, Some("cgroup2"), MsFlags::empty(), none)?;
    }
    let own = top.join(cgroup);
    fs::create_dir_all(&own)?;
    limits::set(top, &own, limits).map_err(stdio::Error::other)?;
    fs::write(own.join("cgroup.procs"), "0")?;
    if !Path::new("/run/systemd/system").exists() {
        mount(
            Some("tmpfs"),
            "/run",
            Some("tmpfs"),
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
            Some("mode=755"),
        )?;
        fs::create_dir_all("/run/systemd")?;
    }
    Ok(())
}

/// Finds the guest's first process: nspawn's child that has number 1 in a namespace below, once it is no
/// longer nspawn itself.
fn first_process(nspawn: u32) -> Option<i32> {
    let children = fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children")).ok()?;
    children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()).find(|pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let field = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        let inner = field("NSpid:").and_then(|numbers| numbers.split_whitespace().nth(1));
        let name = field("Name:").unwrap_or_default();
        inner == Some("1") && !name.starts_with("systemd-nspawn") && !name.starts_with("(sd-")
    })
}

/// Whether this process was asked to end, told by a socket that signals write to.
///
/// Once it was, it stays so.
struct Asked {
    signals: UnixStream,
    seen: Cell<bool>,
}

impl Asked {
    fn new() -> stdio::Result<Self> {
        let (near, far) = UnixStream::pair()?;
        near.set_nonblocking(true)?;
        for signal in [SIGTERM, SIGINT, SIGHUP] {
            signal_hook::low_level::pipe::register(signal, far.try_clone()?)?;
        }
        Ok(Self { signals: near, seen: Cell::new(false) })
    }

    /// Tells whether a request came since this was last asked.
    fn to_end(&self) -> bool {
        let mut bytes = [0; 16];
        let came = stdio::Read::read(&mut &self.signals, &mut bytes).is_ok_and(|read| read > 0);
        self.seen.set(self.seen.get() || came);
        came
    }

    /// Tells whether a request ever came.
    fn ended(&self) -> bool {
        self.to_end() || self.seen.get()
    }
}

/// Waits for nspawn's end; being asked to end is handed on: nspawn shuts the guest down cleanly at the first
/// request and at once at the second.
fn wait(nspawn: &mut Child, asked: &Asked, console: &mut Console) -> stdio::Result<Option<i32>> {
    let pid = i32::try_from(nspawn.id()).ok().and_then(Pid::from_raw);
    let Some(pid) = pid else { return Ok(nspawn.wait()?.code()) };
    let pidfd: OwnedFd = pidfd_open(pid, PidfdFlags::empty())?;
    loop {
        let mut ready = vec![
            PollFd::new(&pidfd, PollFlags::IN),
            PollFd::from_borrowed_fd(asked.signals.as_fd(), PollFlags::IN),
        ];
        ready.extend(console.events());
        match poll(&mut ready, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        console.serve();
        if asked.to_end() {
            let _ = kill_process(pid, Signal::TERM);
        }
        if let Some(status) = nspawn.try_wait()? {
            return Ok(status.code());
        }
    }
}

/// Takes away what a run leaves: its processes where the supervisor was killed, its cgroup, its link, its
/// wall, its record.
///
/// # Errors
/// Where the wall is still up.
pub fn clean(definition: &Definition, folder: &Path) -> Result<(), DirectError> {
    for top in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new) {
        let own = top.join(cgroup(folder, &definition.name));
        if own.exists() {
            end_cgroup(&own);
        }
    }
    // a wall whose link still stands is that of a machine of the same name in another state directory
    if link_is_gone(definition) {
        network::wall_down(&definition.name).map_err(|source| DirectError::Wall { source })?;
    }
    for file in ["run.json", "host0.network", console::SOCKET] {
        let path = folder.join(file);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != stdio::ErrorKind::NotFound => {
                return Err(io("removing the file", &path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Waits a little for the machine's link to go: the kernel takes a dead network namespace down behind one's
/// back.
fn link_is_gone(definition: &Definition) -> bool {
    let link = Path::new("/sys/class/net").join(network::interface(&definition.name));
    for _ in 0..100 {
        if !link.exists() {
            return true;
        }
        thread::sleep(Duration::from_millis(20));
    }
    false
}

/// Kills what is in a cgroup and removes it: a guest outlives an nspawn that was killed.
pub fn end_cgroup(cgroup: &Path) {
    let _ = fs::write(cgroup.join("cgroup.kill"), "1");
    for _ in 0..100 {
        remove_cgroup(cgroup);
        if !cgroup.exists() {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Removes a cgroup and those below it, as far as they have no processes.
fn remove_cgroup(cgroup: &Path) {
    if let Ok(entries) = fs::read_dir(cgroup) {
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            remove_cgroup(&entry.path());
        }
    }
    let _ = fs::remove_dir(cgroup);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_is_started_again_as_its_user_chose_and_not_for_ever() {
        for (restart, clean, failed) in
            [(Restart::No, false, false), (Restart::OnFailure, false, true), (Restart::Always, true, true)]
        {
            assert_eq!((wanted(restart, Some(0)), wanted(restart, Some(1))), (clean, failed), "{restart:?}");
            assert_eq!(wanted(restart, None), failed, "{restart:?}: by a signal");
        }
        let (mut restarts, now) = (Restarts::default(), Instant::now());
        let count = (0..10).take_while(|_| restarts.again(now)).count();
        assert_eq!(count, BURST - 1);
        assert!(Restarts::default().again(now + WINDOW));
    }
}
