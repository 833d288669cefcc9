//! `sandbox resolve`: the packages that a build would have.

use std::sync::Mutex;

use sandbox_core::{
    host::runner::Processes,
    layer::{self, Doors},
    lock::{Lock, LockedPackage, Reason},
    report::{Event, Reporter},
};

use super::build;
use crate::{args::Resolve, exit::Exit, failure::Failure, progress::Progress, settings::Settings, ui};

/// Prints the chosen packages, or why one of them is there. It fetches indexes only, and needs no root.
///
/// # Errors
/// What the user is to be told.
pub fn run(args: &Resolve, settings: &Settings) -> Result<Exit, Failure> {
    let order = build::order(&args.build, &args.suite, &args.profile, &args.suite, settings)?;
    let store = build::store(settings)?;
    let transport = build::transport(&args.build, settings)?;
    let (progress, notes) = (Progress::new(settings), Notes::default());
    let reporter: &dyn Reporter = if settings.json() { &notes } else { &progress };
    let runner = Processes::new();
    let doors = Doors { transport: &transport, runner: &runner, store: &store, reporter, now: settings.now };
    let lock = layer::resolve(&order, &doors)?;
    match &args.why {
        Some(name) => why(&lock, name, settings),
        None => {
            show(&lock, notes, settings);
            Ok(Exit::OK)
        }
    }
}

fn show(lock: &Lock, notes: Notes, settings: &Settings) {
    if settings.json() {
        let Lock { image, architecture, epoch, sources, packages, .. } = lock;
        let notes = notes.0.into_inner().unwrap_or_default();
        ui::json(&serde_json::json!({
            "image": image, "architecture": architecture, "epoch": epoch, "notes": notes,
            "sources": sources, "packages": packages,
        }));
        return;
    }
    for package in &lock.packages {
        ui::line(&full(package));
    }
}

/// Prints the way from a wish to a package, one package a line.
fn why(lock: &Lock, name: &str, settings: &Settings) -> Result<Exit, Failure> {
    let named = |name: &str| lock.packages.iter().find(|package| package.name == name);
    let Some(last) = named(name) else {
        let text = format!("package `{name}` is not among the {} of this build", lock.packages.len());
        return Err(Failure::said(Exit::UNAVAILABLE, text)
            .hint("see which are", format!("sandbox resolve {}", lock.image)));
    };
    let mut way = vec![last];
    // reasons were found breadth first from the wishes, so following them back ends
    while let Some(Reason::Dependency(by)) = way.last().map(|package| &package.reason)
        && let Some(next) = named(by).filter(|_| way.len() < lock.packages.len())
    {
        way.push(next);
    }
    way.reverse();
    if settings.json() {
        ui::json(&way);
        return Ok(Exit::OK);
    }
    for package in way {
        ui::line(&format!("{}  {}", full(package), reason(&package.reason)));
    }
    Ok(Exit::OK)
}

fn full(package: &LockedPackage) -> String {
    format!("{}:{} {}", package.name, package.architecture, package.version)
}

fn reason(reason: &Reason) -> String {
    match reason {
        Reason::Essential => "is essential".to_owned(),
        Reason::Priority(word) => format!("has priority {word}"),
        Reason::Requested(by) => format!("is wanted by {by}"),
        Reason::Dependency(of) => format!("is a dependency of {of}"),
    }
}

/// Keeps what is said beside the result, so that the result is one object.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Reporter for Notes {
    fn report(&self, event: Event) {
        if let Event::Notice { text } | Event::Warning { text } = event {
            self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(text);
        }
    }
}
