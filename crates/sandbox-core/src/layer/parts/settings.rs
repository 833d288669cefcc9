//! Kernel settings, limits and variables of the tree, as the files that each of their readers knows.

use std::{collections::BTreeMap, path::PathBuf};

use crate::spec::{self, Layer};

/// The files of a layer's settings: path and text.
pub(super) fn files(layer: &Layer) -> Vec<(PathBuf, String)> {
    let name = &layer.name;
    let mut all = Vec::new();
    if !layer.sysctl.is_empty() {
        all.push((format!("/etc/sysctl.d/50-{name}.conf"), sysctl(&layer.sysctl)));
    }
    if !layer.limits.is_empty() {
        let (pam, systemd) = limits(&layer.limits);
        if !pam.is_empty() {
            all.push((format!("/etc/security/limits.d/50-{name}.conf"), pam));
        }
        all.push((format!("/etc/systemd/system.conf.d/50-{name}.conf"), systemd.clone()));
        all.push((format!("/etc/systemd/user.conf.d/50-{name}.conf"), systemd));
    }
    if !layer.environment.is_empty() {
        all.push((format!("/etc/profile.d/50-{name}.sh"), for_shells(&layer.environment)));
        all.push((format!("/etc/environment.d/50-{name}.conf"), for_units(&layer.environment)));
    }
    all.into_iter().map(|(path, text)| (path.into(), text)).collect()
}

/// **Source**: sysctl.d(5).
fn sysctl(settings: &BTreeMap<String, String>) -> String {
    settings.iter().map(|(key, value)| format!("{key} = {value}\n")).collect()
}

/// Writes limits for logins and for units.
///
/// **Source**: limits.conf(5), systemd-system.conf(5), setrlimit(2).
fn limits(limits: &BTreeMap<String, String>) -> (String, String) {
    let (mut pam, mut systemd) = (String::new(), "[Manager]\n".to_owned());
    for (name, value) in limits {
        let Some(limit) = spec::Limit::read(name, value) else { continue };
        systemd += &format!("DefaultLimit{}={}\n", name.to_uppercase(), limit.systemd());
        for (kind, value) in limit.pam() {
            // the star of limits.conf(5) is not for root
            pam += &format!("* {kind} {name} {value}\nroot {kind} {name} {value}\n");
        }
    }
    (pam, systemd)
}

/// Writes variables for shells: within double quotes all but `${NAME}` is plain.
#[must_use]
pub fn for_shells(variables: &BTreeMap<String, String>) -> String {
    let special = |letter| matches!(letter, '"' | '\\' | '`' | '$');
    variables.iter().map(|(key, value)| format!("export {key}=\"{}\"\n", escaped(value, special))).collect()
}

/// Writes variables for users' units.
///
/// **Source**: environment.d(5).
#[must_use]
pub fn for_units(variables: &BTreeMap<String, String>) -> String {
    let special = |letter| matches!(letter, '"' | '\\' | '$');
    variables.iter().map(|(key, value)| format!("{key}=\"{}\"\n", escaped(value, special))).collect()
}

/// Puts a backslash before special letters, but leaves `${NAME}`, which stands for the value there was.
fn escaped(value: &str, special: impl Fn(char) -> bool) -> String {
    let mut text = String::new();
    let mut rest = value;
    while let Some(letter) = rest.chars().next() {
        if let Some(end) = reference(rest) {
            text.push_str(&rest[..end]);
            rest = &rest[end..];
            continue;
        }
        if special(letter) {
            text.push('\\');
        }
        text.push(letter);
        rest = &rest[letter.len_utf8()..];
    }
    text
}

/// The length of `${NAME}` at the beginning.
fn reference(text: &str) -> Option<usize> {
    let (name, _) = text.strip_prefix("${")?.split_once('}')?;
    spec::is_variable(name).then_some(name.len() + 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn values_of_variables_reach_a_shell_as_they_are() {
        let odd = "a \"b\" 'c' $HOME `id` \\ $(id) ${x y} é";
        let text = for_shells(&map(&[("ODD", odd), ("PATH", "/opt/x/bin:${PATH}")]));
        let script = format!("PATH=/first; {text} printf '%s\\n%s\\n' \"$ODD\" \"$PATH\"");
        #[expect(clippy::disallowed_methods, reason = "a real shell is to read it")]
        let output = std::process::Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{odd}\n/opt/x/bin:/first\n"));
        let units = for_units(&map(&[("ODD", odd)]));
        assert_eq!(units, "ODD=\"a \\\"b\\\" 'c' \\$HOME `id` \\\\ \\$(id) \\${x y} é\"\n");
    }

    #[test]
    fn limits_are_in_the_units_of_their_readers() {
        let (pam, systemd) = limits(&map(&[
            ("nofile", "1024:65536"),
            ("memlock", "1048576"),
            ("core", "infinity"),
            ("cpu", "90"),
        ]));
        assert_eq!(
            systemd,
            "[Manager]\nDefaultLimitCORE=infinity\nDefaultLimitCPU=90\nDefaultLimitMEMLOCK=1048576\n\
             DefaultLimitNOFILE=1024:65536\n"
        );
        for line in [
            "* - core unlimited",
            "* - cpu 2",
            "root - memlock 1024",
            "* soft nofile 1024",
            "* hard nofile 65536",
        ] {
            assert!(pam.lines().any(|found| found == line), "{line}: {pam}");
        }
    }

    #[test]
    fn a_layer_without_settings_has_no_files() {
        assert!(files(&Layer::default()).is_empty());
        let layer = Layer {
            name: "p".to_owned(),
            sysctl: map(&[("net.core.somaxconn", "1024")]),
            limits: map(&[("rttime", "5")]),
            ..Layer::default()
        };
        let files: Vec<_> = files(&layer).into_iter().map(|(path, _)| path).collect();
        let wanted = [
            "/etc/sysctl.d/50-p.conf",
            "/etc/systemd/system.conf.d/50-p.conf",
            "/etc/systemd/user.conf.d/50-p.conf",
        ];
        assert_eq!(files, wanted.map(PathBuf::from));
    }
}
