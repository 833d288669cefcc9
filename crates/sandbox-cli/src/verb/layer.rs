//! `sandbox layer`: what is kept of builds.

use std::path::{Path, PathBuf};

use sandbox_core::{
    error::Context as _,
    layer::{
        self,
        kept::{Layers, Listed, Needs},
    },
    machine::record::Records,
};

use super::{locked, machine::Host};
use crate::{
    args::Layer,
    exit::Exit,
    failure::Failure,
    settings::Settings,
    table::{Cell, Column, Table},
    ui,
};

/// Runs a verb of layers.
///
/// # Errors
/// What the user is to be told.
pub fn run(verb: &Layer, settings: &Settings) -> Result<Exit, Failure> {
    settings.need_root("layer")?;
    // what dead builders left is not for anyone to see
    Host::new(settings).machines()?;
    let layers = Layers::new(&settings.state);
    match verb {
        Layer::List => {
            let listed = layers.list(&needs(&[], settings)?).during("list", "the layers")?;
            show(&listed, settings);
        }
        Layer::Remove { layers: wanted, keep } => {
            let needs = needs(&keep.keep_lock, settings)?;
            for wanted in wanted {
                let subject = format!("layer `{wanted}`");
                let made = layers.find(wanted).during("remove", subject.clone())?;
                layers.remove(&made, &needs).during("remove", subject)?;
            }
        }
        Layer::Prune { older_than, dry_run, keep } => {
            let before = match older_than {
                Some(text) => settings.now - seconds(text)?,
                None => i64::MAX,
            };
            let needs = needs(&keep.keep_lock, settings)?;
            let gone = layers.prune(&needs, before, *dry_run).during("prune", "the layers")?;
            said(&gone, *dry_run, settings);
        }
    }
    Ok(Exit::OK)
}

/// Gathers who needs which layers: machines, the locks that they were made from, and locks that are named.
fn needs(locks: &[PathBuf], settings: &Settings) -> Result<Needs, Failure> {
    let mut needs = Needs::default();
    for record in Records::new(&settings.state).list().during("read", "the machines' records")? {
        needs.add(&format!("machine `{}`", record.definition.name), record.layers);
    }
    let noted =
        Layers::new(&settings.state).noted_locks().during("read", "the locks that were built from")?;
    for uses in noted {
        needs.add(&format!("lock {}", uses.path.display()), uses.layers);
    }
    for path in locks {
        needs.add(&format!("lock {}", path.display()), of_lock(path, settings)?);
    }
    Ok(needs)
}

/// Names the layers that a machine of a lock is made of.
fn of_lock(path: &Path, settings: &Settings) -> Result<Vec<layer::kept::Id>, Failure> {
    let lock = locked::read(path)?;
    let mut profiles = vec!["base".to_owned()];
    profiles.extend(lock.asked.profiles.iter().cloned());
    let order = locked::order(&lock, &crate::args::Build::default(), None, &profiles, None, settings)?;
    Ok(layer::ids(&order, &lock).into_iter().map(|named| named.id).collect())
}

fn show(listed: &[Listed], settings: &Settings) {
    if settings.json() {
        let values: Vec<_> = listed
            .iter()
            .map(|one| {
                serde_json::json!({
                    "id": one.made.id, "kind": one.made.kind, "name": one.made.name, "image": one.made.image,
                    "parent": one.made.parent, "bytes": one.made.bytes, "disk": one.disk,
                    "paths": one.made.paths, "created": one.made.created, "used_by": one.used_by,
                    "children": one.children,
                })
            })
            .collect();
        return ui::json(&values);
    }
    let rows: Vec<_> = listed
        .iter()
        .map(|one| {
            let made = &one.made;
            vec![
                Cell::from(made.id.short()),
                (&made.kind).into(),
                (&made.name).into(),
                made.parent.map_or_else(|| "-".to_owned(), |parent| parent.short()).into(),
                size(made.bytes).into(),
                age(settings.now - made.created).into(),
                if one.used_by.is_empty() { "-".into() } else { one.used_by.join(", ").into() },
            ]
        })
        .collect();
    let columns = [
        Column::new("ID"),
        Column::new("KIND").rank(4),
        Column::new("NAME"),
        Column::new("ON").rank(3),
        Column::new("ADDS").rank(1),
        Column::new("AGE").rank(2),
        Column::new("USED BY").wrap(),
    ];
    ui::table(&Table::new(&columns, rows));
}

fn said(gone: &[Listed], dry: bool, settings: &Settings) {
    let bytes: u64 = gone.iter().map(|one| one.made.bytes).sum();
    if settings.json() {
        let ids: Vec<_> = gone.iter().map(|one| one.made.id).collect();
        return ui::json(&serde_json::json!({ "removed": ids, "bytes": bytes, "dry_run": dry }));
    }
    for one in gone {
        ui::line(&format!(
            "{}  {} `{}`  {}",
            one.made.id.short(),
            one.made.kind,
            one.made.name,
            size(one.made.bytes)
        ));
    }
    let verb = if dry { "would be removed" } else { "removed" };
    ui::line(&format!(
        "{} layer{} {verb}, {}",
        gone.len(),
        if gone.len() == 1 { "" } else { "s" },
        size(bytes)
    ));
}

/// Gives bytes in a unit.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{} kB", bytes.div_ceil(1000)),
        1_000_000..1_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{}.{} GB", bytes / 1_000_000_000, bytes / 100_000_000 % 10),
    }
}

/// Gives a length of time in its largest unit.
pub fn age(seconds: i64) -> String {
    match seconds {
        ..60 => "now".to_owned(),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Reads a length of time: `90s`, `30m`, `12h`, `7d`, `4w`.
fn seconds(text: &str) -> Result<i64, Failure> {
    let wrong = || Failure::said(Exit::USAGE, format!("`{text}` is no length of time; 12h, 7d and 4w are"));
    let unit = text.chars().last().ok_or_else(wrong)?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return Err(wrong()),
    };
    let number: i64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    number.checked_mul(factor).filter(|seconds| *seconds >= 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read() {
        for (text, expected) in [("90s", 90), ("2m", 120), ("12h", 43_200), ("7d", 604_800), ("1w", 604_800)]
        {
            assert_eq!(seconds(text).ok(), Some(expected), "{text}");
        }
        for text in ["", "7", "d", "-1d", "7 d", "99999999999999999999w", "7y"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
