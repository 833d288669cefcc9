//! What in a machine's tree configures its end of the link, as the tree's own files say: nothing of it is run.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::network::GUEST_LINK;
use crate::host::root::{self, Meta, Root};

/// Where units of packages stand.
const UNITS: [&str; 2] = ["usr/lib/systemd/system", "lib/systemd/system"];
/// Where those of the machine's administrator stand, with the links that enable them.
const OWN: &str = "etc/systemd/system";

pub(super) const NETWORKD: &str = "systemd-networkd.service";
pub(super) const RESOLVED: &str = "systemd-resolved.service";

/// Other network managers: name, unit, program.
const OTHERS: [(&str, &str, &str); 4] = [
    ("NetworkManager", "NetworkManager.service", "usr/sbin/NetworkManager"),
    ("dhcpcd", "dhcpcd.service", "usr/sbin/dhcpcd"),
    ("ConnMan", "connman.service", "usr/sbin/connmand"),
    ("wicked", "wicked.service", "usr/sbin/wicked"),
];

/// What configures a machine's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manager {
    /// systemd-networkd.
    Networkd,
    /// Another one, by name: it is enabled, and has the link to itself.
    Other(&'static str),
    /// None, but systemd-networkd is installed.
    Disabled,
    /// None, and systemd-networkd was masked on purpose.
    Masked,
    /// None is installed.
    Missing,
}

impl Manager {
    /// Finds out which it is.
    pub(super) fn of(root: &Root) -> Self {
        let networkd = unit_file(root, NETWORKD).is_some();
        let is_on = |unit| is_enabled(root, unit) && !is_masked(root, unit);
        if networkd && is_on(NETWORKD) {
            return Self::Networkd;
        }
        let other = OTHERS.iter().find(|(_, unit, program)| root.has(Path::new(program)) && is_on(unit));
        match other {
            Some((name, ..)) => Self::Other(name),
            None if has_interfaces(root) => Self::Other("ifupdown"),
            None if !networkd => Self::Missing,
            None if is_masked(root, NETWORKD) => Self::Masked,
            None => Self::Disabled,
        }
    }

    /// Returns what the user of a machine without an address should look at, and the command for it; none where the
    /// machine's own side is in order.
    pub(super) fn advice(self, name: &str) -> Option<String> {
        let run = |what: &str, command: &str| format!("{what}:  sandbox exec {name} -- {command}");
        match self {
            Self::Networkd => None,
            Self::Other(other) => Some(run(
                &format!("in it {other} is to configure {GUEST_LINK}, see whether it does"),
                "ip address show host0",
            )),
            Self::Disabled => Some(run(
                "in it nothing configures host0, enable systemd-networkd",
                "systemctl enable --now systemd-networkd",
            )),
            Self::Masked => Some(run(
                "in it nothing configures host0, systemd-networkd is masked",
                "systemctl unmask systemd-networkd",
            )),
            Self::Missing => {
                Some("in it nothing configures host0: no network manager is installed there".to_owned())
            }
        }
    }
}

/// Finds a unit's file among those of packages.
pub(super) fn unit_file(root: &Root, unit: &str) -> Option<PathBuf> {
    UNITS.iter().map(|folder| Path::new(folder).join(unit)).find(|path| root.has(path))
}

/// Reports whether a link makes systemd start a unit.
pub(super) fn is_enabled(root: &Root, unit: &str) -> bool {
    let of = |folder: &str| {
        let folder = Path::new(folder);
        let wants = root.list(folder).unwrap_or_default();
        let wants = wants.iter().filter(|name| name.extension().is_some_and(|end| end == "wants"));
        wants.into_iter().any(|name| matches!(root.kind(&folder.join(name).join(unit)), Ok(Some(_))))
    };
    of(OWN) || UNITS.iter().any(|folder| of(folder))
}

/// Reports whether a unit is masked.
pub(super) fn is_masked(root: &Root, unit: &str) -> bool {
    let own = Path::new(OWN).join(unit);
    target(root, &own).is_some_and(|target| target == Path::new("/dev/null"))
}

/// Reads what a symbolic link says.
pub(super) fn target(root: &Root, path: &Path) -> Option<PathBuf> {
    let (folder, name) = root.parent(path).ok()?;
    root::target(std::os::fd::AsFd::as_fd(&folder), &name).ok()
}

/// Enables a unit of a package as `systemctl enable` does, with the sockets that its file names, but no unit that the
/// boot would wait for.
///
/// **Source**: systemd.unit(5), `[Install]`.
pub(super) fn enable(root: &Root, unit: &str) -> io::Result<()> {
    let Some(file) = unit_file(root, unit) else { return Err(io::ErrorKind::NotFound.into()) };
    let text = format!("\n{}", String::from_utf8_lossy(&root.read(&file)?));
    let install = text.split("\n[Install]").nth(1).unwrap_or_default();
    let install = install.split("\n[").next().unwrap_or_default();
    let words = |key: &'static str| {
        let values = install.lines().filter_map(move |line| line.trim().strip_prefix(key));
        values.flat_map(|value| value.split_whitespace().map(str::to_owned)).collect::<Vec<_>>()
    };
    let to = Path::new("/").join(&file);
    let folders = words("WantedBy=").into_iter().map(|target| format!("{target}.wants/{unit}"));
    for link in folders.chain(words("Alias=")) {
        // a unit's name, and no path that the file's author chose
        if link.split('/').any(|part| part.is_empty() || part.starts_with('.')) {
            continue;
        }
        let link = Path::new(OWN).join(link);
        root.make_folders(link.parent().unwrap_or(&link), Meta::of_root(0o755, 0))?;
        root.link(&link, to.as_os_str(), 0)?;
    }
    let is_socket = |also: &String| Path::new(also).extension().is_some_and(|end| end == "socket");
    for also in words("Also=").iter().filter(|also| is_socket(also) && unit_file(root, also).is_some()) {
        enable(root, also)?;
    }
    Ok(())
}

/// Reports whether ifupdown has a stanza for the link.
///
/// **Source**: interfaces(5).
fn has_interfaces(root: &Root) -> bool {
    if !["usr/sbin/ifup", "sbin/ifup"].iter().any(|program| root.has(Path::new(program))) {
        return false;
    }
    let folder = Path::new("etc/network/interfaces.d");
    let more = root.list(folder).unwrap_or_default();
    let files = more.iter().map(|name| folder.join(name)).chain([PathBuf::from("etc/network/interfaces")]);
    files.into_iter().any(|file| {
        let text = root.read(&file).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().any(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some("iface") && words.next() == Some(GUEST_LINK)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_an_address_is_reported_with_what_its_own_side_lacks() {
        for (manager, word) in [
            (Manager::Other("NetworkManager"), "NetworkManager"),
            (Manager::Disabled, "sandbox exec m -- systemctl enable --now systemd-networkd"),
            (Manager::Masked, "sandbox exec m -- systemctl unmask systemd-networkd"),
            (Manager::Missing, "no network manager is installed"),
        ] {
            let advice = manager.advice("m").unwrap_or_default();
            assert!(advice.contains(word), "{manager:?}: {advice}");
        }
        assert_eq!(Manager::Networkd.advice("m"), None, "the host's side is to be looked at");
    }
}
