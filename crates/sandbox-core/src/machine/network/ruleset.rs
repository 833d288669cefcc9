//! The table's text.
//!
//! **Shape**: `table inet sandbox` with two maps from a link to the chains of its machine, `hosts` for what
//! goes to the host and `worlds` for what goes on, and sets of the host's ways out, which follow its routes
//! ([`ways`](super::ways)). A machine's chains are flushed and written again, its map elements never change,
//! so each command may be repeated and each file is one transaction. A link that is in no map falls through
//! to a drop.
//!
//! A forged source is dropped in `prerouting`, before conntrack and before any hook that hands a packet to the
//! host or forwards it. What a machine sends is judged by its destination, packet by packet, whatever connection
//! it belongs to: one that was opened while the table was missing ends when the table is there again. Only answers
//! to a connection from the other side pass as such (`ct direction reply`).
//!
//! The hooks come before the other filters of the host. A drop here is final; an accept is not, so the host's own
//! firewall keeps its say.
//!
//! **Source**: nft(8); `nft_fib_ipv4.c`, `nft_rt.c` and `nf_conncount.c` of the kernel.

use std::fmt::Write;

use super::{
    PREFIX, Served, interface,
    range::{PRIVATE4, PRIVATE6},
};
use crate::machine::{Definition, Exception, Network};

/// The table's name, in family `inet`.
pub(super) const TABLE: &str = "sandbox";

/// The map that has an element for each machine.
pub(super) const MACHINES: &str = "hosts";

/// How many connections of one machine to the world the host tracks at once. The host's whole table has room for
/// 65,536 at least (`net.netfilter.nf_conntrack_max`), mostly for 262,144; a new connection costs time in proportion to
/// how many are counted.
const CONNECTIONS: u32 = 4096;

/// How many connections of one machine to the host itself are tracked at once.
const QUESTIONS: u32 = 512;

/// Writes the commands that put a machine's wall up, into a table that has what all machines share.
pub(super) fn up(definition: &Definition, served: Served) -> String {
    let link = interface(&definition.name);
    let mut text = membership(&link);
    let mut rule = |chain: &str, rule: &str| {
        let _ = writeln!(text, "add rule inet {TABLE} {chain}-{link} {rule}");
    };
    rule("host", &format!("ct state new ct count over {QUESTIONS} drop"));
    rule("world", &format!("ct state new ct count over {CONNECTIONS} drop"));
    match definition.network {
        Network::Internet => {
            // an address of the host's other links is not the machine's to ask
            let own = "fib daddr . iif type local";
            if served.dhcp {
                rule("host", "ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept");
                rule("host", &format!("meta nfproto ipv4 {own} udp sport 68 udp dport 67 accept"));
            }
            if served.dns {
                rule(
                    "host",
                    &format!("meta nfproto ipv4 {own} meta l4proto {{ tcp, udp }} th dport 53 accept"),
                );
            }
            rule("host", "goto guarded");
            rule("world", "ct state invalid drop");
            for exception in &definition.exceptions {
                for matched in matches(exception) {
                    rule("world", &format!("{matched} accept"));
                }
            }
            rule("world", "goto internet");
        }
        Network::Open | Network::Host => ["host", "world"].iter().for_each(|chain| rule(chain, "accept")),
        Network::None => ["host", "world"].iter().for_each(|chain| rule(chain, "drop")),
    }
    text
}

/// Writes the commands that take a machine out of the table, whether it is in it or not.
pub(super) fn down(link: &str) -> String {
    // To delete what is not there is an error, to add what is there is none.
    let mut text = membership(link);
    for map in [MACHINES, "worlds"] {
        let _ = writeln!(text, "delete element inet {TABLE} {map} {{ \"{link}\" }}");
    }
    for chain in ["host", "world"] {
        let _ = writeln!(text, "delete chain inet {TABLE} {chain}-{link}");
    }
    text
}

/// Writes the command that makes the table, where it is missing; `stays` where it may be owned
/// ([`netlink::own`](super::netlink::own)).
pub(super) fn table(stays: bool) -> String {
    format!("add table inet {TABLE}{}\n", if stays { " { flags persist; }" } else { "" })
}

/// Writes the command that removes the table.
pub(super) fn gone() -> String {
    format!("delete table inet {TABLE}\n")
}

/// Writes a machine's own chains, empty, and its map elements.
fn membership(link: &str) -> String {
    let mut text = String::new();
    for chain in ["host", "world"] {
        let _ = writeln!(text, "add chain inet {TABLE} {chain}-{link}");
        let _ = writeln!(text, "flush chain inet {TABLE} {chain}-{link}");
        let _ = writeln!(text, "add element inet {TABLE} {chain}s {{ \"{link}\" : jump {chain}-{link} }}");
    }
    text
}

const fn family(is_ipv4: bool) -> &'static str {
    if is_ipv4 { "ip" } else { "ip6" }
}

/// What an exception's packets look like: exactly its address and port.
fn matches(exception: &Exception) -> Vec<String> {
    let family = family(exception.address.is_ipv4());
    let protocols: &[&str] = if exception.port == 53 { &["tcp", "udp"] } else { &["tcp"] };
    let (address, port) = (exception.address, exception.port);
    let one = |protocol: &&str| format!("{family} daddr {address} {protocol} dport {port}");
    protocols.iter().map(one).collect()
}

/// Writes what all machines share; its chains are flushed, so that a newer program's rules replace them.
pub(super) fn shared() -> String {
    let mut text = String::new();
    for map in ["hosts", "worlds"] {
        let _ = writeln!(text, "add map inet {TABLE} {map} {{ type ifname : verdict; }}");
    }
    for (set, of) in SETS {
        let _ = writeln!(text, "add set inet {TABLE} {set} {{ {of} }}");
    }
    for (chain, of) in [
        ("prerouting", "filter hook prerouting priority raw - 10"),
        ("input", "filter hook input priority filter - 10"),
        ("forward", "filter hook forward priority filter - 10"),
        ("postrouting", "nat hook postrouting priority srcnat"),
    ] {
        let _ = writeln!(text, "add chain inet {TABLE} {chain} {{ type {of}; policy accept; }}");
    }
    for chain in ["arriving", "guarded", "internet", "prerouting", "input", "forward", "postrouting"] {
        let _ = writeln!(text, "add chain inet {TABLE} {chain}\nflush chain inet {TABLE} {chain}");
    }
    let mut rules = |chain: &str, rules: &[String]| {
        for rule in rules {
            let _ = writeln!(text, "add rule inet {TABLE} {chain} {rule}");
        }
    };
    rules("prerouting", &[format!("iifname \"{PREFIX}*\" jump arriving")]);
    rules("arriving", &ARRIVING.map(str::to_owned));
    rules("input", &input());
    rules("guarded", &GUARDED.map(str::to_owned));
    rules("forward", &forward());
    rules("internet", &internet());
    rules("postrouting", &[masquerade()]);
    text
}

/// The sets of the host's ways out, and what each holds: the gateways of default routes, the interfaces of default
/// routes without a gateway, and what else is on those.
pub(super) const SETS: [(&str, &str); 5] = [
    ("gateways4", "type ifname . ipv4_addr;"),
    ("gateways6", "type ifname . ipv6_addr;"),
    ("direct", "type ifname;"),
    ("near4", "type ipv4_addr; flags interval; auto-merge;"),
    ("near6", "type ipv6_addr; flags interval; auto-merge;"),
];

/// What no packet of a machine may have, wherever it goes: a route of its own choice, or a source that does not belong
/// behind the link. A machine that has no address yet may ask for one.
const ARRIVING: [&str; 6] = [
    "ip option lsrr exists drop",
    "ip option ssrr exists drop",
    "ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 return",
    "ip saddr 0.0.0.0/8 drop",
    "ip6 saddr :: icmpv6 type nd-neighbor-solicit return",
    "fib saddr . iif oif 0 drop",
];

fn input() -> [String; 2] {
    [format!("iifname \"{PREFIX}*\" iifname vmap @hosts"), format!("iifname \"{PREFIX}*\" drop")]
}

/// What a walled machine may send to the host beside DHCP and DNS, where the host offers those on the link: answers,
/// and errors about what the host sent. A redirect is none of them, and a ping is not answered.
const GUARDED: [&str; 5] = [
    "ct state invalid drop",
    "ct state established ct direction reply accept",
    "ct state related ct direction reply icmp type { destination-unreachable, parameter-problem, time-exceeded } accept",
    "ct state related ct direction reply icmpv6 type { destination-unreachable, packet-too-big, parameter-problem, \
     time-exceeded } accept",
    "drop",
];

fn forward() -> [String; 5] {
    [
        format!("iifname \"{PREFIX}*\" oifname \"{PREFIX}*\" drop"),
        format!("iifname \"{PREFIX}*\" iifname vmap @worlds"),
        format!("iifname \"{PREFIX}*\" drop"),
        // only answers reach a machine, also after a time without this table
        format!("oifname \"{PREFIX}*\" ct direction original drop"),
        format!("oifname \"{PREFIX}*\" ct state != {{ established, related }} drop"),
    ]
}

/// What leaves a link for the world gets the host's address. networkd could do that for links that it serves,
/// but its own table stays behind when the last machine is gone.
fn masquerade() -> String {
    format!("meta nfproto ipv4 iifname \"{PREFIX}*\" oifname != \"{PREFIX}*\" masquerade")
}

/// The internet is what the host reaches by the gateway of a default route, or by an interface that is a default route
/// itself: what the host's routes know more exactly is a network of its own, whatever its addresses.
fn internet() -> [String; 11] {
    [
        format!("ip daddr {{ {} }} drop", PRIVATE4.join(", ")),
        format!("ip6 daddr {{ {} }} drop", PRIVATE6.join(", ")),
        "fib daddr type != unicast drop".into(),
        // the gateway is on the host's network too
        "oifname . ip daddr @gateways4 drop".into(),
        "oifname . ip6 daddr @gateways6 drop".into(),
        "oifname . rt ip nexthop @gateways4 accept".into(),
        "oifname . rt ip6 nexthop @gateways6 accept".into(),
        "ip daddr @near4 drop".into(),
        "ip6 daddr @near6 drop".into(),
        "oifname @direct accept".into(),
        "drop".into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::example::definition;

    fn rules(text: &str, chain: &str) -> Vec<String> {
        let start = format!("add rule inet sandbox {chain} ");
        text.lines().filter_map(|line| line.strip_prefix(&start)).map(str::to_owned).collect()
    }

    const ALL: Served = Served { dhcp: true, dns: true };

    #[test]
    fn a_walled_machine_is_guarded_and_reaches_the_internet_and_its_exceptions() {
        let mut definition = definition("agents");
        let link = interface(&definition.name);
        definition.exceptions = vec![
            Exception { address: "10.0.0.53".parse().unwrap(), port: 53, reason: "resolver".into() },
            Exception { address: "fd00::7".parse().unwrap(), port: 3142, reason: "mirror".into() },
        ];
        let text = up(&definition, Served::default());
        let host = rules(&text, &format!("host-{link}"));
        assert_eq!(host, ["ct state new ct count over 512 drop", "goto guarded"]);
        assert_eq!(
            rules(&text, &format!("world-{link}")),
            [
                "ct state new ct count over 4096 drop",
                "ct state invalid drop",
                "ip daddr 10.0.0.53 tcp dport 53 accept",
                "ip daddr 10.0.0.53 udp dport 53 accept",
                "ip6 daddr fd00::7 tcp dport 3142 accept",
                "goto internet"
            ]
        );
    }

    #[test]
    fn only_what_the_host_serves_on_the_link_is_open_and_only_there() {
        let definition = definition("agents");
        let host = format!("host-{}", interface(&definition.name));
        let open = |served| {
            let rules = rules(&up(&definition, served), &host);
            rules.into_iter().filter(|rule| rule.ends_with(" accept")).collect::<Vec<_>>()
        };
        assert_eq!(open(Served::default()), [""; 0]);
        assert_eq!(open(Served { dhcp: false, dns: true }).len(), 1);
        for rule in open(ALL) {
            let own =
                rule.contains("fib daddr . iif type local") || rule.contains("ip daddr 255.255.255.255");
            assert!(own, "{rule}: any address of the host");
        }
    }

    #[test]
    fn a_forged_source_is_dropped_before_every_other_rule() {
        let text = shared();
        assert_eq!(rules(&text, "prerouting"), ["iifname \"ve-sb*\" jump arriving"]);
        let arriving = rules(&text, "arriving");
        assert_eq!(arriving.last().unwrap(), "fib saddr . iif oif 0 drop");
        assert!(!arriving.iter().any(|rule| rule.ends_with(" accept")), "{arriving:?}");
        assert!(text.contains("prerouting { type filter hook prerouting priority raw - 10; "), "{text}");
    }

    #[test]
    fn no_connection_of_a_machine_passes_for_its_age() {
        let text = shared() + &up(&definition("agents"), ALL);
        for line in text.lines().filter(|line| line.contains("established") && line.ends_with(" accept")) {
            assert!(line.contains("ct direction reply"), "{line}");
        }
        assert!(
            rules(&text, "forward").contains(&"oifname \"ve-sb*\" ct direction original drop".to_owned())
        );
    }

    #[test]
    fn the_internet_is_behind_a_default_route_and_nowhere_else() {
        let internet = rules(&shared(), "internet");
        let accepted: Vec<_> = internet.iter().filter(|rule| rule.ends_with("accept")).collect();
        assert_eq!(
            accepted,
            [
                "oifname . rt ip nexthop @gateways4 accept",
                "oifname . rt ip6 nexthop @gateways6 accept",
                "oifname @direct accept"
            ]
        );
        assert_eq!(internet.last().unwrap(), "drop");
    }

    #[test]
    fn what_is_in_no_map_is_dropped() {
        let text = shared();
        assert_eq!(rules(&text, "input").last().unwrap(), "iifname \"ve-sb*\" drop");
        assert_eq!(rules(&text, "guarded").last().unwrap(), "drop");
        assert!(rules(&text, "forward").contains(&"iifname \"ve-sb*\" drop".to_owned()));
    }

    #[test]
    fn an_open_machine_passes_and_is_masqueraded() {
        let mut definition = definition("agents");
        definition.network = Network::Open;
        let link = interface(&definition.name);
        let text = up(&definition, ALL);
        for chain in ["host", "world"] {
            let rules = rules(&text, &format!("{chain}-{link}"));
            assert!(rules.len() == 2 && rules[0].contains("ct count over"), "{rules:?}");
            assert_eq!(rules[1], "accept");
        }
        assert_eq!(
            rules(&shared(), "postrouting"),
            ["meta nfproto ipv4 iifname \"ve-sb*\" oifname != \"ve-sb*\" masquerade"]
        );
    }

    #[test]
    fn every_element_that_is_deleted_was_added_in_the_same_transaction() {
        let text = down("ve-sb01234567");
        for line in text.lines().filter(|line| line.starts_with("delete chain")) {
            assert!(text.contains(&line.replace("delete", "add")), "{line}");
        }
    }
}
