//! What the table should hold, and whether it does: to write it again where it does makes the kernel wait for all that
//! may still use the rules that are replaced, some 30 ms of each start.
//!
//! **Shape**: `/run/sandbox/walls` has a file for each link, one for what all links share and one for the ways out. Each
//! has the SHA-256 of its commands and of what the table read right after them, then the commands themselves. It is gone
//! after a reboot, like the table.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use super::{Error, PREFIX, nft};
use crate::digest::Sha256;

const DIRECTORY: &str = "/run/sandbox/walls";

/// The part of the table that all links share.
pub(super) const SHARED: &str = "shared";

/// The sets of the host's ways out.
pub(super) const WAYS: &str = "ways";

/// The digest of a part that read as something else right after its commands.
const UNKNOWN: &str = "-";

/// A part of the table: its name and the commands that put it up.
pub(super) type Part = (String, String);

/// The table as it reads, in parts; the order of its chains and elements is left out.
#[derive(Debug, Default)]
pub(super) struct Table {
    parts: BTreeMap<String, BTreeMap<String, Vec<String>>>,
}

impl Table {
    /// Lists the table.
    ///
    /// # Errors
    /// Where `nft` cannot be run, or may not list it.
    pub(super) fn read() -> Result<Self, Error> {
        Ok(Self::parse(&nft::list()?))
    }

    fn parse(listed: &str) -> Self {
        let mut table = Self::default();
        let mut block: Option<&str> = None;
        for line in listed.lines().map(str::trim) {
            match (line.strip_suffix(" {"), block) {
                (Some(head), None) if !head.starts_with("table ") => {
                    block = Some(head);
                    table.lines(part_of(head), head);
                }
                (_, Some(_)) if line == "}" => block = None,
                // a line of the table itself says who owns it
                (_, None) => {}
                (_, Some(head)) if head.starts_with("chain ") => {
                    table.lines(part_of(head), head).push(line.to_owned());
                }
                (_, Some(head)) => table.elements(head, line),
            }
        }
        table.parts.values_mut().flat_map(BTreeMap::iter_mut).for_each(|(head, lines)| {
            if !head.starts_with("chain ") {
                lines.sort_unstable();
            }
        });
        table
    }

    fn lines(&mut self, part: &str, head: &str) -> &mut Vec<String> {
        self.parts.entry(part.to_owned()).or_default().entry(head.to_owned()).or_default()
    }

    /// Takes a line of a map or a set, which may have several elements.
    fn elements(&mut self, head: &str, line: &str) {
        for element in line.split([',', '{', '}']).map(str::trim) {
            if element.is_empty() || element == "elements =" {
                continue;
            }
            let link = element.strip_prefix('"').and_then(|rest| rest.split('"').next());
            let part =
                link.filter(|link| link.starts_with(PREFIX)).unwrap_or_else(|| part_of(head)).to_owned();
            self.lines(&part, head).push(element.to_owned());
        }
    }

    /// Tells whether the table is missing, or holds nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    fn text(&self, part: &str) -> String {
        let mut text = String::new();
        for (head, lines) in self.parts.get(part).into_iter().flatten() {
            let _ = writeln!(text, "{head}");
            for line in lines {
                let _ = writeln!(text, "\t{line}");
            }
        }
        text
    }

    fn has(&self, part: &str) -> bool {
        self.parts.contains_key(part)
    }

    /// Tells whether each chain of a part has as many rules as the commands add, and the maps its elements: what another
    /// process changed between the commands and the listing is not taken for theirs.
    fn is_made_by(&self, (part, commands): &Part) -> bool {
        let mut wanted: BTreeMap<&str, usize> = BTreeMap::new();
        let mut elements = 0;
        for line in commands.lines() {
            let mut words = line.split(' ');
            match (words.next(), words.next(), words.nth(2)) {
                (Some("add"), Some("rule"), Some(chain)) => *wanted.entry(chain).or_default() += 1,
                (Some("add"), Some("element"), _) => elements += 1,
                _ => {}
            }
        }
        let mut found: BTreeMap<&str, usize> = BTreeMap::new();
        let mut found_elements = 0;
        for (head, lines) in self.parts.get(part).into_iter().flatten() {
            match head.strip_prefix("chain ") {
                Some(chain) => {
                    let rules = lines.iter().filter(|line| !line.starts_with("type ")).count();
                    found.insert(chain, rules);
                }
                None => found_elements += lines.iter().filter(|line| line.contains(" : jump ")).count(),
            }
        }
        // nft merges the ranges of the ways out
        found == wanted && (part == WAYS || found_elements == elements)
    }
}

/// Names the part of the table that a chain, a map or a set belongs to.
fn part_of(head: &str) -> &str {
    match head.find(PREFIX) {
        Some(at) => &head[at..],
        None if head.starts_with("set ") => WAYS,
        None => SHARED,
    }
}

/// What became of a machine's wall.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Wall {
    /// The table holds what was put into it.
    Up,
    /// Nothing holds the machine.
    Missing,
    /// The table holds something else.
    Altered,
}

impl Wall {
    /// Tells what became of the wall of a link.
    pub(super) fn of(link: &str, table: &Table) -> Self {
        if !table.has(link) || !table.has(SHARED) {
            Self::Missing
        } else if [SHARED, WAYS, link].iter().all(|part| is_unchanged(part, table)) {
            Self::Up
        } else {
            Self::Altered
        }
    }
}

fn is_unchanged(part: &str, table: &Table) -> bool {
    read(part).is_some_and(|(stamp, commands)| stamp == digest(&commands, &table.text(part)))
}

/// Tells whether the table reads, for a part, as it did right after the same commands.
pub(super) fn stands((part, commands): &Part, table: &Table) -> bool {
    read(part)
        .is_some_and(|(stamp, before)| before == *commands && stamp == digest(commands, &table.text(part)))
}

/// Returns the parts that should be in the table.
pub(super) fn stored() -> Vec<Part> {
    let parts = fs::read_dir(DIRECTORY).into_iter().flatten().flatten();
    let parts = parts.filter_map(|entry| entry.file_name().into_string().ok());
    let mut parts: Vec<_> =
        parts.filter_map(|part| read(&part).map(|(_, commands)| (part, commands))).collect();
    // chains that links jump to come first
    parts.sort_by_key(|(part, _)| (part != SHARED, part.clone()));
    parts
}

/// Tells whether what the table read for a part right after its commands is stored.
pub(super) fn is_stored(part: &str) -> bool {
    read(part).is_some_and(|(stamp, _)| stamp != UNKNOWN)
}

/// Tells whether a wall should be up.
pub(super) fn has_links() -> bool {
    let parts = fs::read_dir(DIRECTORY).into_iter().flatten().flatten();
    parts.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX))
}

/// Stores what the table reads right after the commands of a part. Where that is not what they made, or cannot be
/// stored, they are stored alone, and the part is put up again at the next occasion.
///
/// # Errors
/// Where nothing can be stored: the wall would not be kept.
pub(super) fn store(part: &Part, table: &Table) -> Result<(), Error> {
    let (name, commands) = part;
    let stamp = if table.is_made_by(part) { digest(commands, &table.text(name)) } else { UNKNOWN.to_owned() };
    let path = path(name);
    let write = || -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o755).create(DIRECTORY)?;
        let new = path.with_extension("new");
        fs::write(&new, format!("{stamp}\n{commands}"))?;
        fs::rename(&new, &path)
    };
    write().map_err(|source| Error::Store { path: path.clone(), source })
}

/// Forgets a machine.
pub(super) fn forget(link: &str) {
    let _ = fs::remove_file(path(link));
    if !has_links() {
        for part in [SHARED, WAYS] {
            let _ = fs::remove_file(path(part));
        }
        let _ = fs::remove_dir(DIRECTORY);
    }
}

fn path(part: &str) -> PathBuf {
    Path::new(DIRECTORY).join(part)
}

fn read(part: &str) -> Option<(String, String)> {
    let is_part = [SHARED, WAYS].contains(&part) || (part.starts_with(PREFIX) && !part.contains('.'));
    let text = is_part.then(|| fs::read_to_string(path(part)).ok()).flatten()?;
    let (stamp, commands) = text.split_once('\n')?;
    Some((stamp.to_owned(), commands.to_owned()))
}

fn digest(commands: &str, text: &str) -> String {
    Sha256::of(format!("{commands}\0{text}").as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        machine::{
            Exception, Network,
            example::definition,
            network::{Served, interface, ruleset},
        },
        name::MachineName,
    };

    const LISTED: &str = include_str!("snapshots/table.nft");

    fn part(name: &str) -> Part {
        let mut definition = definition(name);
        definition.network = Network::Internet;
        let address = "10.255.255.53".parse().unwrap();
        definition.exceptions = vec![Exception { address, port: 53, reason: "resolver".into() }];
        let served = Served { dhcp: true, dns: true };
        (interface(&definition.name), ruleset::up(&definition, served))
    }

    fn shared() -> Part {
        (SHARED.to_owned(), ruleset::shared())
    }

    #[test]
    fn a_table_is_what_its_commands_made() {
        let table = Table::parse(LISTED);
        for part in [part("timed"), part("stacked"), shared()] {
            assert!(table.is_made_by(&part), "{}", table.text(&part.0));
        }
        let (own, link) = (part("timed"), part("timed").0);
        for (part, from, to) in [
            (&shared(), "\t\tdrop\n", "\t\tdrop\n\t\taccept\n"),
            (&shared(), "\t\tiifname \"ve-sb*\" jump arriving\n", ""),
            (&own, "\t\tct state new ct count over 512 drop\n", ""),
            (&own, &*format!("\"{link}\" : jump host-{link}"), "\"ve-sb00000000\" : jump host-ve-sb00000000"),
        ] {
            let changed = LISTED.replace(from, to);
            assert_ne!(changed, LISTED, "{from}");
            assert!(!Table::parse(&changed).is_made_by(part), "{from}");
        }
        assert!(!Table::parse("").is_made_by(&own));
    }

    #[test]
    fn other_machines_owners_and_the_order_of_chains_are_nothing() {
        let (link, _) = part("timed");
        let other = interface(&MachineName::new("stacked").unwrap());
        let alone = Table::parse(LISTED).text(&link);
        assert!(alone.contains(&link) && !alone.contains(&other), "{alone}");
        let renamed = LISTED.replace(&other, "ve-sb12345678");
        assert_eq!(Table::parse(&renamed).text(&link), alone);
        let owned = LISTED.replace("flags persist", "flags owner,persist");
        assert_eq!(Table::parse(&owned).text(SHARED), Table::parse(LISTED).text(SHARED));
        let mut blocks: Vec<_> = LISTED.split("\n\n").collect();
        blocks[1..].reverse();
        let turned = blocks.join("\n\n");
        for part in [SHARED, WAYS, &link] {
            assert_eq!(Table::parse(&turned).text(part), Table::parse(LISTED).text(part), "{part}");
        }
    }

    #[test]
    fn what_is_changed_shows_in_its_part() {
        let (link, _) = part("timed");
        let before = Table::parse(LISTED);
        for (part, from, to) in [
            (SHARED, "ct state established ct direction reply accept", "ct state established accept"),
            (SHARED, "policy accept", "policy drop"),
            (SHARED, "fib saddr . iif oif 0 drop", "fib saddr . iif oif 0 accept"),
            (WAYS, "\"host0\" . 10.213.181.1", "\"host0\" . 10.213.181.9"),
            (&*link, "goto guarded", "accept"),
        ] {
            let changed = LISTED.replace(from, to);
            assert_ne!(changed, LISTED, "{from}");
            assert_ne!(Table::parse(&changed).text(part), before.text(part), "{from}");
        }
    }

    #[test]
    fn a_wall_that_is_gone_is_missing() {
        let (link, _) = part("timed");
        assert_eq!(Wall::of(&link, &Table::default()), Wall::Missing);
        assert_eq!(Wall::of("ve-sb00000000", &Table::parse(LISTED)), Wall::Missing);
    }
}
