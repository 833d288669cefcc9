//! The machine's settings file, `/etc/systemd/nspawn/NAME.nspawn`.
//!
//! Privileged keys count only in that folder, and there they take the place of what the unit's command
//! line says (`--settings=override`). systemd only warns of a key that it does not know, so every key is
//! written from one table.
//!
//! **Source**: systemd.nspawn(5), `nspawn-gperf.gperf` of systemd 252 and 257.

use std::fmt::Write;

use crate::machine::{Definition, Network, network, volume};

/// A key that systemd 252 and later know, and its section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Boot,
    Parameters,
    Hostname,
    PrivateUsers,
    Capability,
    SystemCallFilter,
    LinkJournal,
    NotifyReady,
    ResolvConf,
    Timezone,
    PrivateUsersOwnership,
    Bind,
    Private,
    VirtualEthernet,
    VirtualEthernetExtra,
}

impl Key {
    const fn section(self) -> &'static str {
        match self {
            Self::PrivateUsersOwnership | Self::Bind => "Files",
            Self::Private | Self::VirtualEthernet | Self::VirtualEthernetExtra => "Network",
            _ => "Exec",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Boot => "Boot",
            Self::Parameters => "Parameters",
            Self::Hostname => "Hostname",
            Self::PrivateUsers => "PrivateUsers",
            Self::Capability => "Capability",
            Self::SystemCallFilter => "SystemCallFilter",
            Self::LinkJournal => "LinkJournal",
            Self::NotifyReady => "NotifyReady",
            Self::ResolvConf => "ResolvConf",
            Self::Timezone => "Timezone",
            Self::PrivateUsersOwnership => "PrivateUsersOwnership",
            Self::Bind => "Bind",
            Self::Private => "Private",
            Self::VirtualEthernet => "VirtualEthernet",
            Self::VirtualEthernetExtra => "VirtualEthernetExtra",
        }
    }
}

/// System calls that container engines and agents' own sandboxes make and older systemd denies: keyrings
/// are allowed from 258 only, Landlock from 257.
const NESTING_CALLS: [&str; 7] = [
    "add_key",
    "bpf",
    "keyctl",
    "landlock_add_rule",
    "landlock_create_ruleset",
    "landlock_restrict_self",
    "request_key",
];

/// What a machine without a user namespace gets on top, to be a host of machines itself.
const PRIVILEGED_CALLS: [&str; 4] = ["@keyring", "@mount", "@privileged", "bpf"];

/// Writes the settings file.
///
/// **Shape**: systemd's unit file syntax, sections in the order Exec, Files, Network.
#[must_use]
pub fn settings(definition: &Definition) -> String {
    let mut entries = exec(definition);
    entries.extend(files(definition));
    entries.extend(net(definition));
    render(&entries)
}

fn render(entries: &[(Key, String)]) -> String {
    let mut text =
        String::from("# Written by sandbox; changes are lost when the machine is defined again.\n");
    let mut section = "";
    for (key, value) in entries {
        if key.section() != section {
            section = key.section();
            let _ = write!(text, "\n[{section}]\n");
        }
        let _ = writeln!(text, "{}={value}", key.name());
    }
    text
}

fn exec(definition: &Definition) -> Vec<(Key, String)> {
    let mut entries = vec![(Key::Boot, "yes".into())];
    let masked: Vec<_> =
        masked(definition.network).iter().map(|unit| format!("systemd.mask={unit}")).collect();
    if !masked.is_empty() {
        entries.push((Key::Parameters, masked.join(" ")));
    }
    entries.extend([
        (Key::Hostname, definition.name.to_string()),
        (Key::PrivateUsers, if definition.privileged { "no" } else { "pick" }.into()),
    ]);
    if definition.privileged {
        entries.push((Key::Capability, "all".into()));
    }
    let calls = system_calls(definition);
    if !calls.is_empty() {
        entries.push((Key::SystemCallFilter, calls.join(" ")));
    }
    entries.extend([
        // A link in the host's journal folder would outlive the machine.
        (Key::LinkJournal, "no".into()),
        // The unit is up as soon as the guest's first process runs: the nesting mounts must be there before
        // the guest's own services are, and a slow boot must not meet the unit's start limit.
        (Key::NotifyReady, "no".into()),
        (Key::ResolvConf, if definition.network == Network::Host { "bind-host" } else { "off" }.into()),
        (Key::Timezone, "off".into()),
    ]);
    entries
}

/// The guest's units that would wait in vain for a link, or set up the host's own ones.
const fn masked(network: Network) -> &'static [&'static str] {
    match network {
        Network::Internet | Network::Open => &[],
        Network::None => &["systemd-networkd-wait-online.service"],
        Network::Host => {
            &["systemd-networkd-wait-online.service", "systemd-networkd.service", "systemd-networkd.socket"]
        }
    }
}

/// Gives the system calls beyond nspawn's own list that a machine needs, by name or group.
pub(in crate::machine) fn system_calls(definition: &Definition) -> Vec<&str> {
    let mut calls: Vec<&str> = definition.needs.system_calls.iter().map(String::as_str).collect();
    if definition.needs.nesting.is_any() {
        calls.extend(NESTING_CALLS);
    }
    if definition.privileged {
        calls.extend(PRIVILEGED_CALLS);
    }
    calls.sort_unstable();
    calls.dedup();
    calls
}

fn files(definition: &Definition) -> Vec<(Key, String)> {
    // `chown` was the default under `pick` before 262: it would shift the ids on disk.
    let ownership = if definition.privileged { "off" } else { "auto" };
    let devices = definition.needs.devices.iter();
    let volumes = definition.volumes.iter();
    // directories of users are mounted by handle: nspawn would follow their paths again
    std::iter::once((Key::PrivateUsersOwnership, ownership.into()))
        .chain(devices.map(|device| (Key::Bind, escape(&device.to_string_lossy()))))
        .chain(volumes.map(|volume| (Key::Bind, volume::bind(volume, definition.privileged))))
        .collect()
}

/// Escapes what nspawn reads as a separator in a bind path.
fn escape(path: &str) -> String {
    path.replace('\\', "\\\\").replace(':', "\\:")
}

fn net(definition: &Definition) -> Vec<(Key, String)> {
    let private = if definition.network == Network::Host { "no" } else { "yes" };
    let mut entries = vec![(Key::Private, private.into()), (Key::VirtualEthernet, "no".into())];
    if network::has_link(definition.network) {
        // A name of our own choice, known before the machine starts: the wall stands first.
        let link = network::interface(&definition.name);
        entries.push((Key::VirtualEthernetExtra, format!("{link}:host0")));
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::example::definition;

    #[test]
    fn a_plain_machine() {
        let text = settings(&definition("agents"));
        assert_eq!(
            text,
            "# Written by sandbox; changes are lost when the machine is defined again.\n\
             \n[Exec]\nBoot=yes\nHostname=agents\nPrivateUsers=pick\nLinkJournal=no\nNotifyReady=no\n\
             ResolvConf=off\nTimezone=off\n\
             \n[Files]\nPrivateUsersOwnership=auto\n\
             \n[Network]\nPrivate=yes\nVirtualEthernet=no\nVirtualEthernetExtra=ve-sb8c70b25c:host0\n"
        );
    }

    #[test]
    fn nesting_opens_system_calls_once_each() {
        let mut definition = definition("agents");
        definition.needs.nesting = crate::machine::Nesting::CONTAINERS;
        definition.needs.system_calls = vec!["perf_event_open".into(), "bpf".into()];
        let text = settings(&definition);
        let line = text.lines().find(|line| line.starts_with("SystemCallFilter=")).unwrap();
        assert_eq!(
            line,
            "SystemCallFilter=add_key bpf keyctl landlock_add_rule landlock_create_ruleset \
             landlock_restrict_self perf_event_open request_key"
        );
        assert!(text.contains("PrivateUsers=pick\n"), "nesting must not cost the user namespace");
    }

    #[test]
    fn only_a_privileged_machine_goes_without_a_user_namespace() {
        let mut definition = definition("host");
        definition.privileged = true;
        let text = settings(&definition);
        assert!(text.contains("PrivateUsers=no\n"));
        assert!(text.contains("Capability=all\n"));
        assert!(text.contains("PrivateUsersOwnership=off\n"));
    }

    #[test]
    fn the_network_is_private_but_for_host() {
        let mut definition = definition("agents");
        for (network, private, link) in
            [(Network::Open, "yes", true), (Network::None, "yes", false), (Network::Host, "no", false)]
        {
            definition.network = network;
            let text = settings(&definition);
            assert!(text.contains(&format!("\nPrivate={private}\n")), "{text}");
            assert_eq!(text.contains("VirtualEthernetExtra="), link, "{text}");
            assert_ne!(text.contains("Parameters=systemd.mask="), link, "{text}");
        }
    }

    #[test]
    fn devices_are_bound() {
        let mut definition = definition("agents");
        definition.needs.devices = vec!["/dev/fuse".into(), "/dev/odd:name".into()];
        let text = settings(&definition);
        assert!(text.contains("Bind=/dev/fuse\nBind=/dev/odd\\:name\n"), "{text}");
    }
}
