//! The files of git repositories at a commit.
//!
//! A repository is spoken to over HTTP as git does, and nothing of git's is run: no hook, no filter, no
//! configuration. What comes is taken object by object, each by its own name, down from the commit.

mod objects;
mod pack;
mod protocol;

use std::path::{Path, PathBuf};

use objects::{Objects, Walked};

use super::{
    PartError,
    fetched::Into,
    files,
    unarchive::{Folder, Taken, UnarchiveError},
};
use crate::{
    Result,
    digest::Sha256,
    error::{Cause, Class, Context as _, Hint},
    host::transport::{Transport, TransportError},
    layer::Doors,
    lock::{Fetched, LockedPart},
    report::Event,
    spec::Git,
    store::{Checksum, StoreError},
};

/// Why the files of a repository cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// The server cannot be asked.
    #[error("the repository does not answer")]
    Ask {
        /// Why.
        #[source]
        source: TransportError,
    },
    /// What answers speaks another language.
    #[error("{url} does not answer as git's smart HTTP does")]
    Protocol {
        /// The address.
        url: String,
    },
    /// The server refuses.
    #[error("the repository says: {said}")]
    Refused {
        /// Its words.
        said: String,
    },
    /// There is no such branch or tag.
    #[error("{url} has no branch or tag `{revision}`")]
    Revision {
        /// The repository.
        url: String,
        /// What was asked for.
        revision: String,
    },
    /// What came is not what git's own digests say, or no pack.
    #[error("what came is damaged: {what}")]
    Damaged {
        /// In a few words.
        what: &'static str,
    },
    /// An object was made to have the name of another.
    #[error("an object of the repository is a forgery: its SHA-1 was made to collide")]
    Collision,
    /// What came lacks an object.
    #[error("the object {id} is missing")]
    Lacking {
        /// Its name.
        id: String,
    },
    /// It has other repositories within.
    #[error("it has the submodule `{path}`, and submodules are not followed")]
    Submodule {
        /// Where.
        path: String,
    },
    /// A name that no file may have.
    #[error("it has a file named `{name}`")]
    Name {
        /// The name.
        name: String,
    },
    /// It has more than anything that is put into a tree.
    #[error("it has more than {limit} bytes")]
    Long {
        /// The most.
        limit: u64,
    },
    /// The same commit has other files than when it was locked.
    #[error("the files of commit {commit} are {found} where {expected} is locked")]
    Digest {
        /// The commit.
        commit: String,
        /// The digest that is locked.
        expected: Sha256,
        /// What came.
        found: Sha256,
    },
    /// The cache fails.
    #[error(transparent)]
    Store {
        /// Why.
        #[from]
        source: StoreError,
    },
    /// The files cannot be put into the tree.
    #[error(transparent)]
    Write {
        /// Why.
        #[from]
        source: UnarchiveError,
    },
    /// The cache cannot be read.
    #[error("{path} cannot be read", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Cause for GitError {
    fn class(&self) -> Class {
        match self {
            Self::Ask { source } => source.class(),
            Self::Protocol { .. } | Self::Refused { .. } => Class::Unreachable,
            Self::Revision { .. } | Self::Submodule { .. } => Class::Unavailable,
            Self::Store { source } => source.class(),
            Self::Write { source } => source.class(),
            Self::Read { .. } => Class::State,
            _ => Class::Untrusted,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Revision { .. } => vec![Hint::Note("a commit is named by all of its 40 digits".into())],
            Self::Submodule { .. } => {
                vec![Hint::Note("give the other repository a `[[git]]` of its own".into())]
            }
            Self::Ask { source } => source.hints(),
            Self::Store { source } => source.hints(),
            _ => Vec::new(),
        }
    }
}

/// Finds out which commit is meant, and fetches its files: their digest is locked beside git's own.
pub(super) fn lock(part: &Git, doors: &Doors<'_>) -> std::result::Result<LockedPart, GitError> {
    let commit = protocol::commit_of(&part.url, &part.revision, doors.transport)?;
    let kept = fetch(&part.url, &commit, doors.transport)?;
    // what cannot be put into a tree is told before anything is built
    objects::walk(&Objects::read(&kept)?, &commit, &mut |_| Ok(()))?;
    let sha256 = doors.store.keep(&kept)?;
    let what = Fetched::Git { revision: part.revision.clone(), sha256 };
    Ok(LockedPart { name: part.url.clone(), version: commit, what })
}

/// Fetches a commit with its files, in the form that is kept.
fn fetch(url: &str, commit: &str, transport: &dyn Transport) -> std::result::Result<Vec<u8>, GitError> {
    let objects = pack::read(&protocol::pack(url, commit, transport)?)?;
    objects.kept(commit)
}

/// Puts a repository's files in their folder.
pub(super) fn put(part: &Git, to: Into<'_>) -> Result<()> {
    let subject = || format!("`{}`", part.url);
    let locked = to.locked("git", &part.url)?;
    let Fetched::Git { sha256, .. } = &locked.what else {
        return Err(PartError::Unlocked { package: part.url.clone() }).during("find", subject());
    };
    let account = files::account(to.rootfs.root(), &part.owner, &part.into).during("own", subject())?;
    files::folder_for(to.rootfs.root(), &part.into, &account, to.lock.epoch).during("make", subject())?;
    let owner = (account.uid, account.gid);
    let kept = had(&part.url, &locked.version, *sha256, to).during("fetch", subject())?;
    to.doors.reporter.report(Event::Notice { text: format!("{} {}", part.url, locked.version) });
    write(&kept, &locked.version, part, owner, to).during("unpack", subject())
}

/// Gives what is kept of a commit: from the cache, or fetched anew.
fn had(url: &str, commit: &str, sha256: Sha256, to: Into<'_>) -> std::result::Result<Vec<u8>, GitError> {
    let store = to.doors.store;
    if let Some(entry) = store.find(&Checksum::Sha256(sha256), None)? {
        let path = entry.path().to_owned();
        return std::fs::read(&path).map_err(|source| GitError::Read { path, source });
    }
    let kept = fetch(url, commit, to.doors.transport)?;
    let found = Sha256::of(&kept);
    if found != sha256 {
        return Err(GitError::Digest { commit: commit.to_owned(), expected: sha256, found });
    }
    store.keep(&kept)?;
    Ok(kept)
}

fn write(
    kept: &[u8],
    commit: &str,
    part: &Git,
    owner: (u32, u32),
    to: Into<'_>,
) -> std::result::Result<(), GitError> {
    let objects = Objects::read(kept)?;
    let taken = Taken { strip: 0, only: &[], epoch: to.lock.epoch, owner };
    let mut folder = Folder::open(to.rootfs.root(), &part.into, kept.len() as u64, &taken)?;
    objects::walk(&objects, commit, &mut |walked| {
        match walked {
            Walked::Folder(path) => folder.folder(Path::new(path))?,
            Walked::File { path, executable, mut content } => {
                folder.file(Path::new(path), executable, &mut content)?;
            }
            Walked::Link { path, target } => folder.link(Path::new(path), target)?,
        }
        Ok(())
    })?;
    Ok(folder.end()?)
}
/// Reads what stands in a pack before its digest, and gives the paths of each commit in it that is whole.
///
/// # Errors
/// Where it is no pack.
pub fn commits(content: &[u8]) -> Result<Vec<Vec<String>>, GitError> {
    let objects = pack::unsealed(content)?;
    let mut commits = Vec::new();
    for commit in objects.commits() {
        // what is kept of a commit is all that it needs
        let Ok(objects) = objects.kept(&commit).and_then(|kept| Objects::read(&kept)) else { continue };
        let mut paths = Vec::new();
        let walked = objects::walk(&objects, &commit, &mut |one| {
            let (Walked::Folder(path) | Walked::File { path, .. } | Walked::Link { path, .. }) = one;
            paths.push(path.to_owned());
            Ok(())
        });
        if walked.is_ok() {
            commits.push(paths);
        }
    }
    Ok(commits)
}
