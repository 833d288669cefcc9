//! The machines of a verb that takes several.

use clap::Args;

/// The machines that a verb is about: by name, or all of a kind that the verb's help states.
#[derive(Clone, Debug, Default, Args)]
pub struct Names {
    /// The machines' names
    #[arg(value_name = "NAME", required_unless_present = "all")]
    pub names: Vec<String>,
    /// Every machine
    #[arg(long, conflicts_with = "names")]
    pub all: bool,
}

impl Names {
    /// Returns the machine where one is named and no more.
    pub fn only(&self) -> Option<&str> {
        match self.names.as_slice() {
            [name] if !self.all => Some(name),
            _ => None,
        }
    }

    /// Returns the first name; verbs on one machine are run with one that is there.
    pub fn first(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }
}

/// A verb that takes machines and nothing else.
#[derive(Clone, Debug, Args)]
pub struct Several {
    #[command(flatten)]
    pub names: Names,
}

/// A check of machines.
#[derive(Clone, Debug, Args)]
#[command(mut_arg("all", |all| all.help("Every machine that runs")))]
pub struct Running {
    #[command(flatten)]
    pub names: Names,
}
