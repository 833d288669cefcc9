//! Foreign firewalls of the host that drop packets of machines, and the command that lets them pass in each.
//!
//! A packet of a machine is judged by every base chain of its hook, whatever table that is in, so an accept of our own
//! table does not help. Each chain is evaluated for such a packet. A condition whose value is not known counts as not met: a
//! chain that accepts the packet only under one is reported, and a chain that drops it only under one is not.
//!
//! **Source**: nft(8), "Chains", "Statements"; libnftables-json(5).

use std::fs;

use serde_json::Value;

use super::{Names, PREFIX, nft, ruleset::TABLE};

/// How deep chains jump at most, as in the kernel.
const DEPTH: usize = 16;

/// Whether iptables' own tables of before nftables are in use.
const LEGACY: &str = "/proc/net/ip_tables_names";

/// A chain that drops what machines send, and the command that cures it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// What is wrong: `Docker's chain FORWARD drops …`.
    pub text: String,
    /// What to type.
    pub cure: String,
}

/// Returns the chains of other firewalls that drop what machines send, also to the resolver that they are given; none
/// where the packet filter cannot be asked.
#[must_use]
pub fn obstacles(names: &Names) -> Vec<Obstacle> {
    let names = names.is_host().then_some(NAMES);
    let packets: Vec<Packet> = PACKETS.into_iter().chain(names).collect();
    let mut found = nft::ruleset().as_ref().map(|ruleset| of(ruleset, &packets)).unwrap_or_default();
    if fs::read_to_string(LEGACY).is_ok_and(|tables| tables.lines().any(|table| table == "filter")) {
        found.extend(of_legacy(&nft::legacy_rules()));
    }
    found
}

/// A packet that a machine sends.
#[derive(Clone, Copy)]
struct Packet {
    hook: &'static str,
    protocol: &'static str,
    port: u64,
}

/// To a web server, and to the host's DHCP server.
const PACKETS: [Packet; 2] = [
    Packet { hook: "forward", protocol: "tcp", port: 443 },
    Packet { hook: "input", protocol: "udp", port: 67 },
];

/// To the host's resolver, where machines ask that.
const NAMES: Packet = Packet { hook: "input", protocol: "udp", port: 53 };

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Accept,
    Drop,
    Return,
}

fn of(ruleset: &Value, packets: &[Packet]) -> Vec<Obstacle> {
    let objects: Vec<&Value> = ruleset["nftables"].as_array().into_iter().flatten().collect();
    let mut found = Vec::new();
    let mut dropping = Vec::new();
    for packet in packets.iter().copied() {
        for chain in objects.iter().filter_map(|object| object.get("chain")) {
            let table =
                Table { family: text(&chain["family"]), name: text(&chain["table"]), objects: &objects };
            let is_other = (table.family, table.name) != ("inet", TABLE);
            if !is_other || chain["hook"] != packet.hook || !matches!(table.family, "ip" | "inet") {
                continue;
            }
            let name = text(&chain["name"]);
            let judged = match table.follow(name, packet, 0) {
                Verdict::Return if chain["policy"] == "drop" => Verdict::Drop,
                judged => judged,
            };
            // one command lets both through that machines ask the host
            if judged == Verdict::Drop && !dropping.contains(&(packet.hook, table.family, table.name, name)) {
                dropping.push((packet.hook, table.family, table.name, name));
                found.push(table.obstacle(name, packet));
            }
        }
    }
    found
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

struct Table<'a> {
    family: &'a str,
    name: &'a str,
    objects: &'a [&'a Value],
}

impl Table<'_> {
    fn has(&self, chain: &str) -> bool {
        let mut chains = self.objects.iter().filter_map(|object| object.get("chain"));
        chains.any(|found| {
            found["table"] == self.name && found["family"] == self.family && found["name"] == chain
        })
    }

    /// Follows a packet through a chain.
    fn follow(&self, chain: &str, packet: Packet, depth: usize) -> Verdict {
        if depth > DEPTH {
            return Verdict::Return;
        }
        let rules = self.objects.iter().filter_map(|object| object.get("rule"));
        let own = rules.filter(|rule| {
            rule["table"] == self.name && rule["family"] == self.family && rule["chain"] == chain
        });
        for rule in own {
            match self.judge(rule, packet, depth) {
                Some((verdict @ (Verdict::Accept | Verdict::Drop), _)) => return verdict,
                Some((Verdict::Return, true)) => return Verdict::Return,
                _ => {}
            }
        }
        Verdict::Return
    }

    /// Returns what a rule does with the packet, and whether it leaves the chain; `None` where it does not match.
    fn judge(&self, rule: &Value, packet: Packet, depth: usize) -> Option<(Verdict, bool)> {
        for statement in rule["expr"].as_array()? {
            let (kind, value) = statement.as_object()?.iter().next()?;
            match kind.as_str() {
                "match" if !packet.matches(value) => return None,
                "match" | "counter" | "log" | "comment" => {}
                "vmap" => {
                    let entries = value["data"]["set"].as_array()?;
                    let key = &value["key"];
                    let entry = entries.iter().find(|entry| packet.is(key, &entry[0]).unwrap_or_default())?;
                    return self.verdict(&entry[1], packet, depth);
                }
                _ => return self.verdict(statement, packet, depth),
            }
        }
        None
    }

    fn verdict(&self, statement: &Value, packet: Packet, depth: usize) -> Option<(Verdict, bool)> {
        let (kind, value) = statement.as_object()?.iter().next()?;
        match kind.as_str() {
            "accept" => Some((Verdict::Accept, true)),
            "drop" | "reject" => Some((Verdict::Drop, true)),
            "return" => Some((Verdict::Return, true)),
            "jump" => Some((self.follow(text(&value["target"]), packet, depth + 1), false)),
            "goto" => Some((self.follow(text(&value["target"]), packet, depth + 1), true)),
            // a target of iptables
            "xt" if value["type"] == "target" && matches!(text(&value["name"]), "REJECT" | "DROP") => {
                Some((Verdict::Drop, true))
            }
            // a condition that is not known, or something that does not end the rule's way
            _ => None,
        }
    }

    fn obstacle(&self, chain: &str, packet: Packet) -> Obstacle {
        let (family, table) = (self.family, self.name);
        let is_forward = packet.hook == "forward";
        let whose = match () {
            () if table == "firewalld" => "firewalld".to_owned(),
            () if self.has("ufw-before-input") => "ufw".to_owned(),
            () if is_forward && self.has("DOCKER-USER") => "Docker".to_owned(),
            () => format!("the chain `{family} {table} {chain}` of this host's packet filter"),
        };
        let cure = match whose.as_str() {
            "firewalld" => format!(
                "firewall-cmd --permanent --zone=trusted --add-interface={PREFIX}+ && firewall-cmd --reload"
            ),
            "ufw" if is_forward => format!("ufw route allow in on {PREFIX}+"),
            "ufw" => format!("ufw allow in on {PREFIX}+ proto udp to any port 53,67"),
            "Docker" => in_iptables("iptables", "DOCKER-USER", true),
            _ if family == "ip" && matches!(chain, "FORWARD" | "INPUT") => {
                in_iptables("iptables", chain, is_forward)
            }
            _ if is_forward => format!(
                "nft insert rule {family} {table} {chain} iifname '\"{PREFIX}*\"' accept && nft insert rule {family} \
                 {table} {chain} oifname '\"{PREFIX}*\"' ct state established,related accept"
            ),
            _ => format!(
                "nft insert rule {family} {table} {chain} iifname '\"{PREFIX}*\"' meta l4proto '{{ tcp, udp }}' th dport \
                 '{{ 53, 67 }}' accept"
            ),
        };
        Obstacle { text: what(&whose, packet), cure }
    }
}

fn what(whose: &str, packet: Packet) -> String {
    match (packet.hook, packet.port) {
        ("forward", _) => format!("{whose} drops what machines send, which cuts them off from the internet"),
        (_, 53) => format!("{whose} drops what machines ask this host's resolver, so they resolve no names"),
        _ => format!("{whose} drops what machines ask this host, so they get no address from it"),
    }
}

fn in_iptables(program: &str, chain: &str, is_forward: bool) -> String {
    if is_forward {
        format!(
            "{program} -I {chain} -i {PREFIX}+ -j ACCEPT && {program} -I {chain} -o {PREFIX}+ -m conntrack --ctstate \
             RELATED,ESTABLISHED -j ACCEPT"
        )
    } else {
        format!("{program} -I {chain} -i {PREFIX}+ -p udp -m multiport --dports 53,67 -j ACCEPT")
    }
}

/// Looks at what `iptables-legacy -S` prints: a policy that drops, and no rule that names links of machines.
fn of_legacy(rules: &str) -> Vec<Obstacle> {
    let one = |(chain, packet): (&str, Packet)| {
        let drops = rules.lines().any(|line| line == format!("-P {chain} DROP"));
        let allowed = rules.lines().any(|line| line.contains(chain) && line.contains(PREFIX));
        (drops && !allowed).then(|| Obstacle {
            text: what("iptables-legacy", packet),
            cure: in_iptables("iptables-legacy", chain, packet.hook == "forward"),
        })
    };
    ["FORWARD", "INPUT"].into_iter().zip(PACKETS).filter_map(one).collect()
}

impl Packet {
    /// Returns whether the packet meets a condition; one that is not known is not met.
    fn matches(self, condition: &Value) -> bool {
        match (self.is(&condition["left"], &condition["right"]), text(&condition["op"])) {
            (Some(is), "==" | "in") => is,
            (Some(is), "!=") => !is,
            _ => false,
        }
    }

    /// Returns whether what an expression gives for the packet is among the values; `None` where that is not known.
    fn is(self, expression: &Value, values: &Value) -> Option<bool> {
        if let Some(set) = values.get("set").and_then(Value::as_array).or_else(|| values.as_array()) {
            return set
                .iter()
                .map(|value| self.is(expression, value))
                .try_fold(false, |any, is| Some(any || is?));
        }
        if let Some(key) = expression.get("meta").map(|meta| text(&meta["key"])) {
            return match key {
                "iifname" | "iif" => Some(is_link(text(values))),
                // what is reached is not the machine's own link, nor a bridge that has a name in a rule
                "oifname" | "oif" => Some(false),
                "l4proto" => Some(values == self.protocol),
                "nfproto" => Some(values == "ipv4"),
                _ => None,
            };
        }
        if expression["ct"]["key"] == "state" {
            return Some(values == "new");
        }
        let payload = expression.get("payload")?;
        match (text(&payload["protocol"]), text(&payload["field"])) {
            (protocol, "dport") if protocol == self.protocol || protocol == "th" => {
                Some(match values.get("range").and_then(Value::as_array) {
                    Some(range) => {
                        let edge = |at: usize| range.get(at).and_then(Value::as_u64);
                        edge(0)? <= self.port && self.port <= edge(1)?
                    }
                    None => values.as_u64()? == self.port,
                })
            }
            ("tcp" | "udp", "dport") => Some(false),
            ("ip6", _) => Some(false),
            _ => None,
        }
    }
}

/// Returns whether a name in a rule, which may end with `*`, is that of every link of machines.
fn is_link(name: &str) -> bool {
    name.strip_suffix('*').is_some_and(|start| PREFIX.starts_with(start))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn chain(table: &str, name: &str, hook: Option<(&str, &str)>) -> Value {
        let family = if table == "filter" { "ip" } else { "inet" };
        let mut chain = json!({"family": family, "table": table, "name": name});
        if let Some((hook, policy)) = hook {
            chain["hook"] = hook.into();
            chain["policy"] = policy.into();
        }
        json!({ "chain": chain })
    }

    fn rule(table: &str, chain: &str, expr: &Value) -> Value {
        let family = if table == "filter" { "ip" } else { "inet" };
        json!({"rule": {"family": family, "table": table, "chain": chain, "expr": expr}})
    }

    fn matches(key: &str, op: &str, right: &Value) -> Value {
        json!({"match": {"op": op, "left": {"meta": {"key": key}}, "right": right}})
    }

    fn state(words: &[&str]) -> Value {
        json!({"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": {"set": words}}})
    }

    fn cures(objects: &[Value]) -> Vec<String> {
        of(&json!({ "nftables": objects }), &PACKETS).into_iter().map(|found| found.cure).collect()
    }

    #[test]
    fn each_firewall_is_told_of_until_it_lets_machines_pass() {
        let established = json!([state(&["established", "related"]), {"accept": null}]);
        let reject = json!([{"counter": {}}, {"reject": {"type": "icmpx"}}]);
        let leave = json!([matches("iifname", "==", &json!("ve-sb*")), {"accept": null}]);
        let docker = vec![
            chain("filter", "FORWARD", Some(("forward", "drop"))),
            chain("filter", "DOCKER-USER", None),
            rule("filter", "FORWARD", &json!([{"counter": {}}, {"jump": {"target": "DOCKER-USER"}}])),
            rule(
                "filter",
                "FORWARD",
                &json!([matches("iifname", "==", &json!("docker0")), matches("oifname", "!=", &json!("docker0")), {"accept": null}]),
            ),
        ];
        let hardened = vec![
            chain("filter4", "forward", Some(("forward", "drop"))),
            rule("filter4", "forward", &established),
            chain("filter4", "input", Some(("input", "drop"))),
            rule("filter4", "input", &json!([matches("iifname", "==", &json!("lo")), {"accept": null}])),
        ];
        let firewalld = vec![
            chain("firewalld", "filter_FORWARD", Some(("forward", "accept"))),
            rule("firewalld", "filter_FORWARD", &established),
            rule("firewalld", "filter_FORWARD", &json!([{"jump": {"target": "zones"}}])),
            rule("firewalld", "filter_FORWARD", &reject),
            rule(
                "firewalld",
                "zones",
                &json!([matches("iifname", "==", &json!("eth0")), {"goto": {"target": "public"}}]),
            ),
        ];
        let ufw = vec![
            chain("filter", "INPUT", Some(("input", "drop"))),
            chain("filter", "ufw-before-input", None),
            rule("filter", "INPUT", &json!([{"jump": {"target": "ufw-before-input"}}])),
            rule(
                "filter",
                "ufw-before-input",
                &json!([{"xt": {"type": "match", "name": "conntrack"}}, {"accept": null}]),
            ),
        ];
        let rejecting = vec![
            chain("filter", "FORWARD", Some(("forward", "accept"))),
            rule(
                "filter",
                "FORWARD",
                &json!([{"counter": {}}, {"xt": {"type": "target", "name": "REJECT"}}]),
            ),
        ];
        let cases: [(&str, Vec<Value>, &[&str], Value); 5] = [
            (
                "Docker",
                docker,
                &["iptables -I DOCKER-USER -i ve-sb+ "],
                rule("filter", "DOCKER-USER", &leave),
            ),
            (
                "hardened",
                hardened,
                &[
                    "nft insert rule inet filter4 forward iifname ",
                    "nft insert rule inet filter4 input iifname ",
                ],
                Value::Null,
            ),
            (
                "firewalld",
                firewalld,
                &["firewall-cmd --permanent --zone=trusted --add-interface=ve-sb+ "],
                rule("firewalld", "zones", &leave),
            ),
            (
                "ufw",
                ufw,
                &["ufw allow in on ve-sb+ "],
                rule(
                    "filter",
                    "ufw-before-input",
                    &json!([matches("iifname", "==", &json!("ve-sb*")),
                        {"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": {"set": [53, 67]}}},
                        {"accept": null}]),
                ),
            ),
            ("rejecting", rejecting, &["iptables -I FORWARD -i ve-sb+ "], Value::Null),
        ];
        for (what, mut objects, expected, leave) in cases {
            let found = cures(&objects);
            assert_eq!(found.len(), expected.len(), "{what}: {found:?}");
            for (cure, start) in found.iter().zip(expected) {
                assert!(cure.starts_with(start), "{what}: {cure}");
            }
            if leave != Value::Null {
                objects.insert(0, leave);
                assert_eq!(cures(&objects), Vec::<String>::new(), "{what}");
            }
        }
    }

    #[test]
    fn what_is_no_obstacle_is_none() {
        let own = vec![chain(TABLE, "forward", Some(("forward", "drop")))];
        let six = vec![
            json!({"chain": {"family": "ip6", "table": "filter", "name": "FORWARD", "hook": "forward", "policy": "drop"}}),
        ];
        let wide = vec![
            chain("other", "forward", Some(("forward", "drop"))),
            rule("other", "forward", &json!([matches("iifname", "==", &json!("ve-*")), {"accept": null}])),
        ];
        let mapped = vec![
            chain("other", "forward", Some(("forward", "drop"))),
            rule(
                "other",
                "forward",
                &json!([{"vmap": {"key": {"ct": {"key": "state"}}, "data": {"set": [["invalid", {"drop": null}], ["new", {"accept": null}]]}}}]),
            ),
        ];
        let endless = vec![
            chain("other", "forward", Some(("forward", "accept"))),
            rule("other", "forward", &json!([{"jump": {"target": "forward"}}])),
        ];
        for objects in [own, six, wide, mapped, endless, Vec::new()] {
            assert_eq!(cures(&objects), Vec::<String>::new(), "{objects:?}");
        }
        assert_eq!(of(&Value::Null, &PACKETS), []);
    }

    #[test]
    fn a_chain_that_drops_questions_for_names_is_one_where_machines_ask_the_host() {
        let port = |port: u16| {
            let left = json!({"payload": {"protocol": "udp", "field": "dport"}});
            json!([{"match": {"op": "==", "left": left, "right": port}}, {"accept": null}])
        };
        let mut objects =
            vec![chain("filter", "INPUT", Some(("input", "drop"))), rule("filter", "INPUT", &port(67))];
        let found = |objects: &[Value], packets: &[Packet]| of(&json!({ "nftables": objects }), packets);
        let all = [PACKETS[0], PACKETS[1], NAMES];
        assert_eq!(found(&objects, &PACKETS), []);
        let [names] = found(&objects, &all).try_into().unwrap();
        assert!(names.text.ends_with("so they resolve no names"), "{names:?}");
        objects.push(rule("filter", "INPUT", &port(53)));
        assert_eq!(found(&objects, &all), []);
        objects.truncate(1);
        assert_eq!(found(&objects, &all).len(), 1, "one command lets both pass");
    }

    #[test]
    fn legacy_policies_are_seen() {
        let [found] = of_legacy("-P INPUT ACCEPT\n-P FORWARD DROP\n").try_into().unwrap();
        assert!(found.cure.starts_with("iptables-legacy -I FORWARD -i ve-sb+ "), "{found:?}");
        assert_eq!(of_legacy("-P FORWARD DROP\n-A FORWARD -i ve-sb+ -j ACCEPT\n"), []);
    }
}
