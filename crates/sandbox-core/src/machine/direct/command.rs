//! The command lines of programs that the host has: systemd-nspawn and ip.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Stdio,
};

use super::{DirectError, io};
use crate::machine::{Definition, Network, network, nspawn, volume};

/// Where programs of the host are looked for.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Finds systemd-nspawn.
pub fn nspawn() -> Result<PathBuf, DirectError> {
    PATH.split(':')
        .map(|folder| Path::new(folder).join("systemd-nspawn"))
        .find(|program| program.exists())
        .ok_or(DirectError::NoNspawn)
}

/// Writes nspawn's arguments for a machine; those that give it its secrets are known.
///
/// **Source**: systemd-nspawn(1).
pub fn arguments(
    definition: &Definition,
    network_file: Option<&Path>,
    secrets: Vec<OsString>,
) -> Vec<OsString> {
    let mut all: Vec<OsString> = [
        "--quiet",
        "--boot",
        "--register=no",
        "--keep-unit",
        "--console=interactive",
        "--link-journal=no",
        "--timezone=off",
    ]
    .map(OsString::from)
    .to_vec();
    let mut add = |key: &str, value: &Path| {
        let mut argument = OsString::from(key);
        argument.push(value);
        all.push(argument);
    };
    add("--directory=", &definition.tree);
    add("--machine=", Path::new(definition.name.as_str()));
    if definition.privileged {
        add("--capability=", Path::new("all"));
        for device in ["/dev/fuse", "/dev/net/tun"].map(Path::new).into_iter().filter(|path| path.exists()) {
            add("--bind=", device);
        }
    } else {
        // never chown, which `auto` may fall back to: the tree on disk stays 0-based
        add("--private-users=", Path::new("pick"));
        add("--private-users-ownership=", Path::new("map"));
    }
    let calls = nspawn::system_calls(definition).join(" ");
    if !calls.is_empty() {
        add("--system-call-filter=", Path::new(&calls));
    }
    for device in &definition.needs.devices {
        add("--bind=", device);
    }
    for volume in &definition.volumes {
        add("--bind=", Path::new(&volume::bind(volume, definition.privileged)));
    }
    match definition.network {
        Network::Internet | Network::Open => {
            let pair = format!("{}:host0", network::interface(&definition.name));
            add("--network-veth-extra=", Path::new(&pair));
        }
        Network::None => all.push("--private-network".into()),
        Network::Host => {}
    }
    let resolv_conf = if definition.network == Network::Host { "bind-host" } else { "off" };
    all.push(format!("--resolv-conf={resolv_conf}").into());
    if let Some(file) = network_file {
        let mut argument = OsString::from("--bind-ro=");
        // nspawn's own separator in a path is written with a backslash
        argument.push(file.to_string_lossy().replace('\\', "\\\\").replace(':', "\\:"));
        argument.push(format!(":/{}", super::link::IN_TREE));
        all.push(argument);
    }
    all.extend(secrets);
    all
}

/// Gives nspawn's environment.
pub fn environment(definition: &Definition) -> Vec<(&'static str, &'static str)> {
    let mut all = vec![
        ("PATH", PATH),
        ("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1"),
        // nobody need sit at the console: neither colours of nspawn's own nor a title
        ("SYSTEMD_TINT_BACKGROUND", "0"),
        ("SYSTEMD_ADJUST_TERMINAL_TITLE", "0"),
    ];
    if definition.privileged {
        all.push(("SYSTEMD_NSPAWN_API_VFS_WRITABLE", "network"));
    }
    all
}

/// Runs a small program of the host to its end.
#[expect(clippy::disallowed_methods, reason = "the supervisor has no Runner of the builder's")]
pub fn run(argv: &[&str]) -> Result<(), DirectError> {
    let output = std::process::Command::new(argv[0])
        .args(&argv[1..])
        .env_clear()
        .env("PATH", PATH)
        .stdin(Stdio::null())
        .output()
        .map_err(io("running the program", Path::new(argv[0])))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(DirectError::Command { command: argv.join(" "), said })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Kind, example};

    fn definition() -> Definition {
        Definition { backend: Kind::Direct, tree: "/t".into(), ..example::definition("agents") }
    }

    fn words(definition: &Definition) -> Vec<String> {
        arguments(definition, None, Vec::new()).into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn a_machine_has_a_user_namespace_and_a_link_of_its_own() {
        let words = words(&definition());
        let link = format!("--network-veth-extra={}:host0", network::interface(&definition().name));
        for word in ["--private-users=pick", "--private-users-ownership=map", &link, "--resolv-conf=off"] {
            assert!(words.iter().any(|found| found == word), "{word} is not in {words:?}");
        }
        assert!(!words.iter().any(|word| word.starts_with("--capability")), "{words:?}");
    }

    #[test]
    fn only_the_hosts_network_goes_without_a_namespace() {
        let none = words(&Definition { network: Network::None, ..definition() });
        assert!(none.contains(&"--private-network".to_owned()));
        let host = words(&Definition { network: Network::Host, ..definition() });
        assert!(!host.iter().any(|word| word.contains("network")), "{host:?}");
    }
}
