//! `nft`, the packet filter's tool: a whole file of commands is one transaction.
//!
//! **Source**: nft(8), "Input file formats": all of a file is applied, or nothing.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicBool, Ordering},
};

use super::{Error, ruleset};
use crate::host::lock;

/// Held over the question whether a machine is the last one and the answer's consequence.
const LOCK: &str = "wall.lock";

/// Runs `work` while no other process changes the table.
pub(super) fn with_lock<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    let _lock = lock::take(LOCK).map_err(Error::lock(LOCK))?;
    work()
}

/// Runs `work` while no other process changes the table, unless one does at the moment.
pub(super) fn try_lock<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<Option<T>, Error> {
    let lock = lock::try_take(LOCK).map_err(Error::lock(LOCK))?;
    lock.map(|_lock| work()).transpose()
}

/// Tells whether there is an `nft`: a host without one has no rules of ours.
pub(super) fn is_installed() -> bool {
    run(&["--version"], "").is_ok()
}

/// Kernel or `nft` do not know of tables that may be owned.
static OLD: AtomicBool = AtomicBool::new(false);

/// Applies a file of commands as one transaction, and makes the table where it is missing: one that may be owned, where
/// kernel and `nft` know of that. Neither changes an existing table of the other sort, which is filled as it is.
pub(super) fn put(commands: &str) -> Result<(), Error> {
    let with = |table: String| apply(&(table + commands));
    if !OLD.load(Ordering::Relaxed) && with(ruleset::table(true)).is_ok() {
        return Ok(());
    }
    let plain = with(ruleset::table(false));
    OLD.store(plain.is_ok(), Ordering::Relaxed);
    plain.or_else(|error| with(String::new()).map_err(|_| error))
}

/// Applies a file of commands as one transaction.
pub(super) fn apply(commands: &str) -> Result<(), Error> {
    let output = run(&["-f", "-"], commands)?;
    if output.status.success() {
        return Ok(());
    }
    Err(refused(&output))
}

fn refused(output: &Output) -> Error {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stderr = stderr.lines().take(6).collect::<Vec<_>>().join("\n");
    Error::Refused { status: output.status.to_string(), stderr }
}

/// Lists the table; empty where it is missing.
pub(super) fn list() -> Result<String, Error> {
    let output = run(&["-s", "list", "table", "inet", ruleset::TABLE], "")?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let refused = refused(&output);
    let is_missing = matches!(&refused, Error::Refused { stderr, .. } if stderr.contains("No such file"));
    if is_missing { Ok(String::new()) } else { Err(refused) }
}

/// Tells whether the table is there.
pub(super) fn has_table() -> Result<bool, Error> {
    Ok(run(&["list", "table", "inet", ruleset::TABLE], "")?.status.success())
}

/// Tells whether no machine is in the table.
pub(super) fn is_deserted() -> Result<bool, Error> {
    let output = run(&["list", "map", "inet", ruleset::TABLE, ruleset::MACHINES], "")?;
    Ok(output.status.success() && !String::from_utf8_lossy(&output.stdout).contains(super::PREFIX))
}

/// Lists all tables, as libnftables-json(5) has them.
pub(super) fn ruleset() -> Option<serde_json::Value> {
    let listed = run(&["-j", "list", "ruleset"], "").ok()?;
    serde_json::from_slice(&listed.stdout).ok()
}

/// Lists the filters that iptables keeps without nftables; empty where it has none.
pub(super) fn legacy_rules() -> String {
    let listed = run_program("iptables-legacy", &["-S"], "");
    listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

fn run(arguments: &[&str], input: &str) -> Result<Output, Error> {
    run_program("nft", arguments, input)
}

#[expect(clippy::disallowed_methods, reason = "the packet filter's one door")]
fn run_program(program: &str, arguments: &[&str], input: &str) -> Result<Output, Error> {
    let failed = |source| Error::Tool { source };
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // It reads all of its input before it writes; where it ended early its status says why.
        let _ = stdin.write_all(input.as_bytes());
    }
    child.wait_with_output().map_err(failed)
}
