//! The trees of machines: made, moved into place, removed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::LifeError;
use crate::{
    host::{clonable, root},
    machine::{Definition, volume},
};

/// Writes down in a machine's tree what it is, for whoever works in it.
pub(in crate::machine) fn tell(tree: &Path, definition: &Definition) -> Result<(), LifeError> {
    let path = Path::new("etc/sandbox/machine");
    let let_through = definition.exceptions.iter();
    let let_through: Vec<_> =
        let_through.map(|exception| format!("{}:{}", exception.address, exception.port)).collect();
    let text = format!(
        "# Written by sandbox when this machine was made; what is changed here changes nothing.\n\
         NAME={}\nNETWORK={}\nLET_THROUGH=\"{}\"\n",
        definition.name,
        definition.network.word(),
        let_through.join(" "),
    );
    let write = || {
        let root = root::Root::open(tree, root::Links::InTree)?;
        root.make_folders(Path::new("etc/sandbox"), root::Meta::of_root(0o755, 0))?;
        root.write(path, text.as_bytes(), root::Meta::of_root(0o644, 0))
    };
    write().map_err(|source| LifeError::Inside { path: path.to_owned(), source })
}

/// Those volumes that are not there yet: an earlier machine of the name may have left some.
pub(super) fn missing(volumes: &[volume::Mounted]) -> Vec<PathBuf> {
    let sources = volumes.iter().map(|volume| &volume.source);
    sources.filter(|source| fs::symlink_metadata(source).is_err()).cloned().collect()
}

/// Names a place beside a tree that machined does not take for an image (a leading dot).
pub(in crate::machine) fn beside(tree: &Path, what: &str) -> PathBuf {
    let name = tree.file_name().unwrap_or_default().to_string_lossy();
    tree.with_file_name(format!(".#sandbox-{name}.{what}"))
}

pub(in crate::machine) fn make_folder(path: &Path) -> Result<u64, LifeError> {
    let failed = |doing| {
        let path = path.to_owned();
        move |source| LifeError::Io { path, doing, source }
    };
    if let Some(parent) = path.parent() {
        let mut builder = fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(builder.recursive(true), 0o700);
        builder.create(parent).map_err(failed("making the folder above"))?;
    }
    clonable::make_tree(path).map_err(failed("making the folder"))?;
    clonable::identity(path).map_err(failed("looking at the folder"))
}

pub(in crate::machine) fn move_into_place(from: &Path, to: &Path) -> Result<(), LifeError> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE).map_err(|errno| LifeError::Io {
        path: to.to_owned(),
        doing: "moving the tree into place",
        source: errno.into(),
    })
}

/// Removes a tree, first moved aside so that nothing takes it for a machine's while it goes.
pub(in crate::machine) fn remove_tree(tree: &Path, aside: &Path) -> Result<(), LifeError> {
    // what a killed remover left
    if tree != aside {
        remove_whole(aside)?;
    }
    let at = if fs::rename(tree, aside).is_ok() { aside } else { tree };
    remove_whole(at)
}

/// Removes a tree where it is; one that is not there is well.
pub(in crate::machine) fn remove_whole(tree: &Path) -> Result<(), LifeError> {
    // at once, where no other subvolume is in it
    if clonable::is_subvolume(tree) && clonable::remove_subvolume(tree).is_ok() {
        return Ok(());
    }
    let failed = |source| LifeError::Io { path: tree.to_owned(), doing: "removing the tree", source };
    root::clear_tree(tree).map_err(failed)
}
