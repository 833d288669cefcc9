//! Arguments of `sandbox secret`.

use clap::Subcommand;

/// Verbs of `sandbox secret`.
#[derive(Debug, Subcommand)]
pub enum Secret {
    /// Give a machine a secret, read from standard input, from its next start on
    #[command(after_help = "\
Examples:
  sandbox secret set agents OPENAI_API_KEY < key.txt
  pass show openai | sandbox secret set agents OPENAI_API_KEY
  sandbox exec agents -- systemd-creds --system cat OPENAI_API_KEY

A service of the machine gets it by LoadCredential=OPENAI_API_KEY, in the file $CREDENTIALS_DIRECTORY/OPENAI_API_KEY;
the machine's root reads it with systemd-creds. The end of a single line is not part of the value. It is in no tree,
snapshot, clone, fork or export, and goes with the machine.")]
    Set {
        /// The machine's name
        name: String,
        /// The secret's name: letters, digits, _, - and .
        key: String,
    },
    /// List the names of a machine's secrets
    #[command(visible_alias = "ls")]
    List {
        /// The machine's name
        name: String,
    },
    /// Take a secret from a machine, from its next start on
    #[command(visible_alias = "rm")]
    Remove {
        /// The machine's name
        name: String,
        /// The secret's name
        key: String,
    },
}
