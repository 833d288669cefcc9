//! `sandbox move`.

use sandbox_core::{
    machine::{Kind, life::STOP_DEADLINE},
    name::MachineName,
};

use super::machine::{BOOT, Host, holder, name, say_state};
use crate::{
    args::{Move, Place},
    exit::Exit,
    failure::Failure,
    settings::Settings,
    ui,
};

fn to_proxmox(name: &MachineName) -> Failure {
    let text = "`move --to proxmox` is not to be had: the tree would leave this host for a storage of Proxmox', and \
                with it the way back";
    Failure::said(Exit::UNAVAILABLE, text).hint(
        "make a container of it; the machine here stays until it is removed",
        format!("sandbox export {name} --to proxmox"),
    )
}

/// Gives a machine another backend.
///
/// # Errors
/// What the user is to be told; then it has the one that it had.
pub fn run(args: &Move, settings: &Settings) -> Result<Exit, Failure> {
    let name = name(&args.name)?;
    settings.need_root("move")?;
    let kind = match args.to {
        Place::Nspawn => Kind::Nspawn,
        Place::Lxc => Kind::Lxc,
        Place::Direct => Kind::Direct,
        Place::Proxmox => return Err(to_proxmox(&name)),
    };
    let host = Host::new(settings);
    let machines = host.machines()?;
    let holder = holder("move");
    let restart = args.restart && machines.status(&name)?.leader.is_some();
    if restart {
        machines.stop(&name, STOP_DEADLINE, &holder)?;
    }
    let moved = machines.move_to(&name, kind, &holder);
    if restart {
        let started = machines.start(&name, BOOT, &holder);
        if moved.is_ok() {
            say_state(&name, &started?, settings);
        }
    }
    moved?;
    ui::done(settings, &serde_json::json!({"name": name.as_str(), "backend": kind}));
    Ok(Exit::OK)
}
