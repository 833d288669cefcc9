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

/// Ends the process that keeps the walls, so that they can be changed.
const UNKEEP: &str = "systemctl stop sandbox-walls.service; ! systemctl is-active -q sandbox-walls.service";

/// Gives what `status` reports of a machine's wall.
fn wall(host: &Host<'_>, machine: &str) -> String {
    let status: Value =
        serde_json::from_str(host.sandbox(&["status", machine, "--json"]).ok()).expect("JSON");
    status["wall"].as_str().unwrap_or_default().to_owned()
}

/// Whatever was done to the rules, they are as they were when the machine starts next; where nothing was, nothing is
/// written.
pub fn the_wall_stands_anew(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    let link = host.sh(&format!("printf ve-sb; printf {agents} | sha256sum | cut -c1-8"));
    let link = link.ok();
    // whatever the order of its chains, and its owner
    let list = |more: &str| {
        let head = r"sed -e '/^table /d' -e '/^\tflags /d'";
        let listed = host.sh(&format!("nft -s {more} list table inet sandbox | {head}")).out;
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
        // no other process may change a table that is kept
        let refused = host.run(&["nft", &tampering]);
        assert_ne!(refused.code, 0, "{tampering}: {refused:?}");
        host.sh(UNKEEP).ok();
        host.run(&["nft", &tampering]).ok();
        assert_ne!(list(""), whole, "{tampering}");
        assert_ne!(wall(&host, agents), "up", "{tampering}");
        start();
        assert_eq!((list(""), wall(&host, agents)), (whole.clone(), "up".to_owned()), "{tampering}");
    }
    // an empty table, and a stamp of something else
    host.sh(UNKEEP).ok();
    host.sh(&format!(
        "nft delete table inet sandbox; nft add table inet sandbox; echo x >/run/sandbox/walls/{link}"
    ))
    .ok();
    start();
    assert_eq!(list(""), whole);
}

/// A firewall of the host's that drops what machines send is named to whoever starts one, and by `doctor`, with what cures
/// it.
pub fn another_firewall_is_named_with_its_cure(lab: &Lab) {
    let host = lab.host();
    let before = host.traces();
    host.sandbox(&["create", "behind", "--release", "trixie"]).ok();
    let restart = || host.sandbox(&["restart", "behind"]);
    let update = || {
        let update =
            ["timeout", "15", "apt-get", "-q", "update", "--error-on=any", "-o", "Acquire::Retries=0"];
        host.exec("behind", &update).code == 0
    };
    let cures = || -> Vec<String> {
        let findings: Value = serde_json::from_str(&host.sandbox(&["doctor", "--json"]).out).expect("JSON");
        let findings = findings.as_array().expect("a list").iter();
        let firewalls = findings.filter(|finding| finding["check"] == "other firewalls");
        firewalls.filter_map(|finding| finding["command"].as_str().map(str::to_owned)).collect()
    };
    let drops = "drops what machines send";
    assert!(!restart().err.contains(drops) && cures().is_empty() && update(), "there is none yet");
    for chain in [
        "policy drop; ct state established,related accept;",
        "policy accept; ct state established,related accept; iifname \"eth9\" accept; counter reject;",
    ] {
        let table = format!(
            "table inet filter {{ chain forward {{ type filter hook forward priority filter; {chain} }}; }}"
        );
        host.run(&["nft", &table]).ok();
        let told = restart();
        assert!(!update(), "{chain}");
        let [cure] = cures().try_into().expect("one");
        assert!(told.ok().is_empty() && told.err.contains(drops) && told.err.contains(&cure), "{told:?}");
        host.sh(&cure).ok();
        assert!(!restart().err.contains(drops) && cures().is_empty() && update(), "{chain}: {cure}");
        host.sh("nft delete table inet filter").ok();
    }
    // no chain of a hook that is looked at: the question is what finds it
    let before_routing = "table inet filter { chain first { type filter hook prerouting priority raw; \
        iifname \"ve-sb*\" udp dport 53 drop; }; }";
    host.run(&["nft", before_routing]).ok();
    let unanswered = "no resolver answers the machine";
    let told = restart();
    assert!(told.err.contains(unanswered), "{told:?}");
    host.sh("nft delete table inet filter").ok();
    let told = restart();
    assert!(!told.err.contains(unanswered), "{told:?}");
    host.sandbox(&["remove", "behind", "--yes"]).ok();
    host.traces().are(&before);
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

/// What the host's own firewall does to all tables leaves the walls alone.
pub fn the_walls_outlive_a_flush(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    host.sh(LISTEN).ok();
    let gateway = host.exec(agents, &["sh", "-c", "ip -4 route show default | awk '{ print $3; exit }'"]);
    let gateway = gateway.ok().to_owned();
    control(&host, &gateway, 8099);
    // the configuration that Debian ships begins so
    host.sh("printf 'flush ruleset\\n' >/etc/nftables.conf").ok();
    for flush in ["systemctl restart nftables", "nft flush ruleset", "nft -f /etc/nftables.conf"] {
        host.sh("nft add table inet foreign").ok();
        host.sh(flush).ok();
        assert!(!host.sh("nft list tables").ok().contains("foreign"), "{flush}: nothing was flushed");
        assert_eq!(probe(&host, Some(agents), &gateway, 8099), "refused", "{flush}");
        assert_eq!(wall(&host, agents), "up", "{flush}");
    }
    // a keeper that is killed is back at once, and owns the table again
    host.sh("systemctl kill -s KILL sandbox-walls.service").ok();
    until("the walls are kept again", SOON, || {
        let kept = host.sh("nft list table inet sandbox | grep -q 'flags.*owner'");
        (kept.code == 0).then_some(())
    });
    // without one the walls go, are put up again by the next command that looks after them, and that is said before
    host.sh(UNKEEP).ok();
    let doctor = |host: &Host<'_>| {
        let found: Value = serde_json::from_str(&host.sandbox(&["doctor", "--json"]).out).expect("JSON");
        let found = found.as_array().expect("findings").iter().find(|found| found["check"] == "walls");
        found.expect("a finding")["verdict"].as_str().expect("a verdict").to_owned()
    };
    assert_eq!(doctor(&host), "bad", "no process keeps them");
    host.sh("nft flush ruleset").ok();
    assert_eq!((wall(&host, agents), doctor(&host)), ("missing".to_owned(), "bad".to_owned()));
    let list = host.sandbox(&["list"]);
    assert!(list.err.contains(&format!("the wall of machine `{agents}` is missing")), "{list:?}");
    assert!(list.err.contains("sandbox repair"), "{list:?}");
    assert_eq!(probe(&host, Some(agents), &gateway, 8099), "reached", "the wall is really missing");
    host.sandbox(&["repair"]).ok();
    assert_eq!((wall(&host, agents), doctor(&host)), ("up".to_owned(), "good".to_owned()));
    assert_eq!(probe(&host, Some(agents), &gateway, 8099), "refused");
    host.sh("systemctl disable -q --now nftables; systemctl stop listener").ok();
}

/// A network beside the host that it is not on when machines start: public addresses on the link, by a route to one
/// address, by a short prefix, and behind a gateway of their own. `up` makes it, `down` removes it.
const BESIDE: &str = r#"
down() {
  systemctl stop beside beside-names 2>/dev/null
  ip netns del beside 2>/dev/null
  ip link del beside0 2>/dev/null
}
down
[ "$0" = up ] || exit 0
set -e
ip netns add beside
ip link add beside0 type veth peer name out netns beside
ip address add 198.51.100.1/24 dev beside0; ip link set beside0 up
ip -n beside link set lo up
for address in 198.51.100.2/24 5.5.5.5/32 44.1.1.1/32 9.1.2.3/32 9.9.9.9/32; do
  ip -n beside address add $address dev out
done
ip -n beside link set out up
ip -n beside route add default via 198.51.100.1
ip route add 5.5.5.5/32 dev beside0
ip route add 44.0.0.0/12 dev beside0
ip route add 9.0.0.0/8 via 198.51.100.2
systemd-run -q --unit beside --service-type=exec ip netns exec beside   systemd-socket-activate --accept --inetd -l 0.0.0.0:8099 /bin/echo reached
systemd-run -q --unit beside-names --service-type=exec   systemd-socket-activate --accept --inetd -l 198.51.100.1:53 /bin/echo reached
"#;

/// What the host is on is out of reach however it comes there and whatever its addresses are; what a default route
/// leads to is within reach, also one that comes later.
pub fn no_network_of_the_host_is_reached(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    host.run(&["bash", "-c", BESIDE, "up"]).ok();
    for address in ["198.51.100.2", "5.5.5.5", "44.1.1.1", "9.1.2.3"] {
        control(&host, address, 8099);
        assert_eq!(probe(&host, Some(agents), address, 8099), "refused", "{address}");
    }
    // another link's resolver is not the machine's
    control(&host, "198.51.100.1", 53);
    assert_eq!(probe(&host, Some(agents), "198.51.100.1", 53), "refused");
    // as a VPN does
    host.sh("ip route del 9.0.0.0/8; ip route add 0.0.0.0/5 via 198.51.100.2; ip route add 8.0.0.0/7 via 198.51.100.2").ok();
    control(&host, "9.9.9.9", 8099);
    until("a default route that came later leads out", Duration::from_secs(10), || {
        (probe(&host, Some(agents), "9.9.9.9", 8099) == "reached").then_some(())
    });
    assert_eq!(probe(&host, Some(agents), "198.51.100.2", 8099), "refused", "its gateway");
    host.run(&["bash", "-c", BESIDE, "down"]).ok();
}

/// Asks a server and prints what comes back; says so when it has asked.
const ASKER: &str = r#"
use Socket; my ($server, $port) = @ARGV;
socket(my $s, PF_INET, SOCK_DGRAM, 17); bind($s, sockaddr_in($port, INADDR_ANY));
send($s, "question", 0, sockaddr_in(9999, inet_aton($server)));
$SIG{ALRM} = sub { print "nothing
"; exit }; alarm 6;
recv($s, my $answer, 99, 0); print "$answer
";
"#;

/// Sends an answer in the name of another.
const FORGER: &str = r#"
use Socket; my ($from, $to, $port) = @ARGV; my $text = "FORGED";
my $udp = pack("n4", 9999, $port, 8 + length $text, 0) . $text;
my $ip = pack("CCnnnCCna4a4", 0x45, 0, 20 + length $udp, 0, 0, 64, 17, 0, inet_aton($from), inet_aton($to));
socket(my $s, PF_INET, SOCK_RAW, 255) or die $!;
for (1 .. 8) { send($s, $ip . $udp, 0, sockaddr_in(0, inet_aton($to))); select undef, undef, undef, .5 }
"#;

/// A machine cannot answer the host in the name of a server that the host asked.
pub fn no_answer_is_forged(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    let route = host.sh("ip -4 route get 192.0.2.77 | awk '{ print $3, $7; exit }'");
    let (server, own) = route.ok().split_once(' ').expect("a gateway and an address");
    // also where the kernel itself lets anything in
    host.sh(&format!("sysctl -qw net.ipv4.conf.{}.rp_filter=0", crate::traces::interface(agents))).ok();
    let asked = thread::scope(|scope| {
        let asker = scope.spawn(|| host.run(&["perl", "-e", ASKER, server, "5599"]));
        thread::sleep(Duration::from_secs(1));
        host.exec(agents, &["perl", "-e", FORGER, server, own, "5599"]).ok();
        asker.join().expect("an answer or none")
    });
    host.sh(&format!("sysctl -qw net.ipv4.conf.{}.rp_filter=1", crate::traces::interface(agents))).ok();
    assert_eq!(asked.ok(), "nothing");
}

/// The host's end of a link answers for its own address alone, and hears no IPv6.
pub fn the_link_is_hardened(lab: &Lab) {
    let host = lab.host();
    let link = crate::traces::interface(host.agents());
    let settings =
        ["ipv4/conf/LINK/rp_filter 1", "ipv4/conf/LINK/arp_ignore 1", "ipv6/conf/LINK/disable_ipv6 1"];
    for setting in settings {
        let (path, value) = setting.split_once(' ').expect("a value");
        let path = format!("/proc/sys/net/{}", path.replace("LINK", &link));
        assert_eq!(host.run(&["cat", &path]).ok(), value, "{path}");
    }
}
