use super::*;
use crate::error::{Cause as _, Hint};

#[test]
fn the_shipped_keyrings_are_the_ones_that_the_readme_names() {
    let listed = |name| -> Vec<String> {
        let ring = Keyring::read(shipped(name).unwrap()).unwrap();
        ring.fingerprints().iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        listed("debian-archive-keyring"),
        [
            "1F89983E0081FDE018F3CC9673A4F27B8DD47936",
            "AC530D520F2F3269F5E98313A48449044AAD5C5D",
            "A4285295FC7B1A81600062A9605C66F00D6C9793",
            "4D64FEC119C2029067D6E791F8D2585B8783D481",
            "B8B80B5B623EAB6AD8775C45B7C5D7D6350947F8",
            "05AB90340C0C5E797F44A8C8254CF3B5AEC0A8F0",
            "04B54C3CDCA79751B16BC6B5225629DF75B188BD",
            "5E04A1E3223A19A20706E20F9904613D4CCE68C6",
            "41587F7DB8C774BCCF131416762F67A0B2C39DE4",
        ]
    );
    assert_eq!(
        listed("ubuntu-archive-keyring"),
        [
            "790BC7277767219C42C86F933B4FE6ACC0B21F32",
            "843938DF228D22F7B3742BC0D94AA3F0EFE21092",
            "F6ECB3762474EDA9D21B7022871920D1991BC93C",
        ]
    );
    assert!(shipped("../etc/passwd").is_none());
}

#[test]
fn every_key_that_signs_a_supported_suite_is_accepted() {
    const NOW: i64 = 1_795_000_000;
    for (name, fingerprint) in [
        ("debian-archive-keyring", "04B54C3CDCA79751B16BC6B5225629DF75B188BD"),
        ("debian-archive-keyring", "5E04A1E3223A19A20706E20F9904613D4CCE68C6"),
        ("debian-archive-keyring", "41587F7DB8C774BCCF131416762F67A0B2C39DE4"),
        ("debian-archive-keyring", "B8B80B5B623EAB6AD8775C45B7C5D7D6350947F8"),
        ("debian-archive-keyring", "05AB90340C0C5E797F44A8C8254CF3B5AEC0A8F0"),
        ("debian-archive-keyring", "4D64FEC119C2029067D6E791F8D2585B8783D481"),
        ("debian-archive-keyring", "1F89983E0081FDE018F3CC9673A4F27B8DD47936"),
        ("debian-archive-keyring", "A4285295FC7B1A81600062A9605C66F00D6C9793"),
        ("debian-archive-keyring", "AC530D520F2F3269F5E98313A48449044AAD5C5D"),
        ("ubuntu-archive-keyring", "F6ECB3762474EDA9D21B7022871920D1991BC93C"),
    ] {
        let ring = Keyring::read(shipped(name).unwrap()).unwrap();
        let ring = ring.pinned(&[fingerprint.parse().unwrap()]).unwrap();
        let certificate = ring.accepted().next().unwrap();
        let own = certificate::alive(certificate, NOW).expect(fingerprint);
        let signs = certificate::primary_signs(own)
            || certificate
                .public_subkeys
                .iter()
                .any(|subkey| certificate::subkey_signs(certificate, subkey, NOW).is_ok());
        assert!(signs, "no key of {fingerprint} may sign");
    }
}

#[test]
fn pinning_an_unknown_key_is_an_error_of_the_file() {
    let ring = Keyring::read(shipped("debian-archive-keyring").unwrap()).unwrap();
    let unknown = "0000000000000000000000000000000000000000".parse().unwrap();
    assert!(matches!(ring.pinned(&[unknown]), Err(KeyringError::NoSuchKey { .. })));
}

#[test]
fn bytes_that_are_no_keyring_are_refused() {
    assert!(Keyring::read(b"").is_err());
    assert!(Keyring::read(b"hello").is_err());
    assert!(Keyring::read(&[0x99; 64]).is_err());
}

#[test]
fn fingerprints_are_read_as_tools_print_them() {
    let spaced: Fingerprint = "F6EC B376 2474 EDA9 D21B  7022 8719 20D1 991B C93C".parse().unwrap();
    assert_eq!(spaced.as_str(), "F6ECB3762474EDA9D21B7022871920D1991BC93C");
    assert!("991BC93C".parse::<Fingerprint>().is_err());
}

/// What users give instead of a file of certificates, what is said of it and the command that helps.
#[test]
fn what_is_no_keyring_is_named_with_what_makes_one_of_it() {
    let keybox = [&[0, 0, 0, 32, 1, 1, 0, 0][..], b"KBXf", &[0; 20]].concat();
    let private = b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nAAAA\n-----END PGP PRIVATE KEY BLOCK-----\n";
    let broken = b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQENBF\n-----END PGP PUBLIC KEY BLOCK-----\n";
    for (bytes, says, command) in [
        (&keybox[..], "keybox", "gpg --no-default-keyring --keyring /k --export --output KEY.gpg"),
        (private, "`PGP PRIVATE KEY BLOCK`", "gpg --show-keys /k"),
        (broken, "OpenPGP", "gpg --show-keys /k"),
        (b"<!DOCTYPE html><html>not found</html>", "HTML", "gpg --show-keys /k"),
        (&[0x99, 0xff, 0xff, 7, 7, 7][..], "OpenPGP", "gpg --show-keys /k"),
        (b"example.invalid\n", "", "gpg --show-keys /k"),
        (b"", "no certificate", "gpg --show-keys /k"),
    ] {
        let error = KeyFileError { path: "/k".to_owned(), source: Keyring::read(bytes).unwrap_err() };
        assert_eq!(error.class(), crate::Class::File);
        let text = crate::error::sentence(&error);
        assert!(text.starts_with("/k ") && text.contains(says) && text.len() < 200, "{text}");
        let first = error.hints().into_iter().next();
        assert!(matches!(&first, Some(Hint::Run { command: found, .. }) if found == command), "{first:?}");
    }
}
