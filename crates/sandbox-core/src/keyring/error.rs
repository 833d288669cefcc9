//! Why a keyring or a signature is refused.

use super::Fingerprint;
use crate::error::{Cause, Class, Hint};

/// Why a keyring cannot be used, or a signed text is not believed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyringError {
    /// The keyring is not OpenPGP.
    #[error("it is not readable as OpenPGP certificates ({problem})")]
    Unreadable {
        /// The first words of what the parser says, which has all bytes in its own.
        problem: String,
    },
    /// The keyring is GnuPG's own database of keys, which no other program reads.
    #[error("it is a keybox of GnuPG, not a file of OpenPGP certificates")]
    Keybox,
    /// The file has something else in ASCII armor.
    #[error("it is an armored `{found}`, not a public key")]
    Armored {
        /// `PGP PRIVATE KEY BLOCK`.
        found: String,
    },
    /// The file is a page for a browser.
    #[error("it is an HTML page, not a public key")]
    Page,
    /// The keyring holds no certificate.
    #[error("it holds no certificate")]
    Empty,
    /// None of the pinned signers is in the keyring.
    #[error("none of the pinned signers {wanted:?} is in the keyring")]
    NoSuchKey {
        /// The pinned fingerprints.
        wanted: Vec<Fingerprint>,
    },
    /// The text is not framed as a signed text, or its frame is damaged.
    #[error("it is not a whole clear-signed text ({problem})")]
    NotSigned {
        /// The first words of what the parser says.
        problem: String,
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
            Self::Unreadable { .. }
            | Self::Keybox
            | Self::Armored { .. }
            | Self::Page
            | Self::Empty
            | Self::NoSuchKey { .. } => Class::File,
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
            Self::Unreadable { .. } | Self::Keybox | Self::Armored { .. } | Self::Page | Self::Empty => {
                self.conversion("./FILE")
            }
            Self::NoSuchKey { .. } => Vec::new(),
        }
    }
}

impl KeyringError {
    /// Makes the error of bytes that the parser refuses: the first words of its message, which may hold all bytes.
    pub(super) fn unreadable(error: &pgp::errors::Error) -> Self {
        Self::Unreadable { problem: first_words(error) }
    }

    /// Makes the error of a text that the parser refuses.
    pub(super) fn not_signed(error: &pgp::errors::Error) -> Self {
        Self::NotSigned { problem: first_words(error) }
    }

    /// Returns how to make a file of certificates of a file that is none.
    #[must_use]
    pub fn conversion(&self, path: &str) -> Vec<Hint> {
        // GnuPG looks for a bare name in its own directory
        let path = if path.contains('/') { path.to_owned() } else { format!("./{path}") };
        match self {
            Self::Keybox => vec![Hint::run(
                "export the keys that are in it",
                format!("gpg --no-default-keyring --keyring {path} --export --output KEY.gpg"),
            )],
            Self::Armored { found } if found.contains("PRIVATE") => vec![
                Hint::run("see whose it is, and export their public key", format!("gpg --show-keys {path}")),
                Hint::Note("a private key signs in its owner's name: do not store it on hosts".to_owned()),
            ],
            Self::Unreadable { .. } | Self::Armored { .. } | Self::Page | Self::Empty => {
                vec![Hint::run("see what GnuPG finds in it", format!("gpg --show-keys {path}"))]
            }
            _ => Vec::new(),
        }
    }
}

fn first_words(error: &pgp::errors::Error) -> String {
    const MOST: usize = 80;
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    let words = line.split(['[', '{']).next().unwrap_or_default().trim_end_matches([' ', ':', '(']);
    words.chars().take(MOST).collect()
}

/// Why a file of keys cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path} is no keyring that can be used")]
pub struct KeyFileError {
    /// The file.
    pub path: String,
    /// Why.
    #[source]
    pub source: KeyringError,
}

impl Cause for KeyFileError {
    fn class(&self) -> Class {
        self.source.class()
    }

    fn hints(&self) -> Vec<Hint> {
        self.source.conversion(&self.path)
    }
}
