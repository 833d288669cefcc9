//! The drop-in of the machine's unit, `systemd-nspawn@NAME.service.d/50-sandbox.conf`.
//!
//! It calls the program back on every start, also one by `machinectl`, by the host's boot or by a reboot of
//! the guest (which ends nspawn with status 133, and systemd starts the unit anew): the wall before the
//! machine's first process, the nesting mounts and its link's carrier right after it.

use std::{fmt::Write, path::Path};

use crate::{
    digest::Sha256,
    machine::{Autostart, Chosen, Definition, Restart, network, seccomp, secret},
    name::MachineName,
};

/// How many seconds each step of the machine's start may take.
const START: u32 = 90;

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
    let (folder, state) = (state, quote(&state.to_string_lossy()));
    let name = &definition.name;
    let link = network::has_link(definition.network);
    let mounts = !definition.chosen.mounts.is_empty();
    // hooks end by themselves before; where a host has no limit of its own, the start has one
    let _ = writeln!(text, "TimeoutStartSec={START}");
    // also without a link: the tree and the sources of mounts are checked there
    let _ = writeln!(text, "ExecStartPre={program} --state-dir {state} internal wall-up {name}");
    if link || mounts || nests(definition) {
        let _ =
            writeln!(text, "ExecStartPost={program} --state-dir {state} internal started {name} $MAINPID");
    }
    if definition.chosen.ephemeral {
        // a process of the unit would end with it
        let _ = writeln!(
            text,
            "ExecStopPost=-systemd-run --quiet --collect --no-block --unit=sandbox-reap-{name} -- {program} \
             --state-dir {state} internal reap {name}"
        );
    }
    let folder = folder.join("machines").join(name);
    text.push_str(&command(definition, &program, &folder));
    text.push_str(&devices(definition));
    text.push_str(LOG_LIMIT);
    if definition.privileged {
        text.push_str(PRIVILEGED);
    }
    text.push_str(&chosen(&definition.chosen));
    text
}

/// Writes the command of the unit: nspawn below the filter on system calls.
///
/// The options are those that the template has in all versions from 252 to 261, so that they are not read from a
/// file that an upgrade of systemd changes later; all else is in the machine's settings file, which overrides them.
/// The unit's main process stays the same one, so that `Type=notify` and `$MAINPID` mean nspawn.
///
/// **Source**: systemd-nspawn@.service(5) and `units/systemd-nspawn@.service.in` of those versions.
fn command(definition: &Definition, program: &str, folder: &Path) -> String {
    let dumps = if definition.chosen.limits.no_core_dumps { "--no-core-dumps " } else { "" };
    let mut allow = dumps.to_owned();
    for call in seccomp::allowed(&definition.needs.system_calls) {
        let _ = write!(allow, "--allow {call} ");
    }
    let secrets = secret::options(folder);
    let secrets = secrets.iter().map(|option| format!(" {}", quote(&option.to_string_lossy())));
    let secrets: String = secrets.collect();
    let name = &definition.name;
    format!(
        "ExecStart=\nExecStart={program} internal confined {allow}-- systemd-nspawn --quiet --keep-unit --boot \
         --link-journal=try-guest --network-veth -U --settings=override --machine={name}{secrets}\n\
         SyslogIdentifier=systemd-nspawn\n"
    )
}

/// Writes the devices that the machine may use, in place of the template's list, which has the host's loop and
/// device-mapper devices too.
///
/// `DevicePolicy=closed` of the template adds null, zero, full, random, urandom, tty and ptmx to them.
///
/// **Source**: systemd.resource-control(5).
fn devices(definition: &Definition) -> String {
    let mut text = String::from("DeviceAllow=\nDeviceAllow=/dev/net/tun rwm\nDeviceAllow=char-pts rw\n");
    if definition.privileged {
        text.push_str("DeviceAllow=/dev/fuse rwm\n");
    }
    for device in &definition.needs.devices {
        let _ = writeln!(text, "DeviceAllow={} rwm", quote(&device.to_string_lossy()));
    }
    text
}

/// What the host keeps of a guest is bounded: its console goes to the host's journal.
///
/// **Source**: systemd.exec(5), `LogRateLimitIntervalSec=`.
const LOG_LIMIT: &str = "LogRateLimitIntervalSec=30s\nLogRateLimitBurst=2000\n";

/// Tells whether the machine must be given mounts for containers in it.
pub(super) fn nests(definition: &Definition) -> bool {
    definition.needs.nesting.is_any() && !definition.privileged
}

/// Writes limits and what happens when the machine ends by itself.
///
/// **Source**: systemd.resource-control(5), systemd.service(5).
fn chosen(chosen: &Chosen) -> String {
    let mut text = String::new();
    if let Some(cpus) = chosen.limits.cpus {
        // in percent of one processor, of which systemd takes two decimals
        let _ = writeln!(text, "CPUQuota={}.{}%", cpus / 10, cpus % 10);
    }
    if let Some(memory) = chosen.limits.memory {
        let _ = writeln!(text, "MemoryMax={memory}");
    }
    if let Some(tasks) = chosen.limits.tasks {
        let _ = writeln!(text, "TasksMax={tasks}");
    }
    if let Some(weight) = chosen.limits.cpu_weight {
        let _ = writeln!(text, "CPUWeight={weight}");
    }
    if chosen.restart != Restart::No {
        let _ = writeln!(text, "Restart={}", chosen.restart.word());
    }
    text
}

/// The tasks that the unit's own template allows, for a limit that is taken back.
pub(super) const TASKS: u64 = 16_384;

/// Writes the second drop-in: when a machine that starts with the host does so.
///
/// Only the host's boot waits: a start by hand neither has others before it nor a delay.
#[must_use]
pub fn order(definition: &Definition, autostart: Autostart, earlier: &[MachineName], state: &Path) -> String {
    let mut text = String::from("# Written by sandbox; changes are lost when the order changes.\n\n[Unit]\n");
    for other in earlier {
        let _ = writeln!(text, "After={}", name(other));
    }
    if autostart.delay > 0 {
        let program = quote(&definition.program.to_string_lossy());
        let state = quote(&state.to_string_lossy());
        let seconds = autostart.delay;
        let _ = write!(
            text,
            "\n[Service]\nTimeoutStartSec={}\nExecStartPre={program} --state-dir {state} internal delay {seconds}\n",
            seconds.saturating_add(START)
        );
    }
    text
}

/// Device nodes may be made (images of containers carry some), and /sys and /proc/sys are writable.
const PRIVILEGED: &str = "DeviceAllow=char-* m\nDeviceAllow=block-* m\n\
    Environment=SYSTEMD_NSPAWN_API_VFS_WRITABLE=network\n";

/// Names a unit that a state directory has one of: the usual one's has the plain name.
pub(in crate::machine) fn sole(what: &str, state: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    if state == Path::new("/var/lib/sandbox") {
        return what.to_owned();
    }
    let digest = Sha256::of(state.as_os_str().as_bytes()).to_string();
    format!("{what}-{}", &digest[..8])
}

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
    use crate::machine::{Network, example::definition};

    #[test]
    fn the_wall_stands_before_the_machine_and_the_mounts_come_right_after() {
        let mut definition = definition("my-agents");
        definition.needs.nesting = crate::machine::Nesting::CONTAINERS;
        definition.needs.devices = vec!["/dev/fuse".into()];
        let text = drop_in(&definition, Path::new("/var/lib/sandbox"));
        assert!(text.contains(
            "[Service]\n\
             TimeoutStartSec=90\n\
             ExecStartPre=/usr/bin/sandbox --state-dir /var/lib/sandbox internal wall-up my-agents\n\
             ExecStartPost=/usr/bin/sandbox --state-dir /var/lib/sandbox internal started my-agents $MAINPID\n"
        ));
        assert_eq!(name(&definition.name), "systemd-nspawn@my-agents.service");
    }

    #[test]
    fn nothing_is_called_that_is_not_needed() {
        let mut definition = definition("agents");
        definition.network = Network::None;
        let text = drop_in(&definition, Path::new("/var/lib/sandbox"));
        assert!(!text.contains("ExecStartPost"), "{text}");
        assert!(text.contains(
            "ExecStartPre=/usr/bin/sandbox --state-dir /var/lib/sandbox internal wall-up agents\n"
        ));
    }

    #[test]
    fn nspawn_is_executed_below_the_filter_with_what_profiles_allow() {
        let mut definition = definition("agents");
        definition.needs.system_calls = vec!["bpf".into(), "io_uring_setup".into()];
        let text = drop_in(&definition, Path::new("/s"));
        assert!(
            text.contains(
                "ExecStart=\nExecStart=/usr/bin/sandbox internal confined --allow io_uring_setup -- systemd-nspawn "
            ) && text.contains(" --settings=override --machine=agents\n"),
            "{text}"
        );
    }

    #[test]
    fn the_devices_are_the_machines_own() {
        let mut definition = definition("agents");
        definition.needs.devices = vec!["/dev/kvm".into()];
        let list = |definition: &Definition| {
            let text = drop_in(definition, Path::new("/s"));
            let lines = text.lines().filter_map(|line| line.strip_prefix("DeviceAllow="));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(list(&definition), ["", "/dev/net/tun rwm", "char-pts rw", "/dev/kvm rwm"]);
        definition.privileged = true;
        let list = list(&definition);
        assert!(
            list[0].is_empty() && !list.iter().any(|line| line.contains("mapper") || line.contains("loop"))
        );
        assert!(list.contains(&"block-* m".to_owned()), "nodes may be made, and not opened: {list:?}");
    }

    #[test]
    fn limits_and_restarts_are_the_units() {
        let mut definition = definition("agents");
        assert!(!drop_in(&definition, Path::new("/s")).contains("Restart="));
        definition.chosen.limits = crate::machine::Limits {
            cpus: Some(1255),
            memory: Some(1 << 30),
            tasks: Some(99),
            cpu_weight: Some(50),
            no_core_dumps: true,
            ..Default::default()
        };
        definition.chosen.restart = Restart::OnFailure;
        let text = drop_in(&definition, Path::new("/s"));
        assert!(text.contains(" internal confined --no-core-dumps -- systemd-nspawn "), "{text}");
        for line in
            ["CPUQuota=125.5%", "MemoryMax=1073741824", "TasksMax=99", "CPUWeight=50", "Restart=on-failure"]
        {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }

    #[test]
    fn the_end_of_an_ephemeral_machine_starts_what_removes_it() {
        let mut definition = definition("agents");
        assert!(!drop_in(&definition, Path::new("/s")).contains("ExecStopPost="));
        definition.chosen.ephemeral = true;
        let text = drop_in(&definition, Path::new("/s"));
        let line = text.lines().find(|line| line.starts_with("ExecStopPost=")).unwrap();
        assert!(
            line.contains("--unit=sandbox-reap-agents -- ") && line.ends_with(" internal reap agents"),
            "{line}"
        );
    }

    #[test]
    fn order_and_delay_are_a_drop_in_of_their_own() {
        let earlier = [MachineName::new("first").unwrap()];
        let definition = definition("second");
        let text = order(&definition, Autostart { order: 2, delay: 5 }, &earlier, Path::new("/s"));
        assert!(text.contains("[Unit]\nAfter=systemd-nspawn@first.service\n"), "{text}");
        assert!(text.ends_with(
            "TimeoutStartSec=95\nExecStartPre=/usr/bin/sandbox --state-dir /s internal delay 5\n"
        ));
        let text = order(&definition, Autostart::default(), &[], Path::new("/s"));
        assert!(!text.contains("Service"), "{text}");
    }

    #[test]
    fn words_survive_systemd() {
        assert_eq!(quote("/usr/bin/sandbox"), "/usr/bin/sandbox");
        assert_eq!(quote("/opt/my tools/50%"), "\"/opt/my tools/50%%\"");
        assert_eq!(quote(r#"a"b\c$d"#), r#""a\"b\\c$$d""#);
    }
}
