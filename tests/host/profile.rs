//! What profiles put into a machine, seen from inside of it; what outlives it; whether it is healthy.

use serde_json::Value;

use crate::{
    lab::{Lab, names, own},
    process::Output,
};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/host/profiled.toml");

fn made(lab: &Lab) -> String {
    let name = own("profiled");
    if !names(lab.sandbox(&["list", "--json"]).ok()).contains(&name) {
        let create = ["create", &name, "--backend", "direct", "--release", "trixie", "--profile", FILE];
        lab.sandbox(&[&create[..], &["--wait-healthy"]].concat()).ok();
    }
    name
}

fn agent(lab: &Lab, script: &str) -> Output {
    lab.sandbox(&["exec", &made(lab), "--user", "agent", "--", "sh", "-c", script])
}

fn root(lab: &Lab, script: &str) -> Output {
    lab.sandbox(&["exec", &made(lab), "--", "sh", "-c", script])
}

/// Variables and limits are there for commands, logins and units; settings, units and steps have had their effect.
pub fn settings_count_for_everybody(lab: &Lab) {
    let greeting = "a \"b\" $HOME";
    assert_eq!(agent(lab, "echo \"$GREETING\"").ok(), greeting);
    assert!(agent(lab, "echo $PATH").ok().starts_with("/opt/profiled/bin:/usr/local/sbin:"));
    let login =
        root(lab, "runuser --login agent -c 'echo \"$GREETING\"; ulimit -Sn; ulimit -Hn; echo $PATH'");
    let lines: Vec<_> = login.ok().lines().collect();
    assert_eq!(lines[..3], [greeting, "2048", "8192"], "{login:?}");
    assert!(lines[3].starts_with("/opt/profiled/bin:"), "{login:?}");
    assert_eq!(root(lab, "systemctl show -P LimitNOFILESoft late.service").ok(), "2048");
    assert_eq!(root(lab, "systemctl show -P Nice late.service").ok(), "3");
    assert_eq!(root(lab, "cat /proc/sys/net/core/somaxconn").ok(), "777");
    assert_eq!(agent(lab, "git config user.name").ok(), "Of a step");
    let told = agent(lab, "cat AGENTS.md").ok().to_owned();
    assert!(told.contains("work in `/home/agent/work`; logins in `/home/agent/.login`;"), "{told}");
    assert!(root(lab, "cat /etc/sandbox/machine").ok().contains("NETWORK=internet"));
    let status = lab.sandbox(&["status", &made(lab)]);
    assert!(status.ok().contains("127.0.0.1:8080/tcp: nothing (profiled)"), "{status:?}");
}

/// Checks are run as their users until they are well; one that is not is shown with its last words.
pub fn health_is_told(lab: &Lab) {
    let name = made(lab);
    let well = lab.sandbox(&["health", &name]);
    assert_eq!(
        well.ok().lines().next().unwrap_or_default().split_whitespace().collect::<Vec<_>>(),
        ["PROFILE", "CHECK", "STATUS"]
    );
    assert_eq!(well.ok().matches(" healthy").count(), 3, "{well:?}");
    root(lab, "chmod 0500 /home/agent/work").ok();
    let ill = lab.sandbox(&["health", &name, "--json"]);
    root(lab, "chmod 0700 /home/agent/work").ok();
    ill.ends_with(1);
    let told: Value = serde_json::from_str(&ill.out).expect("JSON");
    assert_eq!(told["healthy"], false);
    let checks: Vec<_> =
        told["checks"].as_array().expect("a list").iter().map(|one| one["healthy"] == true).collect();
    assert_eq!(checks, [true, true, false], "{told}");
    assert_eq!(told["checks"][2]["ended"], "status 1");
    assert_eq!(told["checks"][2]["said"], "not so\n");
}

/// The same under machined, whose settings file says it in other words.
pub fn volumes_and_health_under_machined(lab: &Lab) {
    let host = lab.host();
    let text = std::fs::read(FILE).expect("the profile");
    host.put("/root/profiled.toml", "0644", text);
    let create =
        ["create", "kept", "--release", "trixie", "--profile", "/root/profiled.toml", "--wait-healthy"];
    host.sandbox(&create).ok();
    let owners = host.exec("kept", &["stat", "-c", "%U %a", "/home/agent/work", "/home/agent/.login"]);
    assert_eq!(owners.ok(), "agent 700\nagent 700");
    let shifted = host.sandbox(&["exec", "kept", "--user", "agent", "--", "touch", "/home/agent/work/note"]);
    shifted.ok();
    let kept = "/var/lib/sandbox/volumes/kept/home-agent-work/note";
    assert_eq!(
        host.run(&["stat", "-c", "%u", kept]).ok(),
        "1000",
        "owners on disk are the guest's own numbers"
    );
    host.sandbox(&["remove", "kept", "--yes"]).ok();
    host.run(&["test", "!", "-e", "/var/lib/sandbox/volumes/kept"]).ok();
}

/// What a machine keeps in a volume is there in the next one of its name, of the same owner; removed, it is gone.
pub fn volumes_outlive_the_machine(lab: &Lab) {
    let name = made(lab);
    let owners =
        "stat -c '%U %a' /home/agent/work /home/agent/.login; stat -c %U /home/agent/.login/settings";
    let wanted = "agent 700\nagent 700\nagent";
    assert_eq!(root(lab, owners).ok(), wanted);
    agent(lab, "echo kept >/home/agent/work/note; echo mine >/home/agent/.login/settings; echo lost >/home/agent/note").ok();
    lab.sandbox(&["remove", &name, "--yes", "--keep-volumes"]).ok();
    assert_eq!(root(lab, owners).ok(), wanted);
    let read = agent(lab, "cat /home/agent/work/note /home/agent/.login/settings; ls /home/agent/note");
    assert_eq!(read.out, "kept\nmine\n");
    agent(lab, "echo more >>/home/agent/work/note").ok();
    lab.sandbox(&["stop", &name]).ok();
    lab.sandbox(&["start", &name]).ok();
    assert_eq!(agent(lab, "cat /home/agent/work/note").ok(), "kept\nmore");
    lab.sandbox(&["remove", &name, "--yes"]).ok();
    assert!(!lab.path("state/volumes").exists(), "volumes are left");
}
