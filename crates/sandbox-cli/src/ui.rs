//! Results on stdout: tables, JSON, a question.

use std::io::{self, BufRead as _, Write as _};

use crate::{exit::Exit, failure::Failure, settings::Settings};

/// Prints a line on stdout; a closed pipe is no error.
pub fn line(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// Prints a text on stdout as it is.
pub fn text(text: &str) {
    let _ = write!(io::stdout(), "{text}");
}

/// Prints a value as JSON on stdout.
pub fn json(value: &impl serde::Serialize) {
    if let Ok(text) = serde_json::to_string_pretty(value) {
        line(&text);
    }
}

/// Prints what a verb did, where results are asked for as JSON: for people its silence says enough.
pub fn done(settings: &Settings, value: &serde_json::Value) {
    if settings.json() {
        line(&value.to_string());
    }
}

/// Prints a table with a head, columns as wide as their widest cell.
pub fn table(head: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(head.get(column).map(|cell| cell.len())).max().unwrap_or(0)
    };
    let print = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<_> =
            cells.enumerate().map(|(at, cell)| format!("{cell:<w$}", w = width(at))).collect();
        line(padded.join("  ").trim_end());
    };
    print(&mut head.iter().copied());
    for row in rows {
        print(&mut row.iter().map(String::as_str));
    }
}

/// Asks a question that only a typed `y` answers with yes.
///
/// # Errors
/// Where nobody can be asked.
pub fn confirm(question: &str, interactive: bool, command: &str) -> Result<bool, Failure> {
    if !interactive {
        return Err(Failure::said(Exit::USAGE, format!("{question} Nobody can be asked here"))
            .hint("say so beforehand", command));
    }
    let _ = write!(io::stderr(), "{question} [y/N] ");
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Failure::said(Exit::USAGE, format!("the answer cannot be read: {error}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
