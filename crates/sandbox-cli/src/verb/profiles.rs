//! `sandbox profiles`: what can be asked for.

use sandbox_core::spec::Kind;

use crate::{catalogue::catalogue, exit::Exit, failure::Failure, settings::Settings, ui};

/// Lists images and profiles with their summaries.
///
/// # Errors
/// Where a file is wrong.
pub fn run(settings: &Settings) -> Result<Exit, Failure> {
    use sandbox_core::error::Context as _;
    let catalogue = catalogue(settings.home.as_ref());
    let mut rows = Vec::new();
    let mut values = Vec::new();
    for kind in [Kind::Image, Kind::Profile] {
        for name in catalogue.names(kind) {
            let (source, layer) =
                catalogue.layer(kind, &name).during("read", format!("{} `{name}`", kind.word()))?;
            values.push(serde_json::json!({
                "kind": kind.word(), "name": name, "summary": layer.summary, "requires": layer.requires,
                "costs": layer.costs, "origin": source.origin,
            }));
            rows.push(vec![kind.word().to_owned(), name, layer.summary]);
        }
    }
    if settings.json() {
        ui::json(&values);
    } else {
        ui::table(&["KIND", "NAME", "SUMMARY"], &rows);
    }
    Ok(Exit::OK)
}
