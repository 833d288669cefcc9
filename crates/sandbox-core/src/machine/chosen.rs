//! What a user chose for one machine, beyond what its profiles say: limits, variables, when it starts, folders of
//! the host. Everything here may be changed while the machine is there.

use std::{collections::BTreeMap, fmt, path::PathBuf, str::FromStr};

use super::mounts::{owners::Owners, source::Identity};

/// All of it; the default chooses nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Chosen {
    /// What it may use at most.
    pub limits: Limits,
    /// Variables that everybody in it has.
    pub environment: BTreeMap<String, String>,
    /// Whether and when it starts with the host.
    pub autostart: Option<Autostart>,
    /// What happens when it ends by itself.
    pub restart: Restart,
    /// Folders of the host that are mounted at each start.
    pub mounts: Vec<HostFolder>,
    /// It is neither removed nor replaced by a snapshot of it.
    #[serde(skip_serializing_if = "is_no")]
    pub protected: bool,
    /// It is removed when it stops.
    #[serde(skip_serializing_if = "is_no")]
    pub ephemeral: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_no(value: &bool) -> bool {
    !*value
}

impl Chosen {
    /// Returns what a copy of the machine has of it: it neither starts with the host nor is it protected, and it stays
    /// when it stops.
    #[must_use]
    pub fn of_copy(self) -> Self {
        Self { autostart: None, protected: false, ephemeral: false, ..self }
    }
}

/// What a machine may use at most; none is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Processors, in thousandths: 1500 is one and a half.
    pub cpus: Option<u32>,
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub tasks: Option<u64>,
    /// Bytes of its tree.
    pub disk: Option<u64>,
    /// Its share of the processors where others want them too: from 1 to 10000, 100 for what has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_weight: Option<u32>,
    /// A process that crashes leaves no copy of its memory.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_core_dumps: bool,
}

/// When a machine starts with the host.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(default)]
pub struct Autostart {
    /// Lower ones first; those of the same number together.
    pub order: u32,
    /// Seconds that pass before it is started.
    pub delay: u32,
}

/// What happens when a machine ends by itself; a stop that was asked for is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// It stays as it is.
    #[default]
    No,
    /// It starts again unless it shut down cleanly.
    OnFailure,
    /// It starts again.
    Always,
}

impl Restart {
    /// Gives the word for it, which is systemd's.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::OnFailure => "on-failure",
            Self::Always => "always",
        }
    }
}

/// A directory of the host in a machine.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HostFolder {
    /// The directory on the host, by its canonical path.
    pub source: PathBuf,
    /// Where the guest has it.
    pub path: PathBuf,
    /// The guest can only read it.
    pub read_only: bool,
    /// The guest can write to the git directory of a writable tree.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub writable_git: bool,
    /// Which directory it is; records of earlier versions have none, and the next start adds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// Whose its files are in the machine; records of earlier versions have none, and the next start adds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owners: Option<Owners>,
}

/// A text that is no limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoLimit {
    /// Not a size.
    #[error("`{0}` is no size: a whole number of bytes, or of K, M, G, T (powers of 1024)")]
    Size(String),
    /// Not a weight.
    #[error("`{0}` is no weight: a whole number from 1 to 10000")]
    Weight(String),
    /// Not a number of processors.
    #[error("`{0}` is no number of processors: from 0.01, with at most three decimals")]
    Cpus(String),
}

/// A number of bytes as users type it: `512M`, `4G`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = NoLimit;

    fn from_str(text: &str) -> Result<Self, NoLimit> {
        let wrong = || NoLimit::Size(text.to_owned());
        let plain = text.strip_suffix("iB").or_else(|| text.strip_suffix('B')).unwrap_or(text);
        let (number, shift) = match plain.char_indices().next_back() {
            Some((at, letter)) if letter.is_ascii_alphabetic() => {
                let shift = match letter.to_ascii_uppercase() {
                    'K' => 10,
                    'M' => 20,
                    'G' => 30,
                    'T' => 40,
                    _ => return Err(wrong()),
                };
                (&plain[..at], shift)
            }
            _ => (plain, 0),
        };
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let bytes = number.checked_mul(1 << shift).filter(|bytes| *bytes > 0).ok_or_else(wrong)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, letter) in [(40, 'T'), (30, 'G'), (20, 'M'), (10, 'K')] {
            if self.0 != 0 && self.0.is_multiple_of(1 << shift) {
                return write!(f, "{}{letter}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

/// A share of the processors as users type it: from 1 to 10000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight(pub u32);

impl FromStr for Weight {
    type Err = NoLimit;

    fn from_str(text: &str) -> Result<Self, NoLimit> {
        let number = text.parse().ok().filter(|number| (1..=10_000).contains(number));
        number.map(Self).ok_or_else(|| NoLimit::Weight(text.to_owned()))
    }
}

/// A number of processors as users type it: `2`, `1.5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpus(pub u32);

impl FromStr for Cpus {
    type Err = NoLimit;

    fn from_str(text: &str) -> Result<Self, NoLimit> {
        let wrong = || NoLimit::Cpus(text.to_owned());
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || whole.len() > 5 || part.len() > 3 || !digits(whole) || !digits(part) {
            return Err(wrong());
        }
        let whole: u32 = whole.parse().map_err(|_| wrong())?;
        let part: u32 = format!("{part:0<3}").parse().map_err(|_| wrong())?;
        let thousandths = whole * 1000 + part;
        if thousandths < 10 { Err(wrong()) } else { Ok(Self(thousandths)) }
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:03}", self.0 / 1000, self.0 % 1000);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in
            [("1", 1), ("512M", 512 << 20), ("4GiB", 4 << 30), ("2t", 2 << 40), ("7kB", 7 << 10)]
        {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "0", "M", "-1G", "1.5G", "99999999T", "1X", "18446744073709551616", "GB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        assert_eq!((Size(4 << 30).to_string(), Size(1536 << 20).to_string()), ("4G".into(), "1536M".into()));
        assert_eq!(Size(1000).to_string(), "1000");
    }

    #[test]
    fn processors_have_three_decimals() {
        for (text, thousandths) in [("2", 2000), ("1.5", 1500), ("0.01", 10), ("0.125", 125)] {
            assert_eq!(text.parse(), Ok(Cpus(thousandths)), "{text}");
            assert_eq!(Cpus(thousandths).to_string(), text);
        }
        for text in ["", "0", "0.001", "1.2345", "-1", "1e3", ".5", "999999", "1,5"] {
            assert!(text.parse::<Cpus>().is_err(), "{text}");
        }
    }

    #[test]
    fn weights_are_those_of_the_kernel() {
        assert_eq!(("1".parse(), "10000".parse()), (Ok(Weight(1)), Ok(Weight(10_000))));
        for text in ["", "0", "10001", "-1", "1.5", "high"] {
            assert!(text.parse::<Weight>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_not_there_is_not_chosen() {
        assert_eq!(serde_json::from_str::<Chosen>("{}").unwrap(), Chosen::default());
        assert_eq!(Chosen::default().restart, Restart::No);
    }
}
