//! `sandbox doctor`: what this host can do, check by check.

mod lxc;
mod net;
mod shared;
mod state;

use std::{borrow::Cow, fs, path::Path};

use sandbox_core::{host::runner, machine::record::Records};

use crate::{exit::Exit, failure::Failure, settings::Settings, table::Tone, ui};

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    Good,
    /// Something is missing that only some uses need.
    Lacking,
    /// Nothing works without it.
    Bad,
}

#[derive(Debug, serde::Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<Cow<'static, str>>,
}

type Check = fn() -> Finding;

const CHECKS: &[Check] = &[
    root,
    kernel,
    user_namespaces,
    overlay,
    cgroup,
    nspawn,
    machined,
    networkd,
    nft,
    forwarding,
    shared::instances,
    shared::watches,
    shared::aio,
    shared::core_dumps,
    net::names,
    net::links,
    net::neighbours,
    lxc::version,
    lxc::nesting,
];

/// Runs every check and prints what was found.
///
/// # Errors
/// Where something is missing that every machine needs: exit 6.
pub fn run(settings: &Settings) -> Result<Exit, Failure> {
    let mut findings: Vec<_> = CHECKS.iter().map(|check| check()).collect();
    findings.extend(net::firewalls());
    findings.push(state::directory(&settings.state));
    findings.push(unfinished(settings));
    findings.push(net::walls(settings));
    if settings.json() {
        ui::json(&findings);
    } else {
        for finding in &findings {
            let mark = match finding.verdict {
                Verdict::Good => ("ok", Tone::Good),
                Verdict::Lacking => ("note", Tone::Uneasy),
                Verdict::Bad => ("FAIL", Tone::Bad),
            };
            ui::finding(mark, finding.check, &finding.found);
            if let Some(command) = &finding.command {
                ui::line(&format!("      {:<17} try:  {command}", ""));
            }
        }
    }
    let bad = findings.iter().any(|finding| finding.verdict == Verdict::Bad);
    Ok(if bad { Exit::HOST } else { Exit::OK })
}

/// Looks for machines with which a command has begun something and died.
fn unfinished(settings: &Settings) -> Finding {
    let names = Records::new(&settings.state).unfinished().unwrap_or_default();
    if names.is_empty() {
        return finding("unfinished", Verdict::Good, "no command has left anything half-made");
    }
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    let found = format!("half-made, half-removed or not cleaned up: {}", names.join(", "));
    with(finding("unfinished", Verdict::Lacking, found), "sandbox repair")
}

fn finding(check: &'static str, verdict: Verdict, found: impl Into<String>) -> Finding {
    Finding { check, verdict, found: found.into(), command: None }
}

fn with(mut finding: Finding, command: impl Into<Cow<'static, str>>) -> Finding {
    finding.command = Some(command.into());
    finding
}

fn on_path(program: &str) -> bool {
    runner::program(program).is_some()
}

fn root() -> Finding {
    if nix::unistd::geteuid().is_root() {
        finding("root", Verdict::Good, "running as root")
    } else {
        with(
            finding("root", Verdict::Bad, "machines are made and run by root; you are not"),
            "sudo sandbox doctor",
        )
    }
}

fn kernel() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= (5, 12) {
        finding("kernel", Verdict::Good, format!("{release}: openat2 and id-mapped mounts"))
    } else {
        finding(
            "kernel",
            Verdict::Bad,
            format!("{release} is older than 5.12, which brought id-mapped mounts"),
        )
    }
}

fn user_namespaces() -> Finding {
    let most = fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
    match most.trim() {
        "" => finding("user namespaces", Verdict::Bad, "the kernel has none"),
        "0" => with(
            finding("user namespaces", Verdict::Bad, "switched off by user.max_user_namespaces"),
            "sysctl -w user.max_user_namespaces=65536",
        ),
        most => finding("user namespaces", Verdict::Good, format!("up to {most}")),
    }
}

fn overlay() -> Finding {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if known.lines().any(|line| line.ends_with("\toverlay")) {
        finding("overlayfs", Verdict::Good, "there, for Docker in machines")
    } else {
        with(
            finding("overlayfs", Verdict::Lacking, "not loaded; Docker in machines needs it"),
            "modprobe overlay",
        )
    }
}

fn cgroup() -> Finding {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        finding("cgroup", Verdict::Good, "unified hierarchy")
    } else if fs::read_to_string("/proc/filesystems").unwrap_or_default().contains("\tcgroup2") {
        finding(
            "cgroup",
            Verdict::Lacking,
            "not the unified hierarchy: machines of the backend `direct` run, limits do not hold",
        )
    } else {
        finding("cgroup", Verdict::Bad, "the kernel has no cgroup2")
    }
}

fn nspawn() -> Finding {
    if on_path("systemd-nspawn") {
        finding("systemd-nspawn", Verdict::Good, "installed")
    } else {
        with(
            finding("systemd-nspawn", Verdict::Bad, "not installed; it runs the machines"),
            "apt-get install systemd-container",
        )
    }
}

fn machined() -> Finding {
    if !Path::new("/run/systemd/system").exists() {
        finding(
            "machined",
            Verdict::Lacking,
            "systemd is not PID 1 here: machines run with `--backend direct`",
        )
    } else if Path::new("/usr/lib/systemd/systemd-machined").exists() {
        finding("machined", Verdict::Good, "machines run with `--backend nspawn`")
    } else {
        with(
            finding("machined", Verdict::Lacking, "not installed: machines run with `--backend direct`"),
            "apt-get install systemd-container",
        )
    }
}

fn networkd() -> Finding {
    if !Path::new("/run/systemd/system").exists() {
        finding("networkd", Verdict::Good, "not needed: the backend `direct` sets addresses itself")
    } else if Path::new("/run/systemd/netif/state").exists() {
        finding("networkd", Verdict::Good, "running, gives machines their addresses")
    } else {
        with(
            finding(
                "networkd",
                Verdict::Lacking,
                "not running; machines of `nspawn` get no address without it",
            ),
            "systemctl enable --now systemd-networkd",
        )
    }
}

fn nft() -> Finding {
    if on_path("nft") {
        finding("nftables", Verdict::Good, "installed, for the walls")
    } else {
        with(
            finding("nftables", Verdict::Bad, "not installed; the walls are made of it"),
            "apt-get install nftables",
        )
    }
}

fn forwarding() -> Finding {
    match fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap_or_default().trim() {
        "1" => finding("forwarding", Verdict::Good, "on"),
        _ => finding("forwarding", Verdict::Good, "off; switched on when the first machine starts"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_says_what_it_found() {
        for check in CHECKS {
            let finding = check();
            assert!(!finding.found.is_empty() && !finding.check.is_empty(), "{finding:?}");
        }
    }
}
