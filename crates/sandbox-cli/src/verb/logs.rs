//! `sandbox logs`: the guest's journal, read from outside by the host's journalctl without rights; or what the host
//! says of the machine.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, BufRead as _, BufReader, Read, Seek as _, SeekFrom},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use sandbox_core::{
    error::Context as _,
    host::tail,
    machine::{Definition, HostLog, Leader, logs},
};

use super::machine::{Host, name};
use crate::{args::Logs, exit::Exit, failure::Failure, settings::Settings, ui};

/// How often a file is looked at for what came.
const PAUSE: Duration = Duration::from_millis(200);

/// The most of a file of the host's that is shown, and of a line that is shown at once.
const MOST: u64 = 2 << 20;
const LINE: u64 = 1 << 20;

/// Shows a machine's journal.
///
/// # Errors
/// What the user is to be told.
pub fn run(args: &Logs, settings: &Settings) -> Result<Exit, Failure> {
    let name = name(&args.name)?;
    settings.need_root("logs")?;
    let host = Host::new(settings);
    let machines = host.machines()?;
    let subject = || format!("the journal of machine `{name}`");
    let (definition, leader) = machines.look_at(&name)?;
    if args.outside {
        let backend = machines.backend(definition.backend).during("read", subject())?;
        return match backend.host_log(&definition) {
            HostLog::Unit(unit) => journalctl(&argv(args, settings), &["--unit".to_owned(), unit]),
            HostLog::Files(files) => files_of_host(&files, args, settings),
        };
    }
    if leader.is_none() && args.follow {
        return Err(Failure::said(
            Exit::UNAVAILABLE,
            format!("machine `{name}` does not run: nothing more will come"),
        )
        .hint("see what there is", format!("sandbox logs {name}")));
    }
    match (logs::reader(), &leader) {
        (Some(_), _) => {
            let guest = root(&definition, leader.as_ref())?;
            // its number may have become another's before its root was opened
            if leader.is_some() && machines.look_at(&name)?.1 != leader {
                return Err(Failure::said(Exit::UNAVAILABLE, format!("machine `{name}` has just ended")));
            }
            from_outside(guest, args, settings)
        }
        (None, Some(_)) => from_guest(args, settings),
        (None, None) => Err(Failure::said(
            Exit::HOST,
            "this host has no journalctl, which reads the journal of a machine that is stopped",
        )
        .hint("have the guest's own read it", format!("sandbox start {name} && sandbox logs {name}"))),
    }
}

/// Opens a guest's root directory: as its first process has it, or on disk.
fn root(definition: &Definition, leader: Option<&Leader>) -> Result<File, Failure> {
    let path = leader.map_or_else(
        || definition.tree.clone(),
        |leader| PathBuf::from(format!("/proc/{}/root", leader.pid)),
    );
    File::open(&path)
        .map_err(|error| Failure::said(Exit::HOST, format!("{} cannot be opened: {error}", path.display())))
}

/// Has a process of its own read the guest's files, and shows what it finds.
#[expect(clippy::disallowed_methods, reason = "its output is shown line by line while it comes")]
fn from_outside(guest: File, args: &Logs, settings: &Settings) -> Result<Exit, Failure> {
    let mut command = Command::new(&settings.program);
    command.args(["internal", "journal"]).args(args.follow.then_some("--follow")).arg("--");
    command.args(&argv(args, settings)[1..]).stdin(guest);
    shown(&mut command)
}

/// Has the guest's own journalctl read, where the host has none.
#[expect(clippy::disallowed_methods, reason = "its output is shown line by line while it comes")]
fn from_guest(args: &Logs, settings: &Settings) -> Result<Exit, Failure> {
    let mut command = Command::new(&settings.program);
    command.arg("--state-dir").arg(&settings.state).args(["exec", &args.name, "--"]);
    command.args(argv(args, settings)).stdin(Stdio::null());
    shown(&mut command)
}

/// Runs a command and shows its lines, escaped, until it ends or they are no longer wanted.
fn shown(command: &mut Command) -> Result<Exit, Failure> {
    let failed = |error: io::Error| Failure::said(Exit::HOST, format!("the journal cannot be read: {error}"));
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(failed)?;
    let mut output = BufReader::new(
        child.stdout.take().ok_or(io::ErrorKind::BrokenPipe).map_err(|kind| failed(kind.into()))?,
    );
    let mut line = Vec::new();
    loop {
        line.clear();
        (&mut output).take(LINE).read_until(b'\n', &mut line).map_err(failed)?;
        if line.is_empty() {
            break;
        }
        let text = String::from_utf8_lossy(&line);
        if ui::passed_on(text.strip_suffix('\n').unwrap_or(&text)).is_err() {
            let _ = child.kill();
            let _ = child.wait();
            return Ok(Exit::OK);
        }
    }
    let status = child.wait().map_err(failed)?;
    Ok(Exit(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

/// Reads a guest's journal, its root directory being this process's input: the body of the hidden verb.
///
/// # Errors
/// Where this process cannot be confined, or there is no journal.
pub fn read(follow: bool, arguments: &[OsString]) -> Result<Exit, Failure> {
    let failed = |error: io::Error| Failure::said(Exit::HOST, format!("the journal cannot be read: {error}"));
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(|errno| failed(errno.into()))?;
    let guest = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3);
    let guest = guest.map_err(|errno| failed(errno.into()))?.into();
    let arguments: Vec<_> = arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let mut left_out = |count| {
        let text = format!("{count} older files of the journal are left out: they are too many or too large");
        ui::remark("note", &text);
    };
    match logs::read(&guest, &arguments, follow, &mut left_out).map_err(failed)? {
        logs::Read::Ended(status) => Ok(Exit(u8::try_from(status).unwrap_or(1))),
        logs::Read::Nothing => {
            Err(Failure::said(Exit::UNAVAILABLE, "there is no journal: the machine keeps none, or never ran"))
        }
    }
}

/// Gives what reads a journal as it is asked for.
pub fn argv(args: &Logs, settings: &Settings) -> Vec<String> {
    let mut argv = vec!["journalctl".to_owned(), "--no-pager".to_owned()];
    if settings.json() {
        argv.push("--output=json".to_owned());
    }
    argv.extend(args.lines.map(|lines| format!("--lines={lines}")));
    argv.extend(args.unit.iter().map(|unit| format!("--unit={unit}")));
    argv.extend(args.priority.iter().map(|priority| format!("--priority={priority}")));
    argv.extend(args.since.iter().map(|since| format!("--since={since}")));
    argv.extend(args.boot.then(|| "--boot".to_owned()));
    argv.extend(args.follow.then(|| "--follow".to_owned()));
    argv
}

/// Shows a part of the host's own journal, in which a guest's console is.
#[expect(clippy::disallowed_methods, reason = "its output is shown line by line while it comes")]
fn journalctl(argv: &[String], more: &[String]) -> Result<Exit, Failure> {
    shown(Command::new("journalctl").args(&argv[1..]).args(more).stdin(Stdio::null()))
}

/// Shows files of the host's, each by its name where there are more.
fn files_of_host(files: &[PathBuf], args: &Logs, settings: &Settings) -> Result<Exit, Failure> {
    let there: Vec<_> = files.iter().filter(|file| file.exists()).collect();
    let Some(last) = there.last() else {
        return Err(Failure::said(Exit::UNAVAILABLE, "the host has no log of it: it never ran"));
    };
    let most = args.lines.map_or(usize::MAX, |lines| lines as usize);
    for file in &there {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let source = name.split('.').next().unwrap_or_default();
        for line in last_lines(file, most) {
            if settings.json() {
                ui::line(&serde_json::json!({"source": source, "line": line}).to_string());
            } else {
                ui::line(&format!("{source}: {line}"));
            }
        }
    }
    if args.follow { follow(last) } else { Ok(Exit::OK) }
}

/// Gives the last lines of a file of the host's, in which a guest's words are: no more of it is read than is shown.
fn last_lines(file: &Path, most: usize) -> Vec<String> {
    let bytes = tail::tail(file, MOST).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(most)..].iter().map(|line| (*line).to_owned()).collect()
}

/// Goes on with a file as it grows, and with the next one of its name where it was rotated.
fn follow(path: &Path) -> Result<Exit, Failure> {
    let failed = |error: io::Error| Failure::said(Exit::HOST, format!("{}: {error}", path.display()));
    let mut file = tail::open(path).map_err(failed)?;
    file.seek(SeekFrom::End(0)).map_err(failed)?;
    loop {
        let mut text = Vec::new();
        (&mut file).take(MOST).read_to_end(&mut text).map_err(failed)?;
        for line in String::from_utf8_lossy(&text).lines() {
            if ui::passed_on(line).is_err() {
                return Ok(Exit::OK);
            }
        }
        if text.is_empty() {
            match tail::open(path) {
                Ok(now) if !same(&now, &file).map_err(failed)? => file = now,
                _ => thread::sleep(PAUSE),
            }
        }
    }
}

fn same(a: &File, b: &File) -> io::Result<bool> {
    let (a, b) = (a.metadata()?, b.metadata()?);
    Ok((a.dev(), a.ino()) == (b.dev(), b.ino()))
}

/// Shows the last lines of what a console said; where there are none, none.
pub fn last_words(log: &HostLog, lines: u32) {
    match log {
        HostLog::Unit(unit) => {
            let argv = ["journalctl", "--no-pager", "--quiet", "--output=cat"].map(str::to_owned);
            let more = ["--unit".to_owned(), unit.clone(), format!("--lines={lines}")];
            let _ = journalctl(&argv, &more);
        }
        HostLog::Files(files) => {
            let Some(console) = files.last() else { return };
            last_lines(console, lines as usize).iter().for_each(|line| ui::line(line));
        }
    }
}
