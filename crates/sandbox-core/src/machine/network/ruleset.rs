//! The table's text.
//!
//! **Shape**: `table inet sandbox` with two maps from a link to the chains of its machine, `hosts` for what
//! goes to the host and `worlds` for what goes on. A machine's chains are flushed and written anew, its map
//! elements never change, so each command may be repeated and each file is one transaction. A link that is
//! in no map falls through to a drop.
//!
//! The hooks come before everyone else's filters. A drop here is final; an accept is not, so the host's own
//! firewall keeps its say.
//!
//! **Source**: nft(8).

use std::fmt::Write;

use super::{
    PREFIX, Subnet, interface,
    range::{PRIVATE4, PRIVATE6},
};
use crate::machine::{Definition, Exception, Network};

/// The table's name, in family `inet`.
pub(super) const TABLE: &str = "sandbox";

/// The map that has an element for each machine.
pub(super) const MACHINES: &str = "hosts";

/// Writes the commands that put a machine's wall up, and the table where it is missing.
pub(super) fn up(definition: &Definition, neighbours: &[Subnet]) -> String {
    let link = interface(&definition.name);
    let mut text = shared();
    text.push_str(&membership(&link));
    let (host, world) = match definition.network {
        Network::Internet => ("goto guarded", "goto internet"),
        Network::Open | Network::Host => ("accept", "accept"),
        Network::None => ("drop", "drop"),
    };
    let rule = |text: &mut String, chain: &str, rule: &str| {
        let _ = writeln!(text, "add rule inet {TABLE} {chain}-{link} {rule}");
    };
    rule(&mut text, "host", host);
    if definition.network == Network::Internet {
        rule(&mut text, "world", "ct state established,related accept");
        for exception in &definition.exceptions {
            for matched in matches(exception) {
                rule(&mut text, "world", &format!("{matched} accept"));
            }
        }
        for subnet in neighbours {
            rule(&mut text, "world", &format!("{} daddr {subnet} drop", family(subnet.is_ipv4())));
        }
    }
    rule(&mut text, "world", world);
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
fn shared() -> String {
    let mut text = format!(
        "add table inet {TABLE}\n\
         add map inet {TABLE} hosts {{ type ifname : verdict; }}\n\
         add map inet {TABLE} worlds {{ type ifname : verdict; }}\n\
         add chain inet {TABLE} input {{ type filter hook input priority filter - 10; policy accept; }}\n\
         add chain inet {TABLE} forward {{ type filter hook forward priority filter - 10; policy accept; }}\n\
         add chain inet {TABLE} postrouting {{ type nat hook postrouting priority srcnat; policy accept; }}\n"
    );
    for chain in ["guarded", "internet", "input", "forward", "postrouting"] {
        let _ = writeln!(text, "add chain inet {TABLE} {chain}\nflush chain inet {TABLE} {chain}");
    }
    let mut rules = |chain: &str, rules: &[String]| {
        for rule in rules {
            let _ = writeln!(text, "add rule inet {TABLE} {chain} {rule}");
        }
    };
    rules("input", &input());
    rules("guarded", &GUARDED.map(str::to_owned));
    rules("forward", &forward());
    rules("internet", &internet());
    rules("postrouting", &[masquerade()]);
    text
}

fn input() -> [String; 2] {
    [format!("iifname \"{PREFIX}*\" iifname vmap @hosts"), format!("iifname \"{PREFIX}*\" drop")]
}

/// What a walled machine may ask of the host: DHCP, names, its neighbour's address, and whether it is there.
const GUARDED: [&str; 6] = [
    "ct state established,related accept",
    "udp dport { 53, 67, 547 } accept",
    "tcp dport 53 accept",
    "icmp type { destination-unreachable, parameter-problem, time-exceeded } accept",
    "icmpv6 type { destination-unreachable, nd-neighbor-advert, nd-neighbor-solicit, \
     nd-router-solicit, packet-too-big, parameter-problem, time-exceeded } accept",
    "drop",
];

fn forward() -> [String; 5] {
    [
        // A source address that does not belong behind the link is forged.
        format!("iifname \"{PREFIX}*\" fib saddr . iif oif 0 drop"),
        format!("iifname \"{PREFIX}*\" oifname \"{PREFIX}*\" drop"),
        format!("iifname \"{PREFIX}*\" iifname vmap @worlds"),
        format!("iifname \"{PREFIX}*\" drop"),
        format!("oifname \"{PREFIX}*\" ct state != {{ established, related }} drop"),
    ]
}

/// What leaves a link for the world gets the host's address. networkd could do that for links that it serves,
/// but its own table stays behind when the last machine is gone.
fn masquerade() -> String {
    format!("meta nfproto ipv4 iifname \"{PREFIX}*\" oifname != \"{PREFIX}*\" masquerade")
}

fn internet() -> [String; 4] {
    [
        format!("ip daddr {{ {} }} drop", PRIVATE4.join(", ")),
        format!("ip6 daddr {{ {} }} drop", PRIVATE6.join(", ")),
        "fib daddr type != unicast drop".into(),
        "accept".into(),
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

    #[test]
    fn a_walled_machine_is_guarded_and_reaches_the_internet_and_its_exceptions() {
        let mut definition = definition("agents");
        let link = interface(&definition.name);
        definition.exceptions = vec![
            Exception { address: "10.0.0.53".parse().unwrap(), port: 53, reason: "resolver".into() },
            Exception { address: "fd00::7".parse().unwrap(), port: 3142, reason: "mirror".into() },
        ];
        let text = up(&definition, &["192.0.2.0/24".parse().unwrap()]);
        assert_eq!(rules(&text, &format!("host-{link}")), ["goto guarded"]);
        assert_eq!(
            rules(&text, &format!("world-{link}")),
            [
                "ct state established,related accept",
                "ip daddr 10.0.0.53 tcp dport 53 accept",
                "ip daddr 10.0.0.53 udp dport 53 accept",
                "ip6 daddr fd00::7 tcp dport 3142 accept",
                "ip daddr 192.0.2.0/24 drop",
                "goto internet"
            ]
        );
    }

    #[test]
    fn what_is_in_no_map_is_dropped() {
        let text = up(&definition("agents"), &[]);
        assert_eq!(rules(&text, "input").last().unwrap(), "iifname \"ve-sb*\" drop");
        assert_eq!(rules(&text, "guarded").last().unwrap(), "drop");
        assert!(rules(&text, "forward").contains(&"iifname \"ve-sb*\" drop".to_owned()));
    }

    #[test]
    fn an_open_machine_passes_and_is_masqueraded() {
        let mut definition = definition("agents");
        definition.network = Network::Open;
        let link = interface(&definition.name);
        let text = up(&definition, &[]);
        assert_eq!(rules(&text, &format!("host-{link}")), ["accept"]);
        assert_eq!(rules(&text, &format!("world-{link}")), ["accept"]);
        assert_eq!(
            rules(&text, "postrouting"),
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
