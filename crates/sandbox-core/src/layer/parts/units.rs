//! systemd's units of the tree.

use crate::spec::Layer;

/// The commands that enable and mask the units.
pub(super) fn commands(layer: &Layer) -> Vec<(String, Vec<String>)> {
    let one = |verb: &str, units: &[String]| {
        let mut argv = vec!["systemctl".to_owned(), "--quiet".to_owned(), verb.to_owned()];
        argv.extend(units.iter().cloned());
        (!units.is_empty()).then(|| (format!("units {}", units.join(", ")), argv))
    };
    one("enable", &layer.units.enable).into_iter().chain(one("mask", &layer.units.mask)).collect()
}
