//! A machine's life under machined: it is there whole, or not at all.

use std::{thread, time::Duration};

use crate::{
    lab::{LONG, Lab, SOON, names},
    process::{finish, until},
};

fn state(lab: &Lab, name: &str) -> String {
    let status = lab.host().sandbox(&["status", name, "--json"]);
    let status: serde_json::Value = serde_json::from_str(status.ok()).expect("JSON");
    status["state"].as_str().expect("a state").to_owned()
}

/// What was written stays; Docker works after a stop, and after the guest's own reboot.
pub fn stop_start_and_restart(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    host.exec(agents, &["sh", "-c", "echo kept >/root/kept"]).ok();
    host.sandbox(&["stop", agents]).ok();
    assert_eq!(state(lab, agents), "stopped");
    host.exec(agents, &["true"]).ends_with(125);
    host.sandbox(&["start", agents]).ok();
    assert_eq!(host.exec(agents, &["systemctl", "is-system-running"]).ok(), "running");
    assert_eq!(host.exec(agents, &["cat", "/root/kept"]).ok(), "kept");
    let nested = ["unshare", "-Urpf", "--mount-proc", "true"];
    host.exec(agents, &nested).ok();

    let boot = |lab: &Lab| {
        let output = lab.host().exec(agents, &["stat", "-c", "%Y-%i", "/proc/1/ns/pid"]);
        (output.code == 0).then_some(output.out)
    };
    let before = boot(lab).expect("it runs");
    host.sandbox(&["restart", agents]).ok();
    assert_ne!(boot(lab).expect("it runs"), before);
    host.exec(agents, &nested).ok();

    // a reboot from inside: nobody of ours takes part
    let before = boot(lab).expect("it runs");
    host.exec(agents, &["systemctl", "reboot", "--no-block"]);
    until("the guest is back", SOON, || {
        (boot(lab).is_some_and(|now| now != before) && state(lab, agents) == "running").then_some(())
    });
    host.exec(agents, &nested).ok();
}

/// Two creates of one name at once: one makes it, the other says so with exit 1.
pub fn of_two_creates_one_wins(lab: &Lab) {
    let host = lab.host();
    let argv = ["create", "twice", "--release", "trixie", "--no-start"];
    let (one, two) = (host.start(&argv), host.start(&argv));
    let (one, two) = (finish(one, &argv, LONG), finish(two, &argv, LONG));
    let mut codes = [one.code, two.code];
    codes.sort_unstable();
    assert_eq!(codes, [0, 1], "{one:?}\n{two:?}");
    assert_eq!(state(lab, "twice"), "stopped");
    host.sandbox(&["remove", "twice", "--yes"]).ok();
}

/// A create that is killed, at whatever point: the next command leaves nothing of it.
pub fn killed_create_leaves_nothing(lab: &Lab) {
    let host = lab.host();
    let before = host.traces();
    for seconds in [0.2, 1.0, 3.0, 6.0, 10.0] {
        let argv = ["create", "victim", "--release", "trixie"];
        let create = host.start(&argv);
        thread::sleep(Duration::from_secs_f64(seconds));
        host.sh("pkill -KILL -x -f '/usr/local/bin/sandbox create victim --release trixie' || true").ok();
        let killed = finish(create, &argv, SOON);
        let list = host.sandbox(&["list", "--json"]);
        let listed = names(list.ok()).contains(&"victim".to_owned());
        assert_eq!(listed, killed.code == 0, "listed only if it was ready before the kill: {killed:?}");
        if listed {
            host.sandbox(&["remove", "victim", "--yes"]).ok();
        }
        host.traces().are(&before);
    }
}

/// `remove` asks, and leaves nothing.
pub fn remove_leaves_nothing(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    assert!(host.traces().mention("agents"), "what is looked for is seen while it is there");
    let unsaid = host.sandbox(&["remove", agents]);
    assert_ne!(unsaid.code, 0, "no terminal to ask on, and no --yes: {unsaid:?}");
    assert_eq!(state(lab, agents), "running");
    host.sandbox(&["remove", agents, "--yes"]).ok();
    host.sandbox(&["status", agents]).ends_with(1);
    assert_eq!(names(host.sandbox(&["list", "--json"]).ok()), Vec::<String>::new());
    host.traces().are(host.traces_before());
}

/// Removes what the run made, and looks at what is left on this machine.
pub fn the_run_leaves_nothing(lab: &Lab) {
    if !lab.is_root() {
        return;
    }
    lab.clear();
    lab.traces_here().are(lab.traces_before());
}
