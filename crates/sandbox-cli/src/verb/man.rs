//! `sandbox man`: manual pages, made of the help.

use std::{fs, path::Path};

use clap::CommandFactory as _;

use crate::{args::Cli, exit::Exit, failure::Failure};

/// Prints the page of the program, or writes those of every verb into a folder.
///
/// # Errors
/// Where one cannot be written.
pub fn run(folder: Option<&Path>) -> Result<Exit, Failure> {
    let failed = |error| Failure::said(Exit::HOST, format!("the page cannot be written: {error}"));
    let mut command = Cli::command();
    match folder {
        None => clap_mangen::Man::new(command).render(&mut std::io::stdout()).map_err(failed)?,
        Some(folder) => {
            command.build();
            fs::create_dir_all(folder).map_err(failed)?;
            pages(&command, "sandbox", folder).map_err(failed)?;
        }
    }
    Ok(Exit::OK)
}

fn pages(command: &clap::Command, name: &str, folder: &Path) -> std::io::Result<()> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone().display_name(name)).title(name).render(&mut page)?;
    fs::write(folder.join(format!("{name}.1")), page)?;
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        pages(verb, &format!("{name}-{}", verb.get_name()), folder)?;
    }
    Ok(())
}
