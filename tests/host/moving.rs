//! A machine that goes through a file.

use std::fs;

use crate::lab::{Lab, names, own};

/// Exported as it runs, imported under another name; exported stopped, removed, and back as it was.
pub fn a_machine_goes_through_a_file(lab: &Lab) {
    let (plain, moved) = (own("plain"), own("moved"));
    if !names(lab.sandbox(&["list", "--json"]).ok()).contains(&plain) {
        lab.sandbox(&["create", &plain, "--backend", "direct", "--release", "trixie"]).ok();
    }
    let exec = |machine: &str, script: &str| {
        lab.sandbox(&["exec", machine, "--", "sh", "-c", script]).ok().to_owned()
    };
    let file = lab.path("moved.tar.zst");
    let _ = fs::remove_file(&file);
    let file = file.to_str().expect("a UTF-8 path");
    exec(&plain, "echo through-a-file >/root/through && chown 1:2 /root/through");
    lab.sandbox(&["export", &plain, file]).ends_with(1);
    let said = lab.sandbox(&["export", &plain, file, "--live"]);
    said.ok();
    assert!(said.err.contains("as after a crash"), "{}", said.err);
    // it goes on
    assert_eq!(exec(&plain, "systemctl is-system-running"), "running");

    lab.sandbox(&["import", file, &moved, "--backend", "direct"]).ok();
    assert_eq!(
        exec(&moved, "cat /root/through; stat -c %u:%g /root/through; hostname"),
        format!("through-a-file\n1:2\n{moved}")
    );
    assert_eq!(exec(&moved, "systemctl is-system-running; dpkg --audit"), "running");
    assert_ne!(exec(&moved, "cat /etc/machine-id"), exec(&plain, "cat /etc/machine-id"));

    let id = exec(&moved, "echo again >/srv/again; cat /etc/machine-id");
    fs::remove_file(file).expect("the file");
    lab.sandbox(&["export", &moved, file, "--stop"]).ok();
    assert_eq!(exec(&moved, "systemctl is-system-running"), "running");
    lab.sandbox(&["remove", &moved, "--yes"]).ok();
    lab.sandbox(&["import", file, "--backend", "direct"]).ok();
    assert_eq!(exec(&moved, "cat /srv/again /etc/machine-id"), format!("again\n{id}"));
    lab.sandbox(&["remove", &moved, "--yes"]).ok();
    fs::remove_file(file).expect("the file");
}
