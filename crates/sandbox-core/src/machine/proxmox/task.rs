//! Tasks of Proxmox VE: what takes longer than an answer.
//!
//! **Shape**: `UPID:NODE:PID:PSTART:TIME:TYPE:ID:USER:`, numbers in hexadecimal.
//!
//! **Source**: PVE/Tools.pm, `upid_decode`; pve-manager, `PVE/API2/Tasks.pm`.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{error::ProxmoxError, rest::Rest};

/// How many lines of a task's log are shown.
const LINES: usize = 10;
/// The first pause between two looks; it doubles up to the last.
const FIRST: Duration = Duration::from_millis(100);
/// The last pause.
const LAST: Duration = Duration::from_secs(2);
/// How many answers in a row may fail to come while a task runs.
const MISSED: u32 = 5;

/// A task's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upid {
    /// As it is.
    pub text: String,
    /// The node that it runs on.
    pub node: String,
    /// What it does: `vzcreate`.
    pub kind: String,
}

impl Upid {
    /// Reads one; none where it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let hexadecimal = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        let word = |part: &&str| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        let ["UPID", node, pid, start, time, kind, _id, user, ""] = parts.as_slice() else { return None };
        let sound = [pid, start, time].into_iter().all(hexadecimal) && [node, kind].into_iter().all(word);
        (sound && !user.is_empty() && !text.contains('/')).then(|| Self {
            text: text.to_owned(),
            node: (*node).to_owned(),
            kind: (*kind).to_owned(),
        })
    }

    /// Gives its path in the interface.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/nodes/{}/tasks/{}", self.node, self.text)
    }
}

/// Waits until a task has ended well.
///
/// # Errors
/// [`ProxmoxError::Task`] with the end of its log, [`ProxmoxError::Slow`].
pub fn follow(rest: &Rest, upid: &Upid, deadline: Duration) -> Result<(), ProxmoxError> {
    let begun = Instant::now();
    let (mut pause, mut missed) = (FIRST, 0);
    loop {
        match rest.get(&format!("{}/status", upid.path()), &[]) {
            Ok(status) => {
                missed = 0;
                if status["status"] == "stopped" {
                    return ended(rest, upid, status["exitstatus"].as_str().unwrap_or("unexpected status"));
                }
            }
            // the task goes on without us
            Err(ProxmoxError::Api(_)) if missed < MISSED => missed += 1,
            Err(problem) => return Err(problem),
        }
        if begun.elapsed() > deadline {
            return Err(ProxmoxError::Slow { kind: upid.kind.clone(), seconds: deadline.as_secs() });
        }
        thread::sleep(pause);
        pause = (pause * 2).min(LAST);
    }
}

fn ended(rest: &Rest, upid: &Upid, said: &str) -> Result<(), ProxmoxError> {
    // what was warned of is no failure
    if said == "OK" || said.starts_with("WARNINGS:") {
        return Ok(());
    }
    let log = rest.get(&format!("{}/log", upid.path()), &[("limit", "500")]).unwrap_or(Value::Null);
    let lines = log.as_array().map(Vec::as_slice).unwrap_or_default();
    let lines: Vec<_> = lines.iter().filter_map(|line| line["t"].as_str()).map(str::to_owned).collect();
    let log = lines[lines.len().saturating_sub(LINES)..].to_vec();
    Err(ProxmoxError::Task { kind: upid.kind.clone(), said: said.to_owned(), log })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tasks_name_is_read() {
        let text = "UPID:pve-1:0000ABCD:00112233:69204F1A:vzcreate:100:robot@pve!sandbox:";
        let upid = Upid::parse(text).unwrap();
        assert_eq!((upid.node.as_str(), upid.kind.as_str()), ("pve-1", "vzcreate"));
        assert_eq!(upid.path(), format!("/nodes/pve-1/tasks/{text}"));
        for wrong in [
            "",
            "UPID:pve:1:2:3:vzcreate:100:u",
            "UPID:../x:1:2:3:vzcreate:100:u:",
            "UPID:pve:1:2:z:vzcreate:100:u:",
            "UPID:pve:1:2:3:vz/create:100:u:",
            "UPID:pve:1:2:3:vzcreate:100:u:more",
        ] {
            assert!(Upid::parse(wrong).is_none(), "{wrong}");
        }
    }
}
