//! The machine's configuration, `/var/lib/lxc/NAME/config`.
//!
//! It is whole in itself: `lxc-start`, `lxc-autostart` and `lxc-attach` by hand need nothing else. Its hooks call
//! the program back, so that the wall stands before the link exists, however the machine is started.
//!
//! **Source**: lxc.container.conf(5) of liblxc 5.0 and 6.0. Only keys that liblxc 7 still knows: of control groups
//! those of version 2.

use std::{
    fmt::{Display, Write},
    path::{Path, PathBuf},
};

use super::idmap;
use crate::machine::{Definition, Network, direct::LOG_SIZE, limits, network, seccomp::Dumps, secret};

/// Where liblxc keeps what distributions ship.
const SHIPPED: &str = "/usr/share/lxc/config";

/// Capabilities that mean nothing in a user namespace: without them the guest's systemd does not try to load
/// modules or mount debugfs, and is not degraded for it. `userns.conf` takes `common.conf`'s same list back.
const DROPPED: &str = "mac_admin mac_override sys_time sys_module sys_rawio";

/// The filter on system calls, in the machine's directory.
pub(super) const POLICY: &str = "seccomp.policy";

/// The program that installs the filter whole, in the machine's directory and in the guest, where the policy has not all
/// of it.
pub(super) const STUB: &str = "init";
pub(super) const INIT: &str = "/dev/.sandbox-init";
/// Where a guest's systemd finds its credentials: /run is mounted again by it, and /dev is not.
pub(super) const SECRETS: &str = "/dev/.sandbox-credentials";

/// Returns whether a machine has secrets; `folder` is its own.
pub(super) fn has_secrets(folder: &Path) -> bool {
    !secret::of(folder).is_empty()
}

pub(super) const HAS_STUB: bool = cfg!(target_arch = "x86_64");

/// What a configuration is written from.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The machine.
    pub definition: &'a Definition,
    /// The state directory, which the hooks name.
    pub state: &'a Path,
    /// The first of the host's ids that are the guest's 0 to 65535.
    pub base: u32,
    /// The major version of the host's AppArmor, where it has one.
    pub apparmor: Option<u32>,
    /// Whether the machine may leave core dumps.
    pub dumps: Dumps,
    /// What the host can limit: the controllers of its unified hierarchy.
    pub controllers: &'a [String],
}

/// Lines of keys and values.
struct Lines(String);

impl Lines {
    fn add(&mut self, key: &str, value: impl Display) {
        let _ = writeln!(self.0, "lxc.{key} = {value}");
    }
}

/// Writes the configuration.
#[must_use]
pub fn config(facts: &Facts<'_>) -> String {
    let definition = facts.definition;
    let head = "# Written by sandbox; changes are lost when the machine is defined or started again.\n";
    let mut lines = Lines(head.to_owned());
    includes(&mut lines, facts);
    // `userns.conf` makes /sys writable, which networkd and others take for a sign that udev tells them of links
    lines.add("mount.auto", "sys:mixed");
    lines.add("uts.name", &definition.name);
    lines.add("rootfs.path", rootfs(&definition.tree));
    // ids on disk are those that the guest sees: the kernel shifts them at the mount
    lines.add("rootfs.options", "idmap=container");
    for kind in ["u", "g"] {
        lines.add("idmap", format_args!("{kind} 0 {} {}", facts.base, idmap::SIZE));
    }
    lines.add("cap.drop", DROPPED);
    // what systemd takes for a power-off; LXC's own SIGPWR is nothing to it
    lines.add("signal.halt", "SIGRTMIN+4");
    lines.add("seccomp.profile", folder(facts).join(POLICY).display());
    if facts.dumps == Dumps::Refused {
        lines.add("prlimit.core", 1);
    }
    init(&mut lines, definition);
    secrets(&mut lines, facts);
    confinement(&mut lines, facts);
    net(&mut lines, definition);
    hooks(&mut lines, facts);
    devices(&mut lines, &definition.needs.devices);
    limit(&mut lines, facts);
    autostart(&mut lines, definition);
    let folder = folder(facts);
    lines.add("log.file", folder.join("lxc.log").display());
    lines.add("log.level", "WARN");
    lines.add("console.logfile", folder.join("console.log").display());
    // a guest writes as much as it likes: liblxc renames the file to `console.log.1` then
    lines.add("console.size", LOG_SIZE);
    lines.add("console.rotate", 1);
    lines.0
}

/// Writes the value that names a tree.
#[must_use]
pub fn rootfs(tree: &Path) -> String {
    format!("dir:{}", tree.display())
}

fn folder(facts: &Facts<'_>) -> PathBuf {
    facts.state.join("machines").join(&facts.definition.name)
}

fn includes(lines: &mut Lines, facts: &Facts<'_>) {
    let nesting = facts.definition.needs.nesting.is_any() && facts.apparmor.is_none();
    let files = [("common.conf", true), ("userns.conf", true), ("nesting.conf", nesting)];
    for (file, _) in files.iter().filter(|(_, wanted)| *wanted) {
        lines.add("include", format_args!("{SHIPPED}/{file}"));
    }
}

fn confinement(lines: &mut Lines, facts: &Facts<'_>) {
    let Some(version) = facts.apparmor else { return };
    lines.add("apparmor.profile", "generated");
    // without it the systemd of today's distributions cannot give its units what they ask for
    lines.add("apparmor.allow_nesting", 1);
    if version >= 4 {
        // what earlier versions do not know, and so do not deny
        lines.add("apparmor.raw", "allow userns,");
        lines.add("apparmor.raw", "allow mqueue,");
    }
}

/// Names the guest's init. The hook `start-host` mounts the stub over what liblxc binds here.
fn init(lines: &mut Lines, definition: &Definition) {
    let program = if HAS_STUB { INIT } else { "/sbin/init" };
    if HAS_STUB {
        let target = INIT.trim_start_matches('/');
        lines.add("mount.entry", format_args!("/dev/null {target} none bind,create=file 0 0"));
    }
    let linked = network::has_link(definition.network);
    let masked = if linked { "" } else { " systemd.mask=systemd-networkd-wait-online.service" };
    if HAS_STUB || !linked {
        lines.add("init.cmd", format_args!("{program}{masked}"));
    }
}

/// Names the guest's credentials. The hook `start-host` mounts them over what liblxc mounts here.
///
/// **Source**: <https://systemd.io/CONTAINER_INTERFACE>, `$CREDENTIALS_DIRECTORY`.
fn secrets(lines: &mut Lines, facts: &Facts<'_>) {
    if !has_secrets(&folder(facts)) {
        return;
    }
    let target = SECRETS.trim_start_matches('/');
    lines.add("mount.entry", format_args!("tmpfs {target} tmpfs nosuid,nodev,noexec,size=4k,create=dir 0 0"));
    lines.add("environment", format_args!("CREDENTIALS_DIRECTORY={SECRETS}"));
}

fn net(lines: &mut Lines, definition: &Definition) {
    if !network::has_link(definition.network) {
        lines.add("net.0.type", "empty");
        return;
    }
    lines.add("net.0.type", "veth");
    // no bridge, and a name of our own choice, known before the machine starts: the wall stands first
    lines.add("net.0.veth.pair", network::interface(&definition.name));
    lines.add("net.0.name", "host0");
    lines.add("net.0.flags", "up");
}

fn hooks(lines: &mut Lines, facts: &Facts<'_>) {
    let program = quote(&facts.definition.program);
    let (state, name) = (quote(facts.state), &facts.definition.name);
    lines.add("hook.version", 1);
    // liblxc runs `exec` with the value in a shell; one that begins and ends with a quote would lose both
    let env = if program.starts_with('\'') { "env " } else { "" };
    let call = format!("{env}{program} --state-dir {state} internal");
    lines.add("hook.pre-start", format_args!("{call} wall-up {name}"));
    lines.add("hook.start-host", format_args!("{call} lxc-started {name} $LXC_PID"));
    lines.add("hook.post-stop", format_args!("{call} lxc-ended {name} $LXC_TARGET"));
}

/// Brings devices in. What is not there cannot be made in a user namespace, so `userns.conf` takes all rules about
/// devices back; a single `lxc.cgroup2.devices.allow` would deny every other device, `/dev/null` among them.
fn devices(lines: &mut Lines, devices: &[PathBuf]) {
    for path in devices {
        let (source, target) = (field(path), field(path.strip_prefix("/").unwrap_or(path)));
        lines.add("mount.entry", format_args!("{source} {target} none bind,create=file 0 0"));
    }
}

/// Writes the limits; liblxc starts nothing where the kernel does not have one, so that those are a remark only.
fn limit(lines: &mut Lines, facts: &Facts<'_>) {
    for (controller, file, value) in limits::files(&facts.definition.chosen.limits) {
        let is_none = value.split(' ').next() == Some("max") || (file, &*value) == ("cpu.weight", "100");
        if is_none {
            continue;
        }
        if facts.controllers.iter().any(|known| known == controller) {
            lines.add(&format!("cgroup2.{file}"), value);
        } else {
            let _ = writeln!(lines.0, "# not enforced on this host: {file} = {value}");
        }
    }
}

fn autostart(lines: &mut Lines, definition: &Definition) {
    let Some(autostart) = definition.chosen.autostart else { return };
    lines.add("start.auto", 1);
    lines.add("start.order", autostart.order);
    lines.add("start.delay", autostart.delay);
}

/// Writes a field of a mount entry, which is a line of fstab(5).
fn field(path: &Path) -> String {
    let mut text = String::new();
    for letter in path.to_string_lossy().chars() {
        match letter {
            ' ' | '\t' | '\n' | '\\' => {
                let _ = write!(text, "\\{:03o}", u32::from(letter));
            }
            _ => text.push(letter),
        }
    }
    text
}

/// Quotes a word for the shell, which runs hooks.
fn quote(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+,@".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Tells whether the network of a definition can be had.
pub(super) const fn can_have(network: Network) -> bool {
    !matches!(network, Network::Host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Autostart, Kind, Nesting, example};

    fn definition() -> Definition {
        let tree = "/var/lib/sandbox/machines/agents/rootfs".into();
        Definition { backend: Kind::Lxc, tree, ..example::definition("agents") }
    }

    fn written(definition: &Definition, apparmor: Option<u32>) -> String {
        let state = Path::new("/var/lib/sandbox");
        let controllers = ["cpu", "memory", "pids"].map(str::to_owned);
        let dumps = Dumps::Allowed;
        let facts =
            Facts { definition, state, base: 0x7000_0000, apparmor, dumps, controllers: &controllers };
        config(&facts)
    }

    #[test]
    fn a_plain_machine() {
        assert_eq!(written(&definition(), None), include_str!("snapshots/plain.conf"));
    }

    #[test]
    fn a_machine_with_everything() {
        let mut definition = definition();
        definition.needs.nesting = Nesting::CONTAINERS;
        definition.needs.devices = vec!["/dev/fuse".into()];
        definition.chosen.limits.cpus = Some(1500);
        definition.chosen.limits.memory = Some(1 << 30);
        definition.chosen.limits.tasks = Some(512);
        definition.chosen.autostart = Some(Autostart { order: 7, delay: 5 });
        assert_eq!(written(&definition, Some(4)), include_str!("snapshots/everything.conf"));
    }

    #[test]
    fn nesting_is_apparmors_where_there_is_one() {
        let mut definition = definition();
        definition.needs.nesting = Nesting::CONTAINERS;
        let (with, without) = (written(&definition, Some(3)), written(&definition, None));
        assert!(with.contains("allow_nesting = 1") && !with.contains("nesting.conf"), "{with}");
        assert!(!with.contains("apparmor.raw"), "AppArmor 3 knows neither rule");
        assert!(without.contains("nesting.conf") && !without.contains("apparmor"), "{without}");
    }

    #[test]
    fn no_link_without_a_network() {
        let text = written(&Definition { network: Network::None, ..definition() }, None);
        assert!(text.contains("lxc.net.0.type = empty\n") && !text.contains("veth"), "{text}");
        assert!(text.contains("systemd.mask=systemd-networkd-wait-online.service"), "{text}");
    }

    #[test]
    fn what_the_host_cannot_limit_keeps_no_machine_from_starting() {
        let mut definition = definition();
        definition.chosen.limits.memory = Some(4096);
        let state = Path::new("/s");
        let facts = Facts {
            definition: &definition,
            state,
            base: 1,
            apparmor: None,
            dumps: Dumps::Refused,
            controllers: &[],
        };
        let text = config(&facts);
        assert!(text.contains("# not enforced on this host: memory.max = 4096\n"), "{text}");
        assert!(!text.contains("lxc.cgroup2"), "{text}");
        assert!(text.contains("lxc.prlimit.core = 1\n"), "{text}");
    }

    #[test]
    fn words_survive_liblxc_and_the_shell() {
        assert_eq!(field(Path::new("/a b\\c")), "/a\\040b\\134c");
        assert_eq!(quote(Path::new("/usr/bin/sandbox")), "/usr/bin/sandbox");
        assert_eq!(quote(Path::new("/opt/it's")), "'/opt/it'\\''s'");
        let text = written(&Definition { program: "/opt/a b".into(), ..definition() }, None);
        assert!(text.contains("pre-start = env '/opt/a b' --state-dir"), "{text}");
    }
}
