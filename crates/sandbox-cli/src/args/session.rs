//! Verbs that run something in a machine.

use clap::Args;

/// `sandbox exec`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandbox exec agents systemctl is-system-running
  sandbox exec --user agent --cwd /home/agent agents claude --version
  tar c . | sandbox exec agents tar x -C /srv

Options stand before the command: from its first word on, all words are the command's. `--` may stand before it. It
gets a terminal where stdin, stdout and stderr are one; -t and -T decide otherwise. stdin is always passed.")]
pub struct Exec {
    /// The machine's name
    pub name: String,
    /// Run it as this user [default: root]
    #[arg(long, short, value_name = "USER")]
    pub user: Option<String>,
    /// Set an environment variable; may be repeated
    #[arg(long, short, value_name = "KEY=VALUE")]
    pub env: Vec<String>,
    /// Working directory [default: the user's home]
    #[arg(long, short = 'w', value_name = "DIR", alias = "workdir")]
    pub cwd: Option<String>,
    /// Give it a terminal
    #[arg(long = "tty", short = 't', alias = "terminal", overrides_with = "no_terminal")]
    pub terminal: bool,
    /// Give it no terminal
    #[arg(long = "no-tty", short = 'T', alias = "no-terminal", overrides_with = "terminal")]
    pub no_terminal: bool,
    /// Taken for docker's users: stdin is always passed
    #[arg(long, short = 'i', hide = true)]
    pub interactive: bool,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    pub command: Vec<String>,
}

impl Exec {
    /// Reports whether the command gets a terminal, where the caller's own streams are one or not.
    pub const fn wants_terminal(&self, is_terminal: bool) -> bool {
        self.terminal || (is_terminal && !self.no_terminal)
    }
}

/// `sandbox shell`.
#[derive(Debug, Args)]
pub struct Shell {
    /// The machine's name
    pub name: String,
    /// Whose shell [default: agent where there is one, else root]
    #[arg(long, short, value_name = "USER")]
    pub user: Option<String>,
}

/// `sandbox console`.
#[derive(Debug, Args)]
#[command(after_help = "\
What the machine's console said is shown first, then whoever is there logs in. `^]` three times within a second leaves
it; the machine goes on.")]
pub struct Console {
    /// The machine's name
    pub name: String,
    /// Be logged in as this user, without a password
    #[arg(long, short, value_name = "USER")]
    pub user: Option<String>,
    /// How many lines of what it said before are shown
    #[arg(long, short = 'n', value_name = "LINES", default_value_t = 20)]
    pub lines: u32,
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::args::{Cli, Verb};

    #[test]
    fn options_behind_the_first_word_belong_to_the_command() {
        // what is typed, the command, whether a terminal is given: with pipes, and on a terminal
        let rows: &[(&str, &str, (bool, bool))] = &[
            ("exec a ls -la", "ls -la", (false, true)),
            ("exec a -- ls -la", "ls -la", (false, true)),
            ("exec a ls -- -la", "ls -- -la", (false, true)),
            ("exec a -- sh -c x -- y", "sh -c x -- y", (false, true)),
            ("exec -it a bash", "bash", (true, true)),
            ("exec a -i -t bash -t", "bash -t", (true, true)),
            ("exec -T a bash --json", "bash --json", (false, false)),
            ("exec a --no-tty -u agent -w /srv id -u", "id -u", (false, false)),
            ("exec -t -T a id", "id", (false, false)),
            ("exec -T -t a id", "id", (true, true)),
            ("exec a --terminal id", "id", (true, true)),
            ("exec a env A=b", "env A=b", (false, true)),
        ];
        for (typed, command, (pipe, terminal)) in rows {
            let cli = Cli::try_parse_from(["sandbox"].into_iter().chain(typed.split(' ')));
            let Ok(Cli { verb: Verb::Exec(args), global }) = cli else { panic!("{typed}: {cli:?}") };
            assert_eq!((args.name.as_str(), args.command.join(" ").as_str()), ("a", *command), "{typed}");
            assert_eq!(
                (args.wants_terminal(false), args.wants_terminal(true)),
                (*pipe, *terminal),
                "{typed}"
            );
            assert!(!global.json, "{typed}");
        }
        for typed in ["exec a", "exec a --", "exec a --no-such-option ls", "exec"] {
            assert!(Cli::try_parse_from(["sandbox"].into_iter().chain(typed.split(' '))).is_err(), "{typed}");
        }
    }
}
