//! `sandbox mount` and `sandbox unmount`.

use std::path::{Component, Path, PathBuf};

use sandbox_core::{
    machine::{
        changes::{Took, WantedMount},
        mounts::Wanted,
    },
    report::Event,
};

use super::machine::{Host, holder, name};
use crate::{
    args::{Mount, Unmount},
    exit::Exit,
    failure::Failure,
    settings::Settings,
    ui,
};

/// Mounts a folder of the host in a machine.
///
/// # Errors
/// What the user is to be told.
pub fn mount(args: &Mount, settings: &Settings) -> Result<Exit, Failure> {
    let name = name(&args.name)?;
    settings.need_root("mount")?;
    let wrong = |error| {
        Failure::said(Exit::UNAVAILABLE, format!("{} cannot be mounted: {error}", args.source.display()))
    };
    if !args.source.metadata().map_err(wrong)?.is_dir() {
        return Err(Failure::said(Exit::USAGE, format!("{} is not a directory", args.source.display())));
    }
    let source = std::path::absolute(&args.source).map_err(wrong)?;
    let owners = match &args.owner {
        _ if args.same_ids => Wanted::Same,
        Some(user) => Wanted::User(user.clone()),
        None => Wanted::Default,
    };
    let wanted = WantedMount {
        source,
        path: in_machine(&args.path)?,
        read_only: args.read_only,
        writable_git: args.writable_git,
        permanent: args.permanent,
        owners,
    };
    let host = Host::new(settings);
    let machines = host.machines()?;
    let (folder, took) = machines.mount(&name, &wanted, &settings.program, &holder("mount"))?;
    if settings.json() {
        ui::json(&serde_json::json!({
            "name": name.as_str(), "mount": folder, "permanent": args.permanent, "counts": took,
        }));
    }
    Ok(Exit::OK)
}

/// Takes a folder of the host out of a machine.
///
/// # Errors
/// What the user is to be told.
pub fn unmount(args: &Unmount, settings: &Settings) -> Result<Exit, Failure> {
    let name = name(&args.name)?;
    settings.need_root("unmount")?;
    let path = in_machine(&args.path)?;
    let host = Host::new(settings);
    let took = host.machines()?.unmount(&name, &path, &holder("unmount"))?;
    if took == Took::NextStart {
        let text = format!(
            "{} came with the machine's start as part of another mount, and is there until that one or the machine ends",
            path.display()
        );
        host.reporter().report(Event::Notice { text });
    }
    if settings.json() {
        ui::json(&serde_json::json!({"name": name.as_str(), "unmounted": path, "counts": took}));
    }
    Ok(Exit::OK)
}

/// Places that are the guest's systemd's own.
const OWN: [&str; 5] = ["/proc", "/sys", "/dev", "/run", "/tmp/.X11-unix"];

fn in_machine(path: &Path) -> Result<PathBuf, Failure> {
    let usage = |why: &str| Failure::said(Exit::USAGE, format!("`{}` {why}", path.display()));
    if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
        return Err(usage("is no absolute path without `..`"));
    }
    let path: PathBuf = path.components().collect();
    if path.parent().is_none() || OWN.iter().any(|own| path.starts_with(own)) {
        return Err(usage("is a place that the machine's systemd keeps for itself"));
    }
    if path.to_string_lossy().contains('\n') {
        return Err(usage("has a line's end in it"));
    }
    Ok(path)
}
