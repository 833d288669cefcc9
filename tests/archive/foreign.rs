//! A tree for another processor than the host's.

use std::{fs, time::Duration};

use crate::{
    lab::{Lab, text},
    process,
    runner::skip,
};

const SOON: Duration = Duration::from_secs(300);

/// The other one of the two architectures that images are for, in Debian's words and the kernel's.
const OTHER: (&str, &str) =
    if cfg!(target_arch = "aarch64") { ("amd64", "x86_64") } else { ("arm64", "aarch64") };

/// Tells whether the kernel has an emulator for the other architecture that trees can use (flag F).
fn is_emulated() -> bool {
    let handler = fs::read_to_string(format!("/proc/sys/fs/binfmt_misc/qemu-{}", OTHER.1));
    handler.is_ok_and(|text| {
        let flags = text.lines().find_map(|line| line.strip_prefix("flags: "));
        text.starts_with("enabled") && flags.is_some_and(|flags| flags.contains('F'))
    })
}

/// Resolved, fetched and unpacked natively, configured under emulation: the tree is as a native one.
pub fn it_is_built_under_emulation(lab: &Lab) {
    if !is_emulated() {
        skip("the kernel here has no emulator: qemu-user-static with binfmt_misc");
    }
    let tree = lab.path("foreign");
    lab.sandbox(&["bootstrap", "trixie", text(&tree), "--arch", OTHER.0]).ok();
    let inside = |argv: &[&str]| process::run(&[&["chroot", text(&tree)], argv].concat(), "", SOON);
    assert_eq!(inside(&["dpkg", "--print-architecture"]).ok(), OTHER.0);
    assert_eq!(inside(&["uname", "-m"]).ok(), OTHER.1);
    for check in ["--audit", "--verify"] {
        assert_eq!(inside(&["dpkg", check]).ok(), "", "dpkg {check}");
    }
    let architectures = inside(&["dpkg-query", "-W", "-f", "${Architecture}\n"]);
    assert!(architectures.ok().lines().all(|word| word == OTHER.0 || word == "all"), "{architectures:?}");
    assert!(!tree.join("qemu-aarch64-static").exists() && !tree.join("usr/bin/qemu-aarch64-static").exists());
    process::run(&["rm", "-rf", "--one-file-system", text(&tree)], "", SOON).ok();
}

/// Where the kernel has none, it is said before anything is fetched, with what to install.
pub fn without_an_emulator_it_says_what_to_install(lab: &Lab) {
    if is_emulated() {
        skip("this host has the emulator");
    }
    let tree = lab.path("foreign");
    let refused = lab.sandbox(&["bootstrap", "trixie", text(&tree), "--arch", OTHER.0]);
    refused.ends_with(6);
    assert!(refused.err.contains("apt install qemu-user-static"), "{}", refused.err);
    assert!(!refused.err.contains("archive "), "something was fetched: {}", refused.err);
    assert!(!tree.exists());
}
