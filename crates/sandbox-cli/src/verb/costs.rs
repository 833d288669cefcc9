//! What profiles cost in isolation: shown, and accepted before anything is made.

use sandbox_core::{layer::Order, lock::Lock, spec::Stacked};

use crate::{args::Costs, exit::Exit, failure::Failure, settings::Settings, ui};

/// Sees that every cost is accepted: by the option, by a lock whose profiles are the same to the byte, or by
/// whoever is asked on a terminal.
///
/// # Errors
/// Exit 2 where nobody can be asked, exit 1 where the answer is no.
pub fn accept(args: &Costs, order: &Order, settings: &Settings) -> Result<(), Failure> {
    let costs = order.spec.costs();
    let open: Vec<_> = costs.iter().filter(|(file, _)| !is_locked(order.locked.as_ref(), file)).collect();
    if costs.is_empty() {
        return Ok(());
    }
    show(&costs, settings);
    if args.accept_costs || open.is_empty() {
        return Ok(());
    }
    let question = "Accept what these profiles cost in isolation?";
    if ui::confirm(question, settings.interactive, &format!("{} --accept-costs", settings.typed))? {
        return Ok(());
    }
    Err(Failure::said(Exit::UNAVAILABLE, "the costs were not accepted; nothing was made"))
}

/// A lock is a file that somebody wrote and read: its costs were shown when it was made.
fn is_locked(lock: Option<&Lock>, file: &Stacked) -> bool {
    lock.is_some_and(|lock| {
        lock.inputs.iter().any(|input| {
            input.kind == file.kind.word() && input.name == file.name && input.sha256 == file.digest
        })
    })
}

/// Shows each cost with the profile that has it.
pub fn show(costs: &[(&Stacked, &str)], settings: &Settings) {
    if settings.json() {
        for (file, cost) in costs {
            let event =
                serde_json::json!({"event": "cost", "profile": file.name, "file": file.origin, "cost": cost});
            ui::line(&event.to_string());
        }
        return;
    }
    let mut text = String::new();
    let mut last = "";
    for (file, cost) in costs {
        if last != file.name {
            text += &format!("profile `{}` costs ({}):\n", file.name, file.origin);
            last = &file.name;
        }
        text += &format!("  - {cost}\n");
    }
    ui::notice(&text);
}
