//! A guest's journal, read by the host's journalctl without trust in either the guest's files or their reader.
//!
//! The guest's own journalctl would print what the guest likes, and links in its tree lead where it likes. So its
//! journal files are opened from outside, and what is in them is parsed by a process that has nothing to lose:
//!
//! ```text
//! sandbox logs ── stdin: the guest's root ──▶ sandbox internal journal        root, in namespaces of its own
//!    ▲                                          │ copies regular files         into a private tmpfs
//!    │                                          ▼
//!    └────────── lines, escaped ◀───────── journalctl --directory=/journal    unprivileged; sees /usr and copies,
//!                                                                             no network, no other process
//! ```
//!
//! While lines are followed, the copies are brought up to date. A journal that was made to harm its reader reaches
//! that process alone, and its end ends it all.

mod confine;
mod mirror;

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use mirror::Mirror;

/// Where the reader is on the host, if it has one.
#[must_use]
pub fn reader() -> Option<PathBuf> {
    ["/usr/bin/journalctl", "/bin/journalctl"].map(PathBuf::from).into_iter().find(|path| path.exists())
}

/// How often the guest's files are looked at while lines are followed.
const PAUSE: Duration = Duration::from_millis(250);

/// Where the copies are, in the reader's root.
const COPIES: &str = "/journal";

/// What came of a look at a guest's journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// The reader ended with this status.
    Ended(i32),
    /// The guest has no journal.
    Nothing,
}

/// Reads a guest's journal, as the body of the process that does nothing else.
///
/// `guest` is the guest's root directory. `arguments` are those of journalctl; with `follow`, which they name too,
/// the files are followed. `left_out` is called with a number of older files that are too many or too large.
///
/// # Errors
/// Where the process cannot be confined: then nothing is read.
pub fn read(
    guest: &File,
    arguments: &[String],
    follow: bool,
    left_out: &mut dyn FnMut(usize),
) -> io::Result<Read> {
    let reader = reader().ok_or(io::ErrorKind::NotFound)?;
    confine::enter(mirror::MOST)?;
    let mut mirror = Mirror::new(guest, Path::new(COPIES))?;
    let seen = mirror.refresh()?;
    if seen.files == 0 && !follow {
        return Ok(Read::Nothing);
    }
    if seen.left_out > 0 {
        left_out(seen.left_out);
    }
    let mut child = start(&reader, arguments, follow)?;
    let status = if follow { keep_up(&mut child, &mut mirror)? } else { child.wait()? };
    Ok(Read::Ended(status.code().unwrap_or(1)))
}

fn keep_up(child: &mut Child, mirror: &mut Mirror<'_>) -> io::Result<std::process::ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        thread::sleep(PAUSE);
        // a file that goes while it is read is seen again, or gone, at the next look
        let _ = mirror.refresh();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "its output is the user's, and it must be confined before exec"
)]
fn start(reader: &Path, arguments: &[String], follow: bool) -> io::Result<Child> {
    let mut command = Command::new(reader);
    command
        .arg(format!("--directory={COPIES}"))
        .args(arguments)
        .env_clear()
        .env("LANG", "C.UTF-8")
        .env("SYSTEMD_COLORS", "0")
        .env("SYSTEMD_URLIFY", "0")
        .current_dir("/")
        .stdin(Stdio::null());
    confine::before_exec(&mut command, follow);
    command.spawn()
}
