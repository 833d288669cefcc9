//! Walls: what a machine reaches, and what it does not. Each refusal has a control beside it that shows the
//! same thing reached by somebody who may.

use std::{
    io::Write as _,
    net::{Ipv4Addr, TcpListener},
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::{
    lab::{Host, Lab, SOON},
    process::until,
};

/// Connects, and prints what a listener of these tests says; `refused` where there is no way.
const PROBE: &str =
    "timeout 5 bash -c \"exec 3<>/dev/tcp/$0/$1 && head -n 1 <&3\" 2>/dev/null || echo refused";

/// Listens in a machine or the host, on all addresses.
pub const LISTEN: &str = "systemctl is-active -q listener || systemd-run -q --unit listener --service-type=exec \
    systemd-socket-activate --accept --inetd -l 0.0.0.0:8099 /bin/echo reached";

pub fn probe(host: &Host<'_>, machine: Option<&str>, address: &str, port: u16) -> String {
    let port = port.to_string();
    let argv = ["bash", "-c", PROBE, address, &port];
    let output = match machine {
        Some(machine) => host.exec(machine, &argv),
        None => host.run(&argv),
    };
    output.ok().to_owned()
}

/// Waits until a listener that was just started answers one who may reach it.
pub fn control(host: &Host<'_>, address: &str, port: u16) {
    until(&format!("the host reaches {address}:{port}"), Duration::from_secs(30), || {
        (probe(host, None, address, port) == "reached").then_some(())
    });
}

/// The archive is reached by name, so the resolver is too; what apt installs works.
pub fn the_archive_is_reached(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    let update = host.exec(agents, &["apt-get", "-q", "update", "--error-on=any"]);
    assert!(update.ok().contains("Reading package lists"), "{update:?}");
    let install = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "install", "-y", "hello"];
    host.exec(agents, &install).ok();
    assert_eq!(host.exec(agents, &["hello", "-g", "well"]).ok(), "well");
}

/// Whatever somebody did to the rules, they are as they were when the machine starts next; where nobody did, nothing is
/// written.
pub fn the_wall_stands_anew(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    let link = host.sh(&format!("printf ve-sb; printf {agents} | sha256sum | cut -c1-8"));
    let link = link.ok();
    // whatever the order of its chains
    let list = |more: &str| {
        let listed = host.sh(&format!("nft -s {more} list table inet sandbox")).out;
        let mut blocks: Vec<_> = listed.trim().trim_end_matches('}').split("\n\n").map(str::trim).collect();
        blocks.sort_unstable();
        blocks.join("\n")
    };
    // what the machine's unit runs before it
    let start = || host.sandbox(&["internal", "wall-up", agents]).ok().len();
    start();
    let (whole, handles) = (list(""), list("-a"));
    assert!(whole.contains(link), "{whole}");
    start();
    assert_eq!(list("-a"), handles, "a wall that stands is left alone");
    for tampering in [
        "delete table inet sandbox".to_owned(),
        "flush chain inet sandbox guarded".to_owned(),
        format!("insert rule inet sandbox world-{link} accept"),
        format!("flush chain inet sandbox host-{link}"),
        format!("delete element inet sandbox worlds {{ \"{link}\" }}"),
        "delete chain inet sandbox forward".to_owned(),
        "insert rule inet sandbox internet ip daddr 10.0.0.0/8 accept".to_owned(),
    ] {
        host.run(&["nft", &tampering]).ok();
        assert_ne!(list(""), whole, "{tampering}");
        start();
        assert_eq!(list(""), whole, "{tampering}");
    }
    // an empty table, and a stamp of something else
    host.sh(&format!(
        "nft delete table inet sandbox; nft add table inet sandbox; echo x >/run/sandbox/walls/{link}"
    ))
    .ok();
    start();
    assert_eq!(list(""), whole);
}

/// No address of the host answers, on whichever side.
pub fn the_host_is_not_reached(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    host.sh(LISTEN).ok();
    let addresses = host.sh("ip -4 -o addr show scope global | awk '{ sub(/\\/.*/, \"\", $4); print $4 }'");
    let addresses: Vec<&str> = addresses.ok().split_whitespace().collect();
    assert!(addresses.len() >= 2, "its own link and the machine's: {addresses:?}");
    for address in addresses {
        control(&host, address, 8099);
        assert_eq!(probe(&host, Some(agents), address, 8099), "refused", "{address}");
    }
    let gateway = host.exec(agents, &["sh", "-c", "ip -4 route show default | awk '{ print $3; exit }'"]);
    assert_eq!(probe(&host, Some(agents), gateway.ok(), 8099), "refused");
    host.sh("systemctl stop listener").ok();
}

/// A private address beyond the host: this machine is the host's LAN.
pub fn the_lan_is_not_reached(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    let gateway = host.sh("ip -4 route show default | awk '{ print $3; exit }'");
    let address: Ipv4Addr = gateway.ok().parse().expect("an address");
    assert!(address.is_private(), "{address}");
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let mut connection = connection;
            drop(connection.write_all(b"reached\n"));
        }
    });
    control(&host, gateway.ok(), port);
    assert_eq!(probe(&host, Some(agents), gateway.ok(), port), "refused");
    for address in ["10.255.255.254", "172.31.255.254", "192.168.255.254", "100.64.0.1", "169.254.169.254"] {
        assert_eq!(probe(&host, Some(agents), address, 80), "refused", "{address}");
    }
}

/// A second machine of the same host.
pub fn another_machine_is_not_reached(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    host.sandbox(&["create", "other", "--release", "trixie"]).ok();
    host.exec("other", &["sh", "-c", LISTEN]).ok();
    let address = until("`other` has an IPv4 address", SOON, || {
        let status: Value = serde_json::from_str(host.sandbox(&["status", "other", "--json"]).ok()).ok()?;
        let addresses = status["addresses"].as_array()?.iter().filter_map(Value::as_str);
        addresses.filter(|address| address.parse::<Ipv4Addr>().is_ok()).map(str::to_owned).next()
    });
    control(&host, &address, 8099);
    assert_eq!(probe(&host, Some(agents), &address, 8099), "refused");
    host.sandbox(&["remove", "other", "--yes"]).ok();
}
