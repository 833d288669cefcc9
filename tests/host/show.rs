//! `list`, `status`, `logs`.

use serde_json::Value;

use crate::{
    lab::{Host, Lab, SOON, names},
    process::until,
    terminal::Terminal,
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
    is_chosen_and_fits(&host, agents);
    // its systemd is asked from outside: no program runs in it for that, nor is it bothered
    let trace = "strace -f -e trace=execve -o /tmp/trace sandbox list >/dev/null && grep -c execve /tmp/trace; rm /tmp/trace";
    assert_eq!(host.sh(trace).ok(), "1", "`list` is one program");
    let refused = host.exec(agents, &["journalctl", "-q", "-b", "--grep", "unprivileged client"]);
    assert_eq!(refused.out, "", "{refused:?}");
    host.sandbox(&["status", "nobody-made-this"]).ends_with(1);
}

/// Names, columns and machines that are asked for; a narrow terminal, with colours; `top` until `q`.
fn is_chosen_and_fits(host: &Host<'_>, agents: &str) {
    let running = ["list", "-q", "--filter", "state=running", "--filter", "profile=codex"];
    assert_eq!(host.sandbox(&running).ok(), agents);
    assert_eq!(host.sandbox(&["list", "-q", "--filter", "state=frozen"]).ok(), "");
    let csv = host.sandbox(&[
        "list",
        "--format",
        "csv",
        "--columns",
        "name,profiles,disk",
        "--filter",
        "name=agents",
    ]);
    let line = csv.ok().lines().nth(1).expect("a line").to_owned();
    assert!(line.starts_with("agents,\"base,"), "{line}");
    let bytes = line.rsplit_once("\",").and_then(|(_, bytes)| bytes.parse::<u64>().ok());
    assert!(bytes.is_some_and(|bytes| bytes > 1 << 20), "{line}");
    host.sandbox(&["list", "--columns", "size"]).ends_with(2);
    let (code, shown) = Terminal::open(&host.on_terminal(&["list"]), 40, 24).end(SOON);
    let shown = shown.shown();
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("\u{1b}[32mrunning\u{1b}[0m"), "{shown}");
    let parts = shown.split('\u{1b}').enumerate();
    let parts = parts
        .map(|(at, part)| if at == 0 { part } else { part.split_once('m').map_or("", |(_, rest)| rest) });
    let plain: String = parts.collect();
    assert!(plain.lines().all(|line| line.trim_end().chars().count() <= 40), "{plain}");
    let mut top = Terminal::open(&host.on_terminal(&["top"]), 80, 24);
    top.expect("MEMORY", SOON);
    top.send("q");
    let (code, top) = top.end(SOON);
    assert_eq!(code, 0, "{}", top.shown());
}

/// A machine says how it is on its bus; where it has none, or one that says nothing, its boot is looked at.
pub fn a_machine_is_asked_by_two_doors(lab: &Lab) {
    const NAME: &str = "doors";
    const BUS: &str = "/run/dbus/system_bus_socket";
    const PRIVATE: &str = "/run/systemd/private";
    const SYSTEMCTL: &str = "/usr/bin/systemctl";
    let host = lab.host();
    host.sandbox(&["create", NAME, "--release", "trixie"]).ok();
    let inside = |script: &str| {
        host.exec(NAME, &["sh", "-euc", script]).ok();
    };
    let away = |path: &str| inside(&format!("mv {path} {path}.away"));
    let back = |path: &str| inside(&format!("mv {path}.away {path}"));
    let status = || {
        // whatever a machine does, nobody waits for it for long
        let status = host.run(&["timeout", "20", "sandbox", "status", NAME, "--json"]);
        let status: Value = serde_json::from_str(status.ok()).expect("JSON");
        (status["state"].as_str().expect("a word").to_owned(), status["failed_units"].to_string())
    };
    let well = ("running".to_owned(), "[]".to_owned());
    assert_eq!(status(), well);
    // on its bus alone: a program that could be run in it is not there, and no process enters it
    away(SYSTEMCTL);
    away(PRIVATE);
    assert_eq!(status(), well, "by its bus");
    // a file system that may have to ask a program is not waited for, though the bus be in it
    inside(
        "mkdir /var/other /run/first; mount --bind /run/dbus /run/first; mount --make-private /run/first; \
         setsid systemd-socket-activate -l /var/other/system_bus_socket \
         /usr/lib/systemd/systemd-socket-proxyd /run/first/system_bus_socket </dev/null >/dev/null 2>&1 & \
         until [ -S /var/other/system_bus_socket ]; do sleep 0.05; done; mount --bind /var/other /run/dbus; \
         busctl get-property org.freedesktop.systemd1 /org/freedesktop/systemd1 \
         org.freedesktop.systemd1.Manager SystemState | grep -q running",
    );
    assert_eq!(status(), well, "by its files");
    inside("echo not yet >/run/nologin");
    assert_eq!(status().0, "starting", "by its files");
    inside("rm /run/nologin");
    inside(&format!("printf '#!/bin/sh\\nexec sleep 1000\\n' >{SYSTEMCTL}; chmod +x {SYSTEMCTL}"));
    assert_eq!(status(), well, "by its files");
    host.exec(NAME, &["pgrep", "-x", "sleep"]).ends_with(1);
    inside("umount /run/dbus /run/first; pkill -x systemd-socket-");
    back(PRIVATE);
    away(BUS);
    assert_eq!(status(), well, "by its files");
    is_silent(&host, NAME, BUS);
    assert_eq!(status(), well, "by its files, in the end");
    inside(&format!("pkill -x perl; rm {BUS}"));
    back(BUS);
    back(SYSTEMCTL);
    inside(
        "printf '[Service]\\nExecStart=/bin/false\\nType=oneshot\\n' >/run/systemd/system/bad.service; systemctl start bad || true",
    );
    let ill = ("degraded".to_owned(), "[\"bad.service\"]".to_owned());
    assert_eq!(status(), ill, "by its bus");
    away(BUS);
    assert_eq!(status(), well, "which units failed is not known without a bus");
    a_first_process_hides_no_other(&host, NAME);
    host.sandbox(&["remove", NAME, "--yes"]).ok();
}

/// Puts a bus in a machine that takes a connection, and says nothing.
fn is_silent(host: &Host<'_>, name: &str, bus: &str) {
    let silent = "unlink $ARGV[0]; my $s = IO::Socket::UNIX->new(Local => $ARGV[0], Listen => 9) or die; \
                  exit if fork; close STDIN; close STDOUT; close STDERR; sleep 600";
    host.exec(name, &["perl", "-MIO::Socket::UNIX", "-e", silent, bus]).ok();
}

/// A machine's processes are those of its unit, wherever its first one moves to; its systemd is of no use after that.
fn a_first_process_hides_no_other(host: &Host<'_>, name: &str) {
    let script = "cd /sys/fs/cgroup; mkdir -p z/y; echo 1 >z/y/cgroup.procs";
    host.exec(name, &["sh", "-euc", script]).ok();
    let killed = host.sandbox(&["kill", name, "--signal", "KILL", "--whom", "all", "--json"]);
    let killed: Value = serde_json::from_str(killed.ok()).expect("JSON");
    assert!(killed["processes"].as_u64().is_some_and(|count| count > 3), "{killed}");
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
