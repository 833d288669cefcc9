//! What is said where wishes cannot be met: never a bare “unsatisfiable”.
//!
//! The packages are shaped as those of trixie and bookworm that people ran into.

use super::*;

/// Says a failed request in the lines that the program prints.
fn lines(catalog: &Catalog, install: &[(&str, &str)], exclude: &[&str]) -> Vec<String> {
    let wanted =
        |(name, by): &(&str, &str)| Wanted { name: (*name).to_owned(), by: (*by).to_owned(), layer: 0 };
    let request = Request {
        install: install.iter().map(wanted).collect(),
        exclude: exclude.iter().map(|&name| name.to_owned()).collect(),
        ..request(&[])
    };
    let error = resolve(catalog, &request).unwrap_err();
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    causes.map(ToString::to_string).collect()
}

const CLI: &str = "--include";

#[test]
fn a_package_that_is_not_there() {
    let all = catalog(&["npm: Depends: nodejs (>= 20), node-undici", "nodejs 20.19"]);
    assert_eq!(
        lines(&all, &[("npm", CLI)], &[]),
        [
            "no set of packages meets all wishes",
            "`npm` is wanted by --include",
            "`npm 1` depends on `node-undici`",
            "the archive offers no `node-undici`",
        ]
    );
}

#[test]
fn a_version_that_is_too_old() {
    let all = catalog(&[
        "claude: Depends: nodejs (>= 20) | nodejs-lts (>= 22)",
        "nodejs 18.20.4+dfsg-1",
        "nodejs-lts 20",
    ]);
    assert_eq!(
        lines(&all, &[("claude", "profile `claude` (profiles/claude.toml:14)")], &[])[1..],
        [
            "`claude` is wanted by profile `claude` (profiles/claude.toml:14)",
            "`claude 1` depends on `nodejs (>= 20) | nodejs-lts (>= 22)`",
            "the archive offers `nodejs` 18.20.4+dfsg-1 (release); `nodejs-lts` 20 (release)",
        ]
    );
}

#[test]
fn two_wishes_that_exclude_each_other() {
    let all = catalog(&[
        "systemd-sysv: Depends: systemd; Conflicts: sysvinit-core",
        "systemd",
        "sysvinit-core: Depends: initscripts",
        "initscripts",
    ]);
    assert_eq!(
        lines(&all, &[("systemd-sysv", "the image"), ("sysvinit-core", CLI)], &[])[1..],
        [
            "`systemd-sysv` is wanted by the image",
            "`sysvinit-core` is wanted by --include",
            "`systemd-sysv 1` cannot be together with `sysvinit-core 1`",
        ]
    );
}

#[test]
fn an_excluded_package_that_is_needed() {
    let all = catalog(&[
        "docker.io: Depends: containerd (>= 1.4), iptables",
        "containerd 1.7: Depends: runc (>= 1.0.0~rc2~)",
        "runc 1.1",
        "iptables",
    ]);
    assert_eq!(
        lines(&all, &[("docker.io", CLI)], &["runc"])[1..],
        [
            "`docker.io` is wanted by --include",
            "`docker.io 1` depends on `containerd (>= 1.4)`",
            "`containerd 1.7` depends on `runc (>= 1.0.0~rc2~)`",
            "the archive offers `runc`, which is excluded",
        ]
    );
}

#[test]
fn a_pre_dependency_that_cannot_be_installed() {
    let all = catalog(&["e: Essential: yes; Pre-Depends: libc6 (>= 2.41)", "libc6 2.36: Depends: libgcc-s1"]);
    assert_eq!(
        lines(&all, &[], &[])[1..],
        [
            "`e` is wanted by every system: it is essential",
            "`e 1` pre-depends on `libc6 (>= 2.41)`",
            "the archive offers `libc6` 2.36 (release)",
        ]
    );
}

#[test]
fn alternatives_that_all_fail_are_all_named() {
    let all = catalog(&[
        "app: Depends: mta | exim4 | postfix",
        "exim4: Depends: exim4-daemon",
        "postfix: Conflicts: keep",
        "keep",
        "other: Provides: mta; Depends: gone",
    ]);
    let said = lines(&all, &[("app", CLI), ("keep", "the image")], &[]);
    for fact in [
        "`app` is wanted by --include",
        "`keep` is wanted by the image",
        "`app 1` depends on `mta | exim4 | postfix`",
        "`other 1` depends on `gone`",
        "the archive offers no `gone`",
        "`exim4 1` depends on `exim4-daemon`",
        "the archive offers no `exim4-daemon`",
        "`postfix 1` cannot be together with `keep 1`",
    ] {
        assert!(said.iter().any(|line| line == fact), "{fact} is not in {said:#?}");
    }
    assert_eq!(said.len(), 9, "and nothing beside them: {said:#?}");
}

#[test]
fn a_version_that_is_provided_is_said_as_such() {
    let all = catalog(&["app: Depends: libssl3 (>= 4)", "libssl3t64 3.5: Provides: libssl3 (= 3.5)"]);
    assert_eq!(
        lines(&all, &[("app", CLI)], &[]).last().unwrap(),
        "the archive offers `libssl3` 3.5 (provided by `libssl3t64`)"
    );
}
