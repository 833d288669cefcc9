//! `sandbox man`: manual pages, made of the help and of the profile format's reference.

mod format;
mod page;

use std::{fs, path::Path};

use sandbox_core::spec;

use crate::{exit::Exit, failure::Failure, help};

/// Prints the page of the program, or writes those of every verb and of the profile format into a directory.
///
/// # Errors
/// Where one cannot be written.
pub fn run(folder: Option<&Path>) -> Result<Exit, Failure> {
    let failed = |error| Failure::said(Exit::HOST, format!("the page cannot be written: {error}"));
    let mut command = help::command();
    command.build();
    match folder {
        None => page::write(&command, "sandbox", &mut std::io::stdout()).map_err(failed)?,
        Some(folder) => {
            fs::create_dir_all(folder).map_err(failed)?;
            pages(&command, "sandbox", folder).map_err(failed)?;
            let text = format::profile(&spec::schema::reference());
            fs::write(folder.join("sandbox-profile.5"), text).map_err(failed)?;
        }
    }
    Ok(Exit::OK)
}

fn pages(command: &clap::Command, name: &str, folder: &Path) -> std::io::Result<()> {
    let mut text = Vec::new();
    page::write(command, name, &mut text)?;
    fs::write(folder.join(format!("{name}.1")), text)?;
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        pages(verb, &format!("{name}-{}", verb.get_name()), folder)?;
    }
    Ok(())
}
