//! `sandbox man`: manual pages, made of the help and of the profile format's reference.

mod format;
mod page;

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use sandbox_core::spec;

use crate::{
    exit::Exit,
    failure::Failure,
    help,
    settings::{Settings, variable},
};

/// Shows the page of the program at a terminal, prints it elsewhere, or writes those of every verb and of the profile
/// format into a directory.
///
/// # Errors
/// Where one cannot be written.
pub fn run(folder: Option<&Path>, settings: &Settings) -> Result<Exit, Failure> {
    let failed = |error| Failure::said(Exit::HOST, format!("the page cannot be written: {error}"));
    let mut command = help::command();
    command.build();
    match folder {
        None if settings.interactive => show(&command).map_err(failed)?,
        None => page::write(&command, "sandbox", &mut io::stdout()).map_err(failed)?,
        Some(folder) => {
            fs::create_dir_all(folder).map_err(failed)?;
            pages(&command, "sandbox", folder).map_err(failed)?;
            let text = format::profile(&spec::schema::reference());
            fs::write(folder.join("sandbox-profile.5"), text).map_err(failed)?;
        }
    }
    Ok(Exit::OK)
}

/// Has man(1) show the page; where the host has none, a pager shows the help, which is the same text.
fn show(command: &clap::Command) -> io::Result<()> {
    let mut page = Vec::new();
    page::write(command, "sandbox", &mut page)?;
    if given(&["man", "-l", "-"], &page)? {
        return Ok(());
    }
    let help = command.clone().render_long_help().to_string();
    let asked = ["MANPAGER", "PAGER"].iter().find_map(|name| variable(name));
    let by_shell = asked.as_deref().map(|pager| ["sh", "-c", pager]);
    let shown = match &by_shell {
        Some(argv) => given(argv, help.as_bytes())?,
        None => given(&["less"], help.as_bytes())?,
    };
    if shown { Ok(()) } else { io::stdout().write_all(help.as_bytes()) }
}

/// Runs a program on a text; returns whether the host has it and it worked.
#[expect(clippy::disallowed_methods, reason = "the terminal is the program's until it ends")]
fn given(argv: &[&str], text: &[u8]) -> io::Result<bool> {
    let mut child = match Command::new(argv[0]).args(&argv[1..]).stdin(Stdio::piped()).spawn() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other?,
    };
    // one that is left before the end reads no more
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(text));
    drop(written);
    Ok(child.wait()?.success())
}

fn pages(command: &clap::Command, name: &str, folder: &Path) -> io::Result<()> {
    let mut text = Vec::new();
    page::write(command, name, &mut text)?;
    fs::write(folder.join(format!("{name}.1")), text)?;
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        pages(verb, &format!("{name}-{}", verb.get_name()), folder)?;
    }
    Ok(())
}
