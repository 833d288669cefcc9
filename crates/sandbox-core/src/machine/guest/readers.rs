//! The readers of bytes that a guest writes, for the fuzz targets, which have no machine to read them from.

use std::io;

use super::{passwd, systemd};

/// A user of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its number and its own group's.
    pub ids: (u32, u32),
    /// The numbers of its other groups.
    pub groups: Vec<u32>,
    /// Its home.
    pub home: String,
    /// Its login shell.
    pub shell: String,
}

/// Finds a user by name or number in the texts of a guest's passwd(5) and group(5).
#[must_use]
pub fn user(passwd: &str, group: &str, user: &str) -> Option<User> {
    let found = passwd::find(passwd, group, user)?;
    let ids = (found.uid, found.gid);
    Some(User { name: found.name, ids, groups: found.groups, home: found.home, shell: found.shell })
}

/// Adds the variables of a text of environment.d(5) to those before.
#[must_use]
pub fn variables(text: &str, before: Vec<(String, String)>) -> Vec<(String, String)> {
    super::variables::over(text, before)
}

/// Reads a whole message of a guest's bus; returns its kind, the number of the message that it answers, and its body.
///
/// # Errors
/// Where the bytes are no such message.
pub fn message(bytes: &[u8]) -> io::Result<(u8, Option<u32>, &[u8])> {
    systemd::message(bytes)
}

/// Reads a body as the text that a property has.
///
/// # Errors
/// Where the bytes are no such body.
pub fn text(body: &[u8]) -> io::Result<String> {
    systemd::text(body)
}

/// Reads a body as a list of units; returns their names.
///
/// # Errors
/// Where the bytes are no such body.
pub fn units(body: &[u8]) -> io::Result<Vec<String>> {
    systemd::units(body)
}
