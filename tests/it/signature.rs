//! Which signatures are believed.

use pgp::crypto::hash::HashAlgorithm;
use sandbox_core::{
    Class,
    error::Cause as _,
    keyring::{Keyring, KeyringError, Signed},
};

use crate::kit::{
    key::{Key, sign_detached, sign_inline},
    now,
};

const TEXT: &str = "Suite: stable\nDate: today\n- a line that starts with a hyphen\n\nlast\n";

fn inline(ring: &Keyring, keys: &[Key]) -> Result<Signed, KeyringError> {
    ring.verify_inline(&sign_inline(keys, TEXT), now())
}

fn ring(key: &Key) -> Keyring {
    Keyring::read(&key.certificate()).unwrap()
}

fn reason(outcome: Result<Signed, KeyringError>) -> String {
    let problem = outcome.map(|signed| signed.signer).unwrap_err();
    assert_eq!(problem.class(), Class::Untrusted, "{problem}");
    problem.to_string()
}

#[test]
fn a_good_signature_gives_the_signed_text_and_its_signer() {
    let key = Key::new();
    let signed = inline(&ring(&key), std::slice::from_ref(&key)).unwrap();
    assert_eq!(String::from_utf8(signed.text).unwrap(), TEXT);
    assert_eq!(signed.signer.as_str(), key.fingerprint());
    assert_ne!(signed.key, signed.signer, "the subkey signed");
    let armored = Keyring::read(key.armored().as_bytes()).unwrap();
    inline(&armored, std::slice::from_ref(&key)).unwrap();
    let more = [sign_inline(&[key], TEXT), b"\n\n".to_vec()].concat();
    armored.verify_inline(&more, now()).unwrap();
}

#[test]
fn several_armored_certificates_make_one_keyring() {
    let (one, other) = (Key::new(), Key::new());
    let ring = Keyring::read(format!("{}\n{}", one.armored(), other.armored()).as_bytes()).unwrap();
    inline(&ring, &[one]).unwrap();
    inline(&ring, &[other]).unwrap();
}

#[test]
fn a_detached_signature_is_of_every_byte() {
    let key = Key::new();
    let signature = sign_detached(std::slice::from_ref(&key), TEXT);
    let signed = ring(&key).verify_detached(TEXT.as_bytes(), &signature, now()).unwrap();
    assert_eq!(signed.text, TEXT.as_bytes());
    let changed = TEXT.replace("stable", "oldest");
    reason(ring(&key).verify_detached(changed.as_bytes(), &signature, now()));
    reason(ring(&key).verify_detached(TEXT.as_bytes(), b"", now()));
}

#[test]
fn one_good_signature_among_unknown_ones_is_enough() {
    let (unknown, known) = (Key::new(), Key::new());
    let signed = inline(&ring(&known), &[unknown.clone(), known.clone()]).unwrap();
    assert_eq!(signed.signer.as_str(), known.fingerprint());
    assert!(reason(inline(&ring(&known), &[unknown])).contains("not an accepted one"));
}

#[test]
fn a_pin_keeps_other_keys_of_the_keyring_out() {
    let (archive, image) = (Key::new(), Key::new());
    let both = Keyring::read(&[archive.certificate(), image.certificate()].concat()).unwrap();
    inline(&both, std::slice::from_ref(&image)).unwrap();
    let pinned = both.pinned(&[archive.fingerprint().parse().unwrap()]).unwrap();
    reason(inline(&pinned, &[image]));
    inline(&pinned, &[archive]).unwrap();
}

#[test]
fn what_stands_outside_the_signature_refuses_the_whole() {
    let key = Key::new();
    let signed = String::from_utf8(sign_inline(std::slice::from_ref(&key), TEXT)).unwrap();
    for tampered in [
        format!("Suite: evil\n{signed}"),
        format!("{signed}\nSuite: evil\n"),
        signed.replace("Suite: stable", "Suite: evil"),
        signed.replace("last", "last\nmore"),
        signed.replacen("Hash: SHA256", "Hash: SHA256\nSuite: evil", 1),
        TEXT.to_owned(),
        String::new(),
        signed.split("-----BEGIN PGP SIGNATURE").next().unwrap().to_owned(),
    ] {
        reason(ring(&key).verify_inline(tampered.as_bytes(), now()));
    }
    reason(ring(&key).verify_inline(b"\xff\xfe", now()));
}

#[test]
fn an_expired_or_revoked_key_signs_nothing() {
    let expired = Key::new().expiring(86400);
    assert!(reason(inline(&ring(&expired), &[expired])).contains("expired"));
    let alive = Key::new().expiring(30 * 86400);
    inline(&ring(&alive), &[alive]).unwrap();
    let revoked = Key::new().revoked();
    assert!(reason(inline(&ring(&revoked), &[revoked])).contains("revoked"));
    let subkey = Key::new().with_revoked_subkey();
    assert!(reason(inline(&ring(&subkey), &[subkey])).contains("subkey is revoked"));
}

#[test]
fn a_subkey_that_is_not_bound_signs_nothing() {
    let stranger = Key::new();
    let mixed = Key::new().with_foreign_subkey(&stranger);
    assert!(reason(inline(&ring(&mixed), &[stranger])).contains("not bound"));
}

#[test]
fn a_subkey_that_another_certificate_claims_does_not_sign_for_it() {
    let archive = Key::new();
    for forged in [false, true] {
        let thief = Key::new().adopting(&archive, forged);
        let outcome = inline(&ring(&thief), std::slice::from_ref(&archive));
        assert!(reason(outcome).contains("does not confirm"), "{forged}");
    }
}

#[test]
fn a_primary_key_that_only_certifies_signs_nothing() {
    let mut key = Key::new();
    key.by_primary = true;
    assert!(reason(inline(&ring(&key), &[key])).contains("not for signing"));
}

#[test]
fn a_weak_hash_is_refused() {
    let mut key = Key::rsa();
    inline(&ring(&key), std::slice::from_ref(&key)).unwrap();
    for hash in [HashAlgorithm::Sha1, HashAlgorithm::Md5] {
        key.hash = hash;
        assert!(reason(inline(&ring(&key), std::slice::from_ref(&key))).contains("weak"));
    }
}

#[test]
fn a_signature_from_the_future_is_refused() {
    let mut key = Key::new();
    key.made = now() + 7200;
    assert!(reason(inline(&ring(&key), std::slice::from_ref(&key))).contains("future"));
    key.made = now() + 600;
    inline(&ring(&key), &[key]).unwrap();
}
