//! `sandbox logs`: the guest's journal, read by the guest's own journalctl where it runs, else by the host's; or what
//! the host says of the machine.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::fs::OFlags;
use sandbox_core::{
    error::Context as _,
    host::root::{Links, Root},
    machine::HostLog,
    session,
};

use super::machine::{Host, name};
use crate::{args::Logs, exit::Exit, failure::Failure, settings::Settings, ui};

/// How often a file is looked at for what came.
const PAUSE: Duration = Duration::from_millis(200);

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
    let argv = argv(args, settings);
    if args.outside {
        let backend = machines.backend(definition.backend).during("read", subject())?;
        return match backend.host_log(&definition) {
            HostLog::Unit(unit) => journalctl(&argv, &["--unit".to_owned(), unit]),
            HostLog::Files(files) => files_of_host(&files, args, settings),
        };
    }
    match leader {
        Some(leader) => {
            let request = session::Request { argv, term: settings.term.clone(), ..Default::default() };
            let ended = session::exec(&leader, &request).during("read", subject())?;
            Ok(Exit(ended.code()))
        }
        None if args.follow => Err(Failure::said(
            Exit::UNAVAILABLE,
            format!("machine `{name}` does not run: nothing more will come"),
        )
        .hint("see what there is", format!("sandbox logs {name}"))),
        None => from_disk(&argv, &definition.tree),
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

/// Reads the journal of a machine that is stopped. The guest's links lead nowhere but into its tree.
fn from_disk(argv: &[String], tree: &Path) -> Result<Exit, Failure> {
    let journal = Path::new("var/log/journal");
    let opened = Root::open(tree, Links::InTree)
        .and_then(|root| root.at(journal, OFlags::RDONLY | OFlags::DIRECTORY, 0));
    let folder = opened.map_err(|_| {
        let path = tree.join(journal);
        Failure::said(
            Exit::UNAVAILABLE,
            format!("{} is not there: the machine keeps no journal, or never ran", path.display()),
        )
    })?;
    let path = format!("/proc/{}/fd/{}", std::process::id(), folder.as_raw_fd());
    journalctl(argv, &["--directory".to_owned(), path])
}

#[expect(clippy::disallowed_methods, reason = "its output is the user's, not ours to read")]
fn journalctl(argv: &[String], more: &[String]) -> Result<Exit, Failure> {
    let status = std::process::Command::new("journalctl").args(&argv[1..]).args(more).status();
    let status = status.map_err(|error| {
        Failure::said(Exit::HOST, format!("journalctl, which reads it, cannot be run: {error}"))
    })?;
    Ok(Exit(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

/// Shows files of the host's, each by its name where there are more.
fn files_of_host(files: &[PathBuf], args: &Logs, settings: &Settings) -> Result<Exit, Failure> {
    let there: Vec<_> = files.iter().filter(|file| file.exists()).collect();
    let Some(last) = there.last() else {
        return Err(Failure::said(Exit::UNAVAILABLE, "the host has no log of it: it never ran"));
    };
    let most = args.lines.map_or(usize::MAX, |lines| lines as usize);
    for file in &there {
        let source = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).into_owned();
        let lines: Vec<_> = text.lines().collect();
        for line in &lines[lines.len().saturating_sub(most)..] {
            if settings.json() {
                ui::line(&serde_json::json!({"source": source, "line": line}).to_string());
            } else {
                ui::line(&format!("{source}: {}", printable(line)));
            }
        }
    }
    if args.follow { follow(last) } else { Ok(Exit::OK) }
}

/// Goes on with a file as it grows.
fn follow(path: &Path) -> Result<Exit, Failure> {
    let failed = |error: io::Error| Failure::said(Exit::HOST, format!("{}: {error}", path.display()));
    let mut file = File::open(path).map_err(failed)?;
    file.seek(SeekFrom::End(0)).map_err(failed)?;
    loop {
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(failed)?;
        for line in String::from_utf8_lossy(&text).lines() {
            ui::line(&printable(line));
        }
        thread::sleep(PAUSE);
    }
}

/// A guest's words do not move the terminal's cursor.
fn printable(line: &str) -> String {
    line.chars().filter(|letter| !letter.is_control() || *letter == '\t').collect()
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
            let text = String::from_utf8_lossy(&std::fs::read(console).unwrap_or_default()).into_owned();
            let all: Vec<_> = text.lines().collect();
            for line in &all[all.len().saturating_sub(lines as usize)..] {
                ui::line(&printable(line));
            }
        }
    }
}
