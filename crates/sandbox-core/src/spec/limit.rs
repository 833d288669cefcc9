//! Limits of processes: names and values of setrlimit(2), in the units of each reader.

/// Names of limits, as limits.conf(5) and systemd.exec(5) both spell them.
pub const LIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// A limit: soft and hard, none for no limit.
///
/// **Units**: setrlimit(2)'s own, bytes and seconds; limits.conf(5) has KiB and minutes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    name: String,
    soft: Option<u64>,
    hard: Option<u64>,
}

impl Limit {
    /// Reads a name and `VALUE` or `SOFT:HARD`, each a number or `infinity`.
    #[must_use]
    pub fn read(name: &str, value: &str) -> Option<Self> {
        if !LIMITS.contains(&name) {
            return None;
        }
        let number = |word: &str| match word {
            "infinity" | "unlimited" => Some(None),
            _ => {
                word.bytes().all(|byte| byte.is_ascii_digit()).then(|| word.parse().ok()).flatten().map(Some)
            }
        };
        let (soft, hard) = value.split_once(':').unwrap_or((value, value));
        let (soft, hard) = (number(soft)?, number(hard)?);
        let fits = hard.is_none_or(|hard| soft.is_some_and(|soft| soft <= hard));
        fits.then(|| Self { name: name.to_owned(), soft, hard })
    }

    /// Writes it as systemd reads it.
    #[must_use]
    pub fn systemd(&self) -> String {
        let word =
            |value: Option<u64>| value.map_or_else(|| "infinity".to_owned(), |value| value.to_string());
        let (soft, hard) = (word(self.soft), word(self.hard));
        if soft == hard { soft } else { format!("{soft}:{hard}") }
    }

    /// Writes it as pam_limits(8) reads it: kind and value.
    #[must_use]
    pub fn pam(&self) -> Vec<(&'static str, String)> {
        let word =
            |value: Option<u64>| value.map_or_else(|| "unlimited".to_owned(), |value| self.of_pam(value));
        match self.name.as_str() {
            // pam_limits has no word for it
            "rttime" => Vec::new(),
            _ if self.soft == self.hard => vec![("-", word(self.soft))],
            _ => vec![("soft", word(self.soft)), ("hard", word(self.hard))],
        }
    }

    fn of_pam(&self, value: u64) -> String {
        match self.name.as_str() {
            "as" | "core" | "data" | "fsize" | "memlock" | "rss" | "stack" => {
                value.div_ceil(1024).to_string()
            }
            "cpu" => value.div_ceil(60).to_string(),
            "nice" => (20 - i64::try_from(value.min(40)).unwrap_or(40)).to_string(),
            _ => value.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_limit_is_refused() {
        for (name, value) in [
            ("nofiles", "1"),
            ("nofile", "-1"),
            ("nofile", "2:1"),
            ("nofile", "infinity:1"),
            ("nofile", "1k"),
            ("nofile", ""),
        ] {
            assert_eq!(Limit::read(name, value), None, "{name} {value}");
        }
        for (name, value) in [("stack", "8388608"), ("nofile", "1:infinity"), ("nproc", "unlimited")] {
            assert!(Limit::read(name, value).is_some(), "{name} {value}");
        }
    }
}
