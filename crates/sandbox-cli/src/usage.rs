//! Command lines that cannot be read: what was probably meant, by the words that other tools use and then by letters.

use std::ffi::{OsStr, OsString};

use clap::{
    Command, CommandFactory as _,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::{args::Cli, exit::Exit, failure::Failure, settings};

/// Words of docker, podman, incus, lxc, lima, multipass, vagrant, virsh, machinectl and git for what a verb here does.
const VERBS: &[(&str, &[&str])] = &[
    ("add", &["create"]),
    ("apply", &["set", "create"]),
    ("attach", &["shell", "console"]),
    ("autostart", &["enable"]),
    ("backup", &["export", "snapshot create"]),
    ("bash", &["shell"]),
    ("bind", &["mount"]),
    ("boot", &["start"]),
    ("branch", &["fork"]),
    ("build", &["create", "bootstrap"]),
    ("catalog", &["profile list"]),
    ("catalogue", &["profile list"]),
    ("check", &["health", "doctor"]),
    ("checkpoint", &["snapshot create"]),
    ("cleanup", &["repair", "layer prune"]),
    ("commit", &["snapshot create"]),
    ("config", &["set"]),
    ("connect", &["shell"]),
    ("container", &["list"]),
    ("debootstrap", &["bootstrap"]),
    ("diff", &["snapshot diff", "lock diff"]),
    ("down", &["stop"]),
    ("download", &["copy"]),
    ("dump", &["export"]),
    ("duplicate", &["clone"]),
    ("end", &["stop"]),
    ("env", &["set"]),
    ("file", &["copy"]),
    ("freeze", &["lock", "snapshot create"]),
    ("gc", &["layer prune"]),
    ("halt", &["stop"]),
    ("image", &["profile list"]),
    ("init", &["create", "profile new"]),
    ("install", &["create"]),
    ("instances", &["list"]),
    ("journal", &["logs"]),
    ("journalctl", &["logs"]),
    ("limit", &["set"]),
    ("limits", &["set"]),
    ("load", &["import"]),
    ("log", &["logs"]),
    ("machine", &["list"]),
    ("machines", &["list"]),
    ("make", &["create"]),
    ("mv", &["rename", "move"]),
    ("off", &["stop"]),
    ("on", &["start"]),
    ("open", &["shell"]),
    ("poweroff", &["stop"]),
    ("prune", &["layer prune"]),
    ("pull", &["copy"]),
    ("purge", &["remove"]),
    ("push", &["copy"]),
    ("reboot", &["restart"]),
    ("recover", &["repair"]),
    ("reset", &["snapshot restore", "restart"]),
    ("restore", &["snapshot restore"]),
    ("resume", &["start"]),
    ("revert", &["snapshot restore"]),
    ("rmi", &["layer remove"]),
    ("rollback", &["snapshot restore"]),
    ("rsync", &["copy"]),
    ("run", &["create", "exec"]),
    ("save", &["export", "snapshot create"]),
    ("schedule", &["snapshot schedule"]),
    ("scp", &["copy"]),
    ("search", &["profile list"]),
    ("share", &["mount"]),
    ("shutdown", &["stop"]),
    ("signal", &["kill"]),
    ("snap", &["snapshot"]),
    ("spawn", &["create"]),
    ("ssh", &["shell"]),
    ("state", &["status"]),
    ("stats", &["top"]),
    ("sync", &["copy"]),
    ("template", &["profile list"]),
    ("templates", &["profile list"]),
    ("terminate", &["kill", "stop"]),
    ("undo", &["snapshot restore"]),
    ("up", &["create", "start"]),
    ("update", &["lock", "set"]),
    ("upgrade", &["lock"]),
    ("upload", &["copy"]),
    ("usage", &["top"]),
    ("version", &["--version"]),
];

/// Options of those tools, and the one here; it counts where the verb has it.
const OPTIONS: &[(&str, &str)] = &[
    ("--backend-type", "--backend"),
    ("--bind", "--mount"),
    ("--cpu", "--cpus"),
    ("--dir", "--cwd"),
    ("--directory", "--cwd"),
    ("--distribution", "--release"),
    ("--distro", "--release"),
    ("--driver", "--backend"),
    ("--environment", "--env"),
    ("--file", "--copy"),
    ("--force", "--yes"),
    ("-f", "--yes"),
    ("--image", "--release"),
    ("--mem", "--memory"),
    ("--memory-limit", "--memory"),
    ("--os", "--release"),
    ("--package", "--include"),
    ("--packages", "--include"),
    ("--pids-limit", "--tasks"),
    ("--ram", "--memory"),
    ("--storage-size", "--disk"),
    ("--suite", "--release"),
    ("--template", "--profile"),
    ("--time", "--timeout"),
    ("--vm-type", "--backend"),
    ("--volume", "--mount"),
];

/// Returns what is wrong with a command line where it is a word that means something here; none where the parser's own
/// text says it best.
pub fn failure(error: &clap::Error, typed: &[OsString]) -> Option<Failure> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::InvalidSubcommand => verb(error, &text(ContextKind::InvalidSubcommand)?, typed),
        ErrorKind::UnknownArgument => option(&text(ContextKind::InvalidArg)?, typed),
        _ => None,
    }
}

fn verb(error: &clap::Error, word: &str, typed: &[OsString]) -> Option<Failure> {
    let at = typed.iter().position(|typed| typed == word)?;
    let above = verbs_of(&typed[..at]);
    let owner = [&["sandbox"], &above[..]].concat().join(" ");
    let failure = Failure::said(Exit::USAGE, format!("`{owner}` has no verb `{word}`"));
    let meant: &[&str] =
        VERBS.iter().find(|(known, _)| above.is_empty() && *known == word).map_or(&[], |(_, meant)| meant);
    if !meant.is_empty() {
        let add = |failure: Failure, verb: &&str| failure.hint(&purpose(verb), replaced(typed, at, verb));
        return Some(meant.iter().fold(failure, add));
    }
    // by letters
    let near = match error.get(ContextKind::SuggestedSubcommand) {
        Some(ContextValue::Strings(near)) => near.last().cloned(),
        Some(ContextValue::String(near)) => Some(near.clone()),
        _ => None,
    };
    Some(match near {
        Some(near) => failure.hint("did you mean", replaced(typed, at, &near)),
        None => failure.hint("list the verbs", format!("{owner} --help")),
    })
}

fn option(word: &str, typed: &[OsString]) -> Option<Failure> {
    let (_, instead) = OPTIONS.iter().find(|(known, _)| *known == word)?;
    let above = verbs_of(typed);
    let mut command = Cli::command();
    for verb in &above {
        command = command.find_subcommand(verb)?.clone();
    }
    let long = instead.trim_start_matches("--");
    let known = command.get_arguments().any(|argument| argument.get_long() == Some(long));
    let at = typed.iter().position(|typed| {
        let typed = typed.to_string_lossy();
        typed.split('=').next() == Some(word)
    })?;
    let tail = typed[at].to_string_lossy().strip_prefix(word).unwrap_or_default().to_owned();
    known.then(|| {
        Failure::said(Exit::USAGE, format!("`sandbox {}` has no option `{word}`", above.join(" ")))
            .hint(&format!("it is `{instead}` here"), replaced(typed, at, &(instead.to_string() + &tail)))
    })
}

/// Returns the verbs of a command line, as far as they are known.
fn verbs_of(typed: &[OsString]) -> Vec<&str> {
    let root = Cli::command();
    let mut command: &Command = &root;
    let mut found = Vec::new();
    for word in typed.iter().filter_map(|word| word.to_str()) {
        if let Some(inner) = command.find_subcommand(word) {
            found.push(word);
            command = inner;
        }
    }
    found
}

/// Returns what a verb does, in its own help's words.
fn purpose(verb: &str) -> String {
    let root = Cli::command();
    let found = verb.split(' ').try_fold(&root, |command, word| command.find_subcommand(word));
    let about = found.and_then(Command::get_about).map(ToString::to_string);
    about.map_or_else(|| "show it".to_owned(), |about| lower(&about))
}

/// Writes a sentence's first letter small.
fn lower(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// Writes the command line with another word in the place of one.
fn replaced(typed: &[OsString], at: usize, word: &str) -> String {
    let words = typed[..at].iter().map(OsString::as_os_str);
    let words =
        words.chain(word.split(' ').map(OsStr::new)).chain(typed[at + 1..].iter().map(OsString::as_os_str));
    settings::typed(words.map(OsStr::to_owned))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn wrong(typed: &str) -> Option<String> {
        let words: Vec<OsString> = typed.split(' ').map(OsString::from).collect();
        let error =
            Cli::try_parse_from([OsString::from("sandbox")].into_iter().chain(words.clone())).unwrap_err();
        failure(&error, &words).map(|failure| {
            assert_eq!(failure.exit(), Exit::USAGE, "{typed}");
            failure.text()
        })
    }

    #[test]
    fn a_word_of_another_tool_leads_to_the_verb() {
        for (typed, command) in [
            ("halt agents", "sandbox stop agents\n"),
            ("run trixie", "sandbox exec trixie\n"),
            ("attach agents", "sandbox console agents\n"),
            ("--json stats", "sandbox --json top\n"),
            ("rollback agents first", "sandbox snapshot restore agents first\n"),
            ("version", "sandbox --version\n"),
            ("creat agents", "did you mean:  sandbox create agents\n"),
            ("snapshot crate agents", "did you mean:  sandbox snapshot create agents\n"),
            ("qqqqqq agents", "list the verbs:  sandbox --help\n"),
            ("create a --image trixie", "it is `--release` here:  sandbox create a --release trixie\n"),
            ("create a --ram=2G", "sandbox create a --memory=2G\n"),
            ("remove a --force", "sandbox remove a --yes\n"),
        ] {
            let text = wrong(typed).unwrap_or_else(|| panic!("{typed}"));
            assert!(text.contains(command), "{typed}: {text}");
        }
        for typed in ["list --image trixie", "create a --no-such-option", "stop"] {
            assert_eq!(wrong(typed), None, "{typed}");
        }
    }

    #[test]
    fn what_is_suggested_is_there_and_no_word_of_ours_is_in_the_table() {
        let root = Cli::command();
        assert!(VERBS.is_sorted_by(|a, b| a.0 < b.0), "not in order");
        for (word, meant) in VERBS {
            assert!(root.find_subcommand(word).is_none(), "`{word}` is a verb");
            for verb in meant.iter().filter(|verb| !verb.starts_with('-')) {
                let found = verb.split(' ').try_fold(&root, |command, word| command.find_subcommand(word));
                assert!(found.is_some(), "`{word}` leads to `{verb}`");
            }
        }
    }

    #[test]
    fn the_fields_words_are_aliases_that_help_does_not_list() {
        let help = Cli::command().render_long_help().to_string();
        for (word, verb) in [
            ("ps", "list"),
            ("delete", "remove"),
            ("rm", "remove"),
            ("destroy", "remove"),
            ("info", "status"),
            ("show", "status"),
            ("inspect", "status"),
            ("enter", "shell"),
            ("login", "shell"),
            ("launch", "create"),
            ("new", "create"),
            ("images", "profiles"),
        ] {
            assert_eq!(Cli::command().find_subcommand(word).map(Command::get_name), Some(verb), "{word}");
            assert!(!help.contains(&format!("\n  {word} ")), "{word}");
        }
    }
}
