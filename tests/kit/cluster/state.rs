//! What the stand-in keeps, and what it answers.
//!
//! **Source** of what is refused: pve-container 9.1, `PVE/LXC.pm` and `PVE/API2/LXC*.pm`; pve-storage 9.1,
//! `PVE/API2/Storage/*.pm`; pve-firewall, `PVE/API2/Firewall/*.pm`; pve-manager, `PVE/API2/{Cluster,Tasks}.pm`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{OWNER, Reply, Request};

/// The one node, where nothing else is said.
const NODE: &str = "pve1";

const PRIVILEGES: [&str; 16] = [
    "Datastore.Allocate",
    "Datastore.AllocateSpace",
    "Datastore.AllocateTemplate",
    "Datastore.Audit",
    "SDN.Use",
    "Sys.Audit",
    "VM.Allocate",
    "VM.Audit",
    "VM.Config.CPU",
    "VM.Config.Disk",
    "VM.Config.Memory",
    "VM.Config.Network",
    "VM.Config.Options",
    "VM.PowerMgmt",
    "VM.Snapshot",
    "VM.Snapshot.Rollback",
];

/// Keys that a container takes.
const KEYS: [&str; 19] = [
    "vmid",
    "ostemplate",
    "arch",
    "cores",
    "cpulimit",
    "description",
    "features",
    "hostname",
    "memory",
    "net0",
    "onboot",
    "ostype",
    "rootfs",
    "startup",
    "swap",
    "tags",
    "unprivileged",
    "mp0",
    "mp1",
];

/// A container.
#[derive(Clone, Debug, Default)]
pub struct Container {
    /// Its keys.
    pub config: BTreeMap<String, String>,
    /// Whether it runs.
    pub running: bool,
    /// Its snapshots, each with what the keys were.
    pub snapshots: BTreeMap<String, BTreeMap<String, String>>,
    /// The rules of its filter, the first first.
    pub rules: Vec<BTreeMap<String, String>>,
    /// What its filter is set to.
    pub options: BTreeMap<String, String>,
    /// Until when it is being made.
    pub locked: Option<Instant>,
}

struct Task {
    ends: Instant,
    said: String,
    log: Vec<String>,
}

/// A cluster.
pub struct State {
    /// Its nodes.
    pub nodes: Vec<String>,
    /// Privileges that the token lacks, each with its path.
    pub lacks: BTreeSet<(String, String)>,
    /// Whether its packet filter is on.
    pub filter: bool,
    /// Templates by their volume.
    pub templates: BTreeMap<String, Vec<u8>>,
    /// Containers by their number.
    pub containers: BTreeMap<u32, Container>,
    /// How long a task of a kind takes.
    pub takes: BTreeMap<String, Duration>,
    /// How a task of a kind fails.
    pub fails: BTreeMap<String, String>,
    /// Calls that were made: `POST /nodes/pve1/lxc`.
    pub log: Vec<String>,
    /// A path that answers with an error, once all is checked.
    pub broken: Option<String>,
    tasks: BTreeMap<String, Task>,
    arriving: Vec<(Instant, String, Vec<u8>)>,
}

fn refuse<T>(status: u16, said: impl Into<String>) -> Result<T, (u16, String)> {
    Err((status, said.into()))
}

impl State {
    pub fn new() -> Self {
        Self {
            nodes: vec![NODE.to_owned()],
            lacks: BTreeSet::new(),
            filter: true,
            templates: BTreeMap::new(),
            containers: BTreeMap::new(),
            takes: BTreeMap::new(),
            fails: BTreeMap::new(),
            log: Vec::new(),
            broken: None,
            tasks: BTreeMap::new(),
            arriving: Vec::new(),
        }
    }

    /// Takes a privilege on a path from the token.
    pub fn lack(&mut self, privilege: &str, path: &str) {
        self.lacks.insert((path.to_owned(), privilege.to_owned()));
    }

    /// Gives the templates that are there, or will be.
    pub fn all_templates(&mut self) -> Vec<String> {
        self.arrive();
        let arriving = self.arriving.iter().map(|(_, volume, _)| volume);
        self.templates.keys().chain(arriving).cloned().collect()
    }

    fn arrive(&mut self) {
        let (there, coming) = self.arriving.drain(..).partition(|(when, ..)| *when <= Instant::now());
        self.arriving = coming;
        let there: Vec<(Instant, String, Vec<u8>)> = there;
        self.templates.extend(there.into_iter().map(|(_, volume, bytes)| (volume, bytes)));
    }

    /// Names calls that change something.
    pub fn changes(&self) -> Vec<&str> {
        self.log.iter().map(String::as_str).filter(|call| !call.starts_with("GET ")).collect()
    }

    fn need(&self, privilege: &str, path: &str) -> Result<(), (u16, String)> {
        if self.lacks.contains(&(path.to_owned(), privilege.to_owned())) {
            return refuse(403, format!("Permission check failed ({path}, {privilege})"));
        }
        Ok(())
    }

    /// Answers.
    pub fn answer(&mut self, request: &Request) -> Reply {
        let Some(path) = request.path.strip_prefix("/api2/json/") else { return refuse(501, "no such path") };
        self.log.push(format!("{} /{path}", request.method));
        self.arrive();
        if self.broken.as_ref().is_some_and(|broken| path.ends_with(broken.as_str())) {
            return refuse(500, "got no worker upid - start worker failed");
        }
        let parts: Vec<&str> = path.split('/').collect();
        match (request.method.as_str(), parts.as_slice()) {
            ("GET", ["version"]) => Ok(json!({"version": "9.1.1", "release": "9.1", "repoid": "0"})),
            ("GET", ["nodes"]) => {
                Ok(self.nodes.iter().map(|node| json!({"node": node, "status": "online"})).collect())
            }
            ("GET", ["access", "permissions"]) => Ok(self.permissions(request)),
            ("GET", ["cluster", "nextid"]) => self.next(request),
            ("GET", ["cluster", "firewall", "options"]) => {
                self.need("Sys.Audit", "/")?;
                Ok(if self.filter { json!({"enable": 1}) } else { json!({}) })
            }
            (method, ["nodes", node, rest @ ..]) => {
                if !self.nodes.iter().any(|known| known == node) {
                    return refuse(500, format!("hostname lookup '{node}' failed"));
                }
                self.of_node(method, rest, request)
            }
            _ => refuse(501, format!("Method '{} /{path}' not implemented", request.method)),
        }
    }

    fn permissions(&self, request: &Request) -> Value {
        let path = field(request, "path").unwrap_or("/");
        let has = |privilege: &&&str| !self.lacks.contains(&(path.to_owned(), (**privilege).to_owned()));
        let all: serde_json::Map<_, _> =
            PRIVILEGES.iter().filter(has).map(|privilege| ((*privilege).to_owned(), json!(1))).collect();
        json!({ path: all })
    }

    fn next(&self, request: &Request) -> Reply {
        if let Some(wanted) = field(request, "vmid") {
            let taken = self.containers.contains_key(&wanted.parse().unwrap());
            return if taken { refuse(400, "Parameter verification failed.") } else { Ok(json!(wanted)) };
        }
        let free = (100..).find(|id| !self.containers.contains_key(id)).unwrap();
        Ok(json!(free.to_string()))
    }

    fn of_node(&mut self, method: &str, rest: &[&str], request: &Request) -> Reply {
        match (method, rest) {
            ("GET", ["storage"]) => Ok(json!([
                {"storage": "local", "content": "vztmpl,iso,backup", "type": "dir", "active": 1},
                {"storage": "local-lvm", "content": "rootdir,images", "type": "lvmthin", "active": 1},
                {"storage": "plain", "content": "rootdir", "type": "dir", "active": 1},
            ])),
            ("GET", ["network"]) => Ok(json!([
                {"iface": "vmbr0", "type": "bridge", "cidr": "203.0.113.7/24", "cidr6": "2001:db8::7/64"},
            ])),
            ("GET", ["storage", storage, "content"]) => {
                let all = self.templates.keys().filter(|volume| volume.starts_with(&format!("{storage}:")));
                Ok(all.map(|volume| json!({"volid": volume, "content": "vztmpl"})).collect())
            }
            ("POST", ["storage", storage, "upload"]) => self.upload(storage, request),
            ("DELETE", ["storage", storage, "content", volume @ ..]) => {
                self.need("Datastore.Allocate", &format!("/storage/{storage}"))?;
                let volume = volume.join("/");
                if self.templates.remove(&volume).is_none() {
                    return refuse(500, format!("volume '{volume}' does not exist"));
                }
                Ok(self.task("imgdel", "", None))
            }
            ("GET", ["tasks"]) => {
                let kind = field(request, "typefilter").unwrap_or_default();
                let runs = |(upid, task): &(&String, &Task)| {
                    task.ends > Instant::now() && upid.contains(&format!(":{kind}:"))
                };
                Ok(self
                    .tasks
                    .iter()
                    .filter(runs)
                    .map(|(upid, _)| json!({"upid": upid, "type": kind}))
                    .collect())
            }
            ("GET", ["tasks", upid, "status"]) => {
                let Some(task) = self.tasks.get(*upid) else { return refuse(400, "no such task") };
                Ok(match task.ends > Instant::now() {
                    true => json!({"status": "running", "upid": upid}),
                    false => json!({"status": "stopped", "exitstatus": task.said, "upid": upid}),
                })
            }
            ("GET", ["tasks", upid, "log"]) => {
                let Some(task) = self.tasks.get(*upid) else { return refuse(400, "no such task") };
                Ok(task.log.iter().enumerate().map(|(n, t)| json!({"n": n + 1, "t": t})).collect())
            }
            ("POST", ["lxc"]) => self.create(request),
            (_, ["lxc", id, rest @ ..]) => self.of_container(method, id.parse().unwrap(), rest, request),
            _ => refuse(501, format!("Method '{method} {}' not implemented", rest.join("/"))),
        }
    }

    /// Begins a task that has done its work already; gives its name.
    fn task(&mut self, kind: &str, id: &str, failed: Option<String>) -> Value {
        let failed = failed.or_else(|| self.fails.get(kind).cloned());
        let ends = Instant::now() + self.takes.get(kind).copied().unwrap_or(Duration::from_millis(150));
        let upid = format!("UPID:{NODE}:0000ABCD:00{:06X}:692F0000:{kind}:{id}:{OWNER}:", self.tasks.len());
        let (said, log) = match failed {
            Some(said) => (said.clone(), vec![format!("begin of {kind}"), format!("TASK ERROR: {said}")]),
            None => ("OK".to_owned(), vec![format!("begin of {kind}"), "TASK OK".to_owned()]),
        };
        self.tasks.insert(upid.clone(), Task { ends, said, log });
        json!(upid)
    }

    fn upload(&mut self, storage: &str, request: &Request) -> Reply {
        self.need("Datastore.AllocateTemplate", &format!("/storage/{storage}"))?;
        let Some((name, bytes)) = &request.file else { return refuse(400, "missing temporary file name") };
        let volume = format!("{storage}:vztmpl/{name}");
        if !name.ends_with(".tar.zst") || field(request, "content") != Some("vztmpl") {
            return refuse(400, "Parameter verification failed. (filename: wrong file extension)");
        }
        let digest = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let sound = field(request, "checksum-algorithm") == Some("sha256")
            && field(request, "checksum") == Some(digest.as_str());
        let failed = (!sound).then(|| "checksum mismatch".to_owned());
        if failed.is_none() && !self.fails.contains_key("imgcopy") {
            // its name comes once all is there
            let takes = self.takes.get("imgcopy").copied().unwrap_or_default();
            self.arriving.push((Instant::now() + takes, volume, bytes.clone()));
        }
        Ok(self.task("imgcopy", "", failed))
    }

    fn create(&mut self, request: &Request) -> Reply {
        let id: u32 = field(request, "vmid").and_then(|id| id.parse().ok()).unwrap_or(0);
        let path = format!("/vms/{id}");
        self.need("VM.Allocate", &path)?;
        self.may_configure(&path, &request.fields)?;
        if self.containers.contains_key(&id) {
            return refuse(
                500,
                format!("unable to create CT {id} - CT {id} already exists on node '{NODE}'"),
            );
        }
        let template = field(request, "ostemplate").unwrap_or_default();
        let failed = match self.templates.get(template) {
            None => Some(format!("unable to create CT {id} - volume '{template}' does not exist")),
            Some(bytes) if !is_tar(bytes) => Some(format!("unable to create CT {id} - no tar file")),
            Some(_) => self.fails.get("vzcreate").cloned(),
        };
        if failed.is_none() {
            let mut container = Container::default();
            for (key, value) in &request.fields {
                if !matches!(key.as_str(), "vmid" | "ostemplate") {
                    container.config.insert(key.clone(), value.clone());
                }
            }
            let takes = self.takes.get("vzcreate").copied().unwrap_or(Duration::from_millis(150));
            container.locked = Some(Instant::now() + takes);
            self.containers.insert(id, container);
        }
        Ok(self.task("vzcreate", &id.to_string(), failed))
    }

    /// Refuses keys that are none, and those that the token may not write.
    fn may_configure(&self, path: &str, fields: &[(String, String)]) -> Result<(), (u16, String)> {
        for (key, value) in fields {
            let known = KEYS.contains(&key.as_str()) || matches!(key.as_str(), "delete" | "dev0" | "dev1");
            if !known {
                return refuse(
                    400,
                    format!("Parameter verification failed. ({key}: property is not defined in schema)"),
                );
            }
            let root = |what: &str| {
                refuse(403, format!("Permission check failed ({what} is only allowed for root@pam)"))
            };
            match key.as_str() {
                "vmid" | "ostemplate" => {}
                "cores" | "cpulimit" => self.need("VM.Config.CPU", path)?,
                "memory" | "swap" => self.need("VM.Config.Memory", path)?,
                "rootfs" | "mp0" | "mp1" => {
                    self.need("VM.Config.Disk", path)?;
                    let storage = value.split(':').next().unwrap_or_default();
                    if value.starts_with('/') {
                        root("mount point type bind")?;
                    }
                    self.need("Datastore.AllocateSpace", &format!("/storage/{storage}"))?;
                }
                "net0" => {
                    self.need("VM.Config.Network", path)?;
                    let bridge =
                        value.split(',').find_map(|part| part.strip_prefix("bridge=")).unwrap_or_default();
                    self.need("SDN.Use", &format!("/sdn/zones/localnetwork/{bridge}"))?;
                }
                "hostname" => self.need("VM.Config.Network", path)?,
                "features" if value.split(',').any(|part| !part.starts_with("nesting=")) => {
                    root("changing feature flags (except nesting)")?;
                }
                key if key.starts_with("dev") => root("configuring device passthrough")?,
                _ => self.need("VM.Config.Options", path)?,
            }
        }
        Ok(())
    }

    fn of_container(&mut self, method: &str, id: u32, rest: &[&str], request: &Request) -> Reply {
        let path = format!("/vms/{id}");
        if !self.containers.contains_key(&id) {
            return refuse(500, format!("Configuration file 'nodes/{NODE}/lxc/{id}.conf' does not exist"));
        }
        let number = id.to_string();
        let privilege = match (method, rest) {
            ("GET", _) => "VM.Audit",
            (_, ["firewall", ..]) => "VM.Config.Network",
            (_, ["status", ..]) => "VM.PowerMgmt",
            (_, ["snapshot", ..]) => "VM.Snapshot",
            ("DELETE", []) => "VM.Allocate",
            _ => "VM.Audit",
        };
        self.need(privilege, &path)?;
        if (method, rest) == ("PUT", &["config"]) {
            self.may_configure(&path, &request.fields)?;
        }
        let container = self.containers.get_mut(&id).unwrap();
        let locked = container.locked.is_some_and(|until| until > Instant::now());
        if locked && method != "GET" {
            return refuse(500, format!("CT is locked (create) {id}"));
        }
        match (method, rest) {
            ("GET", ["config"]) if locked => Ok(json!({"lock": "create", "arch": "amd64"})),
            ("GET", ["config"]) => Ok(json!(container.config)),
            ("PUT", ["config"]) => {
                for (key, value) in &request.fields {
                    if key == "delete" {
                        value.split(',').for_each(|key| drop(container.config.remove(key)));
                    } else {
                        container.config.insert(key.clone(), value.clone());
                    }
                }
                Ok(Value::Null)
            }
            ("GET", ["status", "current"]) => {
                Ok(json!({"status": if container.running { "running" } else { "stopped" }, "vmid": id}))
            }
            ("GET", ["interfaces"]) => Ok(json!([
                {"name": "lo", "inet": "127.0.0.1/8", "inet6": "::1/128"},
                {"name": "eth0", "inet": "203.0.113.50/24"},
            ])),
            ("POST", ["status", "start"]) => {
                if container.running {
                    return refuse(500, format!("CT {id} already running"));
                }
                container.running = !self.fails.contains_key("vzstart");
                Ok(self.task("vzstart", &number, None))
            }
            ("POST", ["status", verb @ ("stop" | "shutdown")]) => {
                if !container.running {
                    return refuse(500, format!("CT {id} not running"));
                }
                container.running = false;
                let kind = format!("vz{verb}");
                Ok(self.task(&kind, &number, None))
            }
            ("DELETE", []) => {
                if container.running {
                    return refuse(500, format!("unable to destroy CT {id} - container is running"));
                }
                self.containers.remove(&id);
                Ok(self.task("vzdestroy", &number, None))
            }
            (_, ["firewall", rest @ ..]) => of_filter(container, method, rest, request),
            (_, ["snapshot", rest @ ..]) => self.of_snapshots(id, method, rest, request),
            _ => refuse(501, format!("Method '{method} {}' not implemented", rest.join("/"))),
        }
    }

    fn of_snapshots(&mut self, id: u32, method: &str, rest: &[&str], request: &Request) -> Reply {
        let number = id.to_string();
        let container = self.containers.get_mut(&id).unwrap();
        match (method, rest) {
            ("GET", []) => {
                let all = container.snapshots.keys().zip(1_760_000_000..);
                let all = all.map(|(name, time)| json!({"name": name, "snaptime": time}));
                Ok(all.chain([json!({"name": "current", "description": "You are here!"})]).collect())
            }
            ("POST", []) => {
                let name = field(request, "snapname").unwrap_or_default().to_owned();
                if container.config["rootfs"].starts_with("plain:") {
                    let failed = Some("snapshot feature is not available".to_owned());
                    return Ok(self.task("vzsnapshot", &number, failed));
                }
                if container.snapshots.contains_key(&name) {
                    return refuse(500, format!("snapshot name '{name}' already used"));
                }
                container.snapshots.insert(name, container.config.clone());
                Ok(self.task("vzsnapshot", &number, None))
            }
            ("POST", [name, "rollback"]) => match container.snapshots.get(*name).cloned() {
                Some(config) => {
                    (container.config, container.running) = (config, false);
                    Ok(self.task("vzrollback", &number, None))
                }
                None => refuse(500, format!("snapshot '{name}' does not exist")),
            },
            ("DELETE", [name]) => match container.snapshots.remove(*name) {
                Some(_) => Ok(self.task("vzdelsnapshot", &number, None)),
                None => refuse(500, format!("snapshot '{name}' does not exist")),
            },
            _ => refuse(501, "not implemented"),
        }
    }
}

fn of_filter(container: &mut Container, method: &str, rest: &[&str], request: &Request) -> Reply {
    let fields: BTreeMap<String, String> = request.fields.iter().cloned().collect();
    match (method, rest) {
        ("GET", ["rules"]) => Ok(json!(container.rules)),
        // a new rule comes before those that are there, wherever it is asked for
        ("POST", ["rules"]) => {
            let known = ["type", "action", "dest", "proto", "dport", "enable", "comment"];
            if let Some(key) = fields.keys().find(|key| !known.contains(&key.as_str())) {
                return refuse(
                    400,
                    format!("Parameter verification failed. ({key}: property is not defined)"),
                );
            }
            if !fields.contains_key("type") || !fields.contains_key("action") {
                return refuse(400, "Parameter verification failed. (type: property is missing)");
            }
            container.rules.insert(0, fields);
            Ok(Value::Null)
        }
        ("GET", ["options"]) => Ok(json!(container.options)),
        ("PUT", ["options"]) => {
            container.options.extend(fields);
            Ok(Value::Null)
        }
        _ => refuse(501, "not implemented"),
    }
}

fn is_tar(bytes: &[u8]) -> bool {
    let Ok(plain) = zstd::decode_all(bytes) else { return false };
    tar::Archive::new(plain.as_slice()).entries().is_ok_and(|mut entries| entries.all(|entry| entry.is_ok()))
}

fn field<'a>(request: &'a Request, key: &str) -> Option<&'a str> {
    request.fields.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
}
