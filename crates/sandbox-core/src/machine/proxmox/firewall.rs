//! The wall of a container of Proxmox VE, in the words of its own packet filter.
//!
//! **Shape**: `/etc/pve/firewall/ID.fw`: `[OPTIONS]` with `key: value`, `[RULES]` with `OUT ACTION -dest …`. It counts
//! only where the whole cluster's filter is on.
//!
//! **Source**: Proxmox VE Administration Guide, "Proxmox VE Firewall"; pve-firewall(8).

use crate::machine::{
    Exception,
    network::{PRIVATE4, PRIVATE6, Subnet},
};

/// What a container's filter is set to, beside its rules.
pub const OPTIONS: [(&str, &str); 6] = [
    ("enable", "1"),
    ("dhcp", "1"),
    ("macfilter", "1"),
    ("ndp", "1"),
    ("policy_in", "DROP"),
    ("policy_out", "ACCEPT"),
];

/// A rule for what leaves a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Whether it is let through; it is dropped otherwise.
    pub accept: bool,
    /// An address, or a range.
    pub dest: String,
    /// The protocol and the port.
    pub port: Option<(&'static str, u16)>,
    /// Why.
    pub reason: String,
}

impl Rule {
    /// Gives its action's word.
    #[must_use]
    pub const fn action(&self) -> &'static str {
        if self.accept { "ACCEPT" } else { "DROP" }
    }
}

/// Gives the wall of the network `internet`: what is private, and what the node is on, is out of reach but for the
/// exceptions; nobody comes in. The first rule that fits counts.
#[must_use]
pub fn rules(exceptions: &[Exception], neighbours: &[Subnet]) -> Vec<Rule> {
    let mut all = Vec::new();
    for Exception { address, port, reason } in exceptions {
        let reason: String = reason.chars().filter(|letter| !letter.is_control()).collect();
        let protocols: &[&'static str] = if *port == 53 { &["udp", "tcp"] } else { &["tcp"] };
        for protocol in protocols {
            let (dest, reason) = (address.to_string(), reason.clone());
            all.push(Rule { accept: true, dest, port: Some((protocol, *port)), reason });
        }
    }
    let own = PRIVATE4.iter().chain(&PRIVATE6).map(ToString::to_string);
    let all_ranges = own.chain(neighbours.iter().map(ToString::to_string));
    all.extend(all_ranges.map(|dest| Rule { accept: false, dest, port: None, reason: String::new() }));
    all
}

/// Writes the file of a wall, with the container's mark in it.
#[must_use]
pub fn text(rules: &[Rule], mark: &str) -> String {
    let mut text =
        format!("# Written by sandbox ({mark}): the internet, and nothing beside it.\n[OPTIONS]\n\n");
    for (key, value) in OPTIONS {
        text += &format!("{key}: {value}\n");
    }
    text += "\n[RULES]\n\n";
    for rule in rules {
        text += &format!("OUT {} -dest {}", rule.action(), rule.dest);
        if let Some((protocol, port)) = rule.port {
            text += &format!(" -p {protocol} -dport {port}");
        }
        if !rule.reason.is_empty() {
            text += &format!(" # {}", rule.reason);
        }
        text.push('\n');
    }
    text
}

/// Tells whether the cluster's filter is on, by its file: without it no container's counts.
#[must_use]
pub fn is_on(cluster: &str) -> bool {
    let mut options = false;
    let mut on = false;
    for line in cluster.lines().map(str::trim) {
        if line.starts_with('[') {
            options = line.eq_ignore_ascii_case("[options]");
        } else if let (true, Some(value)) = (options, line.strip_prefix("enable:")) {
            on = value.split_whitespace().next() == Some("1");
        }
    }
    on
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_is_dropped_after_what_is_let_through() {
        let exception = |port, reason: &str| Exception {
            address: "192.168.1.1".parse().unwrap(),
            port,
            reason: reason.into(),
        };
        let neighbour: Subnet = "203.0.113.0/24".parse().unwrap();
        let exceptions = [exception(53, "resolver"), exception(3142, "mirror\nIN ACCEPT")];
        let text = text(&super::rules(&exceptions, &[neighbour]), "sandbox-1");
        let rules: Vec<&str> = text.lines().skip_while(|line| *line != "[RULES]").skip(2).collect();
        assert_eq!(
            rules[..4],
            [
                "OUT ACCEPT -dest 192.168.1.1 -p udp -dport 53 # resolver",
                "OUT ACCEPT -dest 192.168.1.1 -p tcp -dport 53 # resolver",
                "OUT ACCEPT -dest 192.168.1.1 -p tcp -dport 3142 # mirrorIN ACCEPT",
                "OUT DROP -dest 0.0.0.0/8",
            ]
        );
        assert!(rules[3..].iter().all(|rule| rule.starts_with("OUT DROP -dest ")));
        assert_eq!(rules.len(), 3 + PRIVATE4.len() + PRIVATE6.len() + 1);
        assert_eq!(rules.last(), Some(&"OUT DROP -dest 203.0.113.0/24"));
        assert!(text.contains("policy_in: DROP\n"));
    }

    #[test]
    fn the_cluster_has_to_be_switched_on() {
        assert!(is_on("[OPTIONS]\n\nenable: 1\npolicy_in: ACCEPT\n"));
        for off in
            ["", "[OPTIONS]\nenable: 0\n", "[RULES]\nenable: 1\n", "[OPTIONS]\n#enable: 1\n", "enable: 1\n"]
        {
            assert!(!is_on(off), "{off}");
        }
    }
}
