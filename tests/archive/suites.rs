//! Every suite of Debian that images are shipped for, beside the two that all other tests use.

use std::{fs, time::Duration};

use crate::{
    lab::{Lab, text},
    process,
};

const SOON: Duration = Duration::from_secs(300);

/// Debian unstable: one pocket, and base-files brings the links of merged /usr.
pub fn sid_is_built(lab: &Lab) {
    built(lab, "sid", &["sid"]);
}

/// Debian testing, whose security archive has another set of architectures.
pub fn forky_is_built(lab: &Lab) {
    built(lab, "forky", &["forky forky-updates", "forky-security"]);
}

/// Debian 11, where nothing in the archive asks for merged /usr.
pub fn bullseye_is_built(lab: &Lab) {
    built(lab, "bullseye", &["bullseye bullseye-updates", "bullseye-security"]);
}

fn built(lab: &Lab, suite: &str, stanzas: &[&str]) {
    let tree = lab.path(suite);
    // a mirror that lags behind has an expired Release file of these, for they are made every six hours
    lab.sandbox(&["bootstrap", suite, text(&tree), "--ignore-valid-until"]).ok();
    let inside = |argv: &[&str]| process::run(&[&["chroot", text(&tree)], argv].concat(), "", SOON);
    for check in ["--audit", "--verify"] {
        let checked = inside(&["dpkg", check]);
        assert_eq!((checked.ok(), &*checked.err), ("", ""), "{suite}: dpkg {check}");
    }
    let status = inside(&["dpkg-query", "-W", "-f", "${Package} ${db:Status-Abbrev}\n"]);
    let half: Vec<_> = status.ok().lines().filter(|line| !line.trim_end().ends_with("ii")).collect();
    assert!(status.ok().lines().count() > 60 && half.is_empty(), "{suite}: {half:?}");
    for name in ["bin", "sbin", "lib"] {
        let link = fs::read_link(tree.join(name)).expect(name);
        assert_eq!(link.to_str(), Some(&*format!("usr/{name}")), "{suite}");
    }
    let sources = fs::read_to_string(tree.join("etc/apt/sources.list.d/debian.sources")).expect("sources");
    let suites: Vec<_> = sources.lines().filter_map(|line| line.strip_prefix("Suites: ")).collect();
    assert_eq!(suites, stanzas);
    process::run(&["rm", "-rf", "--one-file-system", text(&tree)], "", SOON).ok();
}
