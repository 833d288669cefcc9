//! Preinst scripts, run as dpkg would have: from `tmp.ci`, with the control members beside them.
//!
//! Debconf reads the templates that lie beside the script; without them it files questions under no owner.
//!
//! **Source**: Debian Policy §6.5, §6.6; dpkg(1) ENVIRONMENT.

use std::path::Path;

use super::{ConfigureError, tree};
use crate::{
    host::{
        root::{Meta, Root},
        runner::{Command, Runner},
    },
    unpack::Scripted,
};

const FOLDER: &str = "var/lib/dpkg/tmp.ci";

/// Runs a package's preinst as for a first installation.
pub fn run(
    root: &Root,
    package: &Scripted,
    runner: &dyn Runner,
    epoch: i64,
    in_tree: &dyn Fn(Command) -> Command,
) -> Result<(), ConfigureError> {
    let folder = Path::new(FOLDER);
    root.make_folders(folder, Meta::of_root(0o755, epoch)).map_err(tree(folder))?;
    for (name, (bytes, mode)) in &package.members {
        let path = folder.join(name);
        root.write(&path, bytes, Meta::of_root(*mode, epoch)).map_err(tree(&path))?;
    }
    let command = in_tree(Command::new(["/var/lib/dpkg/tmp.ci/preinst", "install"]))
        .env("DPKG_MAINTSCRIPT_NAME", "preinst")
        .env("DPKG_MAINTSCRIPT_PACKAGE", &package.name)
        .env("DPKG_MAINTSCRIPT_ARCH", &package.architecture)
        .env("DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT", "1")
        .env("DPKG_ADMINDIR", "/var/lib/dpkg")
        .env("DPKG_ROOT", "")
        .env("DPKG_FORCE", "unsafe-io")
        .env("DPKG_RUNNING_VERSION", "1.21.0");
    let ran = runner.run(&command);
    root.empty(folder).map_err(tree(folder))?;
    let (parent, name) = root.parent(folder).map_err(tree(folder))?;
    rustix::fs::unlinkat(&parent, &name, rustix::fs::AtFlags::REMOVEDIR)
        .map_err(|errno| tree(folder)(errno.into()))?;
    match ran {
        Ok(_) => Ok(()),
        Err(source) => Err(ConfigureError::Script {
            package: package.name.clone(),
            script: "preinst",
            source: Box::new(source),
        }),
    }
}
