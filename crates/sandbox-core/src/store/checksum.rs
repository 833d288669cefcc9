//! The digests that a file may be known by.

use std::{fmt, io};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::Digest as _;

use crate::digest::{Hasher, Sha256, hex};

/// What a file's content must hash to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Checksum {
    /// SHA-256, as Debian's archives list it.
    Sha256(Sha256),
    /// SHA-512, as npm lists it.
    Sha512([u8; 64]),
}

/// A text that is not an integrity value of SHA-512.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a sha512 integrity value")]
pub struct NotAnIntegrity(pub String);

impl Checksum {
    /// Reads npm's `dist.integrity`: `sha512-` and base64.
    ///
    /// # Errors
    /// [`NotAnIntegrity`] for any other algorithm or length: weaker digests are not taken.
    ///
    /// **Source**: W3C Subresource Integrity §3.1.
    pub fn from_integrity(text: &str) -> Result<Self, NotAnIntegrity> {
        let wrong = || NotAnIntegrity(text.to_owned());
        let strongest = text.split_ascii_whitespace().find_map(|one| one.strip_prefix("sha512-"));
        let bytes = STANDARD.decode(strongest.ok_or_else(wrong)?).map_err(|_| wrong())?;
        bytes.try_into().map(Self::Sha512).map_err(|_| wrong())
    }

    /// Gives the algorithm's name, which is also the cache's folder.
    #[must_use]
    pub const fn algorithm(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "sha256",
            Self::Sha512(_) => "sha512",
        }
    }

    /// Gives the digest as lower-case hexadecimal digits.
    #[must_use]
    pub fn digits(&self) -> String {
        match self {
            Self::Sha256(digest) => digest.to_string(),
            Self::Sha512(bytes) => hex(bytes),
        }
    }
}

impl From<Sha256> for Checksum {
    fn from(digest: Sha256) -> Self {
        Self::Sha256(digest)
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm(), self.digits())
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A checksum in the making.
#[derive(Clone)]
pub(super) enum Check {
    /// Of SHA-256.
    Sha256(Hasher),
    /// Of SHA-512.
    Sha512(Box<sha2::Sha512>),
}

impl Check {
    /// Starts one of the same algorithm.
    pub(super) fn of(checksum: &Checksum) -> Self {
        match checksum {
            Checksum::Sha256(_) => Self::Sha256(Hasher::default()),
            Checksum::Sha512(_) => Self::Sha512(Box::default()),
        }
    }

    /// Adds bytes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// Adds what a reader gives, up to a number of bytes, and tells how many there were.
    pub(super) fn read(&mut self, reader: &mut dyn io::Read, limit: u64) -> io::Result<u64> {
        let mut buffer = vec![0; 128 << 10];
        let mut sum = 0;
        while sum < limit {
            let most = usize::try_from(limit - sum).unwrap_or(usize::MAX).min(buffer.len());
            match reader.read(&mut buffer[..most]) {
                Ok(0) => break,
                Ok(count) => {
                    self.update(&buffer[..count]);
                    sum += count as u64;
                }
                Err(problem) if problem.kind() == io::ErrorKind::Interrupted => {}
                Err(problem) => return Err(problem),
            }
        }
        Ok(sum)
    }

    /// Gives the checksum of all that was added.
    pub(super) fn finish(self) -> Checksum {
        match self {
            Self::Sha256(hasher) => Checksum::Sha256(hasher.finish()),
            Self::Sha512(hasher) => Checksum::Sha512((*hasher).finalize().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_npm_integrity_and_nothing_weaker() {
        let mut check = Check::Sha512(Box::default());
        check.update(b"abc");
        let abc =
            "sha512-3a81oZNherrMQXNJriBBMRLm+k6JqX6iCp7u5ktV05ohkpkqJ0/BqDa6PCOj/uu9RU1EI2Q86A4qmslPpUyknw==";
        assert_eq!(Checksum::from_integrity(abc), Ok(check.finish()));
        assert_eq!(Checksum::from_integrity(&format!("sha1-AAAA {abc}")), Checksum::from_integrity(abc));
        assert!(Checksum::from_integrity("sha1-qZk+NkcGgWq6PiVxeFDCbJzQ2J0=").is_err());
        assert!(Checksum::from_integrity("sha512-AAAA").is_err());
    }
}
