//! What a container's hooks do on each start, whoever starts it.

use std::{fs, path::Path};

use super::{
    error::{LxcError, io},
    mounts, reboot,
};
use crate::{
    Result,
    error::Context as _,
    machine::{
        Definition, Leader,
        direct::{
            DirectError, link,
            run::{self, Run},
        },
        mounts as shared,
        network::{self, Names},
        nspawn, processes,
    },
    name::MachineName,
    report::Reporter,
};

/// Prepares a machine's link before there is one: the wall, its addresses, and what the guest is told of them.
///
/// Hosts with NetworkManager or ifupdown have no networkd, so addresses are ours on all; a networkd that runs is
/// told to leave the link alone.
///
/// # Errors
/// Where any of it cannot be had: then the machine must not start.
pub fn prepare(definition: &Definition, state: &Path, reporter: &dyn Reporter) -> Result<()> {
    let folder = state.join("machines").join(&definition.name);
    before(definition, &folder, reporter)
        .during("prepare the network of machine", definition.name.to_string())
}

fn before(definition: &Definition, folder: &Path, reporter: &dyn Reporter) -> Result<(), LxcError> {
    let names = Names::of_host();
    let definition = network::with_resolvers(definition, &names);
    let link = network::interface(&definition.name);
    if network::has_link(definition.network) && Path::new("/sys/class/net").join(&link).exists() {
        return Err(LxcError::Link(DirectError::LinkTaken { link }));
    }
    let addresses = match network::has_link(definition.network) {
        true => Some(link::of(&definition.name, folder).map_err(LxcError::Link)?),
        false => None,
    };
    network::wall_up(&definition, link::served(&names), reporter).map_err(LxcError::Wall)?;
    shared::prepare(&definition).map_err(LxcError::Mount)?;
    let Some(addresses) = addresses else { return Ok(()) };
    nspawn::leave_alone(&link).map_err(LxcError::Networkd)?;
    link::mount_point(&definition.tree).map_err(LxcError::Link)?;
    let text = link::network_file(addresses, &link::resolvers(&names, addresses));
    run::write(folder, "host0.network", text.as_bytes()).map_err(LxcError::Link)
}

/// Gives the host's end of the link its address, mounts what the guest has of the host, and writes down the machine's first process, which waits for this
/// before it becomes the guest's systemd.
///
/// # Errors
/// Where either fails: then the machine does not start.
pub fn started(definition: &Definition, state: &Path, leader: i32) -> Result<()> {
    let folder = state.join("machines").join(&definition.name);
    let subject = || format!("machine `{}`", definition.name);
    after(definition, &folder, leader).during("start", subject())
}

/// Leaves the AppArmor profile of `lxc-start`, which hooks inherit and which allows mounts in few places; it allows
/// this change, so that containers may be unconfined. Where AppArmor does not confine this does nothing.
///
/// # Errors
/// Where the profile does not allow it.
///
/// **Source**: `abstractions/lxc/start-container` of liblxc; aa_change_profile(2).
pub fn leave_profile() -> Result<(), LxcError> {
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
    if enabled.trim() != "Y" {
        return Ok(());
    }
    let files = ["/proc/thread-self/attr/apparmor/current", "/proc/thread-self/attr/current"];
    let Some(file) = files.into_iter().find(|file| fs::read_to_string(file).is_ok()) else { return Ok(()) };
    if fs::read_to_string(file).is_ok_and(|label| label.trim_end_matches(['\n', '\0']) == "unconfined") {
        return Ok(());
    }
    let open = fs::File::options().write(true).open(file);
    let left = open.and_then(|mut file| std::io::Write::write_all(&mut file, b"changeprofile unconfined"));
    left.map_err(io("leaving the AppArmor profile of lxc-start", file))
}

fn after(definition: &Definition, folder: &Path, leader: i32) -> Result<(), LxcError> {
    leave_profile()?;
    if network::has_link(definition.network) {
        let addresses = link::of(&definition.name, folder).map_err(LxcError::Link)?;
        link::bring_up(definition, addresses).map_err(LxcError::Link)?;
        // it ends with the link
        drop(network::forward_names(definition, &Names::of_host()));
    }
    mounts::attach(leader, mounts::of(definition, folder))?;
    shared::start(&Leader::new(leader), definition).map_err(LxcError::Mount)?;
    let record = Run {
        boot: run::boot().map_err(LxcError::Link)?,
        supervisor: 0,
        leader: Some(leader),
        began: processes::began(leader),
    };
    let text = serde_json::to_vec(&record).unwrap_or_default();
    run::write(folder, "run.json", &text).map_err(LxcError::Link)
}

/// Removes what the hooks wrote.
pub(super) fn sweep(name: &MachineName, folder: &Path) -> Result<(), LxcError> {
    for file in ["run.json", "host0.network"].into_iter().chain(reboot::FILES) {
        let path = folder.join(file);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(io("removing the file", path)(error));
            }
            _ => {}
        }
    }
    let link = network::interface(name);
    // a wall whose link still stands is that of a machine of the same name in another state directory
    if Path::new("/sys/class/net").join(&link).exists() {
        return Ok(());
    }
    network::wall_down(name).map_err(LxcError::Wall)?;
    nspawn::manage_again(&link).map_err(LxcError::Networkd)
}
