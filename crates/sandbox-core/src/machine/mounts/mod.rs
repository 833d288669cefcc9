//! Directories of the host in machines, the same on every backend: checked before each start, mounted by the handle
//! that was checked once the machine has a first process.
//!
//! No path is given to nspawn or liblxc, which would follow it again. The mount never has a place in the host's own
//! namespace: nothing is left of a start that was killed.

mod api;
pub mod overlap;
pub mod owners;
pub mod source;
pub mod transient;

use std::{
    io,
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use self::{
    owners::{Owners, User},
    source::{Commands, SourceError},
};
use super::{
    Definition, HostFolder, Leader,
    attach::{self, AttachError},
    copy::{self, CopyError, Side},
    record::{Record, Records},
    volume,
};
use crate::{
    error::{Cause, Class, Hint, shell_word},
    host::root::{Links, Meta, Root},
    name::MachineName,
    report::{Event, Reporter},
};

/// The user of a machine that agents run as.
pub const AGENT: &str = "agent";

/// Why a directory of the host is not mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// A directory of the tree is a link, which the backend would follow.
    #[error(transparent)]
    Api(#[from] api::ApiError),
    /// Its source is not what it was.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The kernel refused.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The directory that it is mounted on cannot be made.
    #[error("the mount point {path} cannot be made", path = path.display())]
    Point {
        /// Where the guest has it.
        path: PathBuf,
        /// The command that gives the mount up.
        forget: String,
        /// Why.
        source: io::Error,
    },
    /// The machine's users cannot be read.
    #[error("the users of the machine cannot be read")]
    Users {
        /// Why.
        source: io::Error,
    },
    /// The directory that it is mounted on cannot be made in the running machine.
    #[error("the mount point {path} cannot be made", path = path.display())]
    Inside {
        /// Where the guest has it.
        path: PathBuf,
        /// Why.
        source: CopyError,
    },
    /// The machine has no such user.
    #[error("the machine has no user `{user}`")]
    User {
        /// The name.
        user: String,
    },
}

impl Cause for MountError {
    fn class(&self) -> Class {
        match self {
            Self::Api(source) => source.class(),
            Self::Source(source) => source.class(),
            Self::Attach(source) => source.class(),
            Self::Inside { source, .. } => source.class(),
            // what is there is the guest's doing
            Self::Point { source, .. } if is_no_directory(source) => Class::Unavailable,
            Self::Point { .. } | Self::Users { .. } => Class::Host,
            Self::User { .. } => Class::Unavailable,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Api(source) => source.hints(),
            Self::Source(source) => source.hints(),
            Self::Attach(source) => source.hints(),
            Self::Inside { source, .. } => source.hints(),
            Self::Point { forget, .. } => vec![Hint::run("remove the mount", forget.clone())],
            Self::Users { .. } | Self::User { .. } => Vec::new(),
        }
    }
}

fn is_no_directory(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOTDIR | libc::ELOOP))
}

/// Checks the sources of a machine's mounts.
///
/// # Errors
/// [`MountError::Source`] where one is another directory than the recorded one, or is gone.
pub fn check(definition: &Definition) -> Result<(), MountError> {
    for folder in &definition.chosen.mounts {
        source::reopen(&folder.source, folder.identity.as_ref(), &commands(&definition.name, folder))?;
    }
    Ok(())
}

/// Checks, before each start of a machine, that its tree has no link where the backend would follow it, and the sources
/// of its mounts; makes the directories of its tree that they are mounted on.
///
/// # Errors
/// [`MountError::Api`], [`MountError::Source`], [`MountError::Point`].
pub fn prepare(definition: &Definition) -> Result<(), MountError> {
    if definition.place.is_some() {
        // a container of a node has its tree there, and none of this host's directories
        return Ok(());
    }
    api::check(&definition.tree)?;
    check(definition)?;
    // one below another is on a directory of the other's source
    for folder in groups(&definition.chosen.mounts).iter().filter_map(|group| group.first()) {
        let path = &folder.path;
        let made = || {
            let root = Root::open(&definition.tree, Links::InTree)?;
            root.make_folders(path, Meta::of_root(0o755, 0))?;
            match root.at(path, OFlags::PATH | OFlags::DIRECTORY, 0) {
                // a link to what the machine has only while it runs
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        };
        let forget = commands(&definition.name, folder).forget;
        made().map_err(|source| MountError::Point { path: path.clone(), forget, source })?;
    }
    Ok(())
}

/// Mounts what a machine has of the host, once it has a first process.
///
/// A mount below another one is part of it: the guest's root cannot unmount the inner one alone, nor reveal what is
/// under it.
///
/// # Errors
/// [`MountError::Source`], [`MountError::Attach`].
pub fn start(leader: &Leader, definition: &Definition) -> Result<(), MountError> {
    let mut mounts = definition.chosen.mounts.clone();
    for folder in &mut mounts {
        complete_one(definition, folder)?;
    }
    let volumes: Vec<_> = definition.volumes.iter().map(|volume| volume.path.clone()).collect();
    for group in groups(&mounts) {
        let path = &group[0].path;
        let commands: Vec<_> = group.iter().map(|folder| commands(&definition.name, folder)).collect();
        match attach::attach(leader, group, &commands, &volumes) {
            // the guest has a file system of its own there, which hides the tree's
            Err(AttachError::Refused { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                let side = Side::Running { leader: leader.clone(), program: definition.program.clone() };
                copy::make_folder(&side, path)
                    .map_err(|source| MountError::Inside { path: path.clone(), source })?;
                attach::attach(leader, group, &commands, &volumes)?;
            }
            other => other?,
        }
    }
    Ok(())
}

/// Divides mounts, which are sorted by path, into those that are below no other, each with those that are below it.
fn groups(mounts: &[HostFolder]) -> Vec<&[HostFolder]> {
    let mut rest = mounts;
    let mut all = Vec::new();
    while let Some(first) = rest.first() {
        let count = rest.iter().take_while(|folder| folder.path.starts_with(&first.path)).count();
        let (group, others) = rest.split_at(count);
        all.push(group);
        rest = others;
    }
    all
}

/// Returns the commands that resolve a source that is not the recorded one.
#[must_use]
pub fn commands(name: &MachineName, folder: &HostFolder) -> Commands {
    let path = word(&folder.path);
    Commands {
        accept: format!(
            "sandbox mount {name} {} {path} --permanent{}",
            word(&folder.source),
            options(folder)
        ),
        forget: format!("sandbox unmount {name} {path}"),
    }
}

/// Returns the options of `sandbox mount` that a mount was made with.
#[must_use]
pub fn options(folder: &HostFolder) -> String {
    let mut text = if folder.read_only { " --read-only".to_owned() } else { String::new() };
    if folder.writable_git {
        text.push_str(" --writable-git");
    }
    match &folder.owners {
        Some(Owners::Same) => text.push_str(" --same-ids"),
        Some(Owners::User(user)) => text.push_str(&format!(" --owner {}", word(Path::new(&user.name)))),
        None => {}
    }
    text
}

/// Quotes a path of a command for the shell.
fn word(path: &Path) -> String {
    shell_word(&path.to_string_lossy())
}

/// Who is to have the directory's owner in the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// Who runs there: `agent` where there is one and the directory is not root's, else root.
    #[default]
    Default,
    /// A user of the machine.
    User(String),
    /// Ids are the same numbers on both sides.
    Same,
}

/// Finds whose the files of a directory with an owner are in a machine.
///
/// # Errors
/// [`MountError::User`] where the machine has no such user, [`MountError::Users`] where they cannot be read.
pub fn owners(definition: &Definition, wanted: &Wanted, uid: u32) -> Result<Owners, MountError> {
    if definition.privileged {
        // there is no other user namespace, and its root is the host's
        return Ok(Owners::Same);
    }
    let find = |name: &str| {
        let found = Root::open(&definition.tree, Links::InTree).and_then(|tree| volume::owner(&tree, name));
        let found = found.map_err(|source| MountError::Users { source })?;
        Ok::<_, MountError>(found.map(|(uid, gid, _)| User { name: name.to_owned(), uid, gid }))
    };
    match wanted {
        Wanted::Same => Ok(Owners::Same),
        Wanted::User(name) => {
            find(name)?.map(Owners::User).ok_or_else(|| MountError::User { user: name.clone() })
        }
        Wanted::Default if uid == 0 => Ok(Owners::User(User::root())),
        Wanted::Default => {
            // a guest that has broken its own list of users has its root
            let agent = find(AGENT).unwrap_or_default();
            Ok(Owners::User(agent.unwrap_or_else(User::root)))
        }
    }
}

/// Adds to a mount that an earlier version recorded which directory it is and whose its files are; tells whether
/// anything was missing.
fn complete_one(definition: &Definition, folder: &mut HostFolder) -> Result<bool, MountError> {
    if folder.identity.is_some() && folder.owners.is_some() {
        return Ok(false);
    }
    let commands = commands(&definition.name, folder);
    let found = source::reopen(&folder.source, folder.identity.as_ref(), &commands)?;
    if folder.owners.is_none() {
        folder.owners = Some(owners(definition, &Wanted::Default, found.uid)?);
    }
    folder.identity = Some(found.identity);
    Ok(true)
}

/// Completes the mounts of a record of an earlier version, which had neither the directory's identity nor owners; tells
/// whether the record has changed.
///
/// # Errors
/// [`MountError::Source`] where a source cannot be opened.
pub fn complete(record: &mut Record, reporter: &dyn Reporter) -> Result<bool, MountError> {
    let mut changed = false;
    let definition = record.definition.clone();
    for folder in &mut record.definition.chosen.mounts {
        if complete_one(&definition, folder)? {
            changed = true;
            let (source, path) = (folder.source.display(), folder.path.display());
            let text = format!(
                "{source} on {path} of `{name}` was mounted by an earlier version: from now on no other directory is \
                 taken for it, and its owner is the machine's {user} (`sandbox unmount {name} {path}`, then `sandbox \
                 mount` with --same-ids or --owner, changes that)",
                name = definition.name,
                user = match &folder.owners {
                    Some(Owners::User(user)) => format!("user `{}`", user.name),
                    _ => "user of the same number".to_owned(),
                }
            );
            reporter.report(Event::Notice { text });
        }
    }
    Ok(changed)
}

/// Completes a machine's record before a start past this program, where no other process changes the machine.
///
/// A machine that is being changed is completed by the command that does so, or by the next start.
pub fn complete_recorded(records: &Records, name: &MachineName, holder: &str, reporter: &dyn Reporter) {
    let incomplete = |folder: &HostFolder| folder.identity.is_none() || folder.owners.is_none();
    let wanted = |record: &Record| record.definition.chosen.mounts.iter().any(incomplete);
    if !records.read(name).is_ok_and(|record| wanted(&record)) {
        return;
    }
    if let Ok((claim, mut record)) = records.claim(name, holder)
        && complete(&mut record, reporter).is_ok_and(|changed| changed)
    {
        let _ = claim.update(&record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::example;

    fn folder(source: &Path, path: &str) -> HostFolder {
        HostFolder {
            source: source.into(),
            path: path.into(),
            read_only: false,
            writable_git: false,
            identity: None,
            owners: None,
        }
    }

    #[test]
    fn mounts_below_others_go_with_them() {
        let mounts = ["/a", "/a/b", "/a/b/c", "/ab", "/b/c"].map(|path| folder(Path::new("/s"), path));
        let groups: Vec<Vec<_>> = groups(&mounts)
            .into_iter()
            .map(|group| group.iter().map(|folder| folder.path.to_str().unwrap()).collect())
            .collect();
        assert_eq!(groups, [vec!["/a", "/a/b", "/a/b/c"], vec!["/ab"], vec!["/b/c"]]);
    }

    #[test]
    fn commands_are_typed_as_they_are_shown() {
        let mut folder = folder(Path::new("/srv/it's"), "/mnt");
        folder.read_only = true;
        folder.owners = Some(Owners::Same);
        let commands = commands(&MachineName::new("a").unwrap(), &folder);
        assert_eq!(
            commands.accept,
            r"sandbox mount a '/srv/it'\''s' /mnt --permanent --read-only --same-ids"
        );
        assert_eq!(commands.forget, "sandbox unmount a /mnt");
    }

    #[test]
    fn the_owner_is_the_agent_where_there_is_one_and_the_directory_is_not_roots() {
        let tree = tempfile::tempdir().unwrap();
        let mut definition = example::definition("a");
        definition.tree = tree.path().to_owned();
        let name = |definition: &Definition, wanted: &Wanted, uid| match owners(definition, wanted, uid) {
            Ok(Owners::User(user)) => format!("{}:{}", user.name, user.uid),
            other => format!("{other:?}"),
        };
        assert_eq!(name(&definition, &Wanted::Default, 1000), "root:0", "no list of users");
        std::fs::create_dir(tree.path().join("etc")).unwrap();
        std::fs::write(tree.path().join("etc/passwd"), "agent:x:1001:1002::/home/agent:/bin/sh\n").unwrap();
        assert_eq!(name(&definition, &Wanted::Default, 1000), "agent:1001");
        assert_eq!(name(&definition, &Wanted::Default, 0), "root:0");
        assert_eq!(name(&definition, &Wanted::User("root".to_owned()), 1000), "root:0");
        let missing = owners(&definition, &Wanted::User("postgres".to_owned()), 1000).unwrap_err();
        assert_eq!(missing.class(), Class::Unavailable);
        definition.privileged = true;
        assert_eq!(owners(&definition, &Wanted::Default, 1000).unwrap(), Owners::Same);
    }

    #[test]
    fn a_mount_point_that_the_guest_made_something_else_is_refused() {
        let (tree, source) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut definition = example::definition("a");
        definition.tree = tree.path().to_owned();
        definition.chosen.mounts.push(folder(&source.path().canonicalize().unwrap(), "/mnt/a"));
        std::fs::create_dir(tree.path().join("mnt")).unwrap();
        let point = tree.path().join("mnt/a");
        std::os::unix::fs::symlink("a", &point).unwrap();
        let error = prepare(&definition).unwrap_err();
        assert_eq!((error.class(), error.hints().len()), (Class::Unavailable, 1), "{error}");
        std::fs::remove_file(&point).unwrap();
        std::fs::write(&point, "").unwrap();
        assert_eq!(prepare(&definition).unwrap_err().class(), Class::Unavailable);
        std::fs::remove_file(&point).unwrap();
        if nix::unistd::geteuid().is_root() {
            prepare(&definition).unwrap();
            assert!(point.is_dir());
        }
    }

    #[test]
    fn a_record_of_before_is_completed_once() {
        let source = tempfile::tempdir().unwrap();
        let mut record = example::record("a");
        let old = serde_json::json!({"source": source.path().canonicalize().unwrap(), "path": "/mnt", "read_only": true});
        record.definition.chosen.mounts.push(serde_json::from_value(old).unwrap());
        assert!(complete(&mut record, &crate::report::Silent).unwrap());
        let folder = record.definition.chosen.mounts[0].clone();
        assert!(folder.identity.is_some() && folder.owners.is_some());
        assert!(!complete(&mut record, &crate::report::Silent).unwrap());
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
        assert!(check(&record.definition).is_ok());
    }
}
