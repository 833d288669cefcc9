//! Verbs that run something in a machine.

use clap::Args;

/// `sandbox exec`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandbox exec agents -- systemctl is-system-running
  sandbox exec agents --user agent --cwd /home/agent -t -- claude
  tar c . | sandbox exec agents -- tar x -C /srv")]
pub struct Exec {
    /// The machine's name
    pub name: String,
    /// Who runs it
    #[arg(long, short, value_name = "USER")]
    pub user: Option<String>,
    /// Environment variable; may be repeated
    #[arg(long, short, value_name = "KEY=VALUE")]
    pub env: Vec<String>,
    /// Working directory
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<String>,
    /// Give it a terminal
    #[arg(long, short)]
    pub terminal: bool,
    /// The command and its arguments
    #[arg(required = true, last = true, value_name = "CMD")]
    pub command: Vec<String>,
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
