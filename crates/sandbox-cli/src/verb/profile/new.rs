//! `sandbox profile new`: a file to begin with.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::Path,
};

use crate::{args::New, exit::Exit, failure::Failure, settings::Settings, ui};

/// The skeleton; `@NAME@` stands for the name.
const SKELETON: &str = include_str!("skeleton.toml");

/// Writes a profile that `check` has nothing against, with its schema beside it.
///
/// # Errors
/// Where the file is there already, or cannot be written.
pub fn run(args: &New, settings: &Settings) -> Result<Exit, Failure> {
    let name = &args.name;
    let plain =
        |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "-_.".contains(letter);
    if name.is_empty() || name.starts_with(['.', '-']) || !name.chars().all(plain) {
        let text = format!("`{name}` is no name for a profile: a-z, 0-9, `-`, `_`, `.`");
        return Err(Failure::said(Exit::USAGE, text));
    }
    let path = args.folder.join(format!("{name}.toml"));
    let failed = |error: std::io::Error| {
        let exit =
            if error.kind() == std::io::ErrorKind::AlreadyExists { Exit::UNAVAILABLE } else { Exit::HOST };
        Failure::said(exit, format!("{} cannot be made: {error}", path.display()))
    };
    fs::create_dir_all(&args.folder).map_err(failed)?;
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed)?;
    file.write_all(SKELETON.replace("@NAME@", name).as_bytes()).map_err(failed)?;
    let schema = args.folder.join("profile.schema.json");
    write_schema(&schema).map_err(failed)?;
    if settings.json() {
        ui::json(&serde_json::json!({"event": "written", "file": path, "schema": schema}));
    } else {
        ui::line(&path.display().to_string());
    }
    Ok(Exit::OK)
}

/// What editors look at: the `#:schema` line of the skeleton names it.
fn write_schema(path: &Path) -> std::io::Result<()> {
    let text = serde_json::to_string_pretty(sandbox_core::spec::schema::schema())?;
    fs::write(path, text + "\n")
}
