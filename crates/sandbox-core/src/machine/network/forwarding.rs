//! Whether the host, and other firewalls on it, let machines' packets pass at all.

use std::fs;

use super::{Error, PREFIX};

const SWITCH: &str = "/proc/sys/net/ipv4/ip_forward";

/// Turns IPv4 forwarding on, and tells whether it was off.
///
/// networkd's `IPMasquerade=` does so for a link of its own, but from systemd 256 on no longer for the whole
/// host, which the way out needs.
pub(super) fn enable() -> Result<bool, Error> {
    let failed = |source| Error::Forwarding { source };
    if fs::read_to_string(SWITCH).map_err(failed)?.trim() == "1" {
        return Ok(false);
    }
    fs::write(SWITCH, "1").map_err(failed)?;
    Ok(true)
}

/// Says what other firewalls on the host need to be told, from what `nft list table ip filter` prints.
///
/// Docker drops what is passed on unless it knows it, ufw what comes in too; a rule of theirs that names our
/// links is taken for leave.
pub(super) fn obstacles(table: &str) -> Vec<String> {
    if table.contains(PREFIX) {
        return Vec::new();
    }
    let mut found = Vec::new();
    if drops(table, "FORWARD") {
        found.push(format!(
            "another firewall on this host drops forwarded packets (Docker and ufw do), which cuts machines off \
             from the internet; let them through: `iptables -I FORWARD -i {PREFIX}+ -j ACCEPT` and `iptables -I \
             FORWARD -o {PREFIX}+ -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`"
        ));
    }
    if drops(table, "INPUT") {
        found.push(format!(
            "another firewall on this host drops incoming packets (ufw does), so machines get no address; let \
             them ask for one: `iptables -I INPUT -i {PREFIX}+ -p udp -m multiport --dports 53,67 -j ACCEPT`"
        ));
    }
    found
}

/// Tells whether a base chain drops what no rule of it accepts.
fn drops(table: &str, chain: &str) -> bool {
    let start = format!("chain {chain} {{");
    let body = table.lines().skip_while(|line| line.trim() != start).skip(1);
    body.take_while(|line| line.trim() != "}").any(|line| line.contains("policy drop"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCKER: &str = "table ip filter {\n\tchain DOCKER-USER {\n\t}\n\n\tchain FORWARD {\n\
        \t\ttype filter hook forward priority filter; policy drop;\n\t\tcounter jump DOCKER-USER\n\t}\n\n\
        \tchain INPUT {\n\t\ttype filter hook input priority filter; policy accept;\n\t}\n}\n";

    #[test]
    fn a_dropping_chain_is_told_until_a_rule_names_our_links() {
        let [told] = obstacles(DOCKER).try_into().unwrap();
        assert!(told.contains("iptables -I FORWARD"), "{told}");
        let both = DOCKER.replace("policy accept", "policy drop");
        assert_eq!(obstacles(&both).len(), 2);
        let allowed = both.replace("counter jump", "iifname \"ve-sb*\" accept\n\t\tcounter jump");
        assert_eq!(obstacles(&allowed).len(), 0);
        assert_eq!(obstacles("").len(), 0);
    }
}
