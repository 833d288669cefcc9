//! What a file may not say though the schema lets it: no build begins with it.

use std::path::{Component, Path};

use super::{Limit, check::nearest, file::Layer, is_variable, limit::LIMITS, spans::key};

/// Something wrong at a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key: `files[2].mode`.
    pub key: String,
    /// What is wrong with it.
    pub text: String,
}

/// Gathers problems.
#[derive(Default)]
struct Found(Vec<Problem>);

impl Found {
    fn unless(&mut self, well: bool, key: impl Into<String>, text: impl FnOnce() -> String) {
        if !well {
            self.0.push(Problem { key: key.into(), text: text() });
        }
    }

    fn path(&mut self, key: String, path: &Path) {
        let climbs = path.components().any(|part| part == Component::ParentDir);
        self.unless(path.is_absolute() && !climbs, key, || {
            format!("`{}` is not an absolute path without `..`", path.display())
        });
    }

    fn mode(&mut self, key: String, mode: &str) {
        let well = u32::from_str_radix(mode, 8).is_ok_and(|mode| mode <= 0o7777);
        self.unless(well, key, || format!("`{mode}` is not an octal mode such as 0644"));
    }

    fn argv(&mut self, key: String, argv: &[String]) {
        self.unless(argv.first().is_some_and(|word| !word.is_empty()), key.clone(), || {
            "there is no command in it".to_owned()
        });
        self.unless(!argv.iter().any(|word| word.contains('\0')), key, || "a word has a NUL byte".to_owned());
    }

    fn person(&mut self, key: String, name: &str) {
        self.unless(is_account(name), key, || {
            format!("`{name}` is no name for useradd: a-z, 0-9, `_`, `-`, at most 32, a letter or `_` first")
        });
    }

    fn line(&mut self, key: String, value: &str) {
        self.unless(!value.contains(['\n', '\0']), key, || "it has to be one line".to_owned());
    }
}

/// Tells what is wrong with a file, all of it.
pub fn problems(layer: &Layer) -> Vec<Problem> {
    let mut found = Found::default();
    found.unless(is_file_name(&layer.name), "name", || {
        format!("`{}` becomes part of file names: a-z, 0-9, `.`, `_`, `-`, no dot first", layer.name)
    });
    tree(layer, &mut found);
    people(layer, &mut found);
    units(layer, &mut found);
    settings(layer, &mut found);
    commands(layer, &mut found);
    machine(layer, &mut found);
    found.0
}

fn tree(layer: &Layer, found: &mut Found) {
    for (at, file) in layer.files.iter().enumerate() {
        found.path(format!("files[{at}].path"), &file.path);
        found.mode(format!("files[{at}].mode"), &file.mode);
    }
    for (at, link) in layer.links.iter().enumerate() {
        found.path(format!("links[{at}].path"), &link.path);
        found.unless(!link.target.is_empty(), format!("links[{at}].target"), || "it is empty".to_owned());
    }
    for (at, volume) in layer.volumes.iter().enumerate() {
        let key = format!("volumes[{at}].path");
        found.path(key.clone(), &volume.path);
        let deep = volume.path.components().count() > 2;
        found.unless(deep, key.clone(), || "a folder at the top of the tree is no volume".to_owned());
        found.line(key, &volume.path.to_string_lossy());
        found.mode(format!("volumes[{at}].mode"), &volume.mode);
    }
}

fn people(layer: &Layer, found: &mut Found) {
    for (at, user) in layer.users.iter().enumerate() {
        found.person(format!("users[{at}].name"), &user.name);
        for (number, group) in user.groups.iter().enumerate() {
            found.person(format!("users[{at}].groups[{number}]"), group);
        }
    }
    for (at, group) in layer.groups.iter().enumerate() {
        found.person(format!("groups[{at}].name"), &group.name);
    }
}

fn units(layer: &Layer, found: &mut Found) {
    for (at, unit) in layer.unit.iter().enumerate() {
        let key = format!("unit[{at}].name");
        let drop_in = is_drop_in(&unit.name);
        found.unless(drop_in || is_unit(&unit.name), key, || {
            format!("`{}` is neither a unit (`x.service`) nor a drop-in (`x.service.d/y.conf`)", unit.name)
        });
        found.unless(!(drop_in && unit.enable), format!("unit[{at}].enable"), || {
            "a drop-in cannot be enabled: it counts wherever its unit does".to_owned()
        });
    }
    let lists =
        [("enable", &layer.units.enable), ("disable", &layer.units.disable), ("mask", &layer.units.mask)];
    for (list, names) in lists {
        for (at, name) in names.iter().enumerate() {
            found.unless(is_unit(name), format!("units.{list}[{at}]"), || {
                format!("`{name}` is no unit: it needs an ending such as `.service`")
            });
        }
    }
}

fn settings(layer: &Layer, found: &mut Found) {
    for (name, value) in &layer.sysctl {
        let at = format!("sysctl.{}", key(name));
        found.unless(is_setting(name), at.clone(), || {
            format!("`{name}` is no kernel setting such as `net.core.somaxconn`")
        });
        found.line(at, value);
    }
    for (name, value) in &layer.limits {
        found.unless(Limit::read(name, value).is_some(), format!("limits.{}", key(name)), || {
            if LIMITS.contains(&name.as_str()) {
                return format!("`{value}` is neither a number, nor `infinity`, nor `SOFT:HARD` of those");
            }
            let near =
                nearest(name, LIMITS).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            format!("`{name}` is no limit{near}")
        });
    }
    for (name, value) in &layer.environment {
        let at = format!("environment.{}", key(name));
        found.unless(is_variable(name), at.clone(), || format!("`{name}` is no name of a variable"));
        found.line(at, value);
    }
    for (name, reason) in &layer.refuses {
        let at = format!("refuses.{}", key(name));
        found.unless(is_variable(name), at.clone(), || format!("`{name}` is no name of a variable"));
        found.unless(!reason.is_empty(), at.clone(), || "say why".to_owned());
        found.line(at, reason);
    }
}

fn commands(layer: &Layer, found: &mut Found) {
    for (at, step) in layer.steps.iter().enumerate() {
        found.argv(format!("steps[{at}].argv"), &step.argv);
        for name in step.environment.keys() {
            found.unless(is_variable(name), format!("steps[{at}].environment"), || {
                format!("`{name}` is no name of a variable")
            });
        }
    }
    for (at, check) in layer.health.iter().enumerate() {
        found.line(format!("health[{at}].name"), &check.name);
        found.argv(format!("health[{at}].argv"), &check.argv);
        found.unless((0..=255).contains(&check.status), format!("health[{at}].status"), || {
            format!("{} is no exit status: 0 to 255", check.status)
        });
    }
    for (at, server) in layer.mcp.iter().enumerate() {
        found.argv(format!("mcp[{at}].argv"), &server.argv);
        found.unless(is_file_name(&server.name), format!("mcp[{at}].name"), || {
            format!("`{}` is no plain name", server.name)
        });
    }
    for (at, agent) in layer.agent.iter().enumerate() {
        found.path(format!("agent[{at}].instructions"), &agent.instructions);
        if let Some(mcp) = &agent.mcp {
            found.path(format!("agent[{at}].mcp.path"), &mcp.path);
        }
        if let Some(skills) = &agent.skills {
            found.path(format!("agent[{at}].skills"), skills);
        }
        if !agent.login.is_empty() {
            found.argv(format!("agent[{at}].login"), &agent.login);
        }
    }
    for (at, skills) in layer.skills.iter().enumerate() {
        found.path(format!("skills[{at}].path"), &skills.path);
        found.unless(is_file_name(&skills.name), format!("skills[{at}].name"), || {
            format!("`{}` is no plain name", skills.name)
        });
    }
}

fn machine(layer: &Layer, found: &mut Found) {
    for (at, port) in layer.ports.iter().enumerate() {
        found.unless(port.port != 0, format!("ports[{at}].port"), || "0 is no port".to_owned());
    }
    for (at, device) in layer.machine.devices.iter().enumerate() {
        let at = format!("machine.devices[{at}]");
        found.path(at.clone(), device);
        found.unless(device.starts_with("/dev"), at.clone(), || {
            format!("`{}` is not below /dev", device.display())
        });
        found.line(at, &device.to_string_lossy());
    }
    for (at, call) in layer.machine.system_calls.iter().enumerate() {
        let plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
        let well = !call.is_empty() && call.strip_prefix('@').unwrap_or(call).bytes().all(plain);
        found.unless(well, format!("machine.system-calls[{at}]"), || {
            format!("`{call}` is no system call, nor a group such as `@keyring`")
        });
    }
    for name in layer.machine.host_sysctl.keys() {
        found.unless(is_setting(name), format!("machine.host-sysctl.{}", key(name)), || {
            format!("`{name}` is no kernel setting such as `fs.inotify.max_user_instances`")
        });
    }
}

/// A name that may be part of a file's, and is no hidden one.
fn is_file_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !name.is_empty() && !name.starts_with('.') && name.len() < 100 && name.bytes().all(plain)
}

/// **Source**: useradd(8), "CAVEATS".
fn is_account(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
    let first = name.bytes().next().is_some_and(|byte| byte == b'_' || byte.is_ascii_lowercase());
    first && name.len() <= 32 && name.bytes().all(plain)
}

/// **Source**: systemd.unit(5), "Unit File Load Path".
fn is_unit(name: &str) -> bool {
    const KINDS: [&str; 10] =
        ["service", "socket", "timer", "path", "target", "mount", "automount", "swap", "slice", "device"];
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    name.rsplit_once('.').is_some_and(|(stem, kind)| {
        !stem.is_empty() && KINDS.contains(&kind) && !stem.starts_with('.') && stem.bytes().all(plain)
    })
}

fn is_drop_in(name: &str) -> bool {
    name.split_once('/').is_some_and(|(folder, file)| {
        let unit = folder.strip_suffix(".d").is_some_and(is_unit);
        unit && file.ends_with(".conf") && is_file_name(file)
    })
}

/// **Source**: sysctl(8): words between dots, or slashes where a word has a dot.
fn is_setting(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-/.*:".contains(&byte);
    name.contains(['.', '/'])
        && name.bytes().all(plain)
        && !name.contains("..")
        && !name.starts_with(['.', '/'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Vec<String> {
        let layer: Layer = toml::from_str(&format!("schema = 1\nname = \"p\"\n{text}")).unwrap();
        problems(&layer).into_iter().map(|problem| problem.key).collect()
    }

    #[test]
    fn each_kind_of_mistake_is_found_at_its_key() {
        for (text, key) in [
            ("[[files]]\npath = \"a\"\ncontent = \"\"", "files[0].path"),
            ("[[files]]\npath = \"/a/../b\"\ncontent = \"\"", "files[0].path"),
            ("[[files]]\npath = \"/a\"\ncontent = \"\"\nmode = \"99\"", "files[0].mode"),
            ("[[links]]\npath = \"/a\"\ntarget = \"\"", "links[0].target"),
            ("[[users]]\nname = \"A b\"\nuid = 1", "users[0].name"),
            ("[[groups]]\nname = \"-x\"", "groups[0].name"),
            ("[[unit]]\nname = \"x\"\ncontent = \"\"", "unit[0].name"),
            ("[[unit]]\nname = \"../x.service\"\ncontent = \"\"", "unit[0].name"),
            ("[[unit]]\nname = \"x.service.d/y.conf\"\ncontent = \"\"\nenable = true", "unit[0].enable"),
            ("[units]\nenable = [\"ssh\"]", "units.enable[0]"),
            ("[sysctl]\nx = \"1\"", "sysctl.x"),
            ("[sysctl]\n\"a.b\" = \"1\\n2\"", "sysctl.\"a.b\""),
            ("[limits]\nnofiles = \"1\"", "limits.nofiles"),
            ("[limits]\nnofile = \"many\"", "limits.nofile"),
            ("[environment]\n\"A-B\" = \"1\"", "environment.A-B"),
            ("[environment]\nA = \"1\\n2\"", "environment.A"),
            ("[refuses]\nA = \"\"", "refuses.A"),
            ("[[steps]]\nargv = []", "steps[0].argv"),
            ("[[health]]\nname = \"a\\nb\"\nargv = [\"x\"]", "health[0].name"),
            ("[[health]]\nargv = [\"\"]", "health[0].argv"),
            ("[[health]]\nargv = [\"x\"]\nstatus = 256", "health[0].status"),
            ("[[ports]]\nport = 0\nwhat = \"\"", "ports[0].port"),
            ("[[volumes]]\npath = \"/home\"\nkind = \"home\"", "volumes[0].path"),
            ("[machine]\ndevices = [\"/etc/shadow\"]", "machine.devices[0]"),
            ("[machine]\nsystem-calls = [\"a b\"]", "machine.system-calls[0]"),
            ("[machine.host-sysctl]\nx = 1", "machine.host-sysctl.x"),
            ("[[mcp]]\nname = \"m\"\nargv = []", "mcp[0].argv"),
            ("[[agent]]\nname = \"a\"\ninstructions = \"a\"", "agent[0].instructions"),
            ("[[skills]]\nname = \"../s\"\npath = \"/s\"", "skills[0].name"),
        ] {
            assert_eq!(keys(text), [key], "{text}");
        }
        assert!(keys("[[unit]]\nname = \"ssh@.service.d/50-x.conf\"\ncontent = \"\"").is_empty());
        assert!(keys("[limits]\nnofile = \"1:2\"\n[environment]\nA = \"${B}:x\"").is_empty());
    }

    #[test]
    fn a_name_is_no_path() {
        let layer = Layer { name: "../x".to_owned(), ..Layer::default() };
        assert_eq!(problems(&layer)[0].key, "name");
    }
}
