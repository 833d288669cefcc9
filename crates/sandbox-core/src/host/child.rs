//! This program, run once more for one part of a larger job: a process that may crash, hang or be killed, and ends
//! nothing but its part.
//!
//! A child leads a process group. At its deadline it gets SIGTERM, on which the program cleans up, and after a grace
//! period the whole group gets SIGKILL. What it must leave running (a supervisor, the process that thaws a machine)
//! has a session of its own.
//!
//! **Source**: pidfd_open(2), waitid(2), prctl(2) `PR_SET_PDEATHSIG`, proc_pid_oom_score_adj(5).

use std::{
    ffi::OsString,
    fs,
    io::{self, Read as _},
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    path::PathBuf,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{OFlags, Timespec, fcntl_getfl, fcntl_setfl},
    io::Errno,
    process::{
        Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, pidfd_send_signal,
        set_parent_process_death_signal, waitid,
    },
};

/// How long a child may clean up once its deadline has passed.
pub const GRACE: Duration = Duration::from_secs(20);

/// How much of a child's output is kept, in bytes; the rest is read and dropped.
const MOST: usize = 1 << 20;

/// A child is the first that the kernel's OOM killer takes, before its parent.
const OOM_SCORE: &str = "500";

/// One part of a larger job.
#[derive(Clone, Debug)]
pub struct Job {
    /// The absolute path of this program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// The child's stderr is collected; otherwise it is the caller's.
    pub quiet: bool,
    /// The child ends with its parent; otherwise it may be left running.
    pub bound: bool,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By itself, with an exit code.
    Code(i32),
    /// By a signal that was not sent here.
    Signal(i32),
    /// It was ended at its deadline.
    Deadline,
}

/// A child that has ended, and what it wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How.
    pub ending: Ending,
    /// What it wrote to stdout.
    pub out: Vec<u8>,
    /// What it wrote to stderr, where that was collected.
    pub err: Vec<u8>,
}

/// A child that has been started.
#[derive(Debug)]
pub struct Running {
    child: Child,
    handle: OwnedFd,
    out: Collected,
    err: Collected,
}

impl Job {
    /// Starts the child.
    ///
    /// # Errors
    /// Where it cannot be started.
    #[expect(clippy::disallowed_methods, reason = "it is this program, with a deadline and a group to kill")]
    pub fn start(&self) -> io::Result<Running> {
        let mut command = std::process::Command::new(&self.program);
        command.args(&self.arguments).current_dir("/").process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(if self.quiet { Stdio::piped() } else { Stdio::inherit() });
        if self.bound {
            #[allow(unsafe_code, reason = "what must happen between fork and exec has no safe form")]
            // SAFETY: the closure makes one system call.
            unsafe {
                command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
            }
        }
        let mut child = command.spawn()?;
        let _ = fs::write(format!("/proc/{}/oom_score_adj", child.id()), OOM_SCORE);
        let opened = opened(&mut child);
        if opened.is_err() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let (handle, out, err) = opened?;
        Ok(Running { child, handle, out, err })
    }

    /// Runs the child to its end, which comes shortly after the deadline at the latest.
    ///
    /// # Errors
    /// Where it cannot be started or waited for.
    pub fn run(&self, deadline: Duration) -> io::Result<Ended> {
        let mut running = self.start()?;
        let in_time = running.wait(deadline)?;
        running.end(in_time)
    }
}

fn opened(child: &mut Child) -> io::Result<(OwnedFd, Collected, Collected)> {
    let handle = pidfd_open(pid(child)?, PidfdFlags::empty())?;
    let out = Collected::new(child.stdout.take().map(OwnedFd::from))?;
    Ok((handle, out, Collected::new(child.stderr.take().map(OwnedFd::from))?))
}

fn pid(child: &Child) -> io::Result<Pid> {
    Pid::from_raw(child.id().cast_signed()).ok_or_else(|| io::ErrorKind::NotFound.into())
}

impl Running {
    /// Returns the child's process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Collects output until the child has ended or the time is over; returns whether it has ended.
    ///
    /// # Errors
    /// Where it cannot be waited for.
    pub fn wait(&mut self, patience: Duration) -> io::Result<bool> {
        let until = Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let time = Timespec::try_from(left).map_err(io::Error::other)?;
            let mut watched = vec![PollFd::new(&self.handle, PollFlags::IN)];
            let pipes = self.out.file.iter().chain(&self.err.file);
            watched.extend(pipes.map(|file| PollFd::new(file, PollFlags::IN)));
            match poll(&mut watched, Some(&time)) {
                Ok(0) if left.is_zero() => return Ok(false),
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let ended = watched[0].revents().contains(PollFlags::IN);
            drop(watched);
            self.out.drain();
            self.err.drain();
            if ended {
                return Ok(true);
            }
        }
    }

    /// Ends the child where it has not ended, and what it left in its process group.
    ///
    /// # Errors
    /// Where it cannot be waited for.
    pub fn end(mut self, in_time: bool) -> io::Result<Ended> {
        if !in_time {
            let _ = pidfd_send_signal(&self.handle, Signal::TERM);
            self.wait(GRACE)?;
        }
        // its number is its own until it is waited for
        let group = pid(&self.child)?;
        let _ = kill_process_group(group, Signal::KILL);
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while waitid(WaitId::PidFd(self.handle.as_fd()), options).is_err_and(|errno| errno == Errno::INTR) {}
        let _ = kill_process_group(group, Signal::KILL);
        self.wait(Duration::ZERO)?;
        let status = self.child.wait()?;
        let ending = match (in_time, status.code(), status.signal()) {
            (false, ..) => Ending::Deadline,
            (_, Some(code), _) => Ending::Code(code),
            (_, None, signal) => Ending::Signal(signal.unwrap_or_default()),
        };
        Ok(Ended { ending, out: self.out.bytes, err: self.err.bytes })
    }

    /// Leaves the child running, and returns what it has written to stdout and stderr.
    #[must_use]
    pub fn leave(self) -> (Vec<u8>, Vec<u8>) {
        (self.out.bytes, self.err.bytes)
    }
}

/// The end of a pipe that is read as bytes come, and the first of them.
#[derive(Debug)]
struct Collected {
    file: Option<fs::File>,
    bytes: Vec<u8>,
}

impl Collected {
    fn new(file: Option<OwnedFd>) -> io::Result<Self> {
        if let Some(file) = &file {
            fcntl_setfl(file, fcntl_getfl(file)? | OFlags::NONBLOCK)?;
        }
        Ok(Self { file: file.map(fs::File::from), bytes: Vec::new() })
    }

    /// Reads what is there; a process that inherited the other end keeps none of this waiting.
    fn drain(&mut self) {
        let mut buffer = [0; 8192];
        while let Some(file) = &mut self.file {
            match file.read(&mut buffer) {
                Ok(0) => self.file = None,
                Ok(count) => {
                    let room = MOST.saturating_sub(self.bytes.len()).min(count);
                    self.bytes.extend_from_slice(&buffer[..room]);
                    if count < buffer.len() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.file = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn shell(script: &str) -> Job {
        let arguments = ["-c", script].map(OsString::from).to_vec();
        Job { program: "/bin/sh".into(), arguments, quiet: true, bound: true }
    }

    #[test]
    fn what_a_child_says_and_how_it_ended_is_returned() {
        let ended = shell("echo out; echo err >&2; exit 3").run(Duration::from_secs(20)).unwrap();
        assert_eq!(ended, Ended { ending: Ending::Code(3), out: b"out\n".to_vec(), err: b"err\n".to_vec() });
        let crashed = shell("kill -SEGV $$").run(Duration::from_secs(20)).unwrap();
        assert_eq!(crashed.ending, Ending::Signal(libc::SIGSEGV));
    }

    #[test]
    fn much_output_holds_no_child_up() {
        let ended = shell("head -c 5000000 /dev/zero").run(Duration::from_secs(60)).unwrap();
        assert_eq!((ended.ending, ended.out.len()), (Ending::Code(0), MOST));
    }

    #[test]
    fn a_child_that_hangs_is_ended_with_its_own_children() {
        let begun = Instant::now();
        let ended = shell("sleep 611 & echo $!; exec sleep 612").run(Duration::from_millis(300)).unwrap();
        assert_eq!(ended.ending, Ending::Deadline);
        assert!(begun.elapsed() < GRACE, "it was not asked first");
        let grandchild = String::from_utf8(ended.out).unwrap();
        let lives = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", grandchild.trim())).unwrap_or_default();
            !(stat.is_empty() || stat.contains(") Z "))
        };
        // a killed process runs until the kernel gets round to it
        while lives() {
            assert!(begun.elapsed() < GRACE, "process {grandchild} is left");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_child_whose_pipe_is_inherited_is_not_waited_for() {
        let begun = Instant::now();
        let ended = shell("setsid sleep 8 & echo said").run(Duration::from_secs(60)).unwrap();
        assert_eq!((ended.ending, ended.out), (Ending::Code(0), b"said\n".to_vec()));
        assert!(begun.elapsed() < Duration::from_secs(6));
    }

    #[test]
    fn a_program_that_is_missing_is_an_error() {
        let job = Job { program: Path::new("/nowhere/sandbox").to_owned(), ..shell("") };
        job.run(Duration::from_secs(1)).unwrap_err();
    }
}
