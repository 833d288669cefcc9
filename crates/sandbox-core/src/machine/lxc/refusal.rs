//! What a machine asks for, in LXC's terms, or why it cannot be had.

use super::{config, error::LxcError};
use crate::machine::{Definition, Restart};

/// System calls that LXC's filter denies to all: the profile that it ships cannot be told otherwise.
///
/// **Source**: `common.seccomp` of liblxc 5.0 and 6.0; all others are allowed.
const DENIED: [&str; 7] = [
    "@module",
    "delete_module",
    "finit_module",
    "init_module",
    "kexec_file_load",
    "kexec_load",
    "open_by_handle_at",
];

/// Refuses by name what LXC cannot do.
pub(super) fn check(definition: &Definition) -> Result<(), LxcError> {
    let refused = |what: &str, why| Err(LxcError::Refused { what: what.to_owned(), why });
    if definition.privileged {
        return refused("privileged machines", "its containers always have a user namespace");
    }
    if !config::can_have(definition.network) {
        return refused("`--network host`", "a user namespace cannot mount the /sys of the host's network");
    }
    if definition.chosen.restart != Restart::No {
        return refused("restart policy", "nobody watches a container when its monitor is gone");
    }
    if definition.chosen.limits.disk.is_some() {
        return refused("limit of disk space", "a folder has none");
    }
    let denied = definition.needs.system_calls.iter().find(|call| DENIED.contains(&call.as_str()));
    match denied {
        Some(call) => refused(&format!("system call `{call}`"), "LXC's own filter denies it to all"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Network, example::definition};

    #[test]
    fn what_cannot_be_had_is_refused_by_name() {
        let plain = definition("agents");
        check(&plain).unwrap();
        let refused = |change: fn(&mut Definition)| {
            let mut definition = plain.clone();
            change(&mut definition);
            check(&definition).unwrap_err().to_string()
        };
        assert!(refused(|d| d.privileged = true).contains("privileged"));
        assert!(refused(|d| d.network = Network::Host).contains("--network host"));
        assert!(refused(|d| d.chosen.restart = Restart::Always).contains("restart"));
        assert!(refused(|d| d.chosen.limits.disk = Some(1)).contains("disk"));
        let call = refused(|d| d.needs.system_calls = vec!["bpf".into(), "open_by_handle_at".into()]);
        assert!(call.contains("open_by_handle_at"), "{call}");
    }
}
