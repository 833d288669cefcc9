//! `sandbox copy`, and its part in a machine.

use std::{
    fs::File,
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use sandbox_core::{
    error::{Context as _, shell_word},
    machine::{
        Leader,
        copy::{self, Answer, Carried, Trust},
    },
    name::MachineName,
    report::Event,
};

use super::machine::{Host, holder, name};
use crate::{args::Copy, exit::Exit, failure::Failure, settings::Settings, ui};

/// One end of a copy.
enum Place {
    Machine(MachineName, PathBuf),
    Host(PathBuf),
    Stream,
}

/// Gives the machine's name in `NAME:/path`, none for a path of the host: one that is written with a slash or a dot
/// in front is always that.
pub fn machine_of(text: &str) -> Option<&str> {
    text.split_once(':').map(|(name, _)| name).filter(|name| !name.contains('/') && !name.is_empty())
}

impl Place {
    fn read(text: &str) -> Result<Self, Failure> {
        if text == "-" {
            return Ok(Self::Stream);
        }
        let Some(machine) = machine_of(text) else { return Ok(Self::Host(absolute(Path::new(text))?)) };
        let path = PathBuf::from(&text[machine.len() + 1..]);
        if path.is_absolute() {
            return Ok(Self::Machine(name(machine)?, path));
        }
        Err(Failure::said(Exit::USAGE, format!("`{text}`: a path in a machine begins with `/`"))
            .hint("a file of the host with a colon in its name", format!("./{text}")))
    }
}

/// Gives a path of the host without dots in it; its last part may be missing, and is not followed.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let failed = |error: io::Error| Failure::said(Exit::UNAVAILABLE, format!("{}: {error}", path.display()));
    let whole = std::path::absolute(path).map_err(failed)?;
    let bytes = path.as_os_str().as_bytes();
    match (whole.parent(), whole.file_name()) {
        (Some(above), Some(last)) if !bytes.ends_with(b"/") && !bytes.ends_with(b"/.") && bytes != b"." => {
            Ok(above.canonicalize().map_err(failed)?.join(last))
        }
        _ => {
            let mut whole = whole.canonicalize().map_err(failed)?;
            // what ends in a slash is a folder
            whole.push("");
            Ok(whole)
        }
    }
}

/// Copies.
///
/// # Errors
/// What the user is to be told.
pub fn run(args: &Copy, settings: &Settings) -> Result<Exit, Failure> {
    let (from, to) = (Place::read(&args.from)?, Place::read(&args.to)?);
    settings.need_root("copy")?;
    let host = Host::new(settings);
    let machines = host.as_they_are();
    let owner = args.owner.clone();
    let hold = |name: &MachineName| machines.hold(name, &settings.program, &holder("copy"));
    let subject = || format!("{} to {}", args.from, args.to);
    let carried = match (from, to) {
        (Place::Machine(name, path), Place::Host(target)) => {
            copy::out(&hold(&name)?.side, &path, &target, owner)
        }
        (Place::Machine(name, path), Place::Stream) => {
            copy::out_to(&hold(&name)?.side, &path, stream(&io::stdout())?)
        }
        (Place::Host(path), Place::Machine(name, target)) => {
            copy::into(&hold(&name)?.side, &path, &target, owner)
        }
        (Place::Stream, Place::Machine(name, target)) => {
            copy::into_from(&hold(&name)?.side, &target, owner, stream(&io::stdin())?)
        }
        _ => {
            let wrong = "one side is MACHINE:/PATH, the other a path of the host or `-`";
            let failure = Failure::said(Exit::USAGE, wrong);
            let (from, to) = (shell_word(&args.from), shell_word(&args.to));
            let both = machine_of(&args.from).is_some() && machine_of(&args.to).is_some();
            return Err(if both {
                failure.hint("between two machines", format!("sandbox copy {from} - | sandbox copy - {to}"))
            } else {
                failure
            });
        }
    };
    let carried = carried.during("copy", subject())?;
    say(&carried, args.to == "-", &host, settings);
    Ok(Exit::OK)
}

fn stream(end: &impl std::os::fd::AsFd) -> Result<File, Failure> {
    let copy = end.as_fd().try_clone_to_owned();
    let copy = copy.map_err(|error| Failure::said(Exit::HOST, format!("the stream: {error}")))?;
    Ok(copy.into())
}

fn say(carried: &Carried, streamed: bool, host: &Host, settings: &Settings) {
    if settings.json() && !streamed {
        ui::json(carried);
    } else {
        let warn = |text| host.reporter().report(Event::Warning { text });
        carried.left_out.iter().for_each(|what| warn(format!("left out: {what}")));
        if carried.owners > 0 {
            warn(format!(
                "{} paths belong to owners from 65536 on, which a machine has no number for: they belong to the owner of \
                 the directory that they were copied into (--owner USER gives them to another)",
                carried.owners
            ));
        }
        if carried.acl_entries > 0 {
            warn(format!(
                "{} entries of access control lists were left out: the target has no such user or group, or its file \
                 system does not support them",
                carried.acl_entries
            ));
        }
    }
}

/// Does an errand as one of a machine's processes; the answer is on stderr.
pub fn carry(leader: i32, began: u64, errand: &str) -> Exit {
    let done = || -> Result<Carried, Answer> {
        let errand = serde_json::from_str(errand);
        let errand = errand.map_err(|error: serde_json::Error| Answer::Failed(error.to_string()))?;
        let root = copy::enter(&Leader::new(leader), began).map_err(answer)?;
        let failed = |error: io::Error| Answer::Failed(error.to_string());
        let end = |fd: std::os::fd::BorrowedFd<'_>| fd.try_clone_to_owned().map(File::from).map_err(failed);
        let mut input = end(rustix::stdio::stdin())?;
        let mut output = end(rustix::stdio::stdout())?;
        copy::run(&errand, &root, Trust::Host, &mut input, &mut output).map_err(answer)
    };
    let (answer, exit) = match done() {
        Ok(carried) => (Answer::Carried(carried), Exit::OK),
        Err(answer) => (answer, Exit::UNAVAILABLE),
    };
    let text = serde_json::to_vec(&answer).unwrap_or_default();
    let _ = io::Write::write_all(&mut io::stderr(), &text);
    exit
}

fn answer(error: copy::CopyError) -> Answer {
    use sandbox_core::error::{Cause as _, Class};
    match error.class() {
        Class::Untrusted => Answer::Refused(chain(&error)),
        _ => Answer::Failed(chain(&error)),
    }
}

/// Words an error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_told_from_a_path() {
        assert_eq!(machine_of("agents:/etc"), Some("agents"));
        for text in ["./a:b", "/x:y", "plain", ":/x", "-"] {
            assert_eq!(machine_of(text), None, "{text}");
        }
        assert!(matches!(Place::read("agents:etc"), Err(failure) if failure.exit() == Exit::USAGE));
    }
}
