//! The OpenPGP certificates that may sign an archive, and the check of what they signed.
//!
//! Verification happens in this process. The OpenPGP library checks the mathematics of one signature; which
//! keys count, and when, is decided here: see `certificate`.

mod certificate;
mod error;
mod fingerprint;
mod shipped;
mod verify;

use std::io::Read as _;

use pgp::{
    armor::Dearmor,
    composed::{Deserializable as _, SignedPublicKey},
    errors::Error,
    packet::{Packet, PacketParser},
    types::KeyDetails as _,
};

pub use error::{KeyFileError, KeyringError};
pub use fingerprint::{Fingerprint, NotAFingerprint};
pub use shipped::shipped;
pub use verify::Signed;

/// A set of certificates, of which some may be singled out as the only signers.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    certificates: Vec<SignedPublicKey>,
    signers: Vec<Fingerprint>,
}

impl Keyring {
    /// Reads certificates, armored or binary, one or several.
    ///
    /// # Errors
    /// [`KeyringError::Unreadable`] for bytes that are not OpenPGP, [`KeyringError::Empty`] where no
    /// certificate is in them.
    pub fn read(bytes: &[u8]) -> Result<Self, KeyringError> {
        const BEGIN: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
        not_something_else(bytes, BEGIN)?;
        let mut certificates = Vec::new();
        match std::str::from_utf8(bytes) {
            Ok(text) if text.contains(BEGIN) => {
                for block in text.split(BEGIN).skip(1) {
                    read_into(format!("{BEGIN}{block}").as_bytes(), &mut certificates)?;
                }
            }
            _ => read_into(bytes, &mut certificates)?,
        }
        if certificates.is_empty() {
            return Err(KeyringError::Empty);
        }
        Ok(Self { certificates, signers: Vec::new() })
    }

    /// Narrows the keyring to certificates with these primary fingerprints; an empty list keeps all.
    ///
    /// # Errors
    /// [`KeyringError::NoSuchKey`] where none of a non-empty list is in the keyring, so that a typing error
    /// cannot look like a forged archive.
    pub fn pinned(mut self, signers: &[Fingerprint]) -> Result<Self, KeyringError> {
        let present = self.fingerprints();
        if !signers.is_empty() && !signers.iter().any(|signer| present.contains(signer)) {
            return Err(KeyringError::NoSuchKey { wanted: signers.to_vec() });
        }
        self.signers = signers.to_vec();
        Ok(self)
    }

    /// Adds the certificates of another keyring, which a list of signers leaves out as any other's.
    pub fn extend(&mut self, other: Self) {
        self.certificates.extend(other.certificates);
    }

    /// Lists the primary fingerprints, in the keyring's order.
    #[must_use]
    pub fn fingerprints(&self) -> Vec<Fingerprint> {
        self.certificates.iter().map(|certificate| Fingerprint::of(&certificate.fingerprint())).collect()
    }

    /// Lists the primary fingerprints of the certificates that may sign, in the keyring's order.
    #[must_use]
    pub fn signers(&self) -> Vec<Fingerprint> {
        self.accepted().map(|certificate| Fingerprint::of(&certificate.fingerprint())).collect()
    }

    /// Gives the certificates that may sign.
    fn accepted(&self) -> impl Iterator<Item = &SignedPublicKey> {
        self.certificates.iter().filter(|certificate| {
            self.signers.is_empty() || self.signers.contains(&Fingerprint::of(&certificate.fingerprint()))
        })
    }
}

/// Refuses files that users take for keyrings, by their first bytes.
///
/// **Source**: GnuPG's doc/DETAILS and kbx/keybox-blob.c, "The Header Blob"; RFC 9580 §6.2.
fn not_something_else(bytes: &[u8], begin: &str) -> Result<(), KeyringError> {
    if bytes.get(8..12) == Some(b"KBXf") {
        return Err(KeyringError::Keybox);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return Ok(()) };
    if text.trim_start().starts_with('<') {
        return Err(KeyringError::Page);
    }
    let armored = text.lines().find_map(|line| line.strip_prefix("-----BEGIN ")?.strip_suffix("-----"));
    match armored {
        Some(found) if !text.contains(begin) => Err(KeyringError::Armored { found: found.to_owned() }),
        _ => Ok(()),
    }
}

/// Reads one armored block or a run of binary packets.
///
/// GnuPG's own keyring files, Ubuntu's among them, have trust packets between a name and its signature, where
/// the library's reader of certificates stops associating them: they go before it sees them.
fn read_into(bytes: &[u8], certificates: &mut Vec<SignedPublicKey>) -> Result<(), KeyringError> {
    let unreadable = |error: Error| KeyringError::unreadable(&error);
    let plain = if bytes.starts_with(b"-----") {
        let mut plain = Vec::new();
        Dearmor::new(bytes).read_to_end(&mut plain).map_err(|source| unreadable(source.into()))?;
        plain
    } else {
        bytes.to_vec()
    };
    let packets = PacketParser::new(plain.as_slice()).filter(|packet| {
        !matches!(
            packet,
            Ok(Packet::Trust(_) | Packet::Marker(_) | Packet::Padding(_)) | Err(Error::Unsupported { .. })
        )
    });
    for certificate in SignedPublicKey::from_packets(packets.peekable()) {
        certificates.push(certificate.map_err(unreadable)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
