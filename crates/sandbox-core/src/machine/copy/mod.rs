//! Files and trees between a machine and the host, as a stream between two sides that do not trust each other.
//!
//! One side packs what it has into a tar stream, the other unpacks it. The machine's side is a process of ours: in
//! a running machine it has joined the machine's user and mount namespaces and its root before it looks at the
//! first name (see [`enter`]), so that whatever a hostile guest does to paths happens to the guest; of a stopped
//! machine it is this process, held to the tree by the kernel (openat2(2), `RESOLVE_IN_ROOT`). What comes out of a
//! machine is unpacked on the host as hostile: no name with `..`, no link followed, no device, no set-id bit.
//!
//! Owners are numbers of the guest on both sides: a user namespace shifts them on neither.

mod enter;
mod pack;
mod rules;
mod side;
mod unpack;

use std::{
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

pub use enter::enter;
pub use side::{Answer, Side, into, into_from, make_folder, out, out_to};

use crate::{
    error::{Cause, Class, Hint},
    host::{
        live,
        root::{Links, Meta, Root},
        space,
    },
    tarfile,
};

/// What one side has to do. The other end of the stream is a pipe.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Errand {
    /// Pack a file or tree into the stream, as tar.
    Pack {
        /// What.
        path: PathBuf,
    },
    /// Write a file into the stream as it is, a folder as tar.
    Read {
        /// What.
        path: PathBuf,
    },
    /// Unpack a packed file or tree: into the target where that is a folder, else as the target.
    Unpack {
        /// Where.
        target: PathBuf,
        /// The source's own name.
        name: PathBuf,
        /// Who is to own all of it, instead of the stream's numbers.
        owner: Option<String>,
    },
    /// Write what comes as a file; into a folder, unpack it as tar.
    Write {
        /// Where.
        target: PathBuf,
        /// Who is to own all of it.
        owner: Option<String>,
    },
    /// Make a folder with those above it, the root's, where there is none.
    MakeFolder {
        /// Where.
        path: PathBuf,
    },
}

/// How much the side that unpacks trusts the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It is of the host's root, and this side is a guest's tree: every file is as it was.
    Host,
    /// It is a guest's, and this side is the host.
    Guest,
}

/// What was carried.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Carried {
    /// Files, folders and links.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// What was left out, with the reason: devices, sockets, what is mounted in a tree.
    pub left_out: Vec<String>,
    /// How many have another owner than they had: the machine has no number for it.
    #[serde(default)]
    pub owners: u64,
    /// How many entries of access control lists were left out: for users and groups that are not there, or the file
    /// system has no lists.
    #[serde(default)]
    pub acl_entries: u64,
}

/// How many of the things that were left out are named.
const NAMED: usize = 20;

impl Carried {
    fn leave_out(&mut self, path: &Path, why: &str) {
        match self.left_out.len() {
            count if count < NAMED => self.left_out.push(format!("{} ({why})", path.display())),
            NAMED => self.left_out.push("and more".to_owned()),
            _ => {}
        }
    }

    /// Adds what the other side says.
    pub fn join(&mut self, other: Self) {
        self.left_out.extend(other.left_out);
        self.owners += other.owners;
        self.acl_entries += other.acl_entries;
    }
}

/// Reports whether a copy keeps an extended attribute: a user's own, and what a program may do.
fn is_carried(name: &[u8]) -> bool {
    tarfile::is_of_a_tree(name) && !name.starts_with(b"trusted.")
}

/// Why something was not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The file system of one side refused.
    #[error("{path}: {doing} failed", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The stream ended early or makes no sense.
    #[error("what came is no whole tar stream")]
    Stream {
        /// Why.
        source: io::Error,
    },
    /// A name in the stream leads elsewhere.
    #[error("the stream names `{path}`, which leads out of the target", path = path.display())]
    Escape {
        /// The name.
        path: PathBuf,
    },
    /// The target's owner is no user there.
    #[error("`{owner}` is no user there")]
    Owner {
        /// The owner.
        owner: String,
    },
    /// The machine's side failed.
    #[error("{said}")]
    Other {
        /// What it said.
        said: String,
    },
    /// The machine's side refused what the machine has.
    #[error("{said}")]
    Refused {
        /// What it said.
        said: String,
    },
    /// The machine's side could not be started or entered.
    #[error("the machine cannot be entered: {step} failed")]
    Enter {
        /// What was tried.
        step: &'static str,
        /// Why.
        source: io::Error,
    },
    /// What was asked for is a login, which only its machine reads.
    #[error("{path} is a volume of logins: only the running machine reads it", path = path.display())]
    Auth {
        /// Where the guest has it.
        path: PathBuf,
    },
}

impl Cause for CopyError {
    fn class(&self) -> Class {
        match self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => Class::Unavailable,
            // a link in the place of a directory, or a path that leads out
            Self::Io { source, .. } if matches!(source.raw_os_error(), Some(libc::ELOOP | libc::EXDEV)) => {
                Class::of_path(source)
            }
            Self::Io { source, .. } => live::class_of(source, Class::Host),
            Self::Enter { .. } => Class::Host,
            Self::Stream { .. } | Self::Escape { .. } | Self::Refused { .. } => Class::Untrusted,
            Self::Owner { .. } | Self::Other { .. } | Self::Auth { .. } => Class::Unavailable,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                space::hint(source).into_iter().collect()
            }
            Self::Io { source, .. } if source.raw_os_error() == Some(libc::ELOOP) => {
                vec![Hint::Note("a link stands on the way, and none is followed out of the target".into())]
            }
            _ => Vec::new(),
        }
    }
}

fn failed(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> CopyError {
    let path = path.to_owned();
    move |source| CopyError::Io { path, doing, source }
}

/// Does one side's errand in a tree.
///
/// # Errors
/// [`CopyError`].
pub fn run(
    errand: &Errand,
    root: &Root,
    trust: Trust,
    input: &mut dyn Read,
    output: &mut dyn Write,
) -> Result<Carried, CopyError> {
    match errand {
        Errand::Pack { path } => pack::pack(root, path, output),
        Errand::Read { path } => pack::read(root, path, output),
        Errand::Unpack { target, name, owner } => {
            unpack::unpack(root, target, name, rules::Rules::of(trust, root, owner.as_deref())?, input)
        }
        Errand::Write { target, owner } => {
            unpack::write(root, target, rules::Rules::of(trust, root, owner.as_deref())?, input)
        }
        Errand::MakeFolder { path } => {
            let made = root.make_folders(path, Meta::of_root(0o755, 0));
            made.map(|()| Carried::default()).map_err(failed(path, "making the folder"))
        }
    }
}

/// Opens the host's side: names that its user types mean what they mean everywhere.
///
/// # Errors
/// Where `/` cannot be opened.
pub fn host() -> Result<Root, CopyError> {
    Root::open(Path::new("/"), Links::InTree).map_err(failed(Path::new("/"), "opening the folder"))
}

/// Opens a stopped machine's side.
///
/// # Errors
/// Where the tree is not there.
pub fn tree(path: &Path) -> Result<Root, CopyError> {
    Root::open(path, Links::InTree).map_err(failed(path, "opening the folder"))
}

#[cfg(test)]
mod tests;
