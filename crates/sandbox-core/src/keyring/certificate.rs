//! Which keys of a certificate may sign at a moment.
//!
//! The library's own `verify_bindings` wants every signature of a certificate to be good, those of third
//! parties and of superseded bindings too, and looks neither at expiry nor at revocation. Here the newest
//! good self-signature counts, as RFC 9580 §5.2.3.10 says, and any good revocation ends it.

use pgp::{
    composed::{SignedPublicKey, SignedPublicSubKey},
    crypto::hash::HashAlgorithm,
    packet::{Signature, SignatureType},
    ser::Serialize,
    types::{EcdsaPublicParams, EddsaLegacyPublicParams, KeyDetails, PublicParams, Tag, VerifyingKey},
};

/// The fewest bits of an RSA modulus that is believed.
///
/// **Source**: NIST SP 800-131A revision 2, §3.
const RSA_BITS: usize = 2048;

const CURVE: Refusal = "its key is on an elliptic curve that is not accepted, such as brainpool's";

/// Why a key may not sign, as a fragment for a message.
pub(super) type Refusal = &'static str;

/// Checks that the primary key is alive and gives its newest self-signature.
pub(super) fn alive(certificate: &SignedPublicKey, now: i64) -> Result<&Signature, Refusal> {
    let primary = &certificate.primary_key;
    strong_key(primary)?;
    if certificate
        .details
        .revocation_signatures
        .iter()
        .any(|revocation| trustworthy(revocation) && revocation.verify_key(primary).is_ok())
    {
        return Err("its certificate is revoked");
    }
    let newest = newest(self_signatures(certificate), now).ok_or_else(|| without_signature(certificate))?;
    unexpired(primary, newest, now)?;
    Ok(newest)
}

/// Tells whether the primary key itself may sign data, given its newest self-signature.
pub(super) fn primary_signs(own: &Signature) -> bool {
    // Without key flags a primary key may do what its algorithm can (RFC 9580 §5.2.3.29).
    let flags = own.key_flags();
    flags.sign()
        || !(flags.certify() || flags.authentication() || flags.encrypt_comms() || flags.encrypt_storage())
}

/// Checks that a subkey is bound to the certificate for signing, alive and not revoked.
pub(super) fn subkey_signs(
    certificate: &SignedPublicKey,
    subkey: &SignedPublicSubKey,
    now: i64,
) -> Result<(), Refusal> {
    let primary = &certificate.primary_key;
    strong_key(&subkey.key)?;
    let good = |signature: &&Signature| {
        trustworthy(signature) && signature.verify_subkey_binding(primary, &subkey.key).is_ok()
    };
    let (revocations, bindings): (Vec<_>, Vec<_>) = subkey
        .signatures
        .iter()
        .filter(good)
        .partition(|signature| signature.typ() == Some(SignatureType::SubkeyRevocation));
    if !revocations.is_empty() {
        return Err("its subkey is revoked");
    }
    let binding = newest(bindings.into_iter(), now).ok_or("its subkey is not bound to the certificate")?;
    if !binding.key_flags().sign() {
        return Err("its subkey is not for signing");
    }
    let back = binding.embedded_signature().ok_or("its subkey does not confirm the certificate")?;
    if !trustworthy(back) || back.verify_primary_key_binding(&subkey.key, primary).is_err() {
        return Err("its subkey does not confirm the certificate");
    }
    unexpired(&subkey.key, binding, now)
}

/// Tells whether a signature uses a hash that still resists collisions.
///
/// **Source**: RFC 9580 §9.5 (MD5, SHA-1 and RIPEMD-160 are not to be accepted in new signatures).
pub(super) fn trustworthy(signature: &Signature) -> bool {
    matches!(
        signature.hash_alg(),
        Some(
            HashAlgorithm::Sha256
                | HashAlgorithm::Sha384
                | HashAlgorithm::Sha512
                | HashAlgorithm::Sha3_256
                | HashAlgorithm::Sha3_512
        )
    )
}

/// Tells whether a signature was made by `now` and has not run out.
pub(super) fn current(signature: &Signature, now: i64) -> Result<(), Refusal> {
    let made = signature.created().ok_or("it does not say when it was made")?;
    let made = i64::from(made.as_secs());
    if made > now {
        return Err("it was made in the future");
    }
    match signature.signature_expiration_time().map(|life| life.as_secs()) {
        Some(life) if life != 0 && made + i64::from(life) <= now => Err("it has expired"),
        _ => Ok(()),
    }
}

fn self_signatures(certificate: &SignedPublicKey) -> impl Iterator<Item = &Signature> {
    let primary = &certificate.primary_key;
    let direct = certificate
        .details
        .direct_signatures
        .iter()
        .filter(|signature| trustworthy(signature) && signature.verify_key(primary).is_ok());
    let named = certificate.details.users.iter().flat_map(move |user| {
        let own = |signature: &&Signature| {
            trustworthy(signature) && signature.verify_certification(primary, Tag::UserId, &user.id).is_ok()
        };
        let (revoked, good): (Vec<_>, Vec<_>) = user
            .signatures
            .iter()
            .filter(own)
            .partition(|signature| signature.typ() == Some(SignatureType::CertRevocation));
        if revoked.is_empty() { good } else { Vec::new() }
    });
    direct.chain(named)
}

/// Says why no self-signature of a certificate counts.
fn without_signature(certificate: &SignedPublicKey) -> Refusal {
    let details = &certificate.details;
    let named = details.users.iter().flat_map(|user| &user.signatures);
    let mut own = details.direct_signatures.iter().chain(named).filter(|signature| {
        let ids = signature.issuer_key_id();
        ids.is_empty() || ids.contains(&&certificate.primary_key.legacy_key_id())
    });
    match (own.next(), own.any(trustworthy)) {
        (Some(first), false) if !trustworthy(first) => {
            "its certificate is confirmed by SHA-1 or weaker alone, which can be forged"
        }
        _ => "its certificate has no valid self-signature",
    }
}

fn newest<'a>(signatures: impl Iterator<Item = &'a Signature>, now: i64) -> Option<&'a Signature> {
    signatures
        .filter(|signature| current(signature, now).is_ok())
        .max_by_key(|signature| signature.created().map(|made| made.as_secs()))
}

fn unexpired(key: &impl KeyDetails, own: &Signature, now: i64) -> Result<(), Refusal> {
    let created = i64::from(key.created_at().as_secs());
    match own.key_expiration_time().map(|life| life.as_secs()) {
        Some(life) if life != 0 && created + i64::from(life) <= now => Err("its key has expired"),
        _ if created > now => Err("its key is from the future"),
        _ => Ok(()),
    }
}

fn strong_key(key: &(impl VerifyingKey + Serialize)) -> Result<(), Refusal> {
    match key.public_params() {
        PublicParams::RSA(parameters) => {
            use rsa_bits::modulus_bits;
            if modulus_bits(parameters) >= RSA_BITS { Ok(()) } else { Err("its RSA key is too short") }
        }
        PublicParams::ECDSA(EcdsaPublicParams::Unsupported { .. }) => Err(CURVE),
        PublicParams::EdDSALegacy(EddsaLegacyPublicParams::Unsupported { .. }) => Err(CURVE),
        PublicParams::DSA(_) => Err("its key is of DSA, which is not accepted"),
        PublicParams::ECDSA(_)
        | PublicParams::EdDSALegacy(_)
        | PublicParams::Ed25519(_)
        | PublicParams::Ed448(_) => Ok(()),
        _ => Err("its key's algorithm is not accepted"),
    }
}

mod rsa_bits {
    use pgp::{ser::Serialize as _, types::RsaPublicParams};

    /// Counts the bits of the modulus: the first number that is written, with its bit count before it.
    ///
    /// **Source**: RFC 9580 §3.2 (multiprecision integers) and §5.5.5.1.
    pub(super) fn modulus_bits(parameters: &RsaPublicParams) -> usize {
        match parameters.to_bytes().ok().as_deref() {
            Some([high, low, ..]) => usize::from(u16::from_be_bytes([*high, *low])),
            _ => 0,
        }
    }
}
