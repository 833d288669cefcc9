//! Fingerprints of OpenPGP keys as values.

use std::{fmt, str::FromStr};

/// The fingerprint of an OpenPGP key.
///
/// **Shape**: upper-case hexadecimal digits without spaces: 40 for version 4, 64 for version 6.
///
/// **Source**: RFC 9580 §5.5.4.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(String);

/// A text that is not a fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a fingerprint (40 or 64 hexadecimal digits; a short key id is not enough)")]
pub struct NotAFingerprint(pub String);

impl Fingerprint {
    pub(super) fn of(fingerprint: &pgp::types::Fingerprint) -> Self {
        Self(format!("{fingerprint:X}"))
    }

    /// Gives the digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Fingerprint {
    type Err = NotAFingerprint;

    /// Reads a fingerprint; spaces between digits, as tools print them, are skipped.
    fn from_str(text: &str) -> Result<Self, NotAFingerprint> {
        let digits: String =
            text.chars().filter(|letter| *letter != ' ').map(|letter| letter.to_ascii_uppercase()).collect();
        let whole = matches!(digits.len(), 40 | 64) && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        if whole { Ok(Self(digits)) } else { Err(NotAFingerprint(text.to_owned())) }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
