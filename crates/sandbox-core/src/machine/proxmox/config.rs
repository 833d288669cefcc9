//! The configuration of a container of Proxmox VE, written and read.
//!
//! **Shape**: `/etc/pve/lxc/ID.conf`: lines of `#` are the description, then `key: value` in the order of the keys;
//! a value is a list of `key=value` with commas between them, of which the first may leave out its key.
//!
//! **Source**: pct.conf(5); pve-container 9.1, `PVE/LXC/Config.pm`.

use std::{collections::BTreeMap, path::PathBuf};

use crate::{
    machine::{Autostart, Definition, Limits, Nesting, Network},
    name::MachineName,
};

/// A container as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its host name.
    pub name: MachineName,
    /// `debian`, `ubuntu`; `unmanaged` leaves the tree as it is.
    pub ostype: String,
    /// `amd64`, `arm64`.
    pub architecture: String,
    /// Where its tree goes and how large it is, in gigabytes: `local-lvm:8`.
    pub rootfs: String,
    /// Its disks beside the tree.
    pub mounts: Vec<MountPoint>,
    /// What may be done in it beyond the default.
    pub features: Features,
    /// Devices of the host.
    pub devices: Vec<PathBuf>,
    /// The bridge of its link; none is no link.
    pub link: Option<Link>,
    /// What it may use at most.
    pub limits: Limits,
    /// Whether and when it starts with the host.
    pub autostart: Option<Autostart>,
    /// What made it, and of what: shown in the interface.
    pub description: String,
    /// What stands in its description and in its wall's file, and in no other's.
    pub mark: String,
}

/// A disk of a container beside its tree: Proxmox fills it with what the template has there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPoint {
    /// Where it goes and how large it is, in gigabytes: `local-lvm:8`.
    pub place: String,
    /// Where the container has it.
    pub path: String,
}

/// What is wrong with a mount point as it was typed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no mount point: PATH=STORAGE:GB, the path absolute and without commas")]
pub struct NoMountPoint(String);

impl std::str::FromStr for MountPoint {
    type Err = NoMountPoint;

    fn from_str(text: &str) -> Result<Self, NoMountPoint> {
        let wrong = || NoMountPoint(text.to_owned());
        let (path, place) = text.rsplit_once('=').ok_or_else(wrong)?;
        let (storage, size) = place.split_once(':').ok_or_else(wrong)?;
        let plain = path.starts_with('/') && path.len() > 1 && !path.contains([',', '=']);
        let parts = path.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."));
        let sound = plain && parts && !path.chars().any(char::is_control) && is_storage(storage);
        let size = size.parse::<u32>().is_ok_and(|size| size > 0);
        (sound && size).then(|| Self { place: place.to_owned(), path: path.to_owned() }).ok_or_else(wrong)
    }
}

/// What is chosen for a machine as it becomes a container.
#[derive(Clone, Debug)]
pub struct Wish<'a> {
    /// [`Container::ostype`].
    pub ostype: &'a str,
    /// [`Container::architecture`].
    pub architecture: &'a str,
    /// [`Container::rootfs`].
    pub rootfs: &'a str,
    /// The node's bridge.
    pub bridge: &'a str,
    /// [`Container::mounts`].
    pub mounts: Vec<MountPoint>,
    /// What it is made without.
    pub without: Vec<Without>,
    /// What stands in its description, and in no other's.
    pub mark: &'a str,
}

/// What a container can be made without, where that is asked for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Without {
    /// The feature `keyctl`.
    Keyctl,
    /// The feature `fuse`.
    Fuse,
    /// Every device.
    Devices,
}

/// What a container may do beyond the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Containers in it.
    pub nesting: bool,
    /// The kernel's keyring, which Docker wants.
    pub keyctl: bool,
    /// File systems in user space.
    pub fuse: bool,
}

/// A container's link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The node's bridge.
    pub bridge: String,
    /// Whether Proxmox' packet filter stands in it.
    pub firewall: bool,
}

/// Why a machine cannot be a container.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It uses the host's network.
    #[error("Proxmox has no container with the host's own network")]
    HostNetwork,
    /// It is privileged.
    #[error("it is privileged: a container that is made here never is")]
    Privileged,
    /// It has folders of the host.
    #[error("it has folders of its host: {0}")]
    Folders(String),
}

impl Container {
    /// Makes of a machine what it is as a container.
    ///
    /// # Errors
    /// [`Unfit`]: what a container cannot be.
    pub fn of(definition: &Definition, wish: &Wish<'_>) -> Result<Self, Unfit> {
        if definition.privileged {
            return Err(Unfit::Privileged);
        }
        let folders: Vec<_> =
            definition.chosen.mounts.iter().map(|folder| folder.source.display().to_string()).collect();
        if !folders.is_empty() {
            return Err(Unfit::Folders(folders.join(", ")));
        }
        let firewall = definition.network == Network::Internet;
        let link = match definition.network {
            Network::Host => return Err(Unfit::HostNetwork),
            Network::None => None,
            Network::Internet | Network::Open => Some(Link { bridge: wish.bridge.to_owned(), firewall }),
        };
        let nesting = definition.needs.nesting != Nesting::NONE;
        let fuse = PathBuf::from("/dev/fuse");
        let (fuses, devices) =
            definition.needs.devices.iter().cloned().partition::<Vec<_>, _>(|at| *at == fuse);
        let with = |what| !wish.without.contains(&what);
        Ok(Self {
            name: definition.name.clone(),
            ostype: wish.ostype.to_owned(),
            architecture: wish.architecture.to_owned(),
            rootfs: wish.rootfs.to_owned(),
            mounts: wish.mounts.clone(),
            features: Features {
                nesting,
                keyctl: nesting && with(Without::Keyctl),
                fuse: !fuses.is_empty() && with(Without::Fuse),
            },
            devices: if with(Without::Devices) { devices } else { Vec::new() },
            link,
            limits: definition.chosen.limits,
            autostart: definition.chosen.autostart,
            description: format!("Machine `{}`, made by sandbox ({}).", definition.name, wish.mark),
            mark: wish.mark.to_owned(),
        })
    }

    /// Gives every key with its value: what `pct create` takes as options, REST as fields and the file as lines.
    #[must_use]
    pub fn values(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        let mut put = |key: &str, value: String| all.insert(key.to_owned(), value);
        put("arch", self.architecture.clone());
        put("hostname", self.name.to_string());
        put("ostype", self.ostype.clone());
        put("rootfs", self.rootfs.clone());
        for (at, MountPoint { place, path }) in self.mounts.iter().enumerate() {
            put(&format!("mp{at}"), format!("{place},mp={path},backup=1"));
        }
        put("tags", "sandbox".to_owned());
        put("unprivileged", "1".to_owned());
        let features = [
            ("fuse", self.features.fuse),
            ("keyctl", self.features.keyctl),
            ("nesting", self.features.nesting),
        ];
        let features: Vec<_> =
            features.iter().filter(|(_, on)| *on).map(|(word, _)| format!("{word}=1")).collect();
        if !features.is_empty() {
            put("features", features.join(","));
        }
        for (at, device) in self.devices.iter().enumerate() {
            put(&format!("dev{at}"), device.display().to_string());
        }
        if let Some(Link { bridge, firewall }) = &self.link {
            let firewall = if *firewall { ",firewall=1" } else { "" };
            put("net0", format!("name=eth0,bridge={bridge}{firewall},ip=dhcp,ip6=auto,type=veth"));
        }
        all.extend(chosen(&self.limits, self.autostart));
        all
    }

    /// Gives the file.
    #[must_use]
    pub fn text(&self) -> String {
        let description = self.description.lines().map(|line| format!("#{}\n", encoded(line)));
        let lines = self.values().into_iter().map(|(key, value)| format!("{key}: {value}\n"));
        description.chain(lines).collect()
    }

    /// Names what somebody other than root@pam may not ask for, each with the word that leaves it out.
    ///
    /// **Source**: pve-container 9.1, `check_ct_modify_config_perm`: of features `nesting` only.
    #[must_use]
    pub fn for_root_only(&self) -> Vec<(String, &'static str)> {
        let mut all = Vec::new();
        for (word, on) in [("keyctl", self.features.keyctl), ("fuse", self.features.fuse)] {
            if on {
                all.push((format!("the feature `{word}`"), word));
            }
        }
        all.extend(self.devices.iter().map(|device| (format!("the device {}", device.display()), "devices")));
        all
    }
}

/// Keys of what a user chooses, all that may be there.
pub const CHOSEN: [&str; 6] = ["cores", "cpulimit", "memory", "swap", "onboot", "startup"];

/// Gives the keys of what a user chose with their values; the others of [`CHOSEN`] are not there.
#[must_use]
pub fn chosen(limits: &Limits, autostart: Option<Autostart>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut put = |key: &str, value: String| all.insert(key.to_owned(), value);
    if let Some(cpus) = limits.cpus {
        // a container sees whole processors, and may use a part of them
        put("cores", cpus.div_ceil(1000).to_string());
        put("cpulimit", format!("{}", f64::from(cpus) / 1000.0));
    }
    if let Some(bytes) = limits.memory {
        // in MiB, and no swap beside it
        put("memory", bytes.div_ceil(1 << 20).max(16).to_string());
        put("swap", "0".to_owned());
    }
    if let Some(Autostart { order, delay, .. }) = autostart {
        put("onboot", "1".to_owned());
        // Proxmox waits after a container, not before it
        put("startup", format!("order={order},up={delay}"));
    }
    all
}

/// Tells whether a word can be a storage's name.
fn is_storage(word: &str) -> bool {
    word.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// Gives the kind of system that a tree is, in Proxmox' words; of others it leaves the tree as it is.
#[must_use]
pub fn ostype(tree: &std::path::Path) -> &'static str {
    match crate::machine::export::os_release(tree, "ID").as_deref() {
        Some("debian") => "debian",
        Some("ubuntu") => "ubuntu",
        _ => "unmanaged",
    }
}

/// Writes a line as a description has it: what is not printable ASCII, and `%` and `:`, as `%XX`.
///
/// **Source**: PVE/Tools.pm, `encode_text`.
fn encoded(line: &str) -> String {
    let byte = |byte: u8| match byte {
        b'%' | b':' | 0..=31 | 127.. => format!("%{byte:02X}"),
        byte => char::from(byte).to_string(),
    };
    line.bytes().map(byte).collect()
}

/// A configuration as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// The description.
    pub description: String,
    /// Every key with its value.
    pub values: BTreeMap<String, String>,
    /// Lines that go to LXC as they are.
    pub raw: Vec<(String, String)>,
    /// Its snapshots, by name, with the seconds since 1970 that they were taken at.
    pub snapshots: BTreeMap<String, i64>,
}

/// A line that is none of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is no line of a container's configuration: {what}")]
pub struct Malformed {
    /// From 1.
    pub line: usize,
    /// What is wrong.
    pub what: &'static str,
}

/// Keys that have a number behind them.
const NUMBERED: [&str; 4] = ["net", "mp", "dev", "unused"];

/// Keys of a container.
///
/// **Source**: pct.conf(5).
const KEYS: [&str; 27] = [
    "arch",
    "cmode",
    "console",
    "cores",
    "cpulimit",
    "cpuunits",
    "debug",
    "description",
    "features",
    "hookscript",
    "hostname",
    "lock",
    "memory",
    "nameserver",
    "onboot",
    "ostype",
    "protection",
    "rootfs",
    "searchdomain",
    "startup",
    "swap",
    "tags",
    "template",
    "timezone",
    "tty",
    "unprivileged",
    "entrypoint",
];

/// Features of a container.
const FEATURES: [&str; 6] = ["force_rw_sys", "fuse", "keyctl", "mknod", "mount", "nesting"];

/// Reads a configuration as Proxmox does; of its snapshots, which are sections of their own, name and time.
///
/// # Errors
/// [`Malformed`]: the first line that Proxmox would not take.
pub fn read(text: &str) -> Result<Read, Malformed> {
    let mut all = Read::default();
    let mut section = None;
    for (at, line) in text.lines().enumerate() {
        let wrong = |what| Malformed { line: at + 1, what };
        if let Some(rest) = line.strip_prefix('[') {
            let name = rest.trim_end().strip_suffix(']').ok_or_else(|| wrong("a section without an end"))?;
            section = Some(name.to_owned());
            continue;
        }
        if let Some(name) = &section {
            if let Some(time) = line.strip_prefix("snaptime:") {
                let time = time.trim().parse().map_err(|_| wrong("no time"))?;
                all.snapshots.insert(name.clone(), time);
            }
            continue;
        }
        if line.trim().is_empty() {
            continue;
        }
        if let Some(words) = line.strip_prefix('#') {
            all.description += &decoded(words).ok_or_else(|| wrong("a `%` that stands for nothing"))?;
            all.description.push('\n');
            continue;
        }
        let (key, value) = line.split_once(':').ok_or_else(|| wrong("no colon"))?;
        let value = value.trim();
        if key.starts_with("lxc.") {
            all.raw.push((key.to_owned(), value.to_owned()));
            continue;
        }
        if !is_key(key) {
            return Err(wrong("an unknown key"));
        }
        if value.is_empty() || value.chars().any(char::is_control) {
            return Err(wrong("no value"));
        }
        if !is_value(key, value) {
            return Err(wrong("a value that the key does not take"));
        }
        if all.values.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(wrong("a key for the second time"));
        }
    }
    Ok(all)
}

fn is_key(key: &str) -> bool {
    let stem = key.trim_end_matches(|letter: char| letter.is_ascii_digit());
    KEYS.contains(&key) || (stem.len() < key.len() && NUMBERED.contains(&stem))
}

fn is_value(key: &str, value: &str) -> bool {
    let flag = |text: &str| matches!(text, "0" | "1");
    let number = |text: &str| text.parse::<u64>().is_ok();
    let parts = || value.split(',').map(|part| part.split_once('=').unwrap_or(("", part)));
    match key {
        "onboot" | "unprivileged" | "protection" | "template" | "debug" | "console" => flag(value),
        "cores" | "memory" | "swap" | "cpuunits" | "tty" => number(value),
        "cpulimit" => value.parse::<f64>().is_ok_and(|cpus| (0.0..=8192.0).contains(&cpus)),
        "arch" => ["amd64", "i386", "arm64", "armhf", "riscv32", "riscv64"].contains(&value),
        "features" => parts().all(|(key, value)| FEATURES.contains(&key) && (flag(value) || key == "mount")),
        "startup" => parts().all(|(key, value)| ["order", "up", "down", ""].contains(&key) && number(value)),
        "hostname" => {
            value.len() < 64
                && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
        }
        "rootfs" => value.contains(':'),
        _ if key.starts_with("mp") => {
            let path = parts().any(|(key, value)| key == "mp" && value.starts_with('/'));
            path && parts()
                .next()
                .is_some_and(|(key, value)| ["", "volume"].contains(&key) && value.contains(':'))
        }
        _ if key.starts_with("net") => parts().any(|(key, value)| key == "name" && !value.is_empty()),
        _ if key.starts_with("dev") => value.starts_with("/dev/"),
        _ => true,
    }
}

fn decoded(line: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = line.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        if *first == b'%' {
            let digits = std::str::from_utf8(more.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &more[2..];
        } else {
            bytes.push(*first);
            rest = more;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn container() -> Container {
        Container {
            name: MachineName::new("agents").unwrap(),
            ostype: "debian".into(),
            architecture: "amd64".into(),
            rootfs: "local-lvm:8".into(),
            mounts: vec!["/home/agent=big:20".parse().unwrap()],
            features: Features { nesting: true, keyctl: true, fuse: true },
            devices: vec!["/dev/net/tun".into(), "/dev/kvm".into()],
            link: Some(Link { bridge: "vmbr0".into(), firewall: true }),
            limits: Limits { cpus: Some(1500), memory: Some(2 << 30), ..Limits::default() },
            autostart: Some(Autostart { order: 3, delay: 20 }),
            description: "Machine `agents`: 100 %\nof trixie".into(),
            mark: "sandbox-1".into(),
        }
    }

    #[test]
    fn a_whole_container() {
        let expected = "\
#Machine `agents`%3A 100 %25
#of trixie
arch: amd64
cores: 2
cpulimit: 1.5
dev0: /dev/net/tun
dev1: /dev/kvm
features: fuse=1,keyctl=1,nesting=1
hostname: agents
memory: 2048
mp0: big:20,mp=/home/agent,backup=1
net0: name=eth0,bridge=vmbr0,firewall=1,ip=dhcp,ip6=auto,type=veth
onboot: 1
ostype: debian
rootfs: local-lvm:8
startup: order=3,up=20
swap: 0
tags: sandbox
unprivileged: 1
";
        assert_eq!(container().text(), expected);
    }

    #[test]
    fn a_plain_container() {
        let plain = Container {
            features: Features::default(),
            mounts: Vec::new(),
            devices: Vec::new(),
            link: None,
            limits: Limits::default(),
            autostart: None,
            description: String::new(),
            ..container()
        };
        let expected = "arch: amd64\nhostname: agents\nostype: debian\nrootfs: local-lvm:8\ntags: sandbox\nunprivileged: 1\n";
        assert_eq!(plain.text(), expected);
        assert!(plain.for_root_only().is_empty());
    }

    #[test]
    fn what_is_written_is_read_back() {
        let container = container();
        let read = read(&container.text()).unwrap();
        assert_eq!(read.values, container.values());
        assert_eq!(read.description.trim_end(), container.description);
    }

    #[test]
    fn what_proxmox_would_not_take_is_told_by_its_line() {
        for (text, line) in [
            ("arch: amd64\nhostnme: x\n", 2),
            ("features: nesting=2\n", 1),
            ("features: docker=1\n", 1),
            ("onboot: yes\n", 1),
            ("memory: 2G\n", 1),
            ("net0: bridge=vmbr0\n", 1),
            ("net: name=eth0\n", 1),
            ("hostname: a\nhostname: b\n", 2),
            ("dev0: /etc/shadow\n", 1),
            ("no colon\n", 1),
            ("#%zz\n", 1),
            ("arch:\n", 1),
            ("mp0: local:8\n", 1),
            ("mp0: /srv,mp=/srv\n", 1),
            ("mp0: local:8,mp=srv\n", 1),
            ("[snapshot\n", 1),
            ("[snapshot]\nsnaptime: soon\n", 2),
        ] {
            assert_eq!(read(text).unwrap_err().line, line, "{text}");
        }
        let text = "lxc.cgroup2.devices.allow: c 10:200 rwm\n\n[before]\nnonsense\nsnaptime: 17\nparent: x\n";
        let raw = read(text).unwrap();
        assert_eq!(raw.snapshots, BTreeMap::from([("before".to_owned(), 17)]));
        assert_eq!(raw.raw, [("lxc.cgroup2.devices.allow".to_owned(), "c 10:200 rwm".to_owned())]);
    }

    #[test]
    fn what_a_token_may_not_ask_for_is_named() {
        let (all, words): (Vec<_>, Vec<_>) = container().for_root_only().into_iter().unzip();
        assert_eq!(
            all.join(", "),
            "the feature `keyctl`, the feature `fuse`, the device /dev/net/tun, the device /dev/kvm"
        );
        assert_eq!(words, ["keyctl", "fuse", "devices", "devices"]);
    }

    #[test]
    fn a_mount_point_is_a_path_and_a_disk() {
        let read: MountPoint = "/home/agent=local-lvm:8".parse().unwrap();
        assert_eq!((read.path.as_str(), read.place.as_str()), ("/home/agent", "local-lvm:8"));
        for wrong in [
            "",
            "/home",
            "/home=local",
            "/home=local:",
            "/home=local:0",
            "/home=local:8,backup=0",
            "home=local:8",
            "/=local:8",
            "/a/../b=local:8",
            "/a,mp=/b=local:8",
            "/srv=/dev/sda:8",
        ] {
            assert!(wrong.parse::<MountPoint>().is_err(), "{wrong}");
        }
    }
}
