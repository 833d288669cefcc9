//! Containers in a machine: Docker's, and the agents' own sandboxes.

use crate::lab::Lab;

/// Makes a Docker image of the machine's own tree, small enough to be quick.
const IMPORT: &str = "docker image inspect tree >/dev/null 2>&1 || \
    tar -C / -c bin sbin lib lib64 etc/os-release usr/lib/os-release usr/bin usr/lib/x86_64-linux-gnu usr/lib64 | \
    docker import - tree >/dev/null";

/// `docker run` of a tree that was imported in the machine.
pub fn run_of_an_imported_tree(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    host.exec(agents, &["sh", "-c", IMPORT]).ok();
    let run = host.exec(agents, &["docker", "run", "--rm", "tree", "cat", "/etc/os-release"]);
    assert!(run.ok().contains("VERSION_CODENAME=trixie"), "{run:?}");
    host.exec(agents, &["docker", "run", "--rm", "tree", "sh", "-c", "exit 42"]).ends_with(42);
    let driver = host.exec(agents, &["docker", "info", "--format", "{{.Driver}}"]);
    assert_eq!(driver.ok(), "overlay2");
    // the user of the machine needs no root for it
    let agent = ["exec", agents, "--user", "agent", "--", "docker", "run", "--rm", "tree", "echo", "well"];
    assert_eq!(host.sandbox(&agent).ok(), "well");
    // nothing of the host shows through the container's or the machine's /sys
    let links =
        host.exec(agents, &["docker", "run", "--rm", "--network", "none", "tree", "ls", "/sys/class/net"]);
    assert_eq!(links.ok(), "lo");
}

/// `docker build`, and what it built runs.
pub fn build(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    host.exec(agents, &["sh", "-c", IMPORT]).ok();
    let file = "FROM tree\nRUN echo made here > /made\nCMD [\"cat\", \"/made\"]\n";
    let build = ["exec", agents, "--", "docker", "build", "-q", "-t", "made", "-"];
    host.sandbox_on(&build, file).ok();
    assert_eq!(host.exec(agents, &["docker", "run", "--rm", "made"]).ok(), "made here");
}

/// What bubblewrap, and so the agents' own sandboxes, do: a user namespace with a /proc of its own.
pub fn nested_user_namespaces(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    for user in ["root", "agent"] {
        let script = "unshare -Urpf --mount-proc sh -c 'echo $$ $(id -u)'";
        let run = host.sandbox(&["exec", agents, "--user", user, "--", "sh", "-c", script]);
        assert_eq!(run.ok(), "1 0", "as {user}");
    }
}
