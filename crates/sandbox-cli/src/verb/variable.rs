//! Variables that are given on a command line: which may be.

use sandbox_core::{
    machine::life::Machines,
    name::MachineName,
    spec::{self, Kind, Layer, secrets},
};

use crate::{exit::Exit, failure::Failure, settings::Settings};

/// Reads KEY=VALUE. A secret is refused: a command line is in the host's list of processes and in the shell's history,
/// and what `set` is given every user of the machine can read. No error shows a value.
///
/// # Errors
/// Exit 2 where it is not of this form, or looks like a secret.
pub fn read(pair: &str, machine: &str) -> Result<(String, String), Failure> {
    let Some((key, value)) = pair.split_once('=') else {
        let text =
            if spec::is_variable(pair) { format!("`--env {pair}` has no `=VALUE`") } else { wrong(pair) };
        return Err(Failure::said(Exit::USAGE, text));
    };
    if !spec::is_variable(key) || value.contains('\0') {
        return Err(Failure::said(Exit::USAGE, wrong(key)));
    }
    let why = if secrets::names_a_secret(key) {
        "is the name of a secret"
    } else if secrets::is_a_token(value) {
        "has a token as its value"
    } else {
        return Ok((key.to_owned(), value.to_owned()));
    };
    let text = format!("`{key}` {why}, and `--env` shows it to every user of this host and of the machine");
    Err(Failure::said(Exit::USAGE, text)
        .hint("have its value read from standard input", format!("sandbox secret set {machine} {key}")))
}

/// Reads KEY=VALUE for the files of a machine, where a value is in one line.
///
/// # Errors
/// As [`read`].
pub fn read_line(pair: &str, machine: &str) -> Result<(String, String), Failure> {
    let (key, value) = read(pair, machine)?;
    if value.contains('\n') { Err(Failure::said(Exit::USAGE, wrong(&key))) } else { Ok((key, value)) }
}

/// Refuses what a profile of the machine says that it cannot bear; a profile that is not found any more says nothing.
///
/// # Errors
/// Exit 2 with the profile's reason.
pub fn check(
    machines: &Machines<'_>,
    name: &MachineName,
    variables: &[(String, String)],
    settings: &Settings,
) -> Result<(), Failure> {
    let profiles = machines.records.read(name).map(|record| record.profiles).unwrap_or_default();
    if variables.is_empty() {
        return Ok(());
    }
    for profile in profiles {
        if let Ok((_, layer)) = settings.catalogue().layer(Kind::Profile, &profile) {
            allowed(variables, &layer)?;
        }
    }
    Ok(())
}

/// Refuses what a profile says that it cannot bear.
///
/// # Errors
/// Exit 2 with the profile's reason.
pub fn allowed(variables: &[(String, String)], profile: &Layer) -> Result<(), Failure> {
    let refused = variables.iter().find_map(|(key, _)| Some((key, profile.refuses.get(key)?)));
    refused.map_or(Ok(()), |(key, reason)| {
        let name = &profile.name;
        let text = format!("`{key}` breaks profile `{name}`: {reason}");
        Err(Failure::said(Exit::USAGE, text)
            .hint("see what the profile refuses", format!("sandbox profile show {name}")))
    })
}

fn wrong(key: &str) -> String {
    format!("`--env {}` is not KEY=VALUE in one line", key.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_refused_and_not_shown() {
        let token = format!("{}{}", "ghp", "_aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5");
        for (pair, word) in [
            ("OPENAI_API_KEY=s3cret", "sandbox secret set agents OPENAI_API_KEY"),
            (&format!("WORD={token}"), "sandbox secret set agents WORD"),
            ("A B=s3cret", "is not KEY=VALUE"),
            ("WORD", "`--env WORD` has no `=VALUE`"),
        ] {
            let failure = read(pair, "agents").unwrap_err();
            let text = failure.text();
            assert!(text.contains(word) && failure.exit() == Exit::USAGE, "{pair}: {text}");
            assert!(!text.contains("s3cret") && !text.contains(&token), "{text}");
        }
        let failure = read_line("A=s3cret\nb", "agents").unwrap_err();
        assert!(!failure.text().contains("s3cret"));
        assert_eq!(read("WORD=a=b", "agents").unwrap(), ("WORD".to_owned(), "a=b".to_owned()));
    }
}
