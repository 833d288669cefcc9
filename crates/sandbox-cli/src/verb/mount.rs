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
    let owners = match &args.owner {
        _ if args.same_ids => Wanted::Same,
        Some(user) => Wanted::User(user.clone()),
        None => Wanted::Default,
    };
    let wanted = wanted(&args.source, &args.path, owners)?;
    let wanted = WantedMount {
        read_only: args.read_only,
        writable_git: args.writable_git,
        permanent: args.permanent,
        ..wanted
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

/// Checks what is to be mounted, and where.
///
/// # Errors
/// Where the source is no directory, or the path is none that a machine can have it at.
pub fn wanted(source: &Path, path: &Path, owners: Wanted) -> Result<WantedMount, Failure> {
    let wrong =
        |error| Failure::said(Exit::UNAVAILABLE, format!("{} cannot be mounted: {error}", source.display()));
    if !source.metadata().map_err(wrong)?.is_dir() {
        return Err(Failure::said(Exit::USAGE, format!("{} is not a directory", source.display())));
    }
    let source = std::path::absolute(source).map_err(wrong)?;
    Ok(WantedMount {
        source,
        path: in_machine(path)?,
        read_only: false,
        writable_git: false,
        permanent: false,
        owners,
    })
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

/// Checks that a path in a machine is an absolute one.
///
/// # Errors
/// Exit 2 where it is not.
pub fn check_path(path: &Path) -> Result<(), Failure> {
    if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
        let text = format!("`{}` is no absolute path without `..`", path.display());
        return Err(Failure::said(Exit::USAGE, text));
    }
    Ok(())
}

fn in_machine(path: &Path) -> Result<PathBuf, Failure> {
    let usage = |why: &str| Failure::said(Exit::USAGE, format!("`{}` {why}", path.display()));
    check_path(path)?;
    let path: PathBuf = path.components().collect();
    if path.parent().is_none() || OWN.iter().any(|own| path.starts_with(own)) {
        return Err(usage("is a place that the machine's systemd keeps for itself"));
    }
    if path.to_string_lossy().contains('\n') {
        return Err(usage("has a line's end in it"));
    }
    Ok(path)
}
