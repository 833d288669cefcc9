//! A guest that reboots is started anew by us.
//!
//! liblxc would do it itself, but forgets with the first run that the owners of the tree are to be mapped
//! (`lxc.rootfs.options`), and cannot open the tree then. So its `post-stop` hook fails where a reboot is wanted,
//! which liblxc takes for a stop, and a process of ours starts the container when its monitor is gone.
//!
//! Two files of the machine's folder tell whether it is still wanted: `stopping` names a process that stops it,
//! `again` is there until it is started or somebody has stopped it.
//!
//! **Source**: `lxc_end`, `put_lxc_mount_options` of liblxc 5.0 to 7.0; lxc.container.conf(5), `LXC_TARGET`.

use std::{fs, path::Path};

use super::error::{LxcError, io};
use crate::{machine::processes, name::MachineName};

const STOPPING: &str = "stopping";
const AGAIN: &str = "again";

/// What is in the machine's folder of this.
pub(super) const FILES: [&str; 2] = [STOPPING, AGAIN];

/// Somebody stops the machine, until this is dropped.
#[derive(Debug)]
pub(super) struct Stopping<'a>(&'a Path);

impl<'a> Stopping<'a> {
    pub(super) fn note(folder: &'a Path) -> Result<Self, LxcError> {
        let path = folder.join(STOPPING);
        let pid = std::process::id();
        let began = i32::try_from(pid).ok().and_then(processes::began).unwrap_or_default();
        fs::write(&path, format!("{pid} {began}")).map_err(io("writing the file", path))?;
        Ok(Self(folder))
    }
}

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        for file in FILES {
            let _ = fs::remove_file(self.0.join(file));
        }
    }
}

/// Tells whether somebody stops a machine now; one who died while he did does not.
fn is_stopping(folder: &Path) -> bool {
    let text = fs::read_to_string(folder.join(STOPPING)).unwrap_or_default();
    let stopper =
        text.split_once(' ').and_then(|(pid, began)| Some((pid.parse().ok()?, began.parse().ok()?)));
    stopper.is_some_and(|(pid, began)| processes::began(pid) == Some(began))
}

fn folder(state: &Path, name: &MachineName) -> std::path::PathBuf {
    state.join("machines").join(name)
}

/// Tells whether a container that has ended, for a `stop` or a `reboot`, is to be started by us.
#[must_use]
pub fn rebooted(state: &Path, name: &MachineName, target: &str) -> bool {
    let folder = folder(state, name);
    target == "reboot" && !is_stopping(&folder) && fs::write(folder.join(AGAIN), "").is_ok()
}

/// Tells whether nobody has stopped a machine since its guest rebooted; asked once.
#[must_use]
pub fn is_wanted(state: &Path, name: &MachineName) -> bool {
    fs::remove_file(folder(state, name).join(AGAIN)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reboot_counts_unless_somebody_stops_the_machine() {
        let state = tempfile::tempdir().unwrap();
        let name = MachineName::new("a").unwrap();
        let folder = folder(state.path(), &name);
        fs::create_dir_all(&folder).unwrap();
        assert!(!rebooted(state.path(), &name, "stop"));
        assert!(rebooted(state.path(), &name, "reboot"));
        assert!(is_wanted(state.path(), &name) && !is_wanted(state.path(), &name));

        let stopping = Stopping::note(&folder).unwrap();
        assert!(!rebooted(state.path(), &name, "reboot"), "it is being stopped");
        drop(stopping);
        assert!(rebooted(state.path(), &name, "reboot"));
        drop(Stopping::note(&folder).unwrap());
        assert!(!is_wanted(state.path(), &name), "it was stopped since");

        fs::write(folder.join(STOPPING), format!("{} 1", std::process::id())).unwrap();
        assert!(rebooted(state.path(), &name, "reboot"), "another process has the number of who stopped it");
    }
}
