//! Versions of Debian packages, and their order.
//!
//! **Source**: Debian Policy §5.6.12, deb-version(7); the order is that of `dpkg --compare-versions`.

use std::{cmp::Ordering, fmt};

/// A version, as the text of the file that it is in.
///
/// **Shape**: `[epoch:]upstream[-revision]`.
#[derive(Clone, Copy, Debug)]
pub struct Version<'a> {
    text: &'a str,
    epoch: u32,
    upstream: &'a str,
    revision: &'a str,
}

/// Why a text is not a version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Nothing before, between or after the separators.
    #[error("version `{text}` lacks its {part}")]
    Empty {
        /// What was given.
        text: String,
        /// `number`, `epoch` or `revision`.
        part: &'static str,
    },
    /// The epoch is not a number, or too big for dpkg.
    #[error("version `{text}` has an epoch that is not a number up to 2147483647")]
    Epoch {
        /// What was given.
        text: String,
    },
    /// A character that no version may have.
    #[error("version `{text}` has the character {character:?}")]
    Character {
        /// What was given.
        text: String,
        /// The character.
        character: char,
    },
}

impl<'a> Version<'a> {
    /// Parses a version.
    ///
    /// As dpkg does when it reads an index, an upstream part that begins with a letter is accepted.
    ///
    /// # Errors
    /// [`Invalid`] says what is wrong.
    pub fn parse(text: &'a str) -> Result<Self, Invalid> {
        let own = || text.to_owned();
        let (epoch, rest) = match text.split_once(':') {
            None => (0, text),
            Some(("", _)) => return Err(Invalid::Empty { text: own(), part: "epoch" }),
            Some((epoch, rest)) => {
                let digits = epoch.bytes().all(|byte| byte.is_ascii_digit());
                let number = epoch.parse().ok().filter(|&n: &u32| digits && n <= i32::MAX.unsigned_abs());
                (number.ok_or_else(|| Invalid::Epoch { text: own() })?, rest)
            }
        };
        let (upstream, revision) = match rest.rsplit_once('-') {
            Some((_, "")) => return Err(Invalid::Empty { text: own(), part: "revision" }),
            Some(parts) => parts,
            None => (rest, ""),
        };
        if upstream.is_empty() {
            return Err(Invalid::Empty { text: own(), part: "number" });
        }
        let wrong = |c: &char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '~' | '-' | ':'));
        match rest.chars().find(wrong) {
            Some(character) => Err(Invalid::Character { text: own(), character }),
            None => Ok(Self { text, epoch, upstream, revision }),
        }
    }

    /// Gives the whole text.
    #[must_use]
    pub const fn as_str(&self) -> &'a str {
        self.text
    }
}

impl fmt::Display for Version<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

impl Ord for Version<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.epoch
            .cmp(&other.epoch)
            .then_with(|| compare_part(self.upstream, other.upstream))
            .then_with(|| compare_part(self.revision, other.revision))
    }
}

impl PartialOrd for Version<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version<'_> {
    /// Equal in order: `1.0` equals `0:1.0` and `1.00`.
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version<'_> {}

/// Compares upstream parts or revisions: stretches without digits by [`weight`], numbers by value, in turn.
fn compare_part(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left.as_bytes(), right.as_bytes());
    while !left.is_empty() || !right.is_empty() {
        loop {
            let (a, b) = (weight(left), weight(right));
            if a != b {
                return a.cmp(&b);
            }
            if a == 0 {
                break;
            }
            (left, right) = (&left[1..], &right[1..]);
        }
        let (a, left_rest) = number(left);
        let (b, right_rest) = number(right);
        let order = a.len().cmp(&b.len()).then_with(|| a.cmp(b));
        if order != Ordering::Equal {
            return order;
        }
        (left, right) = (left_rest, right_rest);
    }
    Ordering::Equal
}

/// Weighs the first byte: `~` before the end and before digits, then letters, then the rest.
fn weight(text: &[u8]) -> i32 {
    match text.first() {
        None => 0,
        Some(b'~') => -1,
        Some(byte) if byte.is_ascii_digit() => 0,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(*byte),
        Some(byte) => i32::from(*byte) + 256,
    }
}

/// Splits a number, without its leading zeros, from what follows it.
fn number(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let start = text[..end].iter().position(|&byte| byte != b'0').unwrap_or(end);
    (&text[start..end], &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In rising order; checked once against `dpkg --compare-versions` pair by pair.
    const RISING: &[&str] = &[
        "0~~",
        "0~~a",
        "0~",
        "0",
        "0.1~rc1-1",
        "0.1-1",
        "0.1a",
        "0.1a-1",
        "0.1.1",
        "1.0~beta1~svn1245",
        "1.0~beta1",
        "1.0",
        "1.0-0.1",
        "1.0-1~bpo12+1",
        "1.0-1",
        "1.0-1+b1",
        "1.0-1+deb12u1",
        "1.0-1.1",
        "1.0-10",
        "1.0+dfsg-1",
        "1.0.1-1",
        "1.2-1-1",
        "1.10",
        "1.18446744073709551616",
        "a1",
        "1:0.1",
        "2:0",
    ];

    #[test]
    fn orders_as_dpkg_does() {
        for (i, left) in RISING.iter().enumerate() {
            for (j, right) in RISING.iter().enumerate() {
                let order = Version::parse(left).unwrap().cmp(&Version::parse(right).unwrap());
                assert_eq!(order, i.cmp(&j), "{left} against {right}");
            }
        }
        for (left, right) in [("1.0", "0:1.0"), ("1.0", "1.00"), ("1.0-0", "1.0"), ("1.01-1", "1.1-01")] {
            assert_eq!(Version::parse(left).unwrap(), Version::parse(right).unwrap());
        }
    }

    #[test]
    fn agrees_with_dpkg() {
        for pair in RISING.windows(2) {
            #[expect(clippy::disallowed_methods, reason = "the reference implementation is a program")]
            let status = std::process::Command::new("dpkg")
                .args(["--compare-versions", pair[0], "lt", pair[1]])
                .stderr(std::process::Stdio::null())
                .status()
                .unwrap();
            assert_eq!(status.success(), Version::parse(pair[0]).unwrap() < Version::parse(pair[1]).unwrap());
        }
    }

    #[test]
    fn refuses_what_is_no_version() {
        for bad in ["", ":1", "a:1", "2147483648:1", "1-", "-1", "1:", "1 2", "1_2", "1/2", "ä", "+1:1"] {
            assert!(Version::parse(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
