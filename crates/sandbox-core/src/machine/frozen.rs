//! A machine that stands still while it is copied: its cgroup is frozen, and always let go on.
//!
//! Three things let it go on: whoever froze it; a process that waits for nothing but the end of whoever froze it; and,
//! where both were killed, the next command, which finds the intent.
//!
//! **Source**: Linux, Documentation/admin-guide/cgroup-v2.rst, "cgroup.freeze".

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{Leader, life::LifeError};

/// How long the kernel may take to stop every process: one that waits for a disk stops when that has answered.
const PATIENCE: Duration = Duration::from_secs(10);

/// A machine that stands still until this is dropped.
#[derive(Debug)]
pub struct Frozen {
    cgroup: PathBuf,
    watcher: Child,
    since: Instant,
}

/// Finds the cgroup that has all of a guest's processes: the part that the guest was given, which it cannot thaw.
#[must_use]
pub fn cgroup(leader: &Leader) -> Option<PathBuf> {
    leader.cgroup.as_ref()?.delegated().filter(|directory| directory.join("cgroup.freeze").exists())
}

/// Tells whether a machine stands still, by its first process.
#[must_use]
pub fn stands_still(leader: &Leader) -> bool {
    cgroup(leader).is_some_and(|cgroup| is_frozen(&cgroup))
}

fn is_frozen(cgroup: &Path) -> bool {
    let events = fs::read_to_string(cgroup.join("cgroup.events")).unwrap_or_default();
    events.lines().any(|line| line == "frozen 1")
}

/// Makes a machine stand still. This program is run once more, to watch over it.
///
/// # Errors
/// [`LifeError::Moving`], [`LifeError::Io`]; then it goes on.
pub fn freeze(cgroup: &Path, name: &str) -> Result<Frozen, LifeError> {
    let failed = |doing| move |source| LifeError::Io { path: cgroup.to_owned(), doing, source };
    let watcher = watch(cgroup).map_err(failed("starting the process that lets the machine go on"))?;
    // from here on it is let go on whatever happens
    let begun = Instant::now();
    let frozen = Frozen { cgroup: cgroup.to_owned(), watcher, since: begun };
    fs::write(cgroup.join("cgroup.freeze"), "1").map_err(failed("stopping the machine's processes"))?;
    while !is_frozen(cgroup) {
        if begun.elapsed() > PATIENCE {
            let path = cgroup.join("cgroup.freeze");
            return Err(LifeError::Moving { path, name: name.to_owned() });
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(frozen)
}

/// Lets a machine go on; one whose cgroup is gone is well.
///
/// # Errors
/// [`LifeError::Io`].
pub fn thaw(cgroup: &Path) -> Result<(), LifeError> {
    match fs::write(cgroup.join("cgroup.freeze"), "0") {
        Err(source) if !matches!(source.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => {
            Err(LifeError::Io { path: cgroup.to_owned(), doing: "letting the machine go on", source })
        }
        _ => Ok(()),
    }
}

impl Frozen {
    /// Lets the machine go on; gives for how long it stood still.
    ///
    /// # Errors
    /// [`LifeError::Io`].
    pub fn thaw(self) -> Result<Duration, LifeError> {
        thaw(&self.cgroup)?;
        Ok(self.since.elapsed())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = thaw(&self.cgroup);
        // the end of its input is its end
        drop(self.watcher.stdin.take());
        let _ = self.watcher.wait();
    }
}

/// Starts the process that lets a machine go on when this one ends, and waits until it is there.
#[expect(clippy::disallowed_methods, reason = "it outlives this process and its Runner")]
fn watch(cgroup: &Path) -> io::Result<Child> {
    use std::os::unix::process::CommandExt as _;
    let mut command = std::process::Command::new("/proc/self/exe");
    command
        .arg0("sandbox")
        .args(["internal", "thaw"])
        .arg(cgroup)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    #[allow(unsafe_code, reason = "what must happen between fork and exec has no safe form")]
    // SAFETY: the closure makes one system call. A session of its own: no terminal's signals reach it.
    unsafe {
        command.pre_exec(|| Ok(rustix::process::setsid().map(|_| ())?));
    }
    let mut child = command.spawn()?;
    let mut ready = [0];
    match child.stdout.take().map(|mut out| out.read_exact(&mut ready)) {
        Some(Ok(())) => Ok(child),
        _ => {
            let _ = child.kill();
            let _ = child.wait();
            Err(io::Error::other("it ended at once"))
        }
    }
}

/// Waits for the end of its input, then lets a machine go on: the body of the hidden verb.
///
/// # Errors
/// [`LifeError::Io`].
pub fn watch_over(cgroup: &Path) -> Result<(), LifeError> {
    let said = io::stdout().write_all(b"r").and_then(|()| io::stdout().flush());
    said.map_err(|source| LifeError::Io { path: cgroup.to_owned(), doing: "answering", source })?;
    let mut bytes = [0; 64];
    while io::stdin().read(&mut bytes).is_ok_and(|count| count > 0) {}
    thaw(cgroup)
}
