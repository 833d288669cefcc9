//! A prober in machines that tries what is denied all the time, while the host's rules, links, routes and addresses change.

use std::{
    io::Write as _,
    net::{TcpListener, UdpSocket},
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::{
    bed::{Bed, HOSTILE, OTHER, PROGRAMS},
    lab::{Host, SOON},
    process::until,
};

/// Where everything that is denied answers.
const PORT: u16 = 8099;
/// Where a prober writes what it reached.
const REPORT: &str = "/var/lib/reached";

/// What the host does while the prober runs, one after another.
const CHANGES: &[(&str, &str)] = &[
    ("nothing", "true"),
    ("the rules are flushed", "nft flush ruleset"),
    ("nftables starts again with Debian's own rules", "systemctl restart nftables"),
    ("nftables reloads", "systemctl reload nftables"),
    ("a firewall's own table comes and goes", "nft add table inet filter; nft delete table inet filter"),
    ("networkd reloads", "networkctl reload"),
    ("networkd starts again", "systemctl restart systemd-networkd"),
    (
        "an interface with a public network comes",
        "ip netns add beyond; ip link add beyond type veth peer name host0 netns beyond; ip link set beyond up; \
         ip -n beyond link set host0 up; ip -n beyond link set lo up; ip addr add 203.0.113.1/24 dev beyond; \
         ip -n beyond addr add 203.0.113.2/24 dev host0; ip -n beyond route add default via 203.0.113.1; \
         ip -n beyond addr add 198.51.100.7/32 dev lo; ip -n beyond addr add 192.0.2.9/32 dev lo; \
         ip netns exec beyond setsid /usr/local/lib/hostile/answerer 8099 </dev/null >/dev/null 2>&1 &",
    ),
    (
        "a route to one address comes",
        "ip route add 198.51.100.7/32 dev beyond; ip -n beyond addr add 198.51.100.7/32 dev host0",
    ),
    ("a network behind a gateway comes", "ip route add 192.0.2.0/24 via 203.0.113.2"),
    ("an address comes", "ip addr add 198.51.100.1/32 dev lo"),
    (
        "Docker starts",
        "sysctl -qw net.ipv4.ip_forward=1; nft 'table ip filter { chain DOCKER-USER { return; }; chain FORWARD { type filter \
         hook forward priority filter; policy accept; jump DOCKER-USER; accept; }; }; table ip nat { chain POSTROUTING { \
         type nat hook postrouting priority srcnat; ip saddr 172.17.0.0/16 masquerade; }; }'",
    ),
    ("Docker goes", "nft delete table ip filter; nft delete table ip nat"),
    (
        "the interface goes",
        "kill $(ip netns pids beyond); ip route del 192.0.2.0/24; ip link del beyond; ip netns del beyond; ip addr del 198.51.100.1/32 dev lo",
    ),
];

/// Starts what answers in the host, beyond it and in the other machine; returns what is denied, as the prober takes it.
fn denied(bed: &Bed) -> Vec<String> {
    let host = bed.host();
    host.sh(&format!(
        "systemctl is-active -q answerer || systemd-run -q --unit answerer {PROGRAMS}/answerer {PORT}"
    ))
    .ok();
    host.exec(
        OTHER,
        &["systemd-run", "-q", "--unit", "answerer", &format!("{PROGRAMS}/answerer"), &PORT.to_string()],
    );
    let own = host.sh("ip -4 -o addr show scope global | awk '{ sub(/\\/.*/, \"\", $4); print $4 }'");
    let mut addresses: Vec<String> = own.ok().split_whitespace().map(str::to_owned).collect();
    addresses.push(address(bed, OTHER));
    addresses.extend(["169.254.169.254", "168.63.129.16", "100.100.100.200"].map(str::to_owned));
    // those that come later
    addresses.extend(
        ["203.0.113.1", "203.0.113.2", "198.51.100.7", "192.0.2.9", "198.51.100.1"].map(str::to_owned),
    );
    let mut all: Vec<String> = addresses
        .iter()
        .flat_map(|address| ["tcp", "udp"].map(|kind| format!("{kind}:{address}:{PORT}")))
        .collect();
    let gateway = host.sh("ip -4 route show default | awk '{ print $3; exit }'").ok().to_owned();
    let port = answer();
    all.extend(["tcp", "udp"].map(|kind| format!("{kind}:{gateway}:{port}")));
    all
}

/// Answers on this machine, which is the host's LAN; returns the port.
fn answer() -> u16 {
    let (stream, datagram) = loop {
        let stream = TcpListener::bind(("0.0.0.0", 0)).expect("a port");
        let port = stream.local_addr().expect("an address").port();
        if let Ok(datagram) = UdpSocket::bind(("0.0.0.0", port)) {
            break (stream, datagram);
        }
    };
    let port = stream.local_addr().expect("an address").port();
    thread::spawn(move || {
        for mut connection in stream.incoming().flatten() {
            drop(connection.write_all(b"reached\n"));
        }
    });
    thread::spawn(move || {
        let mut bytes = [0; 64];
        while let Ok((_, from)) = datagram.recv_from(&mut bytes) {
            drop(datagram.send_to(b"reached\n", from));
        }
    });
    port
}

fn address(bed: &Bed, name: &str) -> String {
    until(&format!("`{name}` has an IPv4 address"), SOON, || {
        let status = bed.status(name);
        let mut addresses = status["addresses"].as_array()?.iter().filter_map(Value::as_str);
        addresses.find(|address| address.contains('.')).map(str::to_owned)
    })
}

fn start(host: &Host<'_>, machine: &str, targets: &[String]) {
    let prober = format!("{PROGRAMS}/prober");
    let argv = ["systemd-run", "-q", "--unit", "prober", &prober, REPORT];
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    host.exec(machine, &[&argv[..], &targets].concat()).ok();
}

/// Returns how many rounds a prober has made, and what it reached.
fn rounds(host: &Host<'_>, machine: &str) -> (u64, Vec<String>) {
    let said = host.exec(machine, &["sh", "-c", &format!("cat {REPORT}.rounds; sort -u -k 3 {REPORT}")]);
    let mut lines = said.ok().lines();
    let count = lines.next().and_then(|line| line.parse().ok()).unwrap_or(0);
    (count, lines.map(str::to_owned).collect())
}

/// The prober sees what an unconfined machine reaches: the control of the test below.
pub fn an_open_machine_is_seen(bed: &Bed) {
    let host = bed.host();
    let targets = denied(bed);
    let create = ["create", "open", "--release", "trixie", "--network", "open"];
    host.sandbox(&create).ok();
    host.sandbox(&["copy", PROGRAMS, "open:/usr/local/lib/"]).ok();
    address(bed, "open");
    start(&host, "open", &targets);
    until("it reaches the host, the LAN and the other machine", SOON, || {
        let (_, reached) = rounds(&host, "open");
        // two kinds at the host's own address, beyond it and in the other machine
        (reached.len() >= 6).then_some(())
    });
    host.sandbox(&["remove", "open", "--yes"]).ok();
}

/// Nothing that is denied passes, whatever becomes of the host's rules and networks; what is allowed passes again.
pub fn nothing_denied_passes_while_the_host_changes(bed: &Bed) {
    let host = bed.host();
    let before = host.traces();
    bed.on("nspawn");
    host.sandbox(&["fork", HOSTILE, "boxed", "--no-start"]).ok();
    host.sandbox(&["move", "boxed", "--to", "lxc"]).ok();
    host.sandbox(&["start", "boxed"]).ok();
    let targets = denied(bed);
    let machines = [HOSTILE, "boxed"];
    for machine in machines {
        host.exec(machine, &["apt-get", "-q", "update", "--error-on=any"]).ok();
        start(&host, machine, &targets);
    }
    let mut faults = Vec::new();
    let mut last = [0; 2];
    for (what, change) in CHANGES {
        host.sh(change);
        thread::sleep(Duration::from_secs(1));
        for (machine, last) in machines.iter().zip(&mut last) {
            let (count, reached) = rounds(&host, machine);
            host.exec(machine, &["truncate", "-s", "0", REPORT]).ok();
            let some =
                reached.first().map(|first| format!("{what}: {machine}: {} targets, {first}", reached.len()));
            faults.extend(some);
            if count <= *last {
                faults.push(format!("{what}: {machine}: the prober has stopped"));
            }
            *last = count;
        }
    }
    for machine in machines {
        let allowed = ["timeout", "20", "apt-get", "-q", "update", "--error-on=any"];
        let again = (0..3).any(|_| {
            thread::sleep(Duration::from_secs(1));
            host.exec(machine, &allowed).code == 0
        });
        if !again {
            faults.push(format!("{machine}: what is allowed does not pass"));
        }
        host.exec(machine, &["systemctl", "stop", "prober"]).ok();
    }
    host.exec(OTHER, &["systemctl", "stop", "answerer"]);
    // what ip-netns(8), networkd and Debian's own rules leave
    host.sh("systemctl stop answerer; nft delete table inet filter; \
         nft delete table ip io.systemd.nat; nft delete table ip6 io.systemd.nat");
    host.sandbox(&["remove", "boxed", "--yes"]).ok();
    faults.extend(bed.is_clean(&before));
    assert!(faults.is_empty(), "{faults:#?}");
}
