//! `sandbox bootstrap`: a tree of a suite, in a folder or packed.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use sandbox_core::{
    error::Context as _,
    host::{root, runner::Processes, temporary},
    layer::{self, Doors, Packed, Packing},
};

use super::{build, internal, locked};
use crate::{args::Bootstrap, exit::Exit, failure::Failure, progress::Progress, settings::Settings, ui};

/// Builds a tree beside its target, and moves it there when it is whole.
///
/// # Errors
/// What the user is to be told; then nothing is left at the target.
pub fn run(args: &Bootstrap, settings: &Settings) -> Result<Exit, Failure> {
    settings.need_root("bootstrap")?;
    // With a lock the suite may be left out: the only word is then the target.
    let (suite, target) = match &args.target {
        Some(target) => (Some(args.suite.as_str()), target.as_path()),
        None => (None, Path::new(&args.suite)),
    };
    let lock = args.locked.locked.as_deref();
    let hostname = args.hostname.as_deref();
    let order = locked::or_not(lock, &args.build, suite, &args.profile, hostname, settings)?;
    let target = Target::of(target)?;
    let store = build::store(settings)?;
    let http = build::transport(&args.build, settings)?;
    let transport = store.answers(&http, settings.now);
    let progress = Progress::new(settings);
    build::hidden(&order, &progress, settings);
    let doors = Doors {
        transport: &transport,
        runner: &Processes::new(),
        store: &store,
        reporter: &progress,
        now: settings.now,
    };

    let work = target.work();
    internal::clean_on_interrupt(settings, std::slice::from_ref(&work));
    let tree = work.join("tree");
    remove(&work)
        .and_then(|()| fs::create_dir_all(work.parent().unwrap_or(Path::new("/"))))
        // programs that run as their owner are nobody's while the tree is not whole
        .and_then(|()| fs::DirBuilder::new().mode(0o700).create(&work))
        .and_then(|()| fs::create_dir(&tree))
        .map_err(|error| Failure::said(Exit::HOST, format!("{} cannot be made: {error}", tree.display())))?;
    let built = layer::build(&order, &tree, &doors).map_err(Failure::from).and_then(|image| {
        match target.packed {
            Some(form) => {
                let packing = Packing { file: &target.path, work: &work, form, epoch: image.lock.epoch };
                layer::pack(&tree, packing, &progress).during("pack", target.path.display().to_string())?;
            }
            None => place(&tree, &target.path)?,
        }
        Ok(image)
    });
    // the tree itself has moved to its target; whatever is still at the working place is of no use
    let removed = remove(&work);
    let image = built?;
    removed.map_err(|error| {
        Failure::said(Exit::HOST, format!("{} cannot be removed: {error}", work.display()))
    })?;
    if settings.json() {
        ui::line(
            &serde_json::json!({
                "event": "built", "target": target.path, "packages": image.lock.packages.len(),
                "epoch": image.lock.epoch,
            })
            .to_string(),
        );
    }
    Ok(Exit::OK)
}

/// Where the tree goes.
struct Target {
    path: PathBuf,
    packed: Option<Packed>,
}

impl Target {
    fn of(path: &Path) -> Result<Self, Failure> {
        let path = std::path::absolute(path)
            .map_err(|error| Failure::said(Exit::USAGE, format!("{}: {error}", path.display())))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let packed = match name.as_str() {
            name if name.ends_with(".tar.zst") => Some(Packed::Zstd),
            name if name.ends_with(".tar") => Some(Packed::Plain),
            _ => None,
        };
        let empty = |path: &Path| fs::read_dir(path).map(|mut entries| entries.next().is_none());
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(found) if packed.is_none() && found.is_dir() && empty(&path).unwrap_or(false) => {}
            Ok(_) => {
                return Err(Failure::said(
                    Exit::UNAVAILABLE,
                    format!("{} is there already; a target is new, or an empty folder", path.display()),
                ));
            }
            Err(error) => return Err(Failure::said(Exit::HOST, format!("{}: {error}", path.display()))),
        }
        if path.file_name().is_none() {
            return Err(Failure::said(Exit::USAGE, format!("{} is no target", path.display())));
        }
        Ok(Self { path, packed })
    }

    /// The folder beside the target in which the tree is built and packed: one a target, so that the next
    /// run finds what a killed one left.
    fn work(&self) -> PathBuf {
        temporary::beside(&self.path, "sandbox-partial")
    }
}

fn place(tree: &Path, target: &Path) -> Result<(), Failure> {
    // an empty folder may be there: rename(2) replaces it
    fs::rename(tree, target).map_err(|error| {
        Failure::said(Exit::HOST, format!("{} cannot be put in place: {error}", target.display()))
    })
}

/// Removes a tree; one that is not there is well.
///
/// # Errors
/// What the file system says.
pub fn remove(tree: &Path) -> io::Result<()> {
    match root::remove_tree(tree) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
