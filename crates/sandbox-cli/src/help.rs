//! Help as it is shown: verbs in groups, options under headings, and `-h` on one screen of 24 lines by 80 columns.
//!
//! `-h` has what is used every day; `--help` has all, with examples.

use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory as _};

use crate::args::Cli;

/// The verbs, by what they are for. A test sees that each is in one group.
pub const GROUPS: &[(&str, &[&str])] = &[
    ("Make", &["create", "clone", "fork", "import"]),
    ("Run", &["start", "stop", "restart", "kill", "wait", "enable", "disable"]),
    ("Use", &["shell", "exec", "console", "copy", "mount", "unmount"]),
    ("See", &["list", "status", "top", "logs", "health"]),
    ("Change", &["set", "rename", "move", "secret", "snapshot", "protect", "unprotect"]),
    ("Remove", &["remove", "export"]),
    ("Build", &["bootstrap", "resolve", "lock", "profile", "layer"]),
    ("Program", &["doctor", "repair", "completions", "man", "help"]),
];

/// Headings whose options `-h` does not list.
const RARE: [&str; 3] = ["Packages and archives", "Options of Proxmox VE", "Global options"];

/// Further options that `-h` does not list, by verb.
const HIDDEN: &[(&str, &[&str])] = &[
    (
        "create",
        &[
            "fresh",
            "privileged",
            "tasks",
            "disk",
            "protect",
            "wait_healthy",
            "timeout",
            "accept_costs",
            "backend",
            "locked",
            "cpus",
            "env",
        ],
    ),
    ("export", &["compression", "allow_credentials", "start"]),
    ("import", &["devices", "max_size", "reference", "timeout"]),
    ("set", &["cpu_weight", "core_dumps", "start_order", "start_delay", "unset_env", "unenforced"]),
];

/// Room for a group's name.
const NAME: usize = 9;

/// The columns of a terminal that help is written for.
const COLUMNS: usize = 80;

const ROOT: &str =
    "{about-with-newline}\n{usage-heading} {usage}\n\n{before-help}Options:\n{options}{after-help}";

/// Returns the parser with its help.
pub fn command() -> Command {
    let command = Cli::command();
    let verbs = command.clone();
    let command = dress(command, &[]);
    command.help_template(ROOT).before_help(short()).before_long_help(long(&verbs)).after_help(
        "`sandbox VERB -h` shows a verb, `--help` all options and examples, `sandbox man` the manual.",
    )
}

/// Writes the verbs' names, a group a line.
fn short() -> String {
    let mut text = String::from("Commands:\n");
    for (group, verbs) in GROUPS {
        let mut line = format!("  {group:<NAME$}");
        let margin = line.len();
        for (at, verb) in verbs.iter().enumerate() {
            let word = if at + 1 < verbs.len() { format!("{verb}, ") } else { (*verb).to_owned() };
            if line.len() + word.trim_end().len() > COLUMNS {
                let _ = writeln!(text, "{}", line.trim_end());
                line = " ".repeat(margin);
            }
            line += &word;
        }
        let _ = writeln!(text, "{line}");
    }
    text.trim_end().to_owned()
}

/// Writes each verb with what it does, below its group.
fn long(command: &Command) -> String {
    let mut text = String::from("Commands:\n");
    for (group, verbs) in GROUPS {
        let _ = writeln!(text, "{group}:");
        for verb in *verbs {
            let found = command.find_subcommand(verb);
            let about = found.and_then(Command::get_about).map(ToString::to_string).unwrap_or_default();
            let about = if *verb == "help" { "Show help for a verb".to_owned() } else { about };
            let aliases: Vec<_> = found.into_iter().flat_map(Command::get_visible_aliases).collect();
            let aliases = if aliases.is_empty() {
                String::new()
            } else {
                format!(" [aliases: {}]", aliases.join(", "))
            };
            let _ = writeln!(text, "  {verb:<12}  {about}{aliases}");
        }
    }
    text.trim_end().to_owned()
}

/// Keeps rare options and long texts for `--help`, of a verb and those below it.
fn dress(command: Command, above: &[&str]) -> Command {
    let verb = above.join(" ");
    let hidden = HIDDEN.iter().find(|(known, _)| *known == verb).map_or(&[][..], |(_, hidden)| hidden);
    let is_rare = |argument: &Arg| {
        argument.get_help_heading().is_some_and(|heading| RARE.contains(&heading))
            || hidden.contains(&argument.get_id().as_str())
    };
    let command = command
        .mut_args(|argument| if is_rare(&argument) { argument.hide_short_help(true) } else { argument });
    let command = match command.get_after_help().cloned() {
        Some(text) => {
            let more = format!("All options, and examples:  sandbox {verb} --help");
            command.after_long_help(text).after_help(more)
        }
        None => command,
    };
    command.mut_subcommands(|inner| {
        let name = inner.get_name().to_owned();
        dress(inner, &[above, &[name.as_str()]].concat())
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Renders the short help of a verb and of those below it, as for a terminal of 80 columns.
    fn pages(command: &mut Command, name: &str, found: &mut Vec<(String, String)>) {
        found.push((name.to_owned(), command.render_help().to_string()));
        let names: Vec<_> = command.get_subcommands().filter(|verb| !verb.is_hide_set()).collect();
        let names: Vec<_> = names.into_iter().map(|verb| verb.get_name().to_owned()).collect();
        for inner in names.iter().filter(|name| *name != "help") {
            let Some(verb) = command.find_subcommand_mut(inner) else { continue };
            pages(verb, &format!("{name} {inner}"), found);
        }
    }

    #[test]
    fn each_verb_is_in_one_group() {
        let mut all: Vec<_> = GROUPS.iter().flat_map(|(_, verbs)| verbs.iter().copied()).collect();
        let listed: BTreeSet<_> = all.iter().copied().collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(
            all.len(),
            GROUPS.iter().map(|(_, verbs)| verbs.len()).sum::<usize>(),
            "a verb is in two groups"
        );
        let command = command();
        let there = command.get_subcommands().filter(|verb| !verb.is_hide_set()).map(Command::get_name);
        let there: BTreeSet<_> = there.chain(["help"]).collect();
        assert_eq!(listed, there);
    }

    #[test]
    fn a_verb_s_short_help_fits_on_a_screen() {
        let mut root = command().term_width(COLUMNS);
        root.build();
        let mut found = Vec::new();
        pages(&mut root, "sandbox", &mut found);
        assert!(found.len() > 40, "{}", found.len());
        let wrong = found.iter().filter(|(_, page)| {
            page.trim_end().lines().count() > 24 || page.lines().any(|line| line.chars().count() > COLUMNS)
        });
        let wrong: Vec<_> =
            wrong.map(|(name, page)| format!("{name}: {} lines\n{page}", page.lines().count())).collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn long_help_has_every_option_and_verb() {
        let mut root = command();
        root.build();
        let page = root.render_long_help().to_string();
        for (_, verbs) in GROUPS {
            assert!(page.lines().take(70).all(|line| line.chars().count() <= 100), "a line is wrapped");
            assert!(verbs.iter().all(|verb| page.contains(&format!("\n  {verb} "))), "{page}");
        }
        for (verb, hidden) in HIDDEN {
            let command = root.find_subcommand_mut(verb).unwrap();
            let page = command.render_long_help().to_string();
            for id in *hidden {
                let found = command.get_arguments().find(|argument| argument.get_id() == id);
                let long = found.and_then(Arg::get_long).unwrap_or_else(|| panic!("`{verb}` has no {id}"));
                assert!(page.contains(&format!("--{long}")), "{verb} --{long}");
            }
        }
    }
}
