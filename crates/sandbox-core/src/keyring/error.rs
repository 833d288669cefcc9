//! Why a keyring or a signature is refused.

use super::Fingerprint;
use crate::error::{Cause, Class, Hint};

/// Why a keyring cannot be used, or a signed text is not believed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyringError {
    /// The keyring is not OpenPGP.
    #[error("the keyring is not readable as OpenPGP certificates")]
    Unreadable {
        /// What the parser says.
        #[source]
        source: pgp::errors::Error,
    },
    /// The keyring holds no certificate.
    #[error("the keyring holds no certificate")]
    Empty,
    /// None of the pinned signers is in the keyring.
    #[error("none of the pinned signers {wanted:?} is in the keyring")]
    NoSuchKey {
        /// The pinned fingerprints.
        wanted: Vec<Fingerprint>,
    },
    /// The text is not framed as a signed text, or its frame is damaged.
    #[error("it is not a whole clear-signed text")]
    NotSigned {
        /// What the parser says.
        #[source]
        source: pgp::errors::Error,
    },
    /// The text is not UTF-8.
    #[error("it is not UTF-8 text")]
    NotText,
    /// There is no signature at all.
    #[error("it carries no signature")]
    NoSignature,
    /// No signature is both good and by an accepted key.
    #[error("no signature is good and by an accepted key ({})", .reasons.join("; "))]
    NoGoodSignature {
        /// What is wrong with each signature, in order.
        reasons: Vec<String>,
    },
}

impl Cause for KeyringError {
    fn class(&self) -> Class {
        match self {
            Self::Unreadable { .. } | Self::Empty | Self::NoSuchKey { .. } => Class::File,
            Self::NotSigned { .. } | Self::NotText | Self::NoSignature | Self::NoGoodSignature { .. } => {
                Class::Untrusted
            }
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::NotSigned { .. } | Self::NotText | Self::NoSignature => vec![Hint::Note(
                "a captive portal or proxy may have answered in the mirror's place: try another --mirror"
                    .into(),
            )],
            Self::NoGoodSignature { .. } => vec![Hint::Note(
                "if the archive has new keys, a newer version of this program brings them; \
                 if the clock of this host is wrong, set it"
                    .into(),
            )],
            _ => Vec::new(),
        }
    }
}
