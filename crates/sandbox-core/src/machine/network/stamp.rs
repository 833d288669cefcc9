//! Whether a machine's wall stands already: to write it anew where it does makes the kernel wait for all that may still
//! use the rules that are replaced, some 30 ms of each start.
//!
//! **Shape**: a file for each link, with the SHA-256 of the commands that put the wall up and of what the table read right
//! after them. It is below `/run` and gone after a reboot, like the table.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use super::{PREFIX, ruleset};
use crate::digest::Sha256;

const FOLDER: &str = "/run/sandbox/walls";

/// Tells whether the table reads, for a machine, as it did right after the same commands.
pub(super) fn stands(link: &str, commands: &str, listed: impl FnOnce() -> String) -> bool {
    let before = fs::read_to_string(path(link));
    before.is_ok_and(|before| before == digest(commands, &part(&listed(), link)))
}

/// Writes down what the table reads right after the commands, if it is what they made: somebody else may have changed it
/// since. What cannot be kept costs time at the next start.
pub(super) fn keep(link: &str, commands: &str, listed: &str) {
    let part = part(listed, link);
    if !is_of(&part, commands, link) {
        return forget(link);
    }
    let kept = DirBuilder::new().recursive(true).mode(0o755).create(FOLDER);
    if kept.and_then(|()| fs::write(path(link), digest(commands, &part))).is_err() {
        forget(link);
    }
}

/// Forgets a machine.
pub(super) fn forget(link: &str) {
    let _ = fs::remove_file(path(link));
    // the last one's
    let _ = fs::remove_dir(FOLDER);
}

fn path(link: &str) -> PathBuf {
    Path::new(FOLDER).join(link)
}

fn digest(commands: &str, part: &str) -> String {
    Sha256::of(format!("{commands}\0{part}").as_bytes()).to_string()
}

/// Leaves out of a listed table what other machines have: their chains, and their elements of the maps.
fn part(listed: &str, link: &str) -> String {
    let of_other = |name: &str| name.contains(PREFIX) && !name.ends_with(link);
    let mut text = String::new();
    let mut skipped = false;
    for line in listed.lines().map(str::trim) {
        if let Some(chain) = line.strip_prefix("chain ") {
            skipped = of_other(chain.trim_end_matches([' ', '{']));
        }
        // the first element is behind the map's own word, the last has no comma
        let line = line.trim_start_matches("elements = {").trim_matches([' ', ',', '}']);
        let other = line.split_once(" : jump ").is_some_and(|(_, to)| of_other(to));
        if !skipped && !other && !line.is_empty() {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// Tells whether a table has a machine's elements, and as many rules in each chain as the commands add.
fn is_of(part: &str, commands: &str, link: &str) -> bool {
    let mut wanted: BTreeMap<&str, usize> = BTreeMap::new();
    let start = format!("add rule inet {} ", ruleset::TABLE);
    for rule in commands.lines().filter_map(|line| line.strip_prefix(&start)) {
        *wanted.entry(rule.split(' ').next().unwrap_or_default()).or_default() += 1;
    }
    let mut found: BTreeMap<&str, usize> = BTreeMap::new();
    let mut chain = None;
    for line in part.lines() {
        match (line.strip_suffix(" {"), chain) {
            (Some(head), _) => chain = head.strip_prefix("chain "),
            (None, Some(chain)) if !line.starts_with("type ") => *found.entry(chain).or_default() += 1,
            _ => {}
        }
    }
    let elements = ["host", "world"].map(|chain| format!("\"{link}\" : jump {chain}-{link}\n"));
    found == wanted && elements.iter().all(|element| part.contains(element))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        machine::{Exception, Network, example::definition, network::interface},
        name::MachineName,
    };

    const LISTED: &str = include_str!("snapshots/table.nft");

    fn commands(name: &str) -> (String, String) {
        let mut definition = definition(name);
        definition.network = Network::Internet;
        let address = "10.255.255.53".parse().unwrap();
        definition.exceptions = vec![Exception { address, port: 53, reason: "resolver".into() }];
        (interface(&definition.name), ruleset::up(&definition, &[]))
    }

    #[test]
    fn a_table_is_what_its_commands_made() {
        for name in ["timed", "stacked"] {
            let (link, commands) = commands(name);
            let part = part(LISTED, &link);
            assert!(is_of(&part, &commands, &link), "{part}");
        }
        let (link, commands) = commands("timed");
        for (from, to) in [
            ("\t\tgoto internet\n", ""),
            ("\t\tdrop\n", "\t\tdrop\n\t\taccept\n"),
            (&*format!("\"{link}\" : jump host-{link}"), "\"ve-sb00000000\" : jump host-ve-sb00000000"),
        ] {
            let changed = LISTED.replace(from, to);
            assert_ne!(changed, LISTED);
            assert!(!is_of(&part(&changed, &link), &commands, &link), "{to}");
        }
        assert!(!is_of("", &commands, &link));
    }

    #[test]
    fn other_machines_come_and_go() {
        let (link, _) = commands("timed");
        let other = interface(&MachineName::new("stacked").unwrap());
        let alone = part(LISTED, &link);
        assert!(alone.contains(&link) && !alone.contains(&other), "{alone}");
        assert_eq!(part(&LISTED.replace(&other, "ve-sb12345678"), &link), alone);
        for changed in ["ct state established,related accept", "goto guarded", "policy accept"] {
            assert_ne!(part(&LISTED.replace(changed, "accept"), &link), alone, "{changed}");
        }
        let swapped = LISTED.replace(&link, "?").replace(&other, &link).replace('?', &other);
        assert_eq!(part(&swapped, &link), alone, "the order of elements is nothing");
    }
}
