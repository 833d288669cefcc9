//! A node of Proxmox VE, through the interface of its cluster: REST with a token.
//!
//! **Source**: pve-container 9.1, `PVE/API2/LXC*.pm`; pve-manager 9, `PVE/API2/{Cluster,Network,Tasks}.pm`; pve-storage
//! 9.1, `PVE/API2/Storage/*.pm`; pve-firewall, `PVE/API2/Firewall/*.pm`; pve-http-server, `PVE/APIServer/AnyEvent.pm`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{Read as _, Seek as _},
    net::IpAddr,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::Value;

use super::{
    cluster::{Cluster, Snapshotting},
    config::{Container, Read},
    error::ProxmoxError,
    firewall::{OPTIONS, Rule},
    place::Connection,
    rights::{self, Target},
    task::{self, Upid},
};
use crate::{
    digest::Hasher,
    host::api::{Api, Sent},
    machine::network::{Subnet, is_private},
};

/// How long a container may take to be made, a template to be moved to its place, a snapshot to be taken.
const LONG: Duration = Duration::from_secs(1800);
/// How long a container may take to start or to be removed.
const SHORT: Duration = Duration::from_secs(180);
/// How long a container that is being made by a task of ours is waited for.
const MADE: Duration = Duration::from_secs(600);
/// The pause between two looks at it.
const PAUSE: Duration = Duration::from_millis(500);

/// A node, by the interface.
pub struct Rest {
    api: Api,
    owner: String,
    node: String,
}

impl Rest {
    /// Sees that the token is taken, and that the node is one of the cluster's.
    ///
    /// # Errors
    /// Where it is not; [`ProxmoxError::Node`] where one has to be chosen.
    pub fn open(connection: &Connection, node: Option<&str>) -> Result<Self, ProxmoxError> {
        let (api, owner) = connection.open()?;
        let mut rest = Self { api, owner, node: String::new() };
        rest.get("/version", &[])?;
        let nodes = rest.get("/nodes", &[])?;
        let mut nodes = names(&nodes, "node", |_| true);
        let of = |why| ProxmoxError::Node { why, nodes: nodes.clone() };
        rest.node = match (node, nodes.as_slice()) {
            (Some(node), _) if nodes.iter().any(|known| known == node) => node.to_owned(),
            (Some(_), _) => return Err(of("there is no such node")),
            (None, [_]) => nodes.remove(0),
            (None, _) => return Err(of("the cluster has several nodes, of which --node names one")),
        };
        Ok(rest)
    }

    /// Asks for a value.
    ///
    /// # Errors
    /// Where it is refused or not understood.
    pub fn get(&self, path: &str, fields: &[(&str, &str)]) -> Result<Value, ProxmoxError> {
        self.call(Method::GET, path, fields)
    }

    fn call(&self, method: Method, path: &str, fields: &[(&str, &str)]) -> Result<Value, ProxmoxError> {
        let call = format!("{method} {path}");
        let reply = self.api.call(method, path, fields)?;
        self.read(&call, reply.status, &reply.body)
    }

    fn read(&self, call: &str, status: u16, body: &[u8]) -> Result<Value, ProxmoxError> {
        let mut value: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        if status == 401 {
            return Err(ProxmoxError::Unknown { owner: self.owner.clone() });
        }
        if !(200..300).contains(&status) {
            return Err(ProxmoxError::Refused { call: call.to_owned(), status, said: said(&value) });
        }
        match value.get_mut("data") {
            Some(data) => Ok(data.take()),
            None => Err(ProxmoxError::Said { command: call.to_owned(), said: excerpt(body) }),
        }
    }

    /// Does something that is a task, and waits for its end.
    fn task(
        &self,
        method: Method,
        path: &str,
        fields: &[(&str, &str)],
        deadline: Duration,
    ) -> Result<(), ProxmoxError> {
        let call = format!("{method} {path}");
        let said = self.call(method, path, fields)?;
        self.follow(&call, &said, deadline)
    }

    fn follow(&self, call: &str, said: &Value, deadline: Duration) -> Result<(), ProxmoxError> {
        match said.as_str().and_then(Upid::parse) {
            Some(upid) => task::follow(self, &upid, deadline),
            // what was done at once
            None if said.is_null() => Ok(()),
            None => Err(ProxmoxError::Said { command: call.to_owned(), said: said.to_string() }),
        }
    }

    fn has_template(&self, volume: &str) -> Result<bool, ProxmoxError> {
        let storage = volume.split(':').next().unwrap_or_default();
        let path = self.of_node(&format!("storage/{storage}/content"));
        let there = self.get(&path, &[("content", "vztmpl")])?;
        Ok(names(&there, "volid", |_| true).iter().any(|known| known == volume))
    }

    /// Waits until no task of a kind runs; others' are not seen.
    fn wait_for(&self, kind: &str) -> Result<(), ProxmoxError> {
        let begun = Instant::now();
        let fields = [("source", "active"), ("typefilter", kind)];
        loop {
            let tasks = self.get(&self.of_node("tasks"), &fields)?;
            let running = |task: &Value| task["endtime"].is_null() && task["status"].is_null();
            if names(&tasks, "upid", running).is_empty() {
                return Ok(());
            }
            if begun.elapsed() > MADE {
                return Err(ProxmoxError::Slow { kind: kind.to_owned(), seconds: MADE.as_secs() });
            }
            thread::sleep(PAUSE);
        }
    }

    fn of_node(&self, rest: &str) -> String {
        format!("/nodes/{}/{rest}", self.node)
    }

    fn of(&self, id: u32, rest: &str) -> String {
        self.of_node(&format!("lxc/{id}{rest}"))
    }

    fn check_rights(&self, container: &Container, target: Target<'_>) -> Result<(), ProxmoxError> {
        let wanted = rights::wanted(container, target);
        let paths: BTreeSet<&str> = wanted.iter().map(|right| right.path.as_str()).collect();
        let mut had = BTreeMap::new();
        for path in paths {
            let found = self.get("/access/permissions", &[("path", path)])?;
            let privileges = found[path].as_object().map(|all| all.keys().cloned().collect());
            had.insert(path.to_owned(), privileges.unwrap_or_else(BTreeSet::new));
        }
        let lacks = rights::lacking(&wanted, &had);
        if lacks.is_empty() { Ok(()) } else { Err(ProxmoxError::Rights { owner: self.owner.clone(), lacks }) }
    }

    fn check_storages(&self, container: &Container, target: Target<'_>) -> Result<(), ProxmoxError> {
        let all = self.get(&self.of_node("storage"), &[("enabled", "1")])?;
        let holding = |content: &str| {
            names(&all, "storage", |storage| {
                storage["content"].as_str().unwrap_or_default().split(',').any(|word| word == content)
            })
        };
        let disks = container.mounts.iter().map(|mount| &mount.place).chain([&container.rootfs]);
        let disks = disks.map(|disk| disk.split(':').next().unwrap_or_default());
        let wanted = disks.map(|storage| (storage, "rootdir", "trees of containers"));
        for (storage, content, what) in wanted.chain([(target.storage, "vztmpl", "templates")]) {
            let others = holding(content);
            if !others.iter().any(|known| known == storage) {
                let (node, storage) = (self.node.clone(), storage.to_owned());
                return Err(ProxmoxError::Storage { node, storage, what, others });
            }
        }
        Ok(())
    }

    fn check_network(&self, container: &Container, target: Target<'_>) -> Result<(), ProxmoxError> {
        let Some(link) = &container.link else { return Ok(()) };
        let bridges = self.get(&self.of_node("network"), &[("type", "any_bridge")])?;
        let others = names(&bridges, "iface", |_| true);
        if !others.contains(&link.bridge) {
            let (node, bridge) = (self.node.clone(), link.bridge.clone());
            return Err(ProxmoxError::Bridge { node, bridge, others });
        }
        // an integer, which older ones give as text
        let options = self.get("/cluster/firewall/options", &[])?;
        let on = options["enable"].as_i64() == Some(1) || options["enable"].as_str() == Some("1");
        if target.walled && !on { Err(ProxmoxError::FilterOff) } else { Ok(()) }
    }

    /// Puts the wall up around a container that does not run, and sees that it stands.
    fn wall(&self, id: u32, rules: &[Rule]) -> Result<(), ProxmoxError> {
        let place = self.of(id, "/firewall/rules");
        // each is put before those that are there
        for rule in rules.iter().rev() {
            let port = rule.port.map(|(protocol, port)| (protocol, port.to_string()));
            let mut fields = vec![
                ("type", "out"),
                ("action", rule.action()),
                ("dest", rule.dest.as_str()),
                ("enable", "1"),
            ];
            if let Some((protocol, port)) = &port {
                fields.extend([("proto", *protocol), ("dport", port.as_str())]);
            }
            if !rule.reason.is_empty() {
                fields.push(("comment", &rule.reason));
            }
            self.call(Method::POST, &place, &fields)?;
        }
        self.call(Method::PUT, &self.of(id, "/firewall/options"), &OPTIONS)?;
        let stands = self.get(&place, &[])?;
        let options = self.get(&self.of(id, "/firewall/options"), &[])?;
        let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let as_asked = |(rule, found): (&Rule, &Value)| {
            found["action"] == rule.action() && found["dest"] == *rule.dest && word(&found["enable"]) == "1"
        };
        let stands = stands.as_array().map(Vec::as_slice).unwrap_or_default();
        let whole = stands.len() == rules.len() && rules.iter().zip(stands).all(as_asked);
        if whole && OPTIONS.iter().all(|(key, value)| word(&options[key]) == *value) {
            return Ok(());
        }
        Err(ProxmoxError::Wall { id })
    }
}

impl Cluster for Rest {
    fn node(&self) -> &str {
        &self.node
    }

    fn free(&self, wanted: Option<u32>) -> Result<u32, ProxmoxError> {
        let number = wanted.map(|id| id.to_string());
        let fields: Vec<_> = number.iter().map(|id| ("vmid", id.as_str())).collect();
        let path = "/cluster/nextid";
        match (self.get(path, &fields), wanted) {
            (Err(ProxmoxError::Refused { status: 400, .. }), Some(id)) => Err(ProxmoxError::Taken { id }),
            (Err(problem), _) => Err(problem),
            (Ok(said), _) => {
                let id = said.as_str().and_then(|id| id.parse().ok());
                let id = id.or_else(|| u32::try_from(said.as_u64()?).ok());
                id.ok_or_else(|| ProxmoxError::Said {
                    command: format!("GET {path}"),
                    said: said.to_string(),
                })
            }
        }
    }

    fn check(&self, container: &Container, target: Target<'_>) -> Result<(), ProxmoxError> {
        let for_root = container.for_root_only();
        if !for_root.is_empty() {
            let (what, mut words): (Vec<_>, Vec<_>) = for_root.into_iter().unzip();
            words.dedup();
            return Err(ProxmoxError::RootOnly { what, words });
        }
        self.check_rights(container, target)?;
        self.check_storages(container, target)?;
        self.check_network(container, target)
    }

    fn neighbours(&self) -> Result<Vec<Subnet>, ProxmoxError> {
        let all = self.get(&self.of_node("network"), &[])?;
        let links = all.as_array().map(Vec::as_slice).unwrap_or_default();
        let ranges = links.iter().flat_map(|link| [link["cidr"].as_str(), link["cidr6"].as_str()]);
        let mut all: Vec<Subnet> =
            ranges.flatten().filter_map(range).filter(|range| !is_private(range.address())).collect();
        all.sort();
        all.dedup();
        Ok(all)
    }

    fn template(&self, storage: &str, name: &str) -> Result<Option<PathBuf>, ProxmoxError> {
        // a file of the same name would be written over
        let volume = format!("{storage}:vztmpl/{name}");
        if self.has_template(&volume)? { Err(ProxmoxError::Template { volume }) } else { Ok(None) }
    }

    fn upload(&self, storage: &str, path: &Path) -> Result<(), ProxmoxError> {
        let failed = |source| ProxmoxError::Read { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(failed)?;
        let mut hasher = Hasher::default();
        let (mut length, mut buffer) = (0, vec![0; 1 << 20]);
        loop {
            let count = file.read(&mut buffer).map_err(failed)?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            length += count as u64;
        }
        file.rewind().map_err(failed)?;
        let digest = hasher.finish();
        let checksum = digest.to_string();
        // Proxmox reads them in this order, and the file last
        let fields =
            [("content", "vztmpl"), ("checksum-algorithm", "sha256"), ("checksum", checksum.as_str())];
        let place = self.of_node(&format!("storage/{storage}/upload"));
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let reply = self.api.upload(&place, &fields, Sent { name, digest, length, file: Box::new(file) })?;
        let call = format!("POST {place}");
        let said = self.read(&call, reply.status, &reply.body)?;
        self.follow(&call, &said, LONG)
    }

    fn remove_template(&self, volume: &str) -> Result<(), ProxmoxError> {
        // one that is being brought would be there a moment later
        self.wait_for("imgcopy")?;
        if !self.has_template(volume)? {
            return Ok(());
        }
        let storage = volume.split(':').next().unwrap_or_default();
        let path = self.of_node(&format!("storage/{storage}/content/{volume}"));
        self.task(Method::DELETE, &path, &[], SHORT)
    }

    fn create(
        &self,
        id: u32,
        template: &str,
        container: &Container,
        wall: Option<&[Rule]>,
    ) -> Result<(), ProxmoxError> {
        let (number, values) = (id.to_string(), container.values());
        let mut fields: Vec<(&str, &str)> =
            values.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        fields.extend([("vmid", number.as_str()), ("ostemplate", template)]);
        fields.push(("description", &container.description));
        self.task(Method::POST, &self.of_node("lxc"), &fields, LONG)?;
        let Some(rules) = wall else { return Ok(()) };
        self.wall(id, rules).inspect_err(|_| {
            // the first error is the one to show; what is left is in the journal
            let _ = self.destroy(id);
        })
    }

    fn config(&self, id: u32) -> Result<Option<Read>, ProxmoxError> {
        let begun = Instant::now();
        loop {
            let found = match self.get(&self.of(id, "/config"), &[]) {
                Ok(found) => found,
                Err(ProxmoxError::Refused { status: 404 | 500, said, .. })
                    if said.contains("does not exist") =>
                {
                    return Ok(None);
                }
                Err(problem) => return Err(problem),
            };
            // one that is being made has no description yet, and vanishes where that fails
            if found["lock"] == "create" {
                if begun.elapsed() > MADE {
                    return Err(ProxmoxError::Locked { id });
                }
                thread::sleep(PAUSE);
                continue;
            }
            let mut read = Read::default();
            for (key, value) in found.as_object().into_iter().flatten() {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                match key.as_str() {
                    "description" => read.description = value,
                    "lxc" | "digest" => {}
                    _ => drop(read.values.insert(key.clone(), value)),
                }
            }
            return Ok(Some(read));
        }
    }

    fn set(&self, id: u32, values: &[(&str, &str)], without: &[&str]) -> Result<(), ProxmoxError> {
        let without = without.join(",");
        let mut fields = values.to_vec();
        if !without.is_empty() {
            fields.push(("delete", &without));
        }
        self.call(Method::PUT, &self.of(id, "/config"), &fields).map(drop)
    }

    fn destroy(&self, id: u32) -> Result<(), ProxmoxError> {
        self.task(Method::DELETE, &self.of(id, ""), &[("purge", "1")], SHORT)
    }

    fn runs(&self, id: u32) -> Result<bool, ProxmoxError> {
        Ok(self.get(&self.of(id, "/status/current"), &[])?["status"] == "running")
    }

    fn addresses(&self, id: u32) -> Result<Vec<IpAddr>, ProxmoxError> {
        Ok(addresses(&self.get(&self.of(id, "/interfaces"), &[])?))
    }

    fn start(&self, id: u32) -> Result<(), ProxmoxError> {
        self.task(Method::POST, &self.of(id, "/status/start"), &[], SHORT)
    }

    fn shut_down(&self, id: u32, seconds: u64) -> Result<(), ProxmoxError> {
        if seconds == 0 {
            return self.task(Method::POST, &self.of(id, "/status/stop"), &[], SHORT);
        }
        let timeout = seconds.to_string();
        let fields = [("timeout", timeout.as_str()), ("forceStop", "1")];
        let deadline = SHORT + Duration::from_secs(seconds);
        self.task(Method::POST, &self.of(id, "/status/shutdown"), &fields, deadline)
    }

    fn snapshots(&self, id: u32) -> Result<Vec<(String, i64)>, ProxmoxError> {
        let all = self.get(&self.of(id, "/snapshot"), &[])?;
        let all = all.as_array().map(Vec::as_slice).unwrap_or_default();
        let one = |found: &Value| {
            let name = found["name"].as_str().filter(|name| *name != "current")?;
            Some((name.to_owned(), found["snaptime"].as_i64().unwrap_or(0)))
        };
        Ok(all.iter().filter_map(one).collect())
    }

    fn snapshot(&self, id: u32, name: &str, what: Snapshotting) -> Result<(), ProxmoxError> {
        let place = self.of(id, "/snapshot");
        match what {
            Snapshotting::Take => self.task(Method::POST, &place, &[("snapname", name)], LONG),
            Snapshotting::Restore => self.task(Method::POST, &format!("{place}/{name}/rollback"), &[], LONG),
            Snapshotting::Remove => self.task(Method::DELETE, &format!("{place}/{name}"), &[], LONG),
        }
    }
}

/// Reads the addresses of a container's links.
pub(super) fn addresses(links: &Value) -> Vec<IpAddr> {
    let links = links.as_array().map(Vec::as_slice).unwrap_or_default();
    let texts = links.iter().flat_map(|link| [link["inet"].as_str(), link["inet6"].as_str()]).flatten();
    let parsed = texts.filter_map(|text| text.split('/').next()?.parse::<IpAddr>().ok());
    parsed
        .filter(|address| match address {
            IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local(),
            IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
        })
        .collect()
}

/// Reads an address with the bits of its network as that network.
fn range(text: &str) -> Option<Subnet> {
    let (address, bits) = text.split_once('/')?;
    let bits: u8 = bits.parse().ok()?;
    let address = match address.parse().ok()? {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32_u32.checked_sub(bits.into())?).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128_u32.checked_sub(bits.into())?).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    };
    Subnet::new(address, bits)
}

/// Gives a key of those of a list that fit.
fn names(list: &Value, key: &str, fits: impl Fn(&Value) -> bool) -> Vec<String> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut names: Vec<_> =
        list.iter().filter(|one| fits(one)).filter_map(|one| one[key].as_str()).map(str::to_owned).collect();
    names.sort();
    names
}

/// Words what the interface says of a refusal.
fn said(value: &Value) -> String {
    let message = value["message"].as_str().unwrap_or("no reason").trim().to_owned();
    let errors = value["errors"].as_object().into_iter().flatten();
    let errors = errors.map(|(key, said)| format!("{key}: {}", said.as_str().unwrap_or_default().trim()));
    let errors: Vec<_> = errors.collect();
    if errors.is_empty() { message } else { format!("{message} ({})", errors.join("; ")) }
}

fn excerpt(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn networks_of_a_node_lose_the_bits_of_its_address() {
        for (text, expected) in [
            ("203.0.113.77/24", "203.0.113.0/24"),
            ("203.0.113.77/32", "203.0.113.77/32"),
            ("203.0.113.77/0", "0.0.0.0/0"),
            ("2001:db8:1:2::7/64", "2001:db8:1:2::/64"),
        ] {
            assert_eq!(range(text).unwrap().to_string(), expected);
        }
        for wrong in ["", "203.0.113.1", "203.0.113.1/33", "x/8", "2001:db8::/129"] {
            assert!(range(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn refusals_are_worded() {
        let value =
            json!({"data": null, "message": "Parameter verification failed.\n", "errors": {"rootfs": "bad"}});
        assert_eq!(said(&value), "Parameter verification failed. (rootfs: bad)");
        assert_eq!(said(&Value::Null), "no reason");
    }

    #[test]
    fn addresses_that_lead_nowhere_are_left_out() {
        let links = json!([
            {"name": "lo", "inet": "127.0.0.1/8", "inet6": "::1/128"},
            {"name": "eth0", "inet": "192.0.2.7/24", "inet6": "fe80::1/64"},
        ]);
        assert_eq!(addresses(&links), ["192.0.2.7".parse::<IpAddr>().unwrap()]);
    }
}
