//! What of which machines is listed.

use std::str::FromStr;

use clap::{Args, ValueEnum};

/// `sandbox list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandbox list -q                                   names only
  sandbox list --filter state=running --filter profile=claude
  sandbox list --columns name,state,age --format csv
  sandbox list --columns +disk

Columns: name, state, backend, image, profiles, address, age, disk, addresses, created, network, packages, tree.
`+` in front adds to those that are shown otherwise, which are the first seven. On a terminal, columns that do not fit
are left out. Disk use is counted file by file, and therefore only where it is asked for.

Filters of different keys must all hold, of those of one key any. `*` stands for any letters. A list holds what any of
its words holds.

In CSV and JSON, sizes are bytes, ages seconds.")]
pub struct List {
    /// How the machines are shown
    #[arg(long, value_enum, default_value_t)]
    pub format: ListFormat,
    /// Which columns, in which order
    #[arg(long, value_name = "NAMES")]
    pub columns: Option<Columns>,
    /// Those machines only of which this holds; may be repeated
    #[arg(long, short, value_name = "KEY=VALUE")]
    pub filter: Vec<Filter>,
}

/// A form of the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    /// Columns
    #[default]
    Table,
    /// Comma-separated values with a head
    Csv,
    /// As `--json`
    Json,
}

/// Something that is listed of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListColumn {
    Name,
    State,
    Backend,
    Image,
    Profiles,
    Address,
    Age,
    Disk,
    Addresses,
    Created,
    Network,
    Packages,
    Tree,
}

impl ListColumn {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Name,
        Self::State,
        Self::Backend,
        Self::Image,
        Self::Profiles,
        Self::Address,
        Self::Age,
        Self::Disk,
        Self::Addresses,
        Self::Created,
        Self::Network,
        Self::Packages,
        Self::Tree,
    ];

    /// Those that are shown where none are asked for.
    pub fn usual() -> &'static [Self] {
        &Self::ALL[..7]
    }

    /// Returns its word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::State => "state",
            Self::Backend => "backend",
            Self::Image => "image",
            Self::Profiles => "profiles",
            Self::Address => "address",
            Self::Age => "age",
            Self::Disk => "disk",
            Self::Addresses => "addresses",
            Self::Created => "created",
            Self::Network => "network",
            Self::Packages => "packages",
            Self::Tree => "tree",
        }
    }

    fn find(word: &str, among: &[Self]) -> Result<Self, String> {
        let singular =
            |known: &Self| known.word().strip_suffix('s') == Some(word) && *known == Self::Profiles;
        let found = among.iter().find(|known| known.word() == word || singular(known));
        found.copied().ok_or_else(|| {
            let known: Vec<_> = among.iter().map(|known| known.word()).collect();
            format!("`{word}` is none of {}", known.join(", "))
        })
    }
}

/// Columns in an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns(pub Vec<ListColumn>);

impl FromStr for Columns {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut all, words) = match text.strip_prefix('+') {
            Some(words) => (ListColumn::usual().to_vec(), words),
            None => (Vec::new(), text),
        };
        for word in words.split(',') {
            let column = ListColumn::find(&word.trim().to_lowercase(), &ListColumn::ALL)?;
            if !all.contains(&column) {
                all.push(column);
            }
        }
        Ok(Self(all))
    }
}

/// What must hold of a machine that is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Of what.
    pub key: ListColumn,
    /// The value, in which `*` stands for any letters.
    pub value: String,
}

/// What is compared: words, no numbers.
const KEYS: [ListColumn; 7] = [
    ListColumn::Name,
    ListColumn::State,
    ListColumn::Backend,
    ListColumn::Image,
    ListColumn::Profiles,
    ListColumn::Address,
    ListColumn::Network,
];

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("it is not of the form KEY=VALUE")?;
        Ok(Self { key: ListColumn::find(&key.trim().to_lowercase(), &KEYS)?, value: value.to_owned() })
    }
}

impl Filter {
    /// Reports whether it holds of one of some words.
    pub fn holds(&self, words: &[String]) -> bool {
        words.iter().any(|word| matches(&self.value, word))
    }
}

/// Reports whether a word is as a pattern says.
fn matches(pattern: &str, word: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == word };
    let Some(mut left) = word.strip_prefix(first) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return left.ends_with(part);
        }
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_and_filters_are_read() {
        use ListColumn::{Age, Disk, Name, Profiles};
        assert_eq!("name,AGE, name".parse(), Ok(Columns(vec![Name, Age])));
        let more: Columns = "+disk".parse().unwrap();
        assert_eq!(more.0, [ListColumn::usual(), &[Disk]].concat());
        for wrong in ["", "size", "name,,age", "+"] {
            assert!(wrong.parse::<Columns>().unwrap_err().contains("is none of name, state"), "{wrong}");
        }
        assert_eq!("profile=claude".parse(), Ok(Filter { key: Profiles, value: "claude".to_owned() }));
        for wrong in ["state", "disk=1", "=x", "age=3"] {
            assert!(wrong.parse::<Filter>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn stars_stand_for_any_letters() {
        for (pattern, word, holds) in [
            ("web", "web", true),
            ("web", "web1", false),
            ("", "", true),
            ("*", "", true),
            ("web*", "web1", true),
            ("*b*", "web1", true),
            ("w*1", "web1", true),
            ("w*1", "web2", false),
            ("a*a", "a", false),
            ("10.*.2", "10.80.0.2", true),
            ("*x*y", "xay", true),
            ("*x*y", "yx", false),
        ] {
            assert_eq!(matches(pattern, word), holds, "{pattern} {word}");
        }
    }
}
