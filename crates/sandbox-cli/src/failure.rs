//! Prints an error: what could not be done, why, and what to do next.

use std::{error::Error as StdError, fmt::Write as _};

use sandbox_core::{Error, Hint};

use crate::{exit::Exit, ui};

/// What ends a verb early.
#[derive(Debug)]
pub enum Failure {
    /// An error of the core.
    Core(Error),
    /// A word to the user and the code that goes with it.
    Said {
        /// Completes "error: ".
        text: String,
        /// What to do next.
        hints: Vec<Hint>,
        /// How the program ends.
        exit: Exit,
    },
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Core(error)
    }
}

impl Failure {
    /// Makes a failure of a sentence of the command line's own.
    pub fn said(exit: Exit, text: impl Into<String>) -> Self {
        Self::Said { text: text.into(), hints: Vec::new(), exit }
    }

    /// Adds a command that helps.
    #[must_use]
    pub fn hint(mut self, purpose: &str, command: impl Into<String>) -> Self {
        if let Self::Said { hints, .. } = &mut self {
            hints.push(Hint::run(purpose, command));
        }
        self
    }

    /// Gives the exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Core(error) => Exit::of(error.class()),
            Self::Said { exit, .. } => *exit,
        }
    }

    /// Returns the error and its causes in one line.
    pub fn sentence(&self) -> String {
        match self {
            Self::Core(error) => error.sentence(),
            Self::Said { text, .. } => text.clone(),
        }
    }

    /// Returns the text for a terminal, as [`ui::notice`] prints it.
    pub fn text(&self) -> String {
        match self {
            Self::Core(error) => chain(error),
            Self::Said { text, hints: all, .. } => {
                let mut out = format!("error: {text}\n");
                hints(&mut out, all);
                out
            }
        }
    }

    /// Gives the same as one JSON object.
    pub fn json(&self) -> serde_json::Value {
        let (message, because, hints): (String, Vec<String>, Vec<Hint>) = match self {
            Self::Core(error) => (error.to_string(), causes(error), error.hints()),
            Self::Said { text, hints, .. } => (text.clone(), Vec::new(), hints.clone()),
        };
        let hints: Vec<_> = hints
            .iter()
            .map(|hint| match hint {
                Hint::Run { purpose, command } => serde_json::json!({"purpose": purpose, "command": command}),
                Hint::Note(note) => serde_json::json!({ "note": note }),
            })
            .collect();
        serde_json::json!({
            "event": "error", "message": message, "because": because, "hints": hints, "exit": self.exit().0,
        })
    }
}

fn causes(error: &dyn StdError) -> Vec<String> {
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    causes
}

fn chain(error: &Error) -> String {
    let mut out = format!("error: {}\n", ui::word(&error.to_string()));
    for cause in causes(error) {
        let mut lines = cause.lines();
        let _ = writeln!(out, "  because {}", lines.next().unwrap_or_default());
        for line in lines {
            let _ = writeln!(out, "    {line}");
        }
    }
    hints(&mut out, &error.hints());
    out
}

fn hints(out: &mut String, hints: &[Hint]) {
    if !hints.is_empty() {
        out.push('\n');
    }
    for hint in hints {
        let _ = match hint {
            Hint::Run { purpose, command } => {
                writeln!(out, "hint: {}:  {}", ui::word(purpose), ui::word(command))
            }
            Hint::Note(note) => writeln!(out, "hint: {}", ui::word(note)),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_next_command() {
        let failure = Failure::said(Exit::HOST, "`sandbox create` needs root")
            .hint("run it as root", "sudo sandbox create");
        assert_eq!(
            failure.text(),
            "error: `sandbox create` needs root\n\nhint: run it as root:  sudo sandbox create\n"
        );
        assert_eq!(failure.exit(), Exit(6));
    }
}
