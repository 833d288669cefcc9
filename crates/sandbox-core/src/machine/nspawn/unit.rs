//! The drop-in of the machine's unit, `systemd-nspawn@NAME.service.d/50-sandbox.conf`.
//!
//! It calls the program back on every start, also one by `machinectl`, by the host's boot or by a reboot of
//! the guest (which ends nspawn with status 133, and systemd starts the unit anew): the wall before the
//! machine's first process, the nesting mounts right after it.

use std::{fmt::Write, path::Path};

use crate::{
    machine::{Definition, network},
    name::MachineName,
};

/// Names the machine's unit. Its instance is the name as it is, as machinectl has it.
#[must_use]
pub fn name(machine: &MachineName) -> String {
    format!("systemd-nspawn@{machine}.service")
}

/// Writes the drop-in.
#[must_use]
pub fn drop_in(definition: &Definition, state: &Path) -> String {
    let mut text = String::from(
        "# Written by sandbox; changes are lost when the machine is defined again.\n\n[Unit]\n\
         # The host's own firewall may begin with a flush of every table.\n\
         After=nftables.service firewalld.service systemd-networkd.service\n\n[Service]\n",
    );
    let program = quote(&definition.program.to_string_lossy());
    let state = quote(&state.to_string_lossy());
    let name = &definition.name;
    if network::has_link(definition.network) {
        let _ = writeln!(text, "ExecStartPre={program} --state-dir {state} internal wall-up {name}");
    }
    if definition.needs.nesting.is_any() && !definition.privileged {
        let _ = writeln!(text, "ExecStartPost={program} --state-dir {state} internal nesting {name}");
    }
    for device in &definition.needs.devices {
        let _ = writeln!(text, "DeviceAllow={} rwm", quote(&device.to_string_lossy()));
    }
    if definition.privileged {
        text.push_str(PRIVILEGED);
    }
    text
}

/// Device nodes may be made (images of containers carry some), and /sys and /proc/sys are writable.
const PRIVILEGED: &str = "DeviceAllow=char-* m\nDeviceAllow=block-* m\n\
    Environment=SYSTEMD_NSPAWN_API_VFS_WRITABLE=network\n";

/// Quotes one word of a unit's setting: `%` begins a specifier there, `$` a variable.
///
/// **Source**: systemd.service(5), "Command lines"; systemd.syntax(7).
pub(in crate::machine) fn quote(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+,@".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    let mut quoted = String::from("\"");
    for letter in word.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            '%' | '$' => quoted.extend([letter, letter]),
            '\n' => quoted.push_str("\\n"),
            _ => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Network, nspawn::tests::definition};

    #[test]
    fn the_wall_stands_before_the_machine_and_the_mounts_come_right_after() {
        let mut definition = definition("my-agents");
        definition.needs.nesting = crate::machine::Nesting::CONTAINERS;
        definition.needs.devices = vec!["/dev/fuse".into()];
        let text = drop_in(&definition, Path::new("/var/lib/sandbox"));
        assert!(text.ends_with(
            "[Service]\n\
             ExecStartPre=/usr/bin/sandbox --state-dir /var/lib/sandbox internal wall-up my-agents\n\
             ExecStartPost=/usr/bin/sandbox --state-dir /var/lib/sandbox internal nesting my-agents\n\
             DeviceAllow=/dev/fuse rwm\n"
        ));
        assert_eq!(name(&definition.name), "systemd-nspawn@my-agents.service");
    }

    #[test]
    fn nothing_is_called_that_is_not_needed() {
        let mut definition = definition("agents");
        definition.network = Network::None;
        let text = drop_in(&definition, Path::new("/var/lib/sandbox"));
        assert!(!text.contains("Exec"), "{text}");
    }

    #[test]
    fn words_survive_systemd() {
        assert_eq!(quote("/usr/bin/sandbox"), "/usr/bin/sandbox");
        assert_eq!(quote("/opt/my tools/50%"), "\"/opt/my tools/50%%\"");
        assert_eq!(quote(r#"a"b\c$d"#), r#""a\"b\\c$$d""#);
    }
}
