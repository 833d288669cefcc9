//! The main job: the machine is made, boots, and has what its profiles promise.

use crate::lab::Lab;

/// The test host, made with `--privileged`, is a whole systemd host with machined.
pub fn the_test_host_is_running(lab: &Lab) {
    let host = lab.host();
    assert_eq!(host.run(&["systemctl", "is-system-running"]).ok(), "running");
    let machined = "busctl call org.freedesktop.machine1 /org/freedesktop/machine1 \
                    org.freedesktop.machine1.Manager ListMachines";
    assert!(host.sh(machined).ok().starts_with("a(ssso)"), "machined answers");
    host.sandbox(&["doctor"]).ends_with(0);
}

/// `sandbox create agents --release trixie --profile docker,claude,codex`, under machined.
pub fn agents_is_running(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    assert_eq!(host.exec(agents, &["systemctl", "is-system-running"]).ok(), "running");
    // what `git commit` opens
    host.exec(agents, &["sh", "-c", "command -v editor"]).ok();
    let release = host.exec(agents, &["cat", "/etc/os-release"]);
    assert!(release.ok().contains("VERSION_CODENAME=trixie"), "{release:?}");
    let status = host.sandbox(&["status", agents, "--json"]);
    assert!(status.ok().contains("\"nspawn\""), "`auto` takes machined where it is: {status:?}");
    // its root is nobody here
    let leader = "busctl get-property org.freedesktop.machine1 \
                  \"$(busctl --json=short call org.freedesktop.machine1 /org/freedesktop/machine1 \
                  org.freedesktop.machine1.Manager GetMachine s agents | sed 's/.*\\[\"\\(.*\\)\"\\].*/\\1/')\" \
                  org.freedesktop.machine1.Machine Leader | cut -d' ' -f2";
    let owner = host.sh(&format!("stat -c %u /proc/$({leader})"));
    assert!(owner.ok().parse::<u32>().expect("a number") >= 65536, "{owner:?}");
    // the tree is as the distribution's own tools want it
    assert_eq!(host.exec(agents, &["dpkg", "--audit"]).ok(), "");
    assert_eq!(host.exec(agents, &["id", "-u", "agent"]).ok(), "1000");
    assert_eq!(host.exec(agents, &["hostname"]).ok(), "agents");
}

/// A second machine of the name is refused, and the first one is not touched.
pub fn a_taken_name_is_refused(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    let refused = host.sandbox(&["create", agents, "--release", "trixie"]);
    refused.ends_with(1);
    assert!(refused.err.contains("error:") && refused.err.contains(agents), "{refused:?}");
    assert_eq!(host.exec(agents, &["systemctl", "is-system-running"]).ok(), "running");
}

/// The agents' own programs start as the user they are for.
pub fn agents_of_npm_run_as_agent(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    for program in ["claude", "codex"] {
        let version = host.sandbox(&["exec", agents, "--user", "agent", "--", program, "--version"]);
        let digits = version.ok().chars().filter(char::is_ascii_digit).count();
        assert!(digits >= 3, "`{program} --version` says {version:?}");
    }
    host.exec(agents, &["sh", "-c", "command -v node"]).ends_with(127);
}
