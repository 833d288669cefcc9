//! OpenPGP keys of an archive that does not exist.

use pgp::{
    composed::{
        ArmorOptions, CleartextSignedMessage, DetachedSignature, EncryptionCaps, KeyType,
        SecretKeyParamsBuilder, SignedPublicKey, SignedSecretKey, SubkeyParamsBuilder,
    },
    crypto::hash::HashAlgorithm,
    packet::{KeyFlags, Signature, SignatureConfig, SignatureType, Subpacket, SubpacketData},
    ser::Serialize as _,
    types::{Duration, KeyDetails as _, Password, SigningKey, Timestamp},
};

use super::now;

/// A certificate with its secrets: an Ed25519 primary key and a signing subkey, in the
/// encoding (RFC 9580 §9.1, algorithm 22) that gpgv and apt of every release can check.
#[derive(Clone, Debug)]
pub struct Key {
    secret: SignedSecretKey,
    public: SignedPublicKey,
    /// The hash of the signatures it makes.
    pub hash: HashAlgorithm,
    /// When its signatures say that they were made, in seconds since 1970.
    pub made: i64,
    /// Whether the primary key signs instead of the subkey.
    pub by_primary: bool,
}

impl Key {
    /// Makes a key that was made two days ago.
    pub fn new() -> Self {
        Self::of(KeyType::Ed25519Legacy)
    }

    /// Makes an RSA key: slow, but it signs with hashes that are too weak for Ed25519.
    pub fn rsa() -> Self {
        Self::of(KeyType::Rsa(2048))
    }

    fn of(kind: KeyType) -> Self {
        let created = stamp(now() - 2 * 86400);
        let mut subkey = SubkeyParamsBuilder::default();
        subkey.key_type(kind.clone()).can_sign(true).can_encrypt(EncryptionCaps::None).created_at(created);
        let mut key = SecretKeyParamsBuilder::default();
        key.key_type(kind)
            .can_certify(true)
            .can_sign(false)
            .can_encrypt(EncryptionCaps::None)
            .created_at(created)
            .primary_user_id("Archive of the tests <nobody@example.invalid>".into())
            .subkeys(vec![subkey.build().unwrap()]);
        let secret = key.build().unwrap().generate(rand::thread_rng()).unwrap();
        let public = SignedPublicKey::from(secret.clone());
        Self { secret, public, hash: HashAlgorithm::Sha256, made: now(), by_primary: false }
    }

    /// Gives the primary fingerprint.
    pub fn fingerprint(&self) -> String {
        format!("{:X}", self.public.fingerprint())
    }

    /// Gives the certificate as binary OpenPGP.
    pub fn certificate(&self) -> Vec<u8> {
        self.public.to_bytes().unwrap()
    }

    /// Gives the certificate armored.
    pub fn armored(&self) -> String {
        self.public.to_armored_string(ArmorOptions::default()).unwrap()
    }

    /// Lets the primary key expire so many seconds after it was made.
    pub fn expiring(mut self, life: u32) -> Self {
        let life = SubpacketData::KeyExpirationTime(Duration::from_secs(life));
        let signature = self.about_itself(SignatureType::Key, vec![life]);
        self.public.details.direct_signatures.push(signature);
        // The newest self-signature counts: this one must be alone, for they all have the same second.
        self.public.details.users.clear();
        self
    }

    /// Revokes the certificate.
    pub fn revoked(mut self) -> Self {
        let signature = self.about_itself(SignatureType::KeyRevocation, vec![]);
        self.public.details.revocation_signatures.push(signature);
        self
    }

    /// Revokes the signing subkey.
    pub fn with_revoked_subkey(mut self) -> Self {
        let config = self.config(SignatureType::SubkeyRevocation, &self.secret.primary_key, vec![]);
        let signature = config
            .sign_subkey_binding(
                &self.secret.primary_key,
                &self.public.primary_key,
                &Password::empty(),
                &self.public.public_subkeys[0].key,
            )
            .unwrap();
        self.public.public_subkeys[0].signatures.push(signature);
        self
    }

    /// Makes a certificate of this primary key with another's subkey, bound by nothing that is good.
    pub fn with_foreign_subkey(mut self, other: &Self) -> Self {
        self.public.public_subkeys = other.public.public_subkeys.clone();
        self.secret.secret_subkeys = other.secret.secret_subkeys.clone();
        self
    }

    /// Makes a certificate that claims another's subkey as its own, which that subkey does not confirm; `forged`
    /// puts a confirmation there that another subkey made.
    pub fn adopting(self, other: &Self, forged: bool) -> Self {
        let mut flags = KeyFlags::default();
        flags.set_sign(true);
        let mut about = vec![SubpacketData::KeyFlags(flags)];
        let own = self.public.public_subkeys[0].signatures[0].embedded_signature().unwrap();
        if forged {
            about.push(SubpacketData::EmbeddedSignature(Box::new(own.clone())));
        }
        let mut mixed = self.with_foreign_subkey(other);
        let primary = &mixed.secret.primary_key;
        let config = mixed.config(SignatureType::SubkeyBinding, primary, about);
        let subkey = &mixed.public.public_subkeys[0].key;
        let signature = config
            .sign_subkey_binding(primary, &mixed.public.primary_key, &Password::empty(), subkey)
            .unwrap();
        mixed.public.public_subkeys[0].signatures = vec![signature];
        mixed
    }

    fn about_itself(&self, typ: SignatureType, more: Vec<SubpacketData>) -> Signature {
        let primary = &self.secret.primary_key;
        let config = self.config(typ, primary, more);
        config.sign_key(primary, &Password::empty(), &self.public.primary_key).unwrap()
    }

    fn config(
        &self,
        typ: SignatureType,
        signer: &impl SigningKey,
        more: Vec<SubpacketData>,
    ) -> SignatureConfig {
        let mut config = SignatureConfig::from_key(rand::thread_rng(), signer, typ).unwrap();
        config.hash_alg = self.hash;
        let usual = [
            SubpacketData::SignatureCreationTime(stamp(self.made)),
            SubpacketData::IssuerFingerprint(signer.fingerprint()),
        ];
        config.hashed_subpackets =
            usual.into_iter().chain(more).map(|data| Subpacket::regular(data).unwrap()).collect();
        // gpgv before 2.4 and apt look for the short id as well.
        let id = SubpacketData::IssuerKeyId(signer.legacy_key_id());
        config.unhashed_subpackets = vec![Subpacket::regular(id).unwrap()];
        config
    }

    fn signature(&self, typ: SignatureType, text: &[u8]) -> Signature {
        if self.by_primary {
            let signer = &self.secret.primary_key;
            self.config(typ, signer, vec![]).sign(signer, &Password::empty(), text).unwrap()
        } else {
            let signer = &self.secret.secret_subkeys[0].key;
            self.config(typ, signer, vec![]).sign(signer, &Password::empty(), text).unwrap()
        }
    }
}

/// Clear-signs a text with several keys.
pub fn sign_inline(keys: &[Key], text: &str) -> Vec<u8> {
    let signed = CleartextSignedMessage::new_many(text, |normal| {
        Ok(keys.iter().map(|key| key.signature(SignatureType::Text, normal.as_bytes())).collect())
    });
    signed.unwrap().to_armored_bytes(ArmorOptions::default()).unwrap()
}

/// Signs a text in a file of its own, with the first key.
pub fn sign_detached(keys: &[Key], text: &str) -> Vec<u8> {
    let signature = DetachedSignature::new(keys[0].signature(SignatureType::Binary, text.as_bytes()));
    signature.to_armored_bytes(ArmorOptions::default()).unwrap()
}

fn stamp(seconds: i64) -> Timestamp {
    Timestamp::from_secs(u32::try_from(seconds).unwrap())
}
