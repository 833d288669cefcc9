//! systemd's units of the tree.

use std::path::{Path, PathBuf};

use super::{PartError, files};
use crate::{
    host::root::Root,
    spec::{Layer, Unit},
};

/// Where units of a profile stand: above those of packages.
const FOLDER: &str = "/etc/systemd/system";

/// Gives a unit's file.
pub(super) fn path(unit: &Unit) -> PathBuf {
    Path::new(FOLDER).join(&unit.name)
}

/// Writes a unit's file.
pub(super) fn write(root: &Root, unit: &Unit, epoch: i64) -> Result<(), PartError> {
    files::write_text(root, &path(unit), files::text(&unit.content), epoch)
}

/// The commands that enable, disable and mask the units.
pub(super) fn commands(layer: &Layer) -> Vec<(String, Vec<String>)> {
    let one = |verb: &str, units: &[String]| {
        let mut argv = vec!["systemctl".to_owned(), "--quiet".to_owned(), verb.to_owned()];
        argv.extend(units.iter().cloned());
        (!units.is_empty()).then(|| (format!("units {}", units.join(", ")), argv))
    };
    let own = layer.unit.iter().filter(|unit| unit.enable).map(|unit| unit.name.clone());
    let mut enabled: Vec<String> = own.collect();
    enabled.extend(layer.units.enable.iter().cloned());
    let all = [one("enable", &enabled), one("disable", &layer.units.disable), one("mask", &layer.units.mask)];
    all.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Units;

    #[test]
    fn a_profiles_own_units_are_enabled_with_those_of_packages() {
        let unit = |name: &str, enable| Unit { name: name.to_owned(), content: String::new(), enable };
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let layer = Layer {
            unit: vec![unit("backup.timer", true), unit("backup.service", false)],
            units: Units {
                enable: words(&["ssh.service"]),
                disable: words(&["apt-daily.timer"]),
                mask: words(&[]),
            },
            ..Layer::default()
        };
        let argvs: Vec<_> = commands(&layer).into_iter().map(|(_, argv)| argv.join(" ")).collect();
        let wanted = [
            "systemctl --quiet enable backup.timer ssh.service",
            "systemctl --quiet disable apt-daily.timer",
        ];
        assert_eq!(argvs, wanted);
    }
}
