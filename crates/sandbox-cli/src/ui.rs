//! Everything that people and programs read of this one: lines, tables, JSON, notices, questions.
//!
//! Names of machines, files and units, words of packages, of guests and of servers are in what is printed. So all of
//! it passes through here, and here alone is written to a terminal: control characters, which would move its cursor,
//! change its title or fill its clipboard, come out as `\u001b`. The test `ui_alone_prints` reads the sources for
//! other ways. What a payload, a console or a copied file gives is passed on unchanged, and never through here.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use rustix::termios::tcgetwinsize;

use crate::{
    exit::Exit,
    failure::Failure,
    settings::{Settings, variable},
    table::{self, Cell, Room, Table, Tone},
};

/// How wide a terminal is that does not say so.
const USUAL: usize = 80;

/// Escapes what would change a terminal rather than be shown on it, but for the ends of lines and tabulators.
///
/// Also what turns the direction of text around, so that a name is not shown as another one. The form is that of JSON,
/// in which the characters occur within strings only, so that JSON stays the same value.
///
/// **Source**: ECMA-48; Unicode UAX #9, explicit directional characters.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' | '\t' => shown.push(letter),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => shown.push_str(&escaped(letter)),
            letter if letter.is_control() => shown.push_str(&escaped(letter)),
            letter => shown.push(letter),
        }
    }
    shown
}

/// Escapes also the ends of lines and tabulators: for a word that must stay within its line.
pub fn word(text: &str) -> String {
    printable(text).replace('\n', "\\n").replace('\t', " ")
}

fn escaped(letter: char) -> String {
    format!("\\u{:04x}", u32::from(letter))
}

/// Prints a line on stdout; a closed pipe is no error.
pub fn line(text: &str) {
    let _ = writeln!(io::stdout(), "{}", printable(text));
}

/// Passes a line on that another program gave, for as long as it is wanted.
///
/// # Errors
/// Where stdout is closed: then what gives the lines is to end.
pub fn passed_on(text: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{}", printable(text))
}

/// Passes on what another process of this program printed, which escaped it.
pub fn passed_through(out: &[u8], err: &[u8]) {
    let _ = io::stdout().write_all(out);
    let _ = io::stderr().write_all(err);
}

/// Prints a text on stdout.
pub fn text(text: &str) {
    let _ = write!(io::stdout(), "{}", printable(text));
}

/// Prints a text for people on stderr.
pub fn notice(text: &str) {
    let _ = write!(io::stderr(), "{}", printable(text));
}

/// Gives the width of the terminal that stderr is, in columns; 80 where it is none.
pub fn width() -> usize {
    tcgetwinsize(io::stderr()).map_or(USUAL, |size| match size.ws_col {
        0 => USUAL,
        columns => usize::from(columns),
    })
}

/// Wraps a text between words, its first line behind a label and the others below its start.
pub fn labelled(label: &str, text: &str, width: usize) -> String {
    let indent = label.chars().count();
    let lines = table::wrapped(text, width.saturating_sub(indent)).into_iter().enumerate();
    lines.map(|(at, line)| format!("{:indent$}{line}\n", if at == 0 { label } else { "" })).collect()
}

/// Prints an error with its causes and hints on stderr. Of its lines those of foreign words are indented.
pub fn failure(text: &str) {
    if !(io::stderr().is_terminal() && wants_colors()) {
        return notice(text);
    }
    let line = |line: &str| {
        let labels = [("error:", Tone::Bad), ("hint:", Tone::Hint)];
        let found = labels.iter().find_map(|(label, tone)| Some((label, tone, line.strip_prefix(label)?)));
        match found {
            Some((label, tone, rest)) => format!("{}{}\n", tone.paint(label), printable(rest)),
            None => format!("{}\n", printable(line)),
        }
    };
    let painted: String = text.lines().map(line).collect();
    let _ = io::stderr().write_all(painted.as_bytes());
}

/// Prints what came of a thing on stderr, the lines of its text below each other, so that none of them passes for
/// another message.
pub fn remark(label: &str, text: &str) {
    let tone = if label == "warning" { Tone::Uneasy } else { Tone::Plain };
    let colors = io::stderr().is_terminal() && wants_colors();
    let padded = format!("{:>12}", printable(label));
    let padded = if colors { tone.paint(&padded) } else { padded };
    let mut lines = text.lines();
    let first = printable(lines.next().unwrap_or_default());
    let _ = writeln!(io::stderr(), "{padded}  {first}");
    lines.for_each(|line| notice(&format!("{:>12}  {line}\n", "")));
}

/// Clears the terminal that stdout is.
pub fn clear() {
    let _ = io::stdout().write_all(b"\x1b[H\x1b[2J");
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

/// Prints a table, as wide as the terminal that stdout is.
pub fn table(table: &Table) {
    for line in table.lines(room()) {
        // its cells are escaped, and its colours are not to be
        let _ = writeln!(io::stdout(), "{line}");
    }
}

/// Prints what is known of one thing, a line for each key; a value that is too long goes on below itself.
pub fn fields(fields: &[(&str, Cell)]) {
    for line in table::fields(fields, room()) {
        let _ = writeln!(io::stdout(), "{line}");
    }
}

/// Prints what was found of something, with a mark in front; what is too long goes on below itself.
pub fn finding((mark, tone): (&str, Tone), of: &str, found: &str) {
    let Room { width, colors } = room();
    let indent = 24;
    let width = width.map_or(usize::MAX, |width| width.saturating_sub(indent).max(table::PROSE));
    let padded = format!("{mark:>4}");
    let padded = if colors { tone.paint(&padded) } else { padded };
    let mut lines = printable(found).lines().flat_map(|line| table::wrapped(line, width)).collect::<Vec<_>>();
    let first = if lines.is_empty() { String::new() } else { lines.remove(0) };
    let _ = writeln!(io::stdout(), "{padded}  {:<17} {first}", word(of));
    lines.iter().for_each(|line| {
        let _ = writeln!(io::stdout(), "{:indent$}{line}", "");
    });
}

/// Returns how much room stdout has.
fn room() -> Room {
    let stdout = io::stdout();
    let terminal = stdout.is_terminal();
    let width = terminal.then(|| tcgetwinsize(stdout).map_or(0, |size| size.ws_col));
    // one that does not say how wide it is has a width that any has
    let width = width.map(|width| if width == 0 { USUAL } else { usize::from(width) });
    Room { width, colors: terminal && wants_colors() }
}

/// Reports whether colours are welcome on a terminal.
///
/// **Source**: no-color.org; terminfo(5), `dumb`.
fn wants_colors() -> bool {
    variable("NO_COLOR").is_none() && variable("TERM").is_some_and(|term| term != "dumb")
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
    notice(&format!("{question} [y/N] "));
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Failure::said(Exit::USAGE, format!("the answer cannot be read: {error}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_moves_a_terminal_is_shown() {
        let name = "esc\u{1b}]52;c;cHduZWQ=\u{7}\u{7f}\u{9b}2J\u{202e}\r\u{8}";
        let shown = printable(name);
        assert!(!shown.chars().any(|letter| letter.is_control() || letter == '\u{202e}'), "{shown}");
        assert_eq!(printable("a\tb\nc \u{e4}\u{65e5}"), "a\tb\nc \u{e4}\u{65e5}");
        assert_eq!(word("a\nb\tc"), "a\\nb c");
    }

    #[test]
    fn a_label_stands_before_the_first_line_alone() {
        for (text, width, lines) in [
            ("one two three", 80, "- one two three\n"),
            ("one two three", 9, "- one two\n  three\n"),
            ("incomprehensible it is", 8, "- incomprehensible\n  it is\n"),
        ] {
            assert_eq!(labelled("- ", text, width), lines, "{text:?} in {width}");
        }
    }

    #[test]
    fn json_stays_the_same_value() {
        let value = serde_json::json!({"name": "a\u{1b}\u{7f}\u{9b}\u{202e}\n\\", "more": ["\u{85}"]});
        for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            let shown = printable(&text);
            assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
            assert!(!shown.contains(|letter: char| letter.is_control() && letter != '\n'), "{shown}");
        }
    }
}
