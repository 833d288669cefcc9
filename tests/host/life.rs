//! A machine's life under machined: it is there whole, or not at all.

use std::{thread, time::Duration};

use serde_json::Value;

use crate::{
    lab::{Host, LONG, Lab, SOON, names, own},
    network::{LISTEN, control, probe},
    process::{Output, finish, until},
};

fn leader(host: &Host<'_>, name: &str) -> i64 {
    let status: Value = serde_json::from_str(host.sandbox(&["status", name, "--json"]).ok()).expect("JSON");
    status["leader"].as_i64().expect("it runs")
}

fn state(lab: &Lab, name: &str) -> String {
    let status = lab.host().sandbox(&["status", name, "--json"]);
    let status: serde_json::Value = serde_json::from_str(status.ok()).expect("JSON");
    status["state"].as_str().expect("a state").to_owned()
}

/// Starts a machine that runs, and then one that is on its way down, whatever ends it: its end is waited for.
#[track_caller]
pub fn starts_while_it_goes_down(sandbox: impl Fn(&[&str]) -> Output, name: &str) {
    sandbox(&["start", name]).ends_with(1);
    for end in [
        &["kill", name, "--signal", "KILL"][..],
        &["kill", name, "--whom", "all", "--signal", "KILL"],
        &["exec", name, "--", "systemctl", "poweroff", "--no-block"],
    ] {
        sandbox(end);
        let started = sandbox(&["start", name]);
        assert_eq!(started.code, 0, "after {end:?}: {started:?}");
        sandbox(&["exec", name, "--", "true"]).ok();
    }
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
    // over D-Bus: nothing of systemd's is run for it, unless a guest is so slow that it is asked by a program of its own
    let traced = "strace -f -e trace=execve -o /tmp/trace sandbox restart $0 && \
                  ! grep -E '/(systemctl|machinectl|systemd-run|busctl|systemd-nspawn)\"' /tmp/trace | grep -v is-system-running && \
                  rm /tmp/trace";
    host.run(&["sh", "-c", traced, agents]).ok();
    assert_ne!(boot(lab).expect("it runs"), before);
    host.exec(agents, &nested).ok();

    // a reboot from inside: nobody of ours takes part
    let before = boot(lab).expect("it runs");
    host.exec(agents, &["systemctl", "reboot", "--no-block"]);
    until("the guest is back", SOON, || {
        (boot(lab).is_some_and(|now| now != before) && state(lab, agents) == "running").then_some(())
    });
    host.exec(agents, &nested).ok();
    starts_while_it_goes_down(|verb| host.sandbox(verb), agents);
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

/// A host that was shut down and started again: machines that start with it run, in their order, behind their walls;
/// others that ran are stopped and start when they are told to.
pub fn machines_come_back_with_their_host(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    let before = host.traces();
    let all = [("first", "nspawn"), ("second", "nspawn"), ("third", "direct"), ("fourth", "lxc")];
    for (name, backend) in all {
        let create = ["create", name, "--release", "trixie", "--backend", backend];
        host.sandbox(&[&create[..], if name == "third" { &[] } else { &["--no-start"] }].concat()).ok();
    }
    host.sandbox(&["set", "first", "--start-order", "1"]).ok();
    host.sandbox(&["set", "second", "--start-order", "2", "--start-delay", "3"]).ok();
    host.sandbox(&["enable", "third"]).ok();
    host.sandbox(&["enable", "fourth"]).ok();
    let third = leader(&host, "third");
    host.exec("third", &["sh", "-c", "echo kept >/root/kept"]).ok();
    assert_eq!(state(lab, agents), "running");

    lab.sandbox(&["restart", &own("testhost")]).ok();
    for name in ["first", "second", "third", "fourth"] {
        host.sandbox(&["wait", name, "--for", "running", "--timeout", "120"]).ok();
    }
    let list: Value = serde_json::from_str(host.sandbox(&["list", "--json"]).ok()).expect("JSON");
    let states: Vec<_> =
        list.as_array().expect("a list").iter().map(|one| (&one["name"], &one["state"])).collect();
    for (name, expected) in [
        (agents, "stopped"),
        ("first", "running"),
        ("second", "running"),
        ("third", "running"),
        ("fourth", "running"),
    ] {
        assert!(states.contains(&(&name.into(), &expected.into())), "{name}: {list}");
        assert_eq!(state(lab, name), expected, "{name}");
    }
    assert_eq!(host.sandbox(&["repair"]).ok(), "nothing is half-made");
    // in order: what comes later was begun when the earlier one was up, and its delay over
    let at = |unit: &str, property: &str| -> u64 {
        let shown = host.run(&["systemctl", "show", "--value", "-p", property, unit]);
        shown.ok().parse().expect("microseconds")
    };
    let up = at("systemd-nspawn@first.service", "ActiveEnterTimestampMonotonic");
    let begun = at("systemd-nspawn@second.service", "ExecMainStartTimestampMonotonic");
    assert!(begun >= up + 3_000_000, "{up} and then {begun}");
    // what it ran with is gone, what was written is not
    assert_ne!(leader(&host, "third"), third);
    assert_eq!(host.exec("third", &["cat", "/root/kept"]).ok(), "kept");
    let unit = host.run(&["systemctl", "is-active", "sandbox-machines.service"]);
    assert_eq!(unit.ok(), "active");
    // walls
    host.sh(LISTEN).ok();
    for name in ["first", "third", "fourth"] {
        let gateway = until("a way out", SOON, || {
            let route = host.exec(name, &["sh", "-c", "ip -4 route show default | awk '{ print $3; exit }'"]);
            Some(route.ok().to_owned()).filter(|route| !route.is_empty())
        });
        if name == "first" {
            control(&host, &gateway, 8099);
        }
        assert_eq!(probe(&host, Some(name), &gateway, 8099), "refused", "{name}: {gateway}");
    }
    host.sh("systemctl stop listener").ok();
    // what did not come with the host comes when it is told to, all that are enabled at once
    host.sandbox(&["stop", "first"]).ok();
    host.sandbox(&["stop", "third"]).ok();
    host.sandbox(&["start", "--all"]).ok();
    for (name, expected) in [(agents, "stopped"), ("first", "running"), ("third", "running")] {
        assert_eq!(state(lab, name), expected, "{name}");
    }
    host.sandbox(&["disable", "third"]).ok();
    host.sh("test ! -e /etc/systemd/system/sandbox-machines.service").ok();
    host.sandbox(&["enable", "third"]).ok();
    for name in ["first", "second", "third", "fourth"] {
        host.sandbox(&["remove", name, "--yes"]).ok();
    }
    host.sandbox(&["start", agents]).ok();
    assert_eq!(state(lab, agents), "running");
    host.traces().are(&before);
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
