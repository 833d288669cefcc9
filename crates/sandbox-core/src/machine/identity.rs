//! What in a tree says which machine it is: changed where a machine gets another name, made anew where one becomes two.
//!
//! **Source**: machine-id(5); hostname(5); systemd-random-seed.service(8); systemd-creds(1).

use std::{io, path::Path};

use rustix::fs::{FileType, OFlags, fstat};

use super::{
    Definition,
    life::{LifeError, tell},
};
use crate::{
    configure,
    host::root::{Links, Meta, Root},
    name::MachineName,
};

/// What no two machines may share; what makes it makes it anew at the first boot.
const ONES_OWN: [&str; 5] = [
    "var/lib/systemd/random-seed",
    "var/lib/systemd/credential.secret",
    "var/lib/dbus/machine-id",
    "var/lib/docker/engine-id",
    "etc/docker/key.json",
];

/// Gives a machine's tree the machine's new name, where it has the old one. May be repeated.
///
/// # Errors
/// [`LifeError::Io`].
pub(super) fn rename(old: &MachineName, definition: &Definition) -> Result<(), LifeError> {
    let failed =
        |source| LifeError::Io { path: definition.tree.clone(), doing: "writing the machine's name", source };
    let tree = Root::open(&definition.tree, Links::InTree).map_err(failed)?;
    for file in ["etc/hostname", "etc/hosts"].map(Path::new) {
        replace(&tree, file, old.as_str(), definition.name.as_str()).map_err(failed)?;
    }
    tell(&definition.tree, definition)
}

/// Makes a copy of a machine's tree one of another machine.
///
/// # Errors
/// [`LifeError::Io`].
pub(super) fn renew(tree: &Path, old: &MachineName, definition: &Definition) -> Result<(), LifeError> {
    let failed =
        |source| LifeError::Io { path: tree.to_owned(), doing: "making it a machine of its own", source };
    let root = Root::open(tree, Links::InTree).map_err(failed)?;
    another(&root, Some(old), &definition.name).map_err(failed)?;
    tell(tree, definition)
}

/// Takes from a tree what says that it is another machine's; `old` is that one's name, where it is known.
///
/// # Errors
/// What the file system says.
pub(super) fn another(root: &Root, old: Option<&MachineName>, new: &MachineName) -> io::Result<()> {
    for (file, old) in ["etc/hostname", "etc/hosts"].map(Path::new).into_iter().zip(old.into_iter().cycle()) {
        replace(root, file, old.as_str(), new.as_str())?;
    }
    for file in ONES_OWN.map(Path::new) {
        // a link to /etc/machine-id stays one
        if matches!(root.kind(file), Ok(Some(FileType::RegularFile))) {
            root.remove(file)?;
        }
    }
    // empty, not missing: the first boot fills it
    let id = Path::new("etc/machine-id");
    if root.has(id) {
        root.write(id, b"", Meta::of_root(0o644, 0))?;
    }
    configure::renew_host_keys(root, 0).map_err(io::Error::other)
}

/// Replaces whole words of a file that is there, owner, permissions and the rest as they are.
fn replace(root: &Root, path: &Path, old: &str, new: &str) -> io::Result<()> {
    if !matches!(root.kind(path), Ok(Some(FileType::RegularFile))) {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&root.read(path)?).into_owned();
    let lines: Vec<String> = text.lines().map(|line| words(line, old, new)).collect();
    let changed = lines.join("\n") + "\n";
    if changed.trim_end() == text.trim_end() {
        return Ok(());
    }
    let stat = fstat(root.at(path, OFlags::PATH | OFlags::NOFOLLOW, 0)?)?;
    let meta = Meta { mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid, mtime: stat.st_mtime };
    root.write(path, changed.as_bytes(), meta)
}

fn words(line: &str, old: &str, new: &str) -> String {
    let word = |word: &str| match word.strip_prefix(old) {
        Some("") => new.to_owned(),
        Some(domain) if domain.starts_with('.') => format!("{new}{domain}"),
        _ => word.to_owned(),
    };
    line.split_inclusive([' ', '\t'])
        .map(|part| {
            let bare = part.trim_end_matches([' ', '\t']);
            word(bare) + &part[bare.len()..]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_replaced_where_it_is_a_word_and_nowhere_else() {
        let line = "127.0.1.1\ta a.lan  ab b.a localhost";
        assert_eq!(words(line, "a", "new"), "127.0.1.1\tnew new.lan  ab b.a localhost");
    }
}
