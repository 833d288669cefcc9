//! LXC's own programs, and what they say.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use super::{CONTAINERS, error::LxcError};
use crate::name::MachineName;

/// Where programs of the host are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The least version.
const LEAST: u32 = 5;

/// A version of liblxc.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// Reads a version, of which only the first number must be there.
fn parse(text: &str) -> Option<Version> {
    let word =
        text.split_whitespace().find(|word| word.starts_with(|letter: char| letter.is_ascii_digit()))?;
    let mut numbers =
        word.split(|letter: char| !letter.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    Some(Version(numbers.next()?, numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)))
}

/// Tells which LXC the host has.
///
/// # Errors
/// [`LxcError::Absent`], [`LxcError::Old`].
pub fn version() -> Result<Version, LxcError> {
    if !is_installed("lxc-start") {
        return Err(LxcError::Absent);
    }
    let output = run("lxc-start", &["--version"])?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = parse(&text).ok_or_else(|| LxcError::Old { version: text.trim().to_owned() })?;
    if version.0 < LEAST { Err(LxcError::Old { version: version.to_string() }) } else { Ok(version) }
}

/// Tells which AppArmor confines on this host: the major version of its parser, which reads LXC's profiles.
#[must_use]
pub fn apparmor() -> Option<u32> {
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").ok()?;
    if enabled.trim() != "Y" || !is_installed("apparmor_parser") {
        return None;
    }
    let output = run("apparmor_parser", &["--version"]).ok()?;
    parse(&String::from_utf8_lossy(&output.stdout)).map(|version| version.0)
}

fn is_installed(program: &str) -> bool {
    PATH.split(':').any(|folder| Path::new(folder).join(program).exists())
}

/// Prepares one of LXC's programs for a container.
#[expect(clippy::disallowed_methods, reason = "the one door to LXC's programs")]
pub(super) fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", PATH).env("LC_ALL", "C.UTF-8");
    command.current_dir("/").stdin(Stdio::null());
    command
}

fn run(program: &str, arguments: &[&str]) -> Result<Output, LxcError> {
    let mut command = command(program, arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let failed =
        |error: std::io::Error| LxcError::Tool { command: program.to_owned(), said: error.to_string() };
    command.output().map_err(failed)
}

/// Gives LXC's word for a container's state: `STOPPED` also for one that is not there.
pub(super) fn state(name: &MachineName) -> Result<String, LxcError> {
    if !super::config_of(name).exists() || !is_installed("lxc-info") {
        return Ok("STOPPED".to_owned());
    }
    let arguments = ["-P", CONTAINERS, "-n", name.as_str(), "-s", "-H"];
    let output = run("lxc-info", &arguments)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(failed("lxc-info", &arguments, &output))
}

/// Tells whether a container runs, by whatever name it has: it has a socket then.
pub(super) fn is_running(name: &str) -> bool {
    let sockets = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let socket = format!("@{CONTAINERS}/{name}/command");
    sockets.lines().any(|line| line.ends_with(&socket))
}

/// Asks a container to shut down, and tells whether it went within these seconds.
pub(super) fn shut_down(name: &MachineName, seconds: u64) -> Result<bool, LxcError> {
    let seconds = seconds.to_string();
    let arguments = ["-P", CONTAINERS, "-n", name.as_str(), "--nokill", "--timeout", &seconds];
    // its status says no more than that it is not there yet, or not any more
    run("lxc-stop", &arguments)?;
    Ok(state(name)? == "STOPPED")
}

/// Ends a container by force.
pub(super) fn kill(name: &MachineName) -> Result<(), LxcError> {
    run("lxc-stop", &["-P", CONTAINERS, "-n", name.as_str(), "--kill"]).map(drop)
}

fn failed(program: &str, arguments: &[&str], output: &Output) -> LxcError {
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    LxcError::Tool { command: format!("{program} {}", arguments.join(" ")), said }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_they_are_printed() {
        for (text, version) in [
            ("6.0.4\n", Version(6, 0, 4)),
            ("5.0.2~git20221202\n", Version(5, 0, 2)),
            ("AppArmor parser version 4.1.0~beta1\nCopyright", Version(4, 1, 0)),
            ("7\n", Version(7, 0, 0)),
        ] {
            assert_eq!(parse(text), Some(version), "{text}");
        }
        assert_eq!(parse("none"), None);
    }
}
