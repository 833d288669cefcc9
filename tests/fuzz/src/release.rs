//! Release files: what was understood of one, written as a Release file, is understood again as the same.

use std::fmt::Write as _;

use sandbox_core::deb::release::{Digest, Release};

use crate::memory::bounded;

/// Takes the bytes as a Release file without its signature.
pub fn check(data: &[u8]) {
    let Ok(release) = bounded(128 * data.len() + 16_384, || Release::parse(data)) else { return };
    let written = write(&release);
    let again = Release::parse(written.as_bytes()).unwrap_or_else(|problem| panic!("{written:?}: {problem}"));
    assert_eq!(again, release, "{written:?}");
    for path in release.files.keys() {
        assert!(!path.is_empty() && !path.contains(|c: char| c.is_ascii_whitespace()));
    }
}

fn write(release: &Release) -> String {
    let mut text = String::new();
    let mut put = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            let _ = writeln!(text, "{name}: {}", value.replace('\n', "\n "));
        }
    };
    put("Origin", release.origin.clone());
    put("Suite", release.suite.clone());
    put("Codename", release.codename.clone());
    put("Version", release.version.clone());
    put("Date", Some(date(release.date)));
    put("Valid-Until", release.valid_until.map(date));
    let yes = |said: bool| said.then(|| "yes".to_owned());
    put("Acquire-By-Hash", yes(release.by_hash));
    put("NotAutomatic", yes(release.not_automatic));
    put("ButAutomaticUpgrades", yes(release.but_automatic_upgrades));
    put("Architectures", Some(release.architectures.join(" ")));
    put("Components", Some(release.components.join(" ")));
    if !release.separate_all {
        put("No-Support-for-Architecture-all", Some("Packages".to_owned()));
    }
    let mut files = String::new();
    let mut field = "SHA256";
    for (path, listed) in &release.files {
        let digest = match listed.digest {
            Digest::Sha256(digest) => digest.to_string(),
            Digest::Sha512(digest) => {
                field = "SHA512";
                digest.iter().map(|byte| format!("{byte:02x}")).collect()
            }
        };
        let _ = write!(files, "\n{digest} {} {path}", listed.size);
    }
    put(field, Some(files));
    text
}

fn date(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap().strftime("%a, %d %b %Y %H:%M:%S UTC").to_string()
}
