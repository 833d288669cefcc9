//! What profiles cost in isolation: shown, and accepted before anything is made.
//!
//! What was accepted once, by the option or on a terminal, is remembered by its words. **Shape**: `costs.json` in the
//! state directory, an object with the accepted costs of each profile: `{"docker": ["...", "..."]}`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use sandbox_core::{layer::Order, lock::Lock, spec::Stacked};

use super::lock::replace;
use crate::{args::Costs, exit::Exit, failure::Failure, settings::Settings, ui};

/// Sees that every cost is accepted: by the option, by a lock whose profiles are the same to the byte, by an earlier
/// answer, or by the user at a terminal. All of them are listed only where one is not accepted yet.
///
/// # Errors
/// Exit 2 where no terminal can be asked at, exit 1 where the answer is no.
pub fn accept(args: &Costs, order: &Order, settings: &Settings) -> Result<(), Failure> {
    let costs = order.spec.costs();
    if costs.is_empty() {
        return Ok(());
    }
    let mut accepted = Accepted::read(&settings.state);
    let is_open = |(file, cost): &&(&Stacked, &str)| {
        !is_locked(order.locked.as_ref(), file) && !accepted.has(&file.name, cost)
    };
    let is_accepted = costs.iter().find(is_open).is_none();
    if is_accepted || args.accept_costs {
        match settings.json() {
            true => show(&costs, settings),
            false => ui::remark("costs", &brief(&costs)),
        }
    } else {
        show(&costs, settings);
        let question = "Accept what these profiles cost in isolation?";
        if !ui::confirm(question, settings.interactive, &format!("{} --accept-costs", settings.typed))? {
            return Err(Failure::said(Exit::UNAVAILABLE, "the costs were not accepted; nothing was made"));
        }
    }
    if !is_accepted {
        costs.iter().for_each(|(file, cost)| accepted.add(&file.name, cost));
        accepted.write().map_err(|error| {
            let path = accepted.path.display();
            Failure::said(Exit::HOST, format!("what was accepted cannot be written to {path}: {error}"))
        })?;
    }
    Ok(())
}

/// What was accepted before.
struct Accepted {
    path: PathBuf,
    costs: BTreeMap<String, BTreeSet<String>>,
}

impl Accepted {
    /// Reads what was accepted; a file that is missing or damaged is as one in which there is nothing: it is asked for
    /// again.
    fn read(state: &Path) -> Self {
        let path = state.join("costs.json");
        let text = fs::read(&path).unwrap_or_default();
        Self { costs: serde_json::from_slice(&text).unwrap_or_default(), path }
    }

    fn has(&self, profile: &str, cost: &str) -> bool {
        self.costs.get(profile).is_some_and(|costs| costs.contains(cost))
    }

    fn add(&mut self, profile: &str, cost: &str) {
        self.costs.entry(profile.to_owned()).or_default().insert(cost.to_owned());
    }

    fn write(&self) -> io::Result<()> {
        fs::create_dir_all(self.path.parent().unwrap_or(Path::new("/")))?;
        replace(&self.path, &serde_json::to_vec_pretty(&self.costs)?)
    }
}

/// A lock is a file that somebody wrote and read: its costs were shown when it was made.
fn is_locked(lock: Option<&Lock>, file: &Stacked) -> bool {
    lock.is_some_and(|lock| {
        lock.inputs.iter().any(|input| {
            input.kind == file.kind.word() && input.name == file.name && input.sha256 == file.digest
        })
    })
}

/// Counts costs in one line.
fn brief(costs: &[(&Stacked, &str)]) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for (file, _) in costs {
        match counts.last_mut() {
            Some((name, count)) if *name == file.name => *count += 1,
            _ => counts.push((&file.name, 1)),
        }
    }
    let names: Vec<_> = counts.iter().map(|(name, count)| format!("{name} ({count})")).collect();
    let first = counts.first().map_or("base", |(name, _)| name);
    format!("accepted: {}; `sandbox profile show {first}` lists them", names.join(", "))
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
    ui::notice(&listed(costs, ui::width()));
}

/// Lists costs by profile, wrapped to a width.
fn listed(costs: &[(&Stacked, &str)], width: usize) -> String {
    let mut text = String::new();
    let mut last = "";
    for (file, cost) in costs {
        if last != file.name {
            text += &format!("profile `{}` costs ({}):\n", file.name, file.origin);
            last = &file.name;
        }
        text += &ui::labelled("  - ", cost, width);
    }
    text
}
