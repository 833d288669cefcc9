//! Checks of kernel settings that machines share with the host: what one machine takes of them, the host lacks.

use std::fs;

use super::{Finding, Verdict, finding, with};

/// A setting, and the least value with which a machine cannot take all of it from the host.
struct Setting {
    check: &'static str,
    path: &'static str,
    least: u64,
    effect: &'static str,
    command: &'static str,
}

/// Which are looked at. `scripts/install` installs the same values as `60-sandbox.conf`.
///
/// **Source**: inotify(7), `/proc/sys/fs/inotify`; io_setup(2), EAGAIN; user_namespaces(7): instances count up to
/// the namespace of the host's root, and contexts of aio belong to no control group.
const SETTINGS: [Setting; 3] = [
    Setting {
        check: "inotify instances",
        path: "fs/inotify/max_user_instances",
        least: 8192,
        effect: "one machine can take all that the host's root has",
        command: "sysctl -w fs.inotify.max_user_instances=8192",
    },
    Setting {
        check: "inotify watches",
        path: "fs/inotify/max_user_watches",
        least: 524_288,
        effect: "one machine can take all that the host's root has",
        command: "sysctl -w fs.inotify.max_user_watches=1048576",
    },
    Setting {
        check: "aio requests",
        path: "fs/aio-max-nr",
        least: 1_048_576,
        effect: "one machine can take all that databases and QEMU on the host need",
        command: "sysctl -w fs.aio-max-nr=1048576",
    },
];

fn look(setting: &Setting) -> Finding {
    let Setting { check, path, least, effect, command } = setting;
    let text = fs::read_to_string(format!("/proc/sys/{path}")).unwrap_or_default();
    judge(check, text.trim(), *least, effect, command)
}

fn judge(check: &'static str, value: &str, least: u64, effect: &str, command: &'static str) -> Finding {
    match value.parse::<u64>() {
        Err(_) => finding(check, Verdict::Good, "the kernel has no such limit"),
        Ok(value) if value >= least => finding(check, Verdict::Good, format!("up to {value}")),
        Ok(value) => {
            with(finding(check, Verdict::Lacking, format!("{value}, less than {least}: {effect}")), command)
        }
    }
}

/// Instances of inotify.
pub fn instances() -> Finding {
    look(&SETTINGS[0])
}

/// Watches of inotify.
pub fn watches() -> Finding {
    look(&SETTINGS[1])
}

/// Requests of asynchronous input and output.
pub fn aio() -> Finding {
    look(&SETTINGS[2])
}

/// What becomes of core dumps.
///
/// **Source**: core(5), "Piping core dumps to a program".
pub fn core_dumps() -> Finding {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    let text = match pattern.trim().strip_prefix('|') {
        Some(program) => {
            let program = program.split_whitespace().next().unwrap_or_default();
            format!("go to {program}, as the host's root: machines make none")
        }
        None => "are files in the machine that made them".to_owned(),
    };
    finding("core dumps", Verdict::Good, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_low_limit_is_named_with_what_raises_it() {
        let seen = |value: &str| {
            let finding = judge("x", value, 8192, "one machine can take all", "sysctl -w x=8192");
            (finding.verdict, finding.command)
        };
        assert_eq!(seen("128"), (Verdict::Lacking, Some("sysctl -w x=8192".into())));
        assert_eq!(seen("8192"), (Verdict::Good, None));
        assert_eq!(seen(""), (Verdict::Good, None));
    }

    #[test]
    fn what_is_installed_is_what_is_looked_for() {
        let installed = include_str!("../../../../../scripts/60-sandbox.conf");
        for Setting { path, least, command, .. } in SETTINGS {
            let key = path.replace('/', ".");
            let line = installed.lines().find_map(|line| line.strip_prefix(&format!("{key} = "))).unwrap();
            assert!(line.parse::<u64>().unwrap() >= least, "{key}");
            assert!(command.ends_with(&format!("{key}={line}")), "{command}");
        }
    }
}
