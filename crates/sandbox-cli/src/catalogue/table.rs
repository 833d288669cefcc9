//! The table of `docs/guide/catalogue.md`, which is made of the profiles.

use std::path::PathBuf;

use sandbox_core::spec::{Catalogue, Kind, Layer, VolumeKind, stack};

use super::EMBEDDED;

/// The line after which the table stands.
const MARK: &str = "what stands below is its. -->\n";

fn cell(lines: &[String]) -> String {
    lines.iter().map(|line| line.replace('|', "\\|")).collect::<Vec<_>>().join("<br>")
}

fn row(layer: &Layer) -> String {
    let brings: Vec<String> =
        layer.requires.iter().filter(|name| *name != "base").map(|name| format!("`{name}`")).collect();
    let listens = layer.ports.iter().map(|port| {
        let protocol = format!("{:?}", port.protocol).to_lowercase();
        format!("{}:{}/{protocol}, {}", port.address, port.port, port.what)
    });
    let state = layer.volumes.iter().map(|volume| {
        let kind = match volume.kind {
            VolumeKind::Auth => "auth",
            VolumeKind::Home => "home",
            VolumeKind::Cache => "cache",
        };
        format!("`{}` ({kind})", volume.path.display())
    });
    [
        format!("`{}`", layer.name),
        layer.summary.clone(),
        brings.join(" "),
        cell(&layer.costs),
        cell(&listens.collect::<Vec<_>>()),
        cell(&state.collect::<Vec<_>>()),
        cell(&from(layer)),
    ]
    .join(" | ")
}

/// Where a profile's parts come from.
fn from(layer: &Layer) -> Vec<String> {
    let mut from = Vec::new();
    let packages = &layer.packages;
    if !packages.install.is_empty() || !packages.if_available.is_empty() {
        from.push("archive".to_owned());
    }
    from.extend(layer.npm.iter().map(|part| format!("npm `{}`", part.package)));
    from.extend(layer.python.iter().map(|part| format!("PyPI `{}`", part.package)));
    from.extend(layer.download.iter().map(|part| {
        let otherwise = part
            .unless
            .as_ref()
            .map_or_else(String::new, |name| format!(" where there is no package `{name}`"));
        let host = part.url.split('/').nth(2).unwrap_or_default();
        format!("vendor `{}` ({host}){otherwise}", part.name)
    }));
    from.extend(layer.git.iter().map(|part| format!("git {}", part.url)));
    from
}

fn table() -> String {
    let catalogue = Catalogue { folders: Vec::new(), embedded: EMBEDDED };
    let mut table = "\n| profile | what it is | brings | costs | listens on | state | from |\n\
                     |---|---|---|---|---|---|---|\n"
        .to_owned();
    for name in catalogue.names(Kind::Profile) {
        let spec = stack(&catalogue, "trixie", std::slice::from_ref(&name)).unwrap();
        let file = spec.files.iter().find(|file| file.kind == Kind::Profile && file.name == name).unwrap();
        table += &format!("| {} |\n", row(&file.layer));
    }
    table
}

/// Where the guide says something else than the profiles, its table is written anew, and the test fails once.
#[test]
fn the_guide_has_the_table_of_the_profiles() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/catalogue.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let at = text.find(MARK).unwrap() + MARK.len();
    let wanted = format!("{}{}", &text[..at], table());
    if text != wanted {
        std::fs::write(&path, wanted).unwrap();
        panic!("docs/guide/catalogue.md was not what the profiles say; it is now: look at it and commit it");
    }
}
