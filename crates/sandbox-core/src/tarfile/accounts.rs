//! Names of users and groups in archives, and the numbers that they have in a tree.

use std::{collections::HashMap, path::Path};

use crate::host::root::{LISTS, Root};

/// The users and groups of a tree: names and numbers.
#[derive(Debug, Default)]
pub struct Accounts {
    users: HashMap<Vec<u8>, u32>,
    groups: HashMap<Vec<u8>, u32>,
}

impl Accounts {
    /// Reads those of a tree; a file that cannot be read has none.
    ///
    /// **Source**: passwd(5), group(5).
    pub fn read(root: &Root) -> Self {
        let read = |path: &str| {
            let bytes = root.read_up_to(Path::new(path), LISTS).unwrap_or_default();
            let fields = bytes.split(|byte| *byte == b'\n').filter_map(|line| {
                let mut fields = line.split(|byte| *byte == b':');
                let name = fields.next()?.to_vec();
                let number = std::str::from_utf8(fields.nth(1)?).ok()?.parse().ok()?;
                (number != u32::MAX).then_some((name, number))
            });
            fields.collect()
        };
        Self { users: read("etc/passwd"), groups: read("etc/group") }
    }

    /// Returns the number of a user: that of the tree, else the one that every tree has.
    pub fn user(&self, name: &[u8]) -> Option<u32> {
        self.users.get(name).copied().or_else(|| known(name, USERS))
    }

    /// Returns the number of a group: that of the tree, else the one that every tree has.
    pub fn group(&self, name: &[u8]) -> Option<u32> {
        self.groups.get(name).copied().or_else(|| known(name, GROUPS))
    }
}

/// Returns the number that a name has in every tree.
pub fn known(name: &[u8], table: &[(&str, u32)]) -> Option<u32> {
    table.iter().find(|(known, _)| known.as_bytes() == name).map(|(_, number)| *number)
}

/// Users that every tree has, with the numbers that they have in all of them. dpkg takes the name of an owner before
/// the number where the tree knows it: a package that was built elsewhere has other numbers.
///
/// **Source**: base-passwd's `passwd.master`; dpkg's lib/dpkg/tarfn.c.
pub const USERS: &[(&str, u32)] = &[
    ("root", 0),
    ("daemon", 1),
    ("bin", 2),
    ("sys", 3),
    ("sync", 4),
    ("games", 5),
    ("man", 6),
    ("lp", 7),
    ("mail", 8),
    ("news", 9),
    ("uucp", 10),
    ("proxy", 13),
    ("www-data", 33),
    ("backup", 34),
    ("list", 38),
    ("irc", 39),
    ("nobody", 65_534),
];

/// Groups that every tree has.
///
/// **Source**: base-passwd's `group.master`.
pub const GROUPS: &[(&str, u32)] = &[
    ("root", 0),
    ("daemon", 1),
    ("bin", 2),
    ("sys", 3),
    ("adm", 4),
    ("tty", 5),
    ("disk", 6),
    ("lp", 7),
    ("mail", 8),
    ("news", 9),
    ("uucp", 10),
    ("man", 12),
    ("proxy", 13),
    ("kmem", 15),
    ("dialout", 20),
    ("fax", 21),
    ("voice", 22),
    ("cdrom", 24),
    ("floppy", 25),
    ("tape", 26),
    ("sudo", 27),
    ("audio", 29),
    ("dip", 30),
    ("www-data", 33),
    ("backup", 34),
    ("operator", 37),
    ("list", 38),
    ("irc", 39),
    ("src", 40),
    ("shadow", 42),
    ("utmp", 43),
    ("video", 44),
    ("sasl", 45),
    ("plugdev", 46),
    ("staff", 50),
    ("games", 60),
    ("users", 100),
    ("nogroup", 65_534),
];
