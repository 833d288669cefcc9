//! Variables that break a profile of the stack: no other file of it may set them, wherever a profile can.

use super::{
    check::Error,
    file::{Layer, Unit},
    merge::Stacked,
    spans::{Node, key},
};

/// Where a file of the tree sets variables of users, services or everyone.
///
/// **Source**: environment.d(5), pam_env(8), bash(1), systemd-system.conf(5).
const PLACES: [&str; 8] = [
    "/etc/environment",
    "/etc/environment.d/",
    "/etc/profile",
    "/etc/profile.d/",
    "/etc/bash.bashrc",
    "/etc/default/",
    "/etc/systemd/",
    "/home/",
];

/// Refuses the first file that sets what another cannot bear.
///
/// # Errors
/// [`Error::Value`] at the line that sets it, with the reason of who refuses it.
pub(super) fn check(files: &[Stacked], texts: &[&str]) -> Result<(), Error> {
    for by in files {
        for (name, reason) in &by.layer.refuses {
            for (file, text) in files.iter().zip(texts) {
                let Some(at) = set(&file.layer, name, &by.layer) else { continue };
                let line = Node::read(text).map_or(1, |node| node.line_of(&at));
                return Err(Error::Value {
                    origin: format!("{}:{line}", file.origin),
                    key: at,
                    problem: format!("`{name}` breaks profile `{}`: {reason}", by.name),
                });
            }
        }
    }
    Ok(())
}

/// Finds where a file sets a variable that another refuses.
fn set(layer: &Layer, name: &str, by: &Layer) -> Option<String> {
    if layer.environment.contains_key(name) {
        return Some(format!("environment.{}", key(name)));
    }
    let reaches = |unit: &Unit| concerns(&unit.name, by) && assigns(&unit.content, name);
    if let Some(at) = layer.unit.iter().position(reaches) {
        return Some(format!("unit[{at}].content"));
    }
    let read = |path: &str| {
        PLACES.iter().any(|place| path == *place || place.ends_with('/') && path.starts_with(place))
    };
    let at = layer
        .files
        .iter()
        .position(|file| read(&file.path.to_string_lossy()) && assigns(&file.content, name))?;
    Some(format!("files[{at}].content"))
}

/// Tells whether a unit, or a drop-in, is one of a profile's own, or of all units of a type. A profile without units
/// of its own may be started by any.
///
/// **Source**: systemd.unit(5): `NAME.d/`, `NAME@INSTANCE.d/`, `PREFIX-.service.d/`, `service.d/`.
fn concerns(unit: &str, by: &Layer) -> bool {
    let folder = unit.split('/').next().unwrap_or(unit);
    let stem = |name: &str| name.split(['@', '.']).next().unwrap_or(name).to_owned();
    let of_type = unit.contains('/') && !folder.trim_end_matches(".d").contains('.');
    let stem_of_unit = stem(folder);
    let own = |unit: &Unit| {
        let own = stem(&unit.name);
        own == stem_of_unit || stem_of_unit.ends_with('-') && own.starts_with(&stem_of_unit)
    };
    by.unit.is_empty() || of_type || by.unit.iter().any(own)
}

/// Tells whether a text sets a variable, or hands one through: `NAME=`, `"NAME":`, `PassEnvironment=NAME`. What
/// stands in a comment, and what takes it away, does not.
fn assigns(text: &str, name: &str) -> bool {
    text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])).any(|line| {
        let passes = line.strip_prefix("PassEnvironment=");
        if passes.is_some_and(|names| names.split_whitespace().any(|word| word == name)) {
            return true;
        }
        line.match_indices(name).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let word = |letter: char| letter == '_' || letter.is_ascii_alphanumeric();
            let after = line[at + name.len()..].trim_start_matches(['"', '\'']).trim_start();
            !before.is_some_and(word) && after.starts_with(['=', ':'])
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Catalogue, stack};

    #[test]
    fn what_sets_a_variable_is_told_from_what_names_it() {
        for text in [
            "X_Y=1",
            "[Service]\nEnvironment=A=b \"X_Y=1\"",
            "Environment='X_Y=1'",
            "export X_Y=",
            "{\"env\": {\"X_Y\": \"1\"}}",
            "PassEnvironment=A X_Y",
            "DefaultEnvironment=X_Y=1",
        ] {
            assert!(assigns(text, "X_Y"), "{text}");
        }
        for text in [
            "# X_Y=1",
            "X_YZ=1",
            "A_X_Y=1",
            "UnsetEnvironment=X_Y",
            "unset X_Y",
            "echo $X_Y",
            "PassEnvironment=X_YZ",
        ] {
            assert!(!assigns(text, "X_Y"), "{text}");
        }
    }

    #[test]
    fn units_of_others_do_not_concern_it() {
        let unit = Unit { name: "a-b@.service".to_owned(), content: String::new(), enable: false };
        let by = Layer { unit: vec![unit], ..Layer::default() };
        for name in ["a-b@.service", "a-b@x.service.d/1.conf", "a-.service.d/1.conf", "service.d/1.conf"] {
            assert!(concerns(name, &by), "{name}");
        }
        for name in ["c.service", "c.service.d/1.conf", "a.service", "c-.service.d/1.conf"] {
            assert!(!concerns(name, &by), "{name}");
        }
        assert!(concerns("c.service", &Layer::default()));
    }

    #[test]
    fn a_stack_that_sets_it_is_refused_at_its_line_with_the_reason() {
        const IMAGE: &str = include_str!("../../../../images/trixie.toml");
        const BEARS: &str = "schema = 1\nname = \"bears\"\n[refuses]\nX_Y = \"it turns the thing off\"\n";
        let folder = tempfile::tempdir().unwrap();
        let refused = |text: &str| {
            let path = folder.path().join("sets.toml");
            std::fs::write(&path, format!("schema = 1\nname = \"sets\"\n{text}")).unwrap();
            let catalogue = Catalogue {
                folders: Vec::new(),
                embedded: &[("images/trixie.toml", IMAGE), ("profiles/bears.toml", BEARS)],
            };
            let profiles = [path.display().to_string(), "bears".to_owned()];
            stack(&catalogue, "trixie", &profiles).err().map(|error| error.to_string())
        };
        assert_eq!(refused("[environment]\nX_Z = \"1\"\n"), None);
        let said = refused("[environment]\nX_Y = \"1\"\n").unwrap();
        assert!(
            said.ends_with(
                "sets.toml:4: environment.X_Y: `X_Y` breaks profile `bears`: it turns the thing off"
            ),
            "{said}"
        );
        let unit =
            "[[unit]]\nname = \"a.service.d/b.conf\"\ncontent = \"[Service]\\nEnvironment=X_Y=1\\n\"\n";
        assert!(refused(unit).unwrap().contains("sets.toml:5: unit[0].content"));
        let file = |path: &str| format!("[[files]]\npath = \"{path}\"\ncontent = \"X_Y=1\\n\"\n");
        assert!(refused(&file("/etc/environment")).unwrap().contains("files[0].content"));
        assert!(refused(&file("/etc/profile.d/x.sh")).is_some());
        assert_eq!(refused(&file("/usr/share/doc/x")), None);
    }
}
