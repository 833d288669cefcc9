//! `sandbox lock`: writes a lock, checks one, compares two.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

use sandbox_core::{
    host::{runner::Processes, temporary},
    layer::{self, Doors, Order},
    lock::{self, Change, Difference, Direction, Lock},
};

use super::{build, costs, locked};
use crate::{
    args::{self, LockVerb},
    exit::Exit,
    failure::Failure,
    progress::Progress,
    settings::Settings,
    ui,
};

/// Runs `sandbox lock` and its verbs.
///
/// # Errors
/// What the user is to be told.
pub fn run(args: &args::Lock, settings: &Settings) -> Result<Exit, Failure> {
    match (&args.verb, &args.check) {
        (Some(LockVerb::Diff { before, after }), _) => diff(before, after, settings),
        (None, Some(path)) => check(args, path, settings),
        (None, None) => write(args, settings),
    }
}

/// Resolves what is asked for and writes it down.
fn write(args: &args::Lock, settings: &Settings) -> Result<Exit, Failure> {
    is_replaceable(&args.output)?;
    let before = match fs::symlink_metadata(&args.output) {
        Ok(_) => Some(locked::read(&args.output)),
        Err(_) => None,
    };
    let order = match (&args.suite, &before) {
        (Some(suite), _) => build::order(&args.build, suite, &args.profile, suite, settings)?,
        (None, Some(Ok(lock))) => locked::order(lock, &args.build, None, &args.profile, None, settings)?,
        (None, Some(Err(_))) => return locked::read(&args.output).map(|_| Exit::OK),
        (None, None) => {
            let text = format!("there is no lock {} to renew, and no suite is given", args.output.display());
            return Err(Failure::said(Exit::USAGE, text).hint("name the suite", "sandbox lock trixie"));
        }
    };
    let store = build::store(settings)?;
    let transport = build::transport(&args.build, settings)?;
    let progress = Progress::new(settings);
    build::hidden(&order, &progress, settings);
    costs::show(&order.spec.costs(), settings);
    let doors = Doors {
        transport: &transport,
        runner: &Processes::new(),
        store: &store,
        reporter: &progress,
        now: settings.now,
    };
    let lock = layer::lock(&order, &doors)?;
    replace(&args.output, lock::write(&lock).as_bytes()).map_err(|error| {
        Failure::said(Exit::HOST, format!("the lock {} cannot be written: {error}", args.output.display()))
    })?;
    // A lock of an older program or a damaged one is simply replaced.
    let difference = before.and_then(Result::ok).map(|before| lock::compare(&before, &lock));
    if settings.json() {
        ui::line(
            &serde_json::json!({
                "event": "locked", "file": args.output, "packages": lock.packages.len(),
                "parts": lock.parts.len(), "epoch": lock.epoch, "changes": difference,
            })
            .to_string(),
        );
    } else {
        if let Some(difference) = &difference {
            lines(difference).iter().for_each(|line| ui::line(line));
        }
        ui::line(&format!("{}: {} packages", args.output.display(), lock.packages.len()));
    }
    Ok(Exit::OK)
}

/// Checks that a lock can take the place of what is at its path: a device or pipe would be replaced by a file.
fn is_replaceable(path: &Path) -> Result<(), Failure> {
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => {
            let text = format!("{} is not a regular file, which a lock is", path.display());
            Err(Failure::said(Exit::USAGE, text).hint("write a file", "sandbox lock -o FILE"))
        }
        _ => Ok(()),
    }
}

/// Writes a file as a whole: a reader, or a crash, sees the old one or the new one.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // A link stays one: what it points to is replaced.
    let path = match fs::canonicalize(path) {
        Ok(path) => path,
        Err(error) if error.kind() == io::ErrorKind::NotFound => std::path::absolute(path)?,
        Err(error) => return Err(error),
    };
    let folder = path.parent().unwrap_or(Path::new("/"));
    let work = temporary::beside(&path, &format!("{}.partial", std::process::id()));
    let written = fs::File::create_new(&work)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&work, &path))
        .and_then(|()| fs::File::open(folder)?.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(&work);
    }
    written
}

/// Says without a network whether a lock still meets what is asked for.
fn check(args: &args::Lock, path: &Path, settings: &Settings) -> Result<Exit, Failure> {
    let lock = locked::read(path)?;
    let order: Order =
        locked::order(&lock, &args.build, args.suite.as_deref(), &args.profile, None, settings)?;
    let unmet = layer::unmet(&order, &lock)?;
    let changed = layer::changed(&order, &lock);
    if settings.json() {
        let unmet: Vec<_> =
            unmet.iter().map(|one| serde_json::json!({ "text": one.to_string(), "wish": one })).collect();
        ui::json(&serde_json::json!({
            "file": path, "satisfied": unmet.is_empty(), "unmet": unmet, "changed": changed,
        }));
    } else {
        unmet.iter().for_each(|one| ui::line(&one.to_string()));
        for file in &changed {
            ui::line(&format!("note: {file} is not the file that the lock was made with"));
        }
        if unmet.is_empty() {
            ui::line(&format!("{}: {} packages meet what is asked for", path.display(), lock.packages.len()));
        }
    }
    Ok(if unmet.is_empty() { Exit::OK } else { Exit::UNAVAILABLE })
}

/// Says what differs between two locks.
fn diff(before: &Path, after: &Path, settings: &Settings) -> Result<Exit, Failure> {
    let (before, after): (Lock, Lock) = (locked::read(before)?, locked::read(after)?);
    let difference = lock::compare(&before, &after);
    if settings.json() {
        ui::json(&difference);
    } else {
        lines(&difference).iter().for_each(|line| ui::line(line));
    }
    Ok(if difference.is_empty() { Exit::OK } else { Exit::UNAVAILABLE })
}

/// Words a difference: a line a change, packages first.
fn lines(difference: &Difference) -> Vec<String> {
    let Difference { packages, parts, sources, asked } = difference;
    let all = [("", packages), ("", parts), ("source ", sources), ("asked ", asked)];
    all.into_iter().flat_map(|(kind, changes)| changes.iter().map(move |one| line(kind, one))).collect()
}

fn line(kind: &str, change: &Change) -> String {
    let text = match change {
        Change::Added { name, version } => format!("+ {kind}{name} {version}"),
        Change::Removed { name, version } => format!("- {kind}{name} {version}"),
        Change::Moved { name, from, to, direction } => {
            let word = match direction {
                Direction::Up => "up",
                Direction::Down => "down",
                Direction::Sideways if from == to => "other bytes",
                Direction::Sideways => "other",
            };
            format!("* {kind}{name} {from} → {to} ({word})")
        }
    };
    text.trim_end().to_owned()
}
