//! `sandbox profile check`: everything that is wrong with files or folders of profiles, for CI.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sandbox_core::spec::{Source, lint};

use crate::{exit::Exit, failure::Failure, settings::Settings, ui};

/// Checks files and folders; without any, `./profiles`.
///
/// # Errors
/// Where one cannot be read.
pub fn run(paths: &[PathBuf], settings: &Settings) -> Result<Exit, Failure> {
    let here = [PathBuf::from("profiles")];
    let paths = if paths.is_empty() { &here[..] } else { paths };
    let mut files = Vec::new();
    for path in paths {
        files.extend(files_of(path)?);
    }
    let sources = files.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let found = lint::lint(&sources, &settings.catalogue());
    if settings.json() {
        ui::json(&serde_json::json!({"files": sources.len(), "problems": found}));
    } else {
        for finding in &found {
            ui::line(&format!("{}:{}: {}", finding.file, finding.line, finding.problem));
        }
        if found.is_empty() {
            ui::line(&format!("{} files, nothing wrong", sources.len()));
        }
    }
    Ok(if found.is_empty() { Exit::OK } else { Exit::FILE })
}

fn files_of(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error: std::io::Error| {
        Failure::said(Exit::FILE, format!("{} cannot be read: {error}", path.display()))
            .hint("make a profile", "sandbox profile new NAME")
    };
    if !fs::metadata(path).map_err(failed)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files: Vec<_> = fs::read_dir(path)
        .map_err(failed)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "toml") && path.is_file())
        .collect();
    files.sort();
    if files.is_empty() {
        return Err(Failure::said(Exit::FILE, format!("{} has no .toml files", path.display()))
            .hint("make a profile", "sandbox profile new NAME"));
    }
    Ok(files)
}

fn read(path: PathBuf) -> Result<Source, Failure> {
    let origin = path.display().to_string();
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Source { origin, text, path: Some(path) }),
        Err(error) => Err(Failure::said(Exit::FILE, format!("{origin} cannot be read: {error}"))),
    }
}
