//! `sandbox clone` and `sandbox fork`.

use std::time::Duration;

use sandbox_core::machine::snapshot::Copy;

use super::machine::{Host, holder, name, say_state};
use crate::{args::Duplicate, exit::Exit, failure::Failure, settings::Settings};

/// The verb that leaves the copy stopped.
pub const CLONE: &str = "clone";
/// The verb that starts the copy where the other runs.
pub const FORK: &str = "fork";

/// Makes another machine of a machine.
///
/// # Errors
/// What the user is to be told; then nothing of the new machine is left.
pub fn run(args: &Duplicate, verb: &'static str, settings: &Settings) -> Result<Exit, Failure> {
    let (old, new) = (name(&args.name)?, name(&args.new)?);
    settings.need_root(verb)?;
    let host = Host::new(settings);
    let machines = host.machines()?;
    let runs = machines.status(&old)?.leader.is_some();
    let start = verb == FORK && runs && !args.no_start;
    let copy = Copy {
        verb,
        name: new.clone(),
        snapshot: args.snapshot.clone(),
        boot: start.then(|| Duration::from_secs(args.timeout)),
        program: settings.program.clone(),
        now: settings.now,
        holder: holder(verb),
    };
    super::internal::clean_on_interrupt(settings, &[]);
    let (copied, state) = machines.copy(&old, &copy)?;
    if settings.json() {
        crate::ui::json(&serde_json::json!({
            "name": new, "of": old, "consistency": copied.consistency,
            "frozen_ms": u64::try_from(copied.frozen.as_millis()).unwrap_or(u64::MAX),
        }));
    }
    if let Some(state) = state {
        say_state(&new, &state, settings);
    }
    Ok(Exit::OK)
}
