//! What runs, as the supervisor writes it down and others believe it.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::{fd::AsFd as _, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use super::{DirectError, io as failed};
use crate::{
    host::tail,
    machine::{Leader, processes::began},
};

/// A run of a machine.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Run {
    /// The host's boot: after another one nothing of this is true.
    pub boot: String,
    /// The supervisor.
    pub supervisor: i32,
    /// The guest's first process, once it has one.
    pub leader: Option<i32>,
    /// When that process began, in the kernel's ticks since boot: numbers are used again.
    pub began: Option<u64>,
}

/// Reads the host's boot id (random(4)).
pub fn boot() -> Result<String, DirectError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    Ok(fs::read_to_string(path).map_err(failed("reading the boot id", path))?.trim().to_owned())
}

/// Takes the supervisor's lock; none where another holds it.
pub fn lock(folder: &Path) -> Result<Option<File>, DirectError> {
    let path = folder.join("supervisor.lock");
    let file = File::options().create(true).append(true).mode(0o600).open(&path);
    let file = file.map_err(failed("opening the lock", &path))?;
    match flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(failed("taking the lock", &path)(errno.into())),
    }
}

/// Tells whether a supervisor holds its lock.
pub fn supervisor_lives(folder: &Path) -> Result<bool, DirectError> {
    match File::open(folder.join("supervisor.lock")) {
        Ok(file) => match flock(file.as_fd(), FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(false),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
            Err(errno) => Err(failed("asking for the lock", folder)(errno.into())),
        },
        Err(_) => Ok(false),
    }
}

/// Gives the supervisor's number where one lives.
pub fn supervisor(folder: &Path) -> Result<Option<i32>, DirectError> {
    if !supervisor_lives(folder)? {
        return Ok(None);
    }
    Ok(read(folder)?.filter(|run| boot().is_ok_and(|boot| boot == run.boot)).map(|run| run.supervisor))
}

/// Gives the guest's first process where it lives.
pub fn leader(folder: &Path) -> Result<Option<Leader>, DirectError> {
    if !supervisor_lives(folder)? {
        return Ok(None);
    }
    recorded(folder)
}

/// Gives the guest's first process where it lives, with or without a supervisor.
pub fn recorded(folder: &Path) -> Result<Option<Leader>, DirectError> {
    let Some(run) = read(folder)? else { return Ok(None) };
    let (Some(pid), Some(before)) = (run.leader, run.began) else { return Ok(None) };
    let same = run.boot == boot()? && began(pid) == Some(before);
    Ok(same.then_some(Leader::new(pid)))
}

fn read(folder: &Path) -> Result<Option<Run>, DirectError> {
    let path = folder.join("run.json");
    match fs::read(&path) {
        // half a file cannot be: it is renamed into place; one of another version says nothing
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("reading the run", &path)(error)),
    }
}

/// Writes a file of a machine's folder, whole or not at all. Where it is killed, the next writer takes its temporary
/// file.
pub fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), DirectError> {
    let (path, new) = (folder.join(name), partial(folder, name));
    let written = (|| {
        let mut temporary = File::create(&new)?;
        temporary.write_all(bytes)?;
        // the guest reads what is bound into it as another user
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        temporary.set_permissions(mode)?;
        temporary.sync_all()?;
        fs::rename(&new, &path)
    })();
    written.map_err(|error| {
        let _ = fs::remove_file(&new);
        failed("writing the file", &path)(error)
    })
}

/// Names the file that becomes another one when all of it is written.
pub fn partial(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!(".{name}.sandbox-partial"))
}

/// Gives the last lines of logs.
pub fn tail(logs: &[&Path]) -> String {
    let mut lines: Vec<String> = Vec::new();
    for log in logs {
        let text = tail::tail(log, 64 << 10).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines.extend(all.iter().skip(all.len().saturating_sub(10)).map(|line| (*line).to_owned()));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_another_boot_or_of_a_dead_supervisor_has_no_leader() {
        let folder = tempfile::tempdir().unwrap();
        let pid = i32::try_from(std::process::id()).unwrap();
        let mut run = Run { boot: boot().unwrap(), supervisor: pid, leader: Some(pid), began: began(pid) };
        let write = |run: &Run| write(folder.path(), "run.json", &serde_json::to_vec(run).unwrap()).unwrap();
        write(&run);
        assert_eq!(leader(folder.path()).unwrap(), None, "no supervisor holds the lock");
        let lock = lock(folder.path()).unwrap().unwrap();
        assert_eq!(leader(folder.path()).unwrap(), Some(Leader::new(pid)));
        run.boot = "another".to_owned();
        write(&run);
        assert_eq!(leader(folder.path()).unwrap(), None);
        run.boot = boot().unwrap();
        run.began = Some(1);
        write(&run);
        assert_eq!(leader(folder.path()).unwrap(), None, "the number belongs to another process now");
        drop(lock);
    }
}
