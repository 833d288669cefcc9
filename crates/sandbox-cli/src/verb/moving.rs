//! `sandbox move`.

use sandbox_core::machine::{Kind, life::STOP_DEADLINE};

use super::machine::{BOOT, Host, holder, name, say_state};
use crate::{
    args::{Move, Place},
    exit::Exit,
    failure::Failure,
    settings::Settings,
    ui,
};

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
