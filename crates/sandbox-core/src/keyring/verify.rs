//! Signed texts in, believed texts out.

use pgp::{
    composed::{CleartextSignedMessage, Deserializable as _, DetachedSignature, SignedPublicKey},
    packet::{Signature, SignatureType},
    types::{KeyDetails as _, VerifyingKey},
};

use super::{
    Fingerprint, Keyring, KeyringError,
    certificate::{alive, current, primary_signs, subkey_signs, trustworthy},
};

/// How far a signature may lie in the future, for clocks that differ.
///
/// **Units**: seconds.
const SKEW: i64 = 3600;

/// A text of which one good signature was seen.
#[derive(Clone, Debug)]
pub struct Signed {
    /// The signed text alone, with bare line feeds: what stood outside the signature is not in it.
    pub text: Vec<u8>,
    /// The primary fingerprint of the certificate that signed.
    pub signer: Fingerprint,
    /// The fingerprint of the key that signed: a subkey's, mostly.
    pub key: Fingerprint,
    /// When the signature was made, in seconds since 1970.
    pub made: i64,
}

impl Keyring {
    /// Checks a clear-signed text, such as an InRelease file, at the moment `now`.
    ///
    /// One good signature of an accepted key is enough: archives sign with several.
    ///
    /// **Units**: `now` in seconds since 1970.
    ///
    /// # Errors
    /// All are of class [`Untrusted`](crate::Class::Untrusted).
    ///
    /// **Source**: RFC 9580 §7.
    pub fn verify_inline(&self, bytes: &[u8], now: i64) -> Result<Signed, KeyringError> {
        let framed = std::str::from_utf8(bytes).map_err(|_| KeyringError::NotText)?;
        // The library takes a second newline at the end for trailing data.
        let (message, _headers) = CleartextSignedMessage::from_string(framed.trim_ascii_end())
            .map_err(|error| KeyringError::not_signed(&error))?;
        // What is hashed is what is used: never the file itself, which may say more.
        let text = message.signed_text();
        let (signer, key, made) = self.one_good(message.signatures(), text.as_bytes(), now)?;
        Ok(Signed { text: text.replace("\r\n", "\n").into_bytes(), signer, key, made })
    }

    /// Checks a text against a signature in a file of its own, such as Release and Release.gpg.
    ///
    /// **Units**: `now` in seconds since 1970.
    ///
    /// # Errors
    /// All are of class [`Untrusted`](crate::Class::Untrusted).
    pub fn verify_detached(&self, text: &[u8], signature: &[u8], now: i64) -> Result<Signed, KeyringError> {
        let (found, _headers) = DetachedSignature::from_reader_many(signature)
            .map_err(|error| KeyringError::not_signed(&error))?;
        let signatures = found
            .map(|one| one.map(|one| one.signature))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| KeyringError::not_signed(&error))?;
        let (signer, key, made) = self.one_good(&signatures, text, now)?;
        Ok(Signed { text: text.to_vec(), signer, key, made })
    }

    fn one_good(
        &self,
        signatures: &[Signature],
        text: &[u8],
        now: i64,
    ) -> Result<(Fingerprint, Fingerprint, i64), KeyringError> {
        if signatures.is_empty() {
            return Err(KeyringError::NoSignature);
        }
        let mut reasons = Vec::new();
        for signature in signatures {
            match self.good(signature, text, now) {
                Ok((signer, key)) => {
                    let made = signature.created().map_or(0, |made| i64::from(made.as_secs()));
                    return Ok((signer, key, made));
                }
                Err(reason) => reasons.push(format!("{}: {reason}", issuer(signature))),
            }
        }
        Err(KeyringError::NoGoodSignature { reasons })
    }

    fn good(
        &self,
        signature: &Signature,
        text: &[u8],
        now: i64,
    ) -> Result<(Fingerprint, Fingerprint), &'static str> {
        if !matches!(signature.typ(), Some(SignatureType::Binary | SignatureType::Text)) {
            return Err("it is not a signature of data");
        }
        if !trustworthy(signature) {
            return Err("its hash is too weak");
        }
        current(signature, now.saturating_add(SKEW))?;
        let mut reason = "its key is not an accepted one";
        for certificate in self.accepted() {
            match by_certificate(certificate, signature, text, now) {
                Some(Ok(key)) => return Ok((Fingerprint::of(&certificate.fingerprint()), key)),
                Some(Err(refusal)) => reason = refusal,
                None => {}
            }
        }
        Err(reason)
    }
}

/// Checks a signature against one certificate; nothing where no key of it is named as the issuer.
fn by_certificate(
    certificate: &SignedPublicKey,
    signature: &Signature,
    text: &[u8],
    now: i64,
) -> Option<Result<Fingerprint, &'static str>> {
    if names(signature, &certificate.primary_key) {
        return Some(alive(certificate, now).and_then(|own| {
            if !primary_signs(own) {
                return Err("its key is not for signing");
            }
            fits(signature, &certificate.primary_key, text)
        }));
    }
    let subkey = certificate.public_subkeys.iter().find(|subkey| names(signature, &subkey.key))?;
    Some(
        alive(certificate, now)
            .and_then(|_own| subkey_signs(certificate, subkey, now))
            .and_then(|()| fits(signature, &subkey.key, text)),
    )
}

fn fits(signature: &Signature, key: &impl VerifyingKey, text: &[u8]) -> Result<Fingerprint, &'static str> {
    let made = signature.created().map_or(0, |made| made.as_secs());
    if made < key.created_at().as_secs() {
        return Err("it is older than its key");
    }
    match signature.verify(key, text) {
        Ok(()) => Ok(Fingerprint::of(&key.fingerprint())),
        Err(_) => Err("it does not fit the text"),
    }
}

fn names(signature: &Signature, key: &impl VerifyingKey) -> bool {
    let fingerprints = signature.issuer_fingerprint();
    if fingerprints.is_empty() {
        signature.issuer_key_id().contains(&&key.legacy_key_id())
    } else {
        fingerprints.contains(&&key.fingerprint())
    }
}

fn issuer(signature: &Signature) -> String {
    if let Some(fingerprint) = signature.issuer_fingerprint().first() {
        return format!("{fingerprint:X}");
    }
    signature
        .issuer_key_id()
        .first()
        .map_or_else(|| "unnamed key".to_owned(), |id| id.to_string().to_uppercase())
}
