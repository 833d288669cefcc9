//! `sandbox profile`: what can be asked for, where each value comes from, whether it is right.

mod check;
mod new;
mod show;

use sandbox_core::spec::{self, Kind};

use crate::{
    args::ProfileVerb,
    exit::Exit,
    failure::Failure,
    settings::Settings,
    table::{Cell, Column, Table},
    ui,
};

/// Runs a verb of profiles.
///
/// # Errors
/// What the user is to be told.
pub fn run(verb: &ProfileVerb, settings: &Settings) -> Result<Exit, Failure> {
    match verb {
        ProfileVerb::List => list(settings),
        ProfileVerb::Show(args) => show::run(args, settings),
        ProfileVerb::Check { paths } => check::run(paths, settings),
        ProfileVerb::New(args) => new::run(args, settings),
        ProfileVerb::Schema { reference } => {
            if *reference {
                ui::text(&spec::schema::reference());
            } else {
                ui::json(spec::schema::schema());
            }
            Ok(Exit::OK)
        }
    }
}

/// Lists images and profiles with their summaries.
///
/// # Errors
/// Where a file is wrong.
pub fn list(settings: &Settings) -> Result<Exit, Failure> {
    use sandbox_core::error::Context as _;
    let catalogue = settings.catalogue();
    let mut rows = Vec::new();
    let mut values = Vec::new();
    for kind in [Kind::Image, Kind::Profile] {
        for name in catalogue.names(kind) {
            let (source, layer) =
                catalogue.layer(kind, &name).during("read", format!("{} `{name}`", kind.word()))?;
            values.push(serde_json::json!({
                "kind": kind.word(), "name": name, "summary": layer.summary, "requires": layer.requires,
                "costs": layer.costs, "origin": source.origin,
                "hides_built_in": catalogue.hides(kind, &name, &source.origin),
            }));
            let place = source.path.map_or_else(|| "built-in".to_owned(), |path| path.display().to_string());
            rows.push(vec![kind.word().into(), name.into(), place.into(), Cell::from(layer.summary)]);
        }
    }
    if settings.json() {
        ui::json(&values);
    } else {
        let columns = [
            Column::new("KIND").rank(1),
            Column::new("NAME"),
            Column::new("FROM").cut().rank(2),
            Column::new("SUMMARY").wrap(),
        ];
        ui::table(&Table::new(&columns, rows));
    }
    Ok(Exit::OK)
}
