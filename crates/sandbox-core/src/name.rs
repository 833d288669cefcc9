//! Names that users type, checked once.

use std::fmt;

/// A machine's name, valid for every backend.
///
/// **Shape**: `[a-z0-9]([a-z0-9-]*[a-z0-9])?`, at most 63 bytes: the intersection of a host name label
/// (RFC 1123 §2.1), machined's rule and LXC's, in lower case because host names compare without case.
///
/// ```
/// use sandbox_core::name::MachineName;
/// assert!(MachineName::new("agents").is_ok());
/// assert!(MachineName::new("../etc").is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineName(String);

/// Why a text is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Nothing was given.
    #[error("a name cannot be empty")]
    Empty,
    /// It has more bytes than a host name label.
    #[error("`{name}` has {length} bytes; a name has at most 63")]
    Long {
        /// What was given.
        name: String,
        /// Its length in bytes.
        length: usize,
    },
    /// A byte that no name may have.
    #[error("`{name}` has `{byte}` at position {position}; a name is of a-z, 0-9 and inner hyphens")]
    Byte {
        /// What was given.
        name: String,
        /// The byte, escaped.
        byte: String,
        /// Where it is, from 1.
        position: usize,
    },
}

impl MachineName {
    /// Checks a text and makes it a name.
    ///
    /// # Errors
    /// [`Invalid`] names the first thing that is wrong.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Err(Invalid::Empty);
        }
        if text.len() > 63 {
            return Err(Invalid::Long { name: text.to_owned(), length: text.len() });
        }
        let last = text.len() - 1;
        for (at, byte) in text.bytes().enumerate() {
            let inner = at != 0 && at != last;
            if !(byte.is_ascii_lowercase() || byte.is_ascii_digit() || (byte == b'-' && inner)) {
                return Err(Invalid::Byte {
                    name: text.to_owned(),
                    byte: byte.escape_ascii().to_string(),
                    position: at + 1,
                });
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// Gives the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MachineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for MachineName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for MachineName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl AsRef<std::path::Path> for MachineName {
    fn as_ref(&self) -> &std::path::Path {
        std::path::Path::new(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_could_leave_a_folder_or_a_unit_name() {
        for bad in ["", "..", "a/b", "-a", "a-", "A", "a b", "a\n", "ä", "a.b", &"x".repeat(64)] {
            assert!(MachineName::new(bad).is_err(), "{bad:?} was accepted");
        }
        for good in ["a", "agents", "a-b", "0", &"x".repeat(63)] {
            assert_eq!(MachineName::new(good).unwrap().as_str(), good);
        }
    }
}
