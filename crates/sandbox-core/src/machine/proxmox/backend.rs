//! Proxmox VE as a backend: a machine's tree is in a storage of a cluster, and its processes are a node's.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{ProxmoxError, deliver, resident::Resident};
use crate::{
    Result,
    error::{Context as _, Hint},
    machine::{Backend, Definition, Kind, Leader},
    name::MachineName,
    report::Reporter,
};

/// Machines that are containers of nodes.
pub struct Proxmox {
    state: PathBuf,
}

impl Proxmox {
    /// Makes the backend of a state directory; nothing is asked yet.
    #[must_use]
    pub fn new(state: &Path) -> Self {
        Self { state: state.to_owned() }
    }
}

fn subject(definition: &Definition) -> String {
    format!("machine `{}`", definition.name)
}

impl Backend for Proxmox {
    fn kind(&self) -> Kind {
        Kind::Proxmox
    }

    /// Where the tree is built; nothing is there once the machine is whole.
    fn tree(&self, name: &MachineName) -> PathBuf {
        self.state.join("machines").join(name).join("rootfs")
    }

    fn define(&self, definition: &Definition) -> Result<()> {
        let chosen = &definition.chosen;
        let done = Resident::find(definition).and_then(|it| it.choose(&chosen.limits, chosen.autostart));
        done.during("define", subject(definition))
    }

    fn start(&self, definition: &Definition, _deadline: Duration, _reporter: &dyn Reporter) -> Result<()> {
        Resident::find(definition).and_then(|it| it.start()).during("start", subject(definition))
    }

    fn stop(&self, definition: &Definition, deadline: Duration, _reporter: &dyn Reporter) -> Result<()> {
        match Resident::find(definition).and_then(|it| it.stop(deadline.as_secs())) {
            // also of one that was never whole
            Err(ProxmoxError::Gone { .. } | ProxmoxError::Nowhere | ProxmoxError::Stranger { .. }) => Ok(()),
            done => done.during("stop", subject(definition)),
        }
    }

    fn undefine(&self, definition: &Definition) -> Result<()> {
        match &definition.place {
            Some(place) => deliver::undo(place).during("remove", subject(definition)),
            None => Ok(()),
        }
    }

    fn leader(&self, name: &MachineName) -> Result<Option<Leader>> {
        let not = ProxmoxError::Not {
            verb: "this".to_owned(),
            why: "its processes are the node's, and what wants one of them is done from there",
            instead: Some(Hint::run("see how it is", format!("sandbox status {name}"))),
        };
        Err(not).during("enter", format!("machine `{name}`"))
    }
}
