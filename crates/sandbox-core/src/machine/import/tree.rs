//! A machine's tree, made of what archives say: nothing is made, changed or removed elsewhere, whatever they say.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io::{self, Read, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{ffi::OsStrExt as _, fs::FileExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType, OFlags, statat, unlinkat},
    io::Errno,
};

use super::{error::ImportError, nested};
use crate::{
    host::{
        live,
        root::{self, Links, Meta, Root},
    },
    tarfile::{
        Attributes, OWNERS,
        accounts::Accounts,
        acl::Acls,
        held, is_of_a_tree,
        read::{Kind, Member},
        set_attributes,
    },
};

/// What becomes of devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Devices {
    /// They are refused.
    Refused,
    /// They are left out.
    Skipped,
}

/// How much may be made.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of all files together, holes not counted.
    pub bytes: u64,
    /// Paths.
    pub paths: u64,
    /// What becomes of devices.
    pub devices: Devices,
}

/// The largest file, holes included: what the file systems take that machines stand on.
const FILE: u64 = 16 << 40;

/// How many bytes are copied at once.
const PIECE: usize = 256 << 10;

/// What a directory will be, when all is in it.
struct Folder {
    meta: Meta,
    attributes: Attributes,
    acls: Acls,
}

/// A tree under way.
pub struct Tree {
    of: PathBuf,
    root: Root,
    limits: Limits,
    bytes: u64,
    paths: u64,
    folders: BTreeMap<PathBuf, Folder>,
    /// Files whose lists have names: the tree's own users are known when all is there.
    named: BTreeMap<PathBuf, (u32, Acls)>,
    held: usize,
    /// What was left out or cannot be had, for a word about it.
    pub left: Left,
}

/// What was left out or cannot be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Devices.
    pub devices: u64,
    /// Extended attributes that are of no machine's.
    pub attributes: u64,
    /// Entries of access control lists for users and groups that the tree does not have.
    pub entries: u64,
    /// Paths whose attributes or access control lists the file system does not support.
    pub unsupported: u64,
    /// Paths whose owners a machine has no number for.
    pub owners: u64,
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// Gives a path of an archive as one of the tree; that of the tree itself is empty. The root of a path is the tree's:
/// tar(1) strips it, and kaniko and umoci write it.
///
/// # Errors
/// [`ImportError::Escape`].
pub fn relative(name: &[u8]) -> Result<PathBuf, ImportError> {
    let escape = || ImportError::Escape { path: shown(name) };
    if memchr::memchr(0, name).is_some() {
        return Err(escape());
    }
    let mut path = PathBuf::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(escape()),
            part => path.push(OsStr::from_bytes(part)),
        }
    }
    Ok(path)
}

impl Tree {
    /// Opens an empty folder; `of` is the archive's name, for messages.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn open(folder: &Path, of: &Path, limits: Limits) -> Result<Self, ImportError> {
        // absolute links begin at the tree's own root, as they do in the machine
        let root = Root::open(folder, Links::InTree)
            .map_err(|source| ImportError::Write { path: String::new(), source })?;
        let of = of.to_owned();
        let (folders, named, left) = (BTreeMap::new(), BTreeMap::new(), Left::default());
        Ok(Self { of, root, limits, bytes: 0, paths: 0, folders, named, held: 0, left })
    }

    /// Opens a directory of the tree as a tree.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn at(&self, path: &Path) -> Result<Root, ImportError> {
        self.root.within(path, Links::InTree).map_err(|source| written(path, source))
    }

    /// Gives the tree.
    pub const fn root(&self) -> &Root {
        &self.root
    }

    /// Puts a member into the tree, in place of what is there.
    ///
    /// # Errors
    /// [`ImportError`].
    pub fn put(&mut self, member: &Member, bytes: &mut dyn Read) -> Result<(), ImportError> {
        self.paths += 1;
        if self.paths > self.limits.paths {
            return Err(ImportError::Large { limit: format!("{} paths", self.limits.paths) });
        }
        let path = relative(&member.path)?;
        let failed = |source: io::Error| written(&path, source);
        if path.as_os_str().is_empty() {
            if member.kind != Kind::Folder {
                return Err(strange(member, "which would stand in the place of the tree"));
            }
            return self.folder(&path, member);
        }
        if let Some(above) = path.parent() {
            self.root.make_folders(above, Meta::of_root(0o755, 0)).map_err(failed)?;
        }
        match member.kind {
            Kind::Folder => self.folder(&path, member),
            Kind::File => self.file(&path, member, bytes),
            Kind::Link => self.link(&path, member),
            Kind::Hard => self.hard(&path, member),
            Kind::Char | Kind::Block | Kind::Fifo => self.node(&path, member),
            Kind::Comment => Ok(()),
        }
    }

    /// Removes a path with all below it; one that is not there is well.
    ///
    /// # Errors
    /// What the file system says.
    pub fn remove(&mut self, path: &Path) -> Result<(), ImportError> {
        let removed = self.clear(path, false);
        removed.map_err(|source| written(path, source))
    }

    /// Removes all that is in a folder.
    ///
    /// # Errors
    /// What the file system says.
    pub fn empty(&mut self, path: &Path) -> Result<(), ImportError> {
        if self.root.kind(path).unwrap_or(None) != Some(FileType::Directory) && !path.as_os_str().is_empty() {
            return Ok(());
        }
        self.folders.retain(|known, _| known == path || !known.starts_with(path));
        self.named.retain(|known, _| !known.starts_with(path));
        self.root.empty(path).map_err(|source| written(path, source))
    }

    /// Gives files their access control lists that have names, and folders their owners, permissions and times, the
    /// innermost first.
    ///
    /// # Errors
    /// What the file system says.
    pub fn finish(&mut self, accounts: &Accounts) -> Result<(), ImportError> {
        for (path, (mode, mut acls)) in std::mem::take(&mut self.named) {
            self.left.entries += acls.each(|acl| acl.resolve(accounts));
            let set = self.last(&path, OFlags::RDONLY).and_then(|file| acls.set(file, mode));
            self.supported(&path, set)?;
        }
        for (path, mut folder) in std::mem::take(&mut self.folders).into_iter().rev() {
            self.left.entries += folder.acls.each(|acl| acl.resolve(accounts));
            let finish = || -> io::Result<bool> {
                let open = self.last(&path, OFlags::RDONLY | OFlags::DIRECTORY)?;
                let set = set_attributes(&open, &folder.attributes)?;
                root::finish_folder(open.as_fd(), folder.meta)?;
                // the permissions change a list, and a list changes the permissions
                Ok(folder.acls.set(&open, folder.meta.mode)? && set)
            };
            let set = finish();
            self.supported(&path, set)?;
        }
        Ok(())
    }

    fn last(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        self.root.at(path, flags | OFlags::NOFOLLOW | OFlags::NONBLOCK, 0)
    }

    /// Counts a path whose attributes or lists could not be set.
    fn supported(&mut self, path: &Path, set: io::Result<bool>) -> Result<(), ImportError> {
        match set {
            // something else came in its place later
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) =>
            {
                Ok(())
            }
            other => {
                let set = other.map_err(|source| written(path, source))?;
                self.left.unsupported += u64::from(!set);
                Ok(())
            }
        }
    }

    /// Counts what is held until all is there.
    fn hold(&mut self, attributes: &Attributes, acls: &Acls) -> Result<(), ImportError> {
        self.held += held(attributes, acls);
        if self.held > live::HELD {
            let limit = format!("{} bytes of attributes and access control lists", live::HELD);
            return Err(ImportError::Large { limit });
        }
        Ok(())
    }

    fn meta(&mut self, member: &Member) -> Meta {
        if member.uid >= OWNERS.into() || member.gid >= OWNERS.into() {
            self.left.owners += 1;
        }
        // the highest numbers mean "leave it as it is" to the kernel
        let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX).unwrap_or(65_534);
        Meta { mode: member.mode, uid: id(member.uid), gid: id(member.gid), mtime: member.mtime }
    }

    fn attributes(&mut self, member: &Member) -> Attributes {
        let all = member.attributes.len();
        let kept: Vec<_> =
            member.attributes.iter().filter(|(name, _)| is_of_a_tree(name.as_bytes())).cloned().collect();
        self.left.attributes += (all - kept.len()) as u64;
        kept
    }

    fn folder(&mut self, path: &Path, member: &Member) -> Result<(), ImportError> {
        let meta = self.meta(member);
        let attributes = self.attributes(member);
        let acls = member.acls.clone();
        self.hold(&attributes, &acls)?;
        if !path.as_os_str().is_empty() {
            self.make_folder(path).map_err(|source| written(path, source))?;
        }
        self.folders.insert(path.to_owned(), Folder { meta, attributes, acls });
        Ok(())
    }

    fn make_folder(&mut self, path: &Path) -> io::Result<()> {
        if self.root.kind(path)? != Some(FileType::Directory) {
            self.clear(path, true)?;
            let (above, name) = self.root.parent(path)?;
            root::make_folder(above.as_fd(), &name, Meta { mode: 0o700, ..Meta::of_root(0, 0) })?;
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, member: &Member, bytes: &mut dyn Read) -> Result<(), ImportError> {
        let stored = match &member.pieces {
            Some(pieces) => pieces.iter().map(|(_, length)| length).sum(),
            None => member.size,
        };
        self.bytes = self.bytes.saturating_add(stored);
        if self.bytes > self.limits.bytes || member.size > FILE {
            return Err(ImportError::Large { limit: format!("{} bytes", self.limits.bytes) });
        }
        let meta = self.meta(member);
        let attributes = self.attributes(member);
        let failed = |source| written(path, source);
        self.clear(path, true).map_err(failed)?;
        let (above, name) = self.root.parent(path).map_err(failed)?;
        let mut file = root::new_file(above.as_fd(), &name).map_err(failed)?;
        match &member.pieces {
            None => self.pieces(path, bytes, member.size, &mut |_, piece| file.write_all(piece))?,
            Some(pieces) => {
                file.set_len(member.size).map_err(failed)?;
                for (at, length) in pieces {
                    self.pieces(path, bytes, *length, &mut |done, piece| {
                        file.write_all_at(piece, at + done)
                    })?;
                }
            }
        }
        root::finish_file(&file, meta).map_err(failed)?;
        let set = set_attributes(&file, &attributes).map_err(failed)?;
        if member.acls.has_names() {
            self.hold(&Attributes::new(), &member.acls)?;
            self.named.insert(path.to_owned(), (meta.mode, member.acls.clone()));
            return self.supported(path, Ok(set));
        }
        self.supported(path, member.acls.set(&file, meta.mode).map(|all| all && set))
    }

    /// Copies bytes. A piece is read before it is written, so that it is known which of the two failed.
    fn pieces(
        &self,
        path: &Path,
        bytes: &mut dyn Read,
        length: u64,
        write: &mut dyn FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> Result<(), ImportError> {
        let damaged = |source: io::Error| ImportError::Tar { path: self.of.clone(), source: source.into() };
        let mut buffer = vec![0; usize::try_from(length).map_or(PIECE, |length| length.min(PIECE))];
        let mut done = 0;
        while done < length {
            let want = usize::try_from(length - done).map_or(PIECE, |left| left.min(PIECE));
            let count = match bytes.read(&mut buffer[..want]) {
                Ok(0) => return Err(damaged(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(damaged(error)),
            };
            write(done, &buffer[..count]).map_err(|source| written(path, source))?;
            done += count as u64;
        }
        Ok(())
    }

    fn link(&mut self, path: &Path, member: &Member) -> Result<(), ImportError> {
        if member.link.is_empty() || memchr::memchr(0, &member.link).is_some() {
            return Err(strange(member, "a link that says nothing"));
        }
        let meta = self.meta(member);
        let made = self.clear(path, true).and_then(|()| {
            let (above, name) = self.root.parent(path)?;
            root::make_link(above.as_fd(), &name, OsStr::from_bytes(&member.link), meta)
        });
        made.map_err(|source| written(path, source))
    }

    fn hard(&mut self, path: &Path, member: &Member) -> Result<(), ImportError> {
        let first = relative(&member.link)?;
        if first == *path {
            return Err(strange(member, "a second name of itself"));
        }
        if first.as_os_str().is_empty() {
            return Err(strange(member, "a second name of the tree"));
        }
        let make = |tree: &mut Self| -> io::Result<()> {
            let (from, old) = tree.root.parent(&first)?;
            let found = statat(&from, &old, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
                return Err(Errno::ISDIR.into());
            }
            tree.clear(path, true)?;
            let (to, new) = tree.root.parent(path)?;
            root::make_hard_link((from.as_fd(), &old), (to.as_fd(), &new))
        };
        make(self).map_err(|source| written(path, source))
    }

    fn node(&mut self, path: &Path, member: &Member) -> Result<(), ImportError> {
        // what the kernel's own overlays have in the place of what is removed opens nothing
        let harmless = member.kind == Kind::Fifo || (member.kind == Kind::Char && member.device == (0, 0));
        if !harmless {
            // every backend makes its own
            if nested::is_dev(path) || self.limits.devices == Devices::Skipped {
                self.left.devices += 1;
                return Ok(());
            }
            return Err(ImportError::Device { path: shown(&member.path) });
        }
        let meta = self.meta(member);
        let kind = if member.kind == Kind::Fifo { FileType::Fifo } else { FileType::CharacterDevice };
        let made = self.clear(path, true).and_then(|()| {
            let (above, name) = self.root.parent(path)?;
            root::make_node(above.as_fd(), &name, kind, (0, 0), meta)
        });
        made.map_err(|source| written(path, source))
    }

    /// Takes away what is at a path, a folder with all that is in it.
    fn clear(&mut self, path: &Path, parent_is_there: bool) -> io::Result<()> {
        let (above, name): (OwnedFd, PathBuf) = match self.root.parent(path) {
            Err(error) if !parent_is_there && is_missing(&error) => return Ok(()),
            other => other?,
        };
        self.named.remove(path);
        match unlinkat(&above, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::NOTDIR) if !parent_is_there => Ok(()),
            Err(Errno::ISDIR) => {
                self.folders.retain(|known, _| !known.starts_with(path));
                self.named.retain(|known, _| !known.starts_with(path));
                self.root.empty(path)?;
                Ok(unlinkat(&above, &name, AtFlags::REMOVEDIR)?)
            }
            Err(errno) => Err(errno.into()),
        }
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR))
}

fn strange(member: &Member, what: &'static str) -> ImportError {
    ImportError::Strange { path: shown(&member.path), what }
}

fn written(path: &Path, source: io::Error) -> ImportError {
    let path = path.display().to_string();
    if source.raw_os_error() == Some(libc::EXDEV) {
        return ImportError::Escape { path };
    }
    ImportError::Write { path, source }
}
