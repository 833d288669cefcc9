//! `list`, `status`, `logs`.

use serde_json::Value;

use crate::{
    lab::{Lab, SOON, names},
    process::until,
};

/// `list` and `status` agree, in words and in JSON.
pub fn list_and_status(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    assert!(names(host.sandbox(&["list", "--json"]).ok()).contains(&agents.to_owned()));
    let list = host.sandbox(&["list"]);
    let row = list.ok().lines().find(|line| line.contains(agents)).expect("a row").to_owned();
    assert!(row.contains("running"), "{row}");
    // its systemd runs before its link has an address: nothing in a machine waits for a network
    let status = until("`agents` has an address", SOON, || {
        let status = host.sandbox(&["status", agents, "--json"]);
        let status: Value = serde_json::from_str(status.ok()).expect("JSON");
        status["addresses"].as_array().is_some_and(|list| !list.is_empty()).then_some(status)
    });
    for (key, value) in [("name", agents), ("state", "running"), ("backend", "nspawn"), ("image", "trixie")] {
        assert_eq!(status[key], value, "{status}");
    }
    let profiles: Vec<_> = status["profiles"].as_array().expect("a list").iter().collect();
    for profile in ["base", "docker", "claude", "codex"] {
        assert!(profiles.iter().any(|known| **known == profile), "{status}");
    }
    assert!(status["leader"].as_u64().is_some_and(|pid| pid > 1), "{status}");
    assert!(host.sandbox(&["status", agents]).ok().contains("running"));
    // its systemd is asked over its own socket: no program runs in it for that, nor is it bothered
    let trace = "strace -f -e trace=execve -o /tmp/trace sandbox list >/dev/null && grep -c execve /tmp/trace; rm /tmp/trace";
    assert_eq!(host.sh(trace).ok(), "1", "`list` is one program");
    let refused = host.exec(agents, &["journalctl", "-q", "-b", "--grep", "unprivileged client"]);
    assert_eq!(refused.out, "", "{refused:?}");
    host.sandbox(&["status", "nobody-made-this"]).ends_with(1);
}

/// `logs` shows the machine's own journal.
pub fn logs(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    host.exec(agents, &["logger", "-t", "probe", "a line of the machine"]).ok();
    host.exec(agents, &["journalctl", "--sync"]).ok();
    let logs = host.sandbox(&["logs", agents]);
    assert!(logs.ok().contains("a line of the machine"), "the journal has it");
    let last = host.sandbox(&["logs", agents, "-n", "3"]);
    let count = last.ok().lines().filter(|line| !line.starts_with("--")).count();
    assert!((1..=3).contains(&count), "{last:?}");
    let json = host.sandbox(&["logs", agents, "-n", "3", "--json"]);
    for line in json.ok().lines() {
        let entry: Value = serde_json::from_str(line).expect("JSON");
        assert!(entry.get("MESSAGE").is_some(), "{entry}");
    }
}
