//! The backend `lxc`: a life of its own, beside LXC's own programs, and machines that move to it and away.

use std::{net::Ipv4Addr, time::Duration};

use serde_json::Value;

use crate::{
    docker,
    lab::{Host, Lab, SOON, names},
    life::starts_while_it_goes_down,
    network::{self, LISTEN, control, probe},
    process::until,
    shell, verbs,
};

/// The machine that is made with it.
const BOXED: &str = "boxed";

fn status(host: &Host<'_>, name: &str) -> Value {
    serde_json::from_str(host.sandbox(&["status", name, "--json"]).ok()).expect("JSON")
}

fn address(host: &Host<'_>, name: &str) -> String {
    until(&format!("`{name}` has an IPv4 address"), SOON, || {
        let status = status(host, name);
        let addresses = status["addresses"].as_array()?.iter().filter_map(Value::as_str);
        addresses.filter(|address| address.parse::<Ipv4Addr>().is_ok()).map(str::to_owned).next()
    })
}

fn boxed(host: &Host<'_>) {
    if !names(host.sandbox(&["list", "--json"]).ok()).contains(&BOXED.to_owned()) {
        host.sandbox(&["create", BOXED, "--release", "trixie", "--backend", "lxc"]).ok();
    }
}

/// Made, seen, entered, also by LXC's own programs.
pub fn a_machine_is_a_container(lab: &Lab) {
    let host = lab.host();
    boxed(&host);
    let shown = status(&host, BOXED);
    assert_eq!((&shown["state"], &shown["backend"]), (&"running".into(), &"lxc".into()), "{shown}");
    host.exec(BOXED, &["sh", "-c", "exit 42"]).ends_with(42);
    shell::draws(&host.on_terminal(&["shell", BOXED]), &host.on_terminal(&shell::drawn(BOXED)));
    assert_eq!(host.exec(BOXED, &["systemd-detect-virt"]).ok(), "lxc");
    assert!(host.sandbox(&["logs", BOXED]).ok().contains("Startup finished"));
    let shell = host.sandbox_on(&["shell", BOXED, "--user", "root"], "echo in-$(hostname)\nexit\n");
    assert!(shell.ok().contains("in-boxed"), "{shell:?}");
    // its root is nobody on the host
    let uid = host.sh(&format!("stat -c %u /proc/{}", shown["leader"]));
    assert!(uid.ok().parse::<u64>().expect("a number") >= 0x7000_0000, "{uid:?}");

    assert!(host.run(&["lxc-ls", "-1"]).ok().contains(BOXED));
    assert_eq!(host.run(&["lxc-attach", "-n", BOXED, "--", "hostname"]).ok(), BOXED);
    // liblxc's own parser reads what we wrote, and would not read what it does not know
    let asked = ["lxc-info", "-P", "/var/lib/lxc", "-n", BOXED, "-c", "lxc.rootfs.options"];
    assert_eq!(host.run(&asked).ok(), "lxc.rootfs.options = idmap=container");
    let broken = "mkdir -p /tmp/l/x && (cat /var/lib/lxc/boxed/config; echo lxc.nonsense = 1) >/tmp/l/x/config && \
        lxc-info -P /tmp/l -n x -c lxc.uts.name; status=$?; rm -rf /tmp/l /run/lxc/lock/tmp; exit $status";
    host.sh(broken).ends_with(1);
}

/// Stopped cleanly, by force, started by hand; the wall stands each time.
pub fn it_is_started_and_stopped_by_whom_you_like(lab: &Lab) {
    let host = lab.host();
    boxed(&host);
    host.exec(BOXED, &["sh", "-c", "echo kept >/root/kept"]).ok();
    host.sandbox(&["stop", BOXED]).ok();
    assert_eq!(status(&host, BOXED)["state"], "stopped");
    host.exec(BOXED, &["true"]).ends_with(125);
    host.run(&["lxc-start", "-n", BOXED]).ok();
    until("its systemd runs", SOON, || (status(&host, BOXED)["state"] == "running").then_some(()));
    let own = address(&host, BOXED);
    assert_eq!(host.exec(BOXED, &["cat", "/root/kept"]).ok(), "kept");

    host.sh(LISTEN).ok();
    let gateway = host.exec(BOXED, &["sh", "-c", "ip -4 route show default | awk '{ print $3; exit }'"]);
    control(&host, gateway.ok(), 8099);
    assert_eq!(probe(&host, Some(BOXED), gateway.ok(), 8099), "refused");
    host.sh("systemctl stop listener").ok();

    // one that does not want to go
    host.exec(BOXED, &["systemctl", "mask", "--runtime", "--now", "poweroff.target"]).ok();
    let stopped = host.sandbox(&["stop", BOXED, "--timeout", "2"]);
    assert!(stopped.err.contains("by force") && stopped.code == 0, "{stopped:?}");
    assert_eq!(host.run(&["lxc-info", "-n", BOXED, "-s", "-H"]).ok(), "STOPPED");
    host.sandbox(&["start", BOXED]).ok();
    assert_eq!(address(&host, BOXED), own, "a machine keeps its address");
    starts_while_it_goes_down(|verb| host.sandbox(verb), BOXED);
}

/// What LXC does not have is refused by name; what somebody else made is left alone.
pub fn what_cannot_be_is_refused(lab: &Lab) {
    let host = lab.host();
    let create = |name, more: &[&str]| host.sandbox(&[&["create", name, "--backend", "lxc"], more].concat());
    let refused = create("refused", &["--privileged"]);
    assert!(refused.err.contains("privileged"), "{refused:?}");
    refused.ends_with(2);
    let refused = create("refused", &["--network", "host"]);
    assert!(refused.err.contains("--network host"), "{refused:?}");
    let by_hand = "mkdir -p /var/lib/lxc/byhand && echo lxc.uts.name = byhand >/var/lib/lxc/byhand/config";
    host.sh(by_hand).ok();
    let taken = create("byhand", &[]);
    assert!(taken.err.contains("did not make it"), "{taken:?}");
    taken.ends_with(1);
    assert_eq!(host.sh("cat /var/lib/lxc/byhand/config").ok(), "lxc.uts.name = byhand");
    host.sh("rm -r /var/lib/lxc/byhand").ok();
}

/// The machine `agents`, as a container of LXC's; it goes there where it is not yet.
fn agents_on_lxc(host: &Host<'_>) -> &'static str {
    let agents = host.agents();
    if status(host, agents)["backend"] != "lxc" {
        host.sandbox(&["move", agents, "--to", "lxc", "--restart"]).ok();
    }
    agents
}

/// The same tree, name and volumes, and the images of its Docker; one that runs is not moved unasked.
pub fn agents_move_to_it(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    docker::run_of_an_imported_tree(lab);
    let write = "echo kept >/home/agent/.claude/kept";
    host.sandbox(&["exec", agents, "--user", "agent", "--", "sh", "-c", write]).ok();
    let refused = host.sandbox(&["move", agents, "--to", "lxc"]);
    assert!(refused.err.contains("--restart"), "{refused:?}");
    refused.ends_with(1);
    assert_eq!(status(&host, agents)["backend"], "nspawn");
    agents_on_lxc(&host);
    assert_eq!(status(&host, agents)["backend"], "lxc");
    host.exec(agents, &["docker", "run", "--rm", "--pull", "never", "tree", "true"]).ok();
    let read = ["sh", "-c", "stat -c %U /home/agent/.claude/kept; cat /home/agent/.claude/kept"];
    assert_eq!(host.exec(agents, &read).ok(), "agent\nkept");
    assert_eq!(host.sh("ls /var/lib/machines /etc/systemd/nspawn | grep -c agents").out.trim(), "0");
}

/// Docker and the agents' own sandboxes.
pub fn docker_works_in_it(lab: &Lab) {
    agents_on_lxc(&lab.host());
    docker::run_of_an_imported_tree(lab);
    docker::build(lab);
    docker::nested_user_namespaces(lab);
    let host = lab.host();
    let privileged = ["docker", "run", "--rm", "--privileged", "--pull", "never", "tree", "echo", "well"];
    assert_eq!(host.exec(host.agents(), &privileged).ok(), "well");
}

/// The internet is reached; host, LAN and another machine are not.
pub fn its_walls_stand(lab: &Lab) {
    let host = lab.host();
    let agents = agents_on_lxc(&host);
    network::the_archive_is_reached(lab);
    network::the_host_is_not_reached(lab);
    network::the_lan_is_not_reached(lab);
    boxed(&host);
    host.exec(BOXED, &["sh", "-c", LISTEN]).ok();
    let address = address(&host, BOXED);
    control(&host, &address, 8099);
    assert_eq!(probe(&host, Some(agents), &address, 8099), "refused");
}

/// The verbs that do not care what runs a machine.
pub fn the_verbs_work_on_it(lab: &Lab) {
    agents_on_lxc(&lab.host());
    verbs::copies_keep_owners_and_kinds(lab);
    verbs::signals_reach_whom_they_should(lab);
    verbs::a_port_is_waited_for(lab);
    verbs::a_folder_of_the_host_is_mounted(lab);
}

fn other_leader(host: &Host<'_>, before: &Value) {
    until("another first process", SOON, || {
        let now = status(host, BOXED)["leader"].clone();
        (!now.is_null() && now != *before).then_some(())
    });
    host.sandbox(&["wait", BOXED, "--timeout", "60"]).ok();
}

/// A guest's reboot is one, also where LXC's own programs started it, unless somebody stops it meanwhile; LXC's service
/// starts what is to start with the host.
pub fn it_reboots_and_starts_with_the_host(lab: &Lab) {
    let host = lab.host();
    boxed(&host);
    let asked = |key: &str| host.run(&["lxc-info", "-n", BOXED, "-c", key]).ok().to_owned();
    let reboot = || drop(host.exec(BOXED, &["systemctl", "reboot", "--no-block"]));
    host.sandbox(&["set", BOXED, "--start-order", "7", "--start-delay", "1"]).ok();
    host.sandbox(&["stop", BOXED]).ok();
    assert_eq!(asked("lxc.start.order"), "lxc.start.order = 7");
    assert_eq!(asked("lxc.start.delay"), "lxc.start.delay = 1");
    host.run(&["lxc-autostart"]).ok();
    let before = status(&host, BOXED)["leader"].clone();
    host.sandbox(&["wait", BOXED, "--timeout", "60"]).ok();
    reboot();
    other_leader(&host, &before);
    let before = status(&host, BOXED)["leader"].clone();
    // it ends and is started anew, which this program takes for a failure
    host.run(&["lxc-stop", "--reboot", "-n", BOXED]);
    other_leader(&host, &before);
    reboot();
    host.sandbox(&["stop", BOXED]).ok();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(status(&host, BOXED)["state"], "stopped", "it was to stop");
    host.sandbox(&["disable", BOXED]).ok();
    assert_eq!(asked("lxc.start.auto"), "lxc.start.auto = 0");

    // this host has no controllers in its unified hierarchy: what was written down all the same keeps nobody from starting
    host.sandbox(&["set", BOXED, "--memory", "1G"]).ends_with(6);
    host.sandbox(&["set", BOXED, "--memory", "1G", "--unenforced"]).ok();
    host.sandbox(&["start", BOXED]).ok();
    host.sandbox(&["set", BOXED, "--memory", "none"]).ok();
    let refused = host.sandbox(&["set", BOXED, "--restart", "always"]);
    assert!(refused.err.contains("no restart policy"), "{refused:?}");
    refused.ends_with(2);
}

/// Forked as it runs, kept and restored, renamed: each is a container of its own, with ids of its own.
pub fn it_is_forked_kept_and_renamed(lab: &Lab) {
    let host = lab.host();
    boxed(&host);
    host.sandbox(&["snapshot", "create", BOXED, "early"]).ok();
    host.exec(BOXED, &["touch", "/root/later"]).ok();
    let differs = host.sandbox(&["snapshot", "diff", BOXED, "early"]);
    assert!(differs.out.contains("/root/later"), "{differs:?}");
    differs.ends_with(1);
    host.sandbox(&["fork", BOXED, "forkbox"]).ok();
    assert_eq!(host.exec("forkbox", &["sh", "-c", "hostname; ls /root/later"]).ok(), "forkbox\n/root/later");
    let ids = host.sh("grep -h '^lxc.idmap = u' /var/lib/lxc/*box*/config | sort -u | wc -l");
    assert_eq!(ids.ok(), "2");
    host.sandbox(&["enable", "forkbox"]).ok();
    host.sandbox(&["rename", "forkbox", "renbox", "--restart"]).ok();
    assert_eq!(host.exec("renbox", &["hostname"]).ok(), "renbox");
    let there = host.run(&["ls", "/var/lib/lxc"]);
    assert!(there.ok().contains("renbox") && !there.ok().contains("forkbox"), "{there:?}");
    host.sandbox(&["remove", "renbox", "--yes"]).ok();
    host.sandbox(&["snapshot", "restore", BOXED, "early", "--yes", "--restart"]).ok();
    host.exec(BOXED, &["test", "!", "-e", "/root/later"]).ok();
    host.sandbox(&["snapshot", "remove", BOXED, "early"]).ok();
}

/// What profiles ask for and say: devices, volumes, health.
pub fn it_has_what_profiles_ask_for(lab: &Lab) {
    let host = lab.host();
    let devices = "[ -e /dev/fuse ] || mknod -m 666 /dev/fuse c 10 229; \
        mkdir -p /dev/net; [ -e /dev/net/tun ] || mknod -m 666 /dev/net/tun c 10 200";
    host.sh(devices).ok();
    let text = include_str!("profiled.toml").replacen("name = \"profiled\"", "name = \"asking\"", 1);
    let text = text + "\n[machine]\ndevices = [\"/dev/fuse\", \"/dev/net/tun\"]\n";
    host.put("/root/asking.toml", "0644", text.into_bytes());
    let create = ["create", "asking", "--release", "trixie", "--backend", "lxc", "--profile"];
    host.sandbox(&[&create[..], &["/root/asking.toml", "--wait-healthy"]].concat()).ok();
    assert_eq!(host.sandbox(&["health", "asking"]).ok().matches(" healthy").count(), 3);
    let opened = "exec 3<>/dev/fuse 4<>/dev/net/tun 5>/dev/null && systemctl is-system-running";
    assert_eq!(host.exec("asking", &["sh", "-c", opened]).ok(), "running");
    let owners = host.exec("asking", &["stat", "-c", "%U %a", "/home/agent/work", "/home/agent/.login"]);
    assert_eq!(owners.ok(), "agent 700\nagent 700");
    host.sandbox(&["remove", "asking", "--yes"]).ok();
}

/// Back again; one that is stopped goes anywhere and starts nowhere.
pub fn machines_move_back(lab: &Lab) {
    let host = lab.host();
    let agents = agents_on_lxc(&host);
    host.sandbox(&["move", agents, "--to", "nspawn", "--restart"]).ok();
    assert_eq!(status(&host, agents)["backend"], "nspawn");
    host.exec(agents, &["docker", "run", "--rm", "--pull", "never", "tree", "true"]).ok();
    assert_eq!(host.exec(agents, &["cat", "/home/agent/.claude/kept"]).ok(), "kept");
    boxed(&host);
    host.sandbox(&["stop", BOXED]).ok();
    for backend in ["direct", "nspawn", "lxc"] {
        host.sandbox(&["move", BOXED, "--to", backend]).ok();
        let shown = status(&host, BOXED);
        assert_eq!((&shown["state"], &shown["backend"]), (&"stopped".into(), &backend.into()));
    }
    host.sandbox(&["remove", BOXED, "--yes"]).ok();
    let left = Duration::from_secs(10);
    until("nothing of it is left", left, || (!host.traces().mention(BOXED)).then_some(()));
}
