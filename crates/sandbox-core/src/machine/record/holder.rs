//! The process that holds a machine's lock: found, verified, and ended where its operation may be interrupted.
//!
//! What is noted beside the lock is only a hint. A process holds the lock if one of its descriptors is the locked
//! directory and the kernel lists a lock for that descriptor.
//!
//! **Source**: flock(2), proc_pid_fdinfo(5), pidfd_open(2), pidfd_send_signal(2).

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::machine::processes::began;

/// The note beside the lock.
pub(super) const HOLDER: &str = "holder";

/// What other processes may do about an operation that holds a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hold {
    /// They wait for it.
    #[default]
    Exclusive,
    /// It leaves the machine unchanged, as a copy does: `stop` and `remove` interrupt it.
    Interruptible,
    /// The same, and no person waits for it: what a person asks for does not fail because of it.
    Background,
}

impl Hold {
    const fn word(self) -> &'static str {
        match self {
            Self::Exclusive => "exclusive",
            Self::Interruptible => "interruptible",
            Self::Background => "background",
        }
    }

    fn of(word: &str) -> Self {
        let all = [Self::Interruptible, Self::Background];
        all.into_iter().find(|hold| hold.word() == word).unwrap_or_default()
    }
}

/// A process that was seen to hold a machine's lock.
#[derive(Debug)]
pub struct Holder {
    /// Its process id.
    pub pid: i32,
    /// The process and its verb: `process 12 (sandbox fork)`.
    pub words: String,
    /// What may be done about it.
    pub hold: Hold,
    /// The process that took the lock is dead: this one inherited it.
    pub inherited: bool,
    handle: OwnedFd,
}

impl Holder {
    /// Asks it to clean up and end.
    ///
    /// # Errors
    /// What the kernel says; a process that has ended is no error.
    pub fn interrupt(&self) -> io::Result<()> {
        self.send(Signal::TERM)
    }

    /// Ends it at once, also where it is stopped.
    ///
    /// # Errors
    /// As [`Self::interrupt`].
    pub fn kill(&self) -> io::Result<()> {
        self.send(Signal::KILL)
    }

    fn send(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.handle, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// What the holder of a lock wrote down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Note {
    /// The process and its verb.
    pub(super) words: String,
    pid: Option<i32>,
    began: Option<u64>,
    hold: Hold,
}

impl Note {
    /// Notes this process.
    pub(super) fn own(words: &str, hold: Hold) -> Self {
        let pid = std::process::id().cast_signed();
        Self { words: words.to_owned(), pid: Some(pid), began: began(pid), hold }
    }

    /// Reads the note beside a lock; an empty one where there is none.
    pub(super) fn read(folder: &Path) -> Self {
        let text = fs::read_to_string(folder.join(HOLDER)).unwrap_or_default();
        let mut lines = text.lines();
        let words = lines.next().unwrap_or_default().to_owned();
        let mut rest = lines.next().unwrap_or_default().split(' ');
        // notes of earlier versions have one line
        let said = words.strip_prefix("process ").and_then(|rest| rest.split(' ').next());
        let pid = rest.next().and_then(|pid| pid.parse().ok());
        Self {
            pid: pid.or_else(|| said?.parse().ok()),
            began: rest.next().and_then(|began| began.parse().ok()),
            hold: Hold::of(rest.next().unwrap_or_default()),
            words,
        }
    }

    /// Returns the holder in words, also where it is not known.
    pub(super) fn named(self) -> String {
        if self.words.is_empty() { "another process".to_owned() } else { self.words }
    }

    /// Writes the note; a lock without one is a lock all the same.
    pub(super) fn write(&self, folder: &Path) {
        let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let pid = number(self.pid.and_then(|pid| u64::try_from(pid).ok()));
        let text = format!("{}\n{pid} {} {}\n", self.words, number(self.began), self.hold.word());
        let _ = fs::write(folder.join(HOLDER), text);
    }

    /// Tells whether it names a process that is dead.
    pub(super) fn is_of_the_dead(&self) -> bool {
        let lives = |pid: i32| match (began(pid), self.began) {
            (Some(now), Some(noted)) => now == noted,
            (now, _) => now.is_some(),
        };
        self.pid.is_some_and(|pid| !lives(pid))
    }
}

/// Finds a process that holds the lock of a directory; none where it has been released.
pub(super) fn find(folder: &Path) -> Option<Holder> {
    let locked = fs::metadata(folder).ok()?;
    let locked = (locked.dev(), locked.ino());
    let note = Note::read(folder);
    let noted = note.pid.filter(|_| !note.is_of_the_dead()).and_then(|pid| held(pid, locked));
    if let (Some(handle), Some(pid)) = (noted, note.pid) {
        return Some(Holder { pid, words: note.words, hold: note.hold, inherited: false, handle });
    }
    let own = std::process::id().cast_signed();
    let numbers = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let (pid, handle) = pids.find_map(|pid| Some((pid, held(pid, locked).filter(|_| pid != own)?)))?;
    let inherited = note.is_of_the_dead();
    let words = format!("process {pid} (sandbox)");
    Some(Holder { pid, words, hold: Hold::Exclusive, inherited, handle })
}

/// Returns a handle of a process if it is one of root's, runs this program, and holds the lock.
fn held(pid: i32, locked: (u64, u64)) -> Option<OwnedFd> {
    let handle = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    let process = PathBuf::from(format!("/proc/{pid}"));
    let is_ours =
        runs_this_program(&process) && real_user(&process) == Some(rustix::process::geteuid().as_raw());
    let has_lock = is_ours
        && fs::read_dir(process.join("fd")).ok()?.flatten().any(|entry| {
            let is_it = fs::metadata(entry.path()).is_ok_and(|found| (found.dev(), found.ino()) == locked);
            is_it
                && fs::read_to_string(process.join("fdinfo").join(entry.file_name()))
                    .is_ok_and(|text| is_flocked(&text))
        });
    // what was read is of the process that the handle is of: a number is used again only after its process has ended
    (has_lock && is_alive(&handle)).then_some(handle)
}

/// Returns whether the process of a handle has not ended.
fn is_alive(handle: &OwnedFd) -> bool {
    use rustix::event::{PollFd, PollFlags, poll};
    let now = rustix::fs::Timespec::try_from(Duration::ZERO).ok();
    poll(&mut [PollFd::new(handle, PollFlags::IN)], now.as_ref()) == Ok(0)
}

fn is_flocked(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("lock:") && line.contains(" FLOCK "))
}

/// Tells whether a process runs a program of this one's name: another version of it, too.
fn runs_this_program(process: &Path) -> bool {
    let name = |path: PathBuf| {
        let name = path.file_name().map(OsStr::to_string_lossy)?.into_owned();
        Some(name.strip_suffix(" (deleted)").unwrap_or(&name).to_owned())
    };
    let of = |link: PathBuf| fs::read_link(link).ok().and_then(name);
    let own = of(PathBuf::from("/proc/self/exe"));
    own.is_some() && of(process.join("exe")) == own
}

fn real_user(process: &Path) -> Option<u32> {
    let status = fs::read_to_string(process.join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Locks a directory for as long as the file is open; none where another process holds it.
pub(super) fn flock(folder: &File) -> io::Result<bool> {
    use rustix::fs::FlockOperation;
    match rustix::fs::flock(folder, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let note = Note::own("process 7 (sandbox fork)", Hold::Interruptible);
        note.write(folder.path());
        assert_eq!(Note::read(folder.path()), note);
        assert!(!note.is_of_the_dead());
        let other = Note { began: note.began.map(|began| began + 1), ..note };
        assert!(other.is_of_the_dead(), "the number is another process's by now");
        fs::write(folder.path().join(HOLDER), "process 2147483647 (sandbox create)").unwrap();
        let old = Note::read(folder.path());
        assert_eq!((old.pid, old.hold), (Some(i32::MAX), Hold::Exclusive));
        assert!(old.is_of_the_dead());
        assert_eq!(Note::read(Path::new("/nowhere")), Note::default());
    }

    #[test]
    fn only_a_process_that_holds_the_lock_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::open(folder.path()).unwrap();
        Note::own("process (sandbox fork)", Hold::Interruptible).write(folder.path());
        assert!(find(folder.path()).is_none(), "the note alone is believed");
        assert!(flock(&file).unwrap());
        let holder = find(folder.path()).unwrap();
        assert_eq!((holder.pid.cast_unsigned(), holder.hold), (std::process::id(), Hold::Interruptible));
        assert!(!holder.inherited);
        drop(file);
        assert!(find(folder.path()).is_none());
    }
}
