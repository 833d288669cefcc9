//! What the image files say, compared with what is known of the distributions.
//!
//! The facts stand here in words of their own, each with its source, so that a slip in a file is seen: an image
//! with a wrong key or host would be noticed by its users only.

use std::path::PathBuf;

use sandbox_core::{
    keyring::{Keyring, shipped},
    spec::{Catalogue, Kind, Layer, Spec, stack},
};

/// Ubuntu Archive Automatic Signing Key (2018): signs every pocket of every release since 18.10.
///
/// **Source**: the package ubuntu-keyring, `ubuntu-archive-keyring.gpg`; the VALIDSIG line that gpgv gives for an
/// InRelease of noble-security.
const UBUNTU_2018: &str = "F6ECB3762474EDA9D21B7022871920D1991BC93C";

/// Keys of the same keyring that sign no archive of a release that is shipped: CD images, and the key of 2012.
const UBUNTU_OTHERS: [&str; 2] =
    ["843938DF228D22F7B3742BC0D94AA3F0EFE21092", "790BC7277767219C42C86F933B4FE6ACC0B21F32"];

fn catalogue() -> Catalogue {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    Catalogue { folders: vec![root], embedded: &[] }
}

fn image(name: &str) -> Spec {
    stack(&catalogue(), name, &[]).unwrap()
}

/// Lists pockets as `name archive suite Codename Suite`, an optional one with a question mark.
fn pockets(layer: &Layer) -> Vec<String> {
    let word = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let pockets = layer.pocket.iter().map(|pocket| {
        format!(
            "{}{} {} {} {} {}",
            pocket.name,
            if pocket.optional { "?" } else { "" },
            pocket.archive,
            pocket.suite,
            word(&pocket.codename),
            word(&pocket.release_suite)
        )
    });
    pockets.collect()
}

/// **Source**: ubuntu.csv of distro-info-data 2026.10.12 for names and versions: noble and jammy are supported,
/// resolute is the latest LTS, stonking (2026-10-15 to 2027-07-15) the interim release of November 2026.
#[test]
fn ubuntu_is_as_canonical_has_it() {
    for (name, version) in
        [("jammy", "22.04"), ("noble", "24.04"), ("resolute", "26.04"), ("stonking", "26.10")]
    {
        let spec = image(name);
        let layer = &spec.layer;
        assert_eq!((spec.distribution.as_str(), layer.release.as_deref()), ("ubuntu", Some(version)));
        // amd64 on archive.ubuntu.com and security.ubuntu.com, all other architectures on ports, security too
        let mirror = |archive: &str, architecture: &str| layer.archive[archive].mirror_of(architecture);
        assert_eq!(mirror("main", "amd64"), "http://archive.ubuntu.com/ubuntu");
        assert_eq!(mirror("security", "amd64"), "http://security.ubuntu.com/ubuntu");
        assert_eq!(mirror("main", "arm64"), "http://ports.ubuntu.com/ubuntu-ports");
        assert_eq!(mirror("security", "arm64"), "http://ports.ubuntu.com/ubuntu-ports");
        assert_eq!(layer.archive.len(), 2);
        // one snapshot service for all pockets and architectures, by moments as 20240301T030400Z
        for archive in layer.archive.values() {
            let snapshot = archive.snapshot.as_deref();
            assert_eq!(snapshot, Some("https://snapshot.ubuntu.com/ubuntu/{timestamp}"));
        }
        // docker.io, nodejs and the like are in universe; it is read in all pockets
        assert_eq!(layer.components, ["main", "universe"]);
        // Ubuntu puts the pocket into Suite, Codename is the release's
        let expected = [
            format!("release main {name} {name} {name}"),
            format!("updates main {name}-updates {name} {name}-updates"),
            format!("security security {name}-security {name} {name}-security"),
            format!("backports? main {name}-backports {name} {name}-backports"),
        ];
        assert_eq!(pockets(layer), expected);
        assert_eq!(spec.keyring, "ubuntu-archive-keyring");
        for pocket in &layer.pocket {
            assert_eq!(pocket.signers, [UBUNTU_2018], "{name} {}", pocket.name);
        }
        // /etc/apt/sources.list.d/ubuntu.sources, signed by the file of the package ubuntu-keyring
        assert_eq!(spec.apt.sources, "ubuntu.sources");
        assert_eq!(spec.apt.signed_by.to_str(), Some("/usr/share/keyrings/ubuntu-archive-keyring.gpg"));
        // merged /usr is seen in base-files, not told; the converter is not taken away from jammy's dependencies
        assert!(layer.packages.install.is_empty() && layer.packages.exclude.is_empty());
        assert_eq!(layer.architectures, ["amd64", "arm64"]);
    }
    let ring = Keyring::read(shipped("ubuntu-archive-keyring").unwrap()).unwrap();
    for other in UBUNTU_OTHERS {
        // the shipped keyring has them, so that leaving them out is the image's doing
        assert!(ring.fingerprints().iter().any(|key| key.as_str() == other));
    }
}

/// **Source**: the Release files of the Debian archive, and who signed them, as of 21 November 2026.
#[test]
fn debian_is_as_its_archive_has_it() {
    // archive automatic, stable release, security automatic
    let keys = |version: u32| match version {
        11 => [
            "1F89983E0081FDE018F3CC9673A4F27B8DD47936",
            "A4285295FC7B1A81600062A9605C66F00D6C9793",
            "AC530D520F2F3269F5E98313A48449044AAD5C5D",
        ],
        12 => [
            "B8B80B5B623EAB6AD8775C45B7C5D7D6350947F8",
            "4D64FEC119C2029067D6E791F8D2585B8783D481",
            "05AB90340C0C5E797F44A8C8254CF3B5AEC0A8F0",
        ],
        _ => [
            "04B54C3CDCA79751B16BC6B5225629DF75B188BD",
            "41587F7DB8C774BCCF131416762F67A0B2C39DE4",
            "5E04A1E3223A19A20706E20F9904613D4CCE68C6",
        ],
    };
    for (name, version) in [("bullseye", 11), ("bookworm", 12), ("trixie", 13), ("forky", 14), ("sid", 0)] {
        let spec = image(name);
        let layer = &spec.layer;
        assert_eq!(layer.release.clone(), (version > 0).then(|| version.to_string()), "{name}");
        assert_eq!((spec.distribution.as_str(), spec.keyring.as_str()), ("debian", "debian-archive-keyring"));
        assert_eq!(layer.components, ["main"]);
        for (archive, host, folder) in
            [("main", "ftp", "debian"), ("security", "security", "debian-security")]
        {
            let Some(file) = layer.archive.get(archive) else { continue };
            let snapshot = format!("https://snapshot.debian.org/archive/{folder}/{{timestamp}}");
            assert_eq!(file.snapshot.as_ref(), Some(&snapshot));
            assert_eq!(file.mirror, format!("http://{host}.debian.org/{folder}"));
        }
        let mut expected = vec![format!("release main {name} {name} -")];
        if name != "sid" {
            // Debian puts the pocket into Codename; security is an archive of its own
            expected.push(format!("updates main {name}-updates {name}-updates -"));
            expected.push(format!("security security {name}-security {name}-security -"));
        }
        if matches!(version, 12 | 13) {
            // bullseye's went to the archive of old releases, testing's begin with its release
            expected.push(format!("backports? main {name}-backports {name}-backports -"));
        }
        assert_eq!(pockets(layer), expected);
        for pocket in &layer.pocket {
            let [automatic, stable, security] = keys(version);
            let signers = match (pocket.name.as_str(), version) {
                // testing and unstable are signed by the two newest releases' keys, and by no stable release key
                ("security", 14) => vec![security, keys(12)[2]],
                (_, 0 | 14) => vec![automatic, keys(12)[0]],
                ("release", _) => vec![automatic, stable],
                ("security", _) => vec![security],
                _ => vec![automatic],
            };
            assert_eq!(pocket.signers, signers, "{name} {}", pocket.name);
        }
        assert_eq!(spec.apt.sources, "debian.sources");
        assert_eq!(spec.apt.signed_by.to_str(), Some("/usr/share/keyrings/debian-archive-keyring.gpg"));
        let converter = (layer.packages.install.as_slice(), layer.packages.exclude.as_slice());
        if name == "bookworm" {
            assert_eq!(converter, (&["usr-is-merged".to_owned()][..], &["usrmerge".to_owned()][..]));
        } else {
            assert_eq!(converter, (&[][..], &[][..]), "{name}");
        }
    }
}

#[test]
fn every_signer_of_an_image_is_in_its_keyring() {
    let names = catalogue().names(Kind::Image);
    assert_eq!(names.len(), 9, "{names:?}");
    for name in names {
        let spec = image(&name);
        let ring = Keyring::read(shipped(&spec.keyring).unwrap()).unwrap().fingerprints();
        for signer in spec.layer.pocket.iter().flat_map(|pocket| &pocket.signers) {
            assert!(ring.iter().any(|key| key.as_str() == signer), "{name}: {signer}");
        }
    }
}
