//! A stream into a tree.

use std::{
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{ffi::OsStrExt as _, fs::FileExt as _},
    },
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, FileType, Gid, Mode, OFlags, Uid, fchmod, fchown, fstat, linkat, mkdirat, renameat, unlinkat,
    },
    io::Errno,
};

use super::{Carried, CopyError, Trust, failed, rules::Rules};
use crate::{
    host::{
        live::{self, Directory, Excess},
        root::{self, Links, Meta, Root},
        space::Meter,
        temporary,
    },
    tarfile::{
        Attributes, OWNERS,
        accounts::Accounts,
        acl::{self, Acls},
        held,
        read::{Kind, Member, Tar, TarError},
        set_attributes,
    },
};

/// How many bytes of a file are copied at once.
const PIECE: usize = 256 << 10;

/// Where a copy goes: the folder that it is made in, and its name there.
fn place(root: &Root, target: &Path, name: &Path) -> Result<(Root, PathBuf), CopyError> {
    let slash = target.as_os_str().as_bytes().ends_with(b"/");
    let wrong = || failed(target, "opening the folder");
    match root.within(target, Links::InTree) {
        Ok(folder) if name == Path::new(".") => Ok((folder, PathBuf::new())),
        Ok(folder) => Ok((folder, name.to_owned())),
        Err(error)
            if slash
                || error.kind() != io::ErrorKind::NotFound && error.raw_os_error() != Some(libc::ENOTDIR) =>
        {
            Err(wrong()(error))
        }
        Err(_) => {
            let (_, last) = root.parent(target).map_err(wrong())?;
            let above = target.parent().unwrap_or(Path::new("/"));
            Ok((root.within(above, Links::InTree).map_err(failed(above, "opening the folder"))?, last))
        }
    }
}

/// Unpacks a packed source.
pub fn unpack(
    root: &Root,
    target: &Path,
    name: &Path,
    rules: Rules,
    input: &mut dyn Read,
) -> Result<Carried, CopyError> {
    let (folder, name) = place(root, target, name)?;
    stream((root, &folder), Some(&name), rules, input)
}

/// Writes a file of the stream's bytes; where the target is a folder, unpacks the stream into it.
pub fn write(root: &Root, target: &Path, rules: Rules, input: &mut dyn Read) -> Result<Carried, CopyError> {
    let slash = target.as_os_str().as_bytes().ends_with(b"/");
    match root.within(target, Links::InTree) {
        Ok(folder) => stream((root, &folder), None, rules, input),
        Err(error) if slash => Err(failed(target, "opening the folder")(error)),
        Err(_) => {
            let (folder, name) = place(root, target, Path::new("."))?;
            let (uid, gid) = rules.owner.unwrap_or((0, 0));
            let wrong = || failed(target, "writing the file");
            let (above, name) = folder.parent(&name).map_err(wrong())?;
            let (file, temporary) = temporary(&above, &name).map_err(wrong())?;
            let mut put = || -> io::Result<u64> {
                let bytes = io::copy(input, &mut &file)?;
                fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
                fchmod(&file, Mode::from_raw_mode(0o644))?;
                renameat(&above, &temporary, &above, &name)?;
                Ok(bytes)
            };
            let bytes = put().inspect_err(|_| forget(&above, &temporary));
            Ok(Carried { entries: 1, bytes: bytes.map_err(wrong())?, ..Carried::default() })
        }
    }
}

fn broken(error: TarError) -> CopyError {
    let source = match error {
        TarError::Read(source) => source,
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    };
    CopyError::Stream { source }
}

/// Unpacks a stream below a folder of a tree; a name takes the place of every entry's first part. Where that fails, a
/// directory that it made of that name is removed.
fn stream(
    (root, folder): (&Root, &Root),
    name: Option<&Path>,
    rules: Rules,
    input: &mut dyn Read,
) -> Result<Carried, CopyError> {
    let opening = || failed(folder.path(), "opening the folder");
    let tree = folder.within(Path::new(""), rules.links()).map_err(opening())?;
    let own = tree.at(Path::new(""), OFlags::PATH | OFlags::DIRECTORY, 0).map_err(opening())?;
    let own = fstat(&own).map_err(|errno| opening()(errno.into()))?;
    // a guest's names are not those of the host
    let accounts = if rules.trust == Trust::Host { Accounts::read(root) } else { Accounts::default() };
    let mut unpacker = Unpacker {
        tree,
        rules,
        into: (own.st_uid, own.st_gid),
        accounts,
        folders: Vec::new(),
        held: 0,
        top: None,
        meter: Meter::default(),
        done: Carried::default(),
    };
    let unpacked = unpacker.all(&mut Tar::new(input), name).and_then(|()| unpacker.finish());
    if unpacked.is_err() {
        unpacker.undo();
    }
    unpacked.map(|()| unpacker.done)
}

/// Gives the path that a name of the stream means.
fn placed(named: &Path, name: Option<&Path>) -> Result<PathBuf, CopyError> {
    let escape = || CopyError::Escape { path: named.to_owned() };
    let mut parts = named.components();
    let mut path = PathBuf::new();
    if let Some(name) = name {
        match parts.next() {
            Some(Component::Normal(_) | Component::CurDir) => path.push(name),
            _ => return Err(escape()),
        }
    }
    for part in parts {
        match part {
            Component::Normal(part) => path.push(part),
            // tars that are made with `tar -C FOLDER .`, and those with absolute names
            Component::CurDir | Component::RootDir if name.is_none() => {}
            _ => return Err(escape()),
        }
    }
    Ok(path)
}

/// What a directory will be, when all is in it.
struct Folder {
    path: PathBuf,
    meta: Meta,
    attributes: Attributes,
    acls: Acls,
}

struct Unpacker {
    tree: Root,
    rules: Rules,
    /// The owner and group of the directory that is copied into.
    into: (u32, u32),
    /// The users and groups that access control lists name.
    accounts: Accounts,
    /// Folders that were made, for their times and permissions once all is in them.
    folders: Vec<Folder>,
    /// How many bytes their attributes have.
    held: usize,
    /// The directory that all is in, where this made it.
    top: Option<(PathBuf, OwnedFd)>,
    meter: Meter,
    done: Carried,
}

impl Unpacker {
    fn all<R: Read>(&mut self, archive: &mut Tar<R>, name: Option<&Path>) -> Result<(), CopyError> {
        while let Some(member) = archive.next().map_err(broken)? {
            if member.kind == Kind::Comment {
                continue;
            }
            let named = Path::new(std::ffi::OsStr::from_bytes(&member.path));
            let path = placed(named, name)?;
            if path.as_os_str().len() > live::PATH {
                return Err(failed(Path::new(""), "unpacking")(Excess::path(path.as_os_str()).into()));
            }
            self.entry((&member, &path), name, archive)?;
        }
        // the other side ends its stream when it has packed all
        if name.is_some() && !archive.has_ended() {
            return Err(broken(io::Error::from(io::ErrorKind::UnexpectedEof).into()));
        }
        Ok(())
    }

    fn entry<R: Read>(
        &mut self,
        (member, path): (&Member, &Path),
        name: Option<&Path>,
        archive: &mut Tar<R>,
    ) -> Result<(), CopyError> {
        let wrong = || failed(path, "writing");
        self.done.entries += 1;
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        let meta = self.meta(member);
        if member.kind == Kind::Folder {
            return self.folder(path, meta, (member, name));
        }
        let above = path.parent().unwrap_or(Path::new(""));
        if !self.tree.has(above) {
            // a tar need not name the folders of what it has
            self.tree.make_folders(above, Meta { mode: 0o755, ..meta }).map_err(wrong())?;
        }
        let (above, last) = self.tree.parent(path).map_err(wrong())?;
        match member.kind {
            Kind::File => self.file((member, path), (&above, &last), meta, archive),
            Kind::Link => {
                clear(&above, &last).map_err(wrong())?;
                let target = std::ffi::OsStr::from_bytes(&member.link);
                root::make_link(above.as_fd(), &last, target, meta).map_err(wrong())
            }
            Kind::Hard => {
                let first = placed(Path::new(std::ffi::OsStr::from_bytes(&member.link)), name)?;
                let (from, old) = self.tree.parent(&first).map_err(wrong())?;
                clear(&above, &last).map_err(wrong())?;
                linkat(&from, &old, &above, &last, AtFlags::empty()).map_err(|errno| wrong()(errno.into()))
            }
            Kind::Fifo => {
                clear(&above, &last).map_err(wrong())?;
                root::make_node(above.as_fd(), &last, FileType::Fifo, (0, 0), meta).map_err(wrong())
            }
            _ => {
                self.done.entries -= 1;
                self.done.leave_out(path, "a device");
                Ok(())
            }
        }
    }

    fn meta(&mut self, member: &Member) -> Meta {
        let (meta, other) = self.rules.meta(member, self.into);
        self.done.owners += u64::from(other && member.kind != Kind::Hard);
        meta
    }

    /// Returns a member's access control lists as this side can have them.
    fn acls(&mut self, member: &Member) -> Acls {
        let mut acls = member.acls.clone();
        let mut left = acls.each(|acl| acl.resolve(&self.accounts));
        if self.rules.trust == Trust::Host {
            left += acls.each(|acl| acl.limit(OWNERS));
        }
        self.done.acl_entries += left;
        acls
    }

    fn attributes(&self, member: &Member) -> Attributes {
        let kept = member.attributes.iter().filter(|(name, _)| self.rules.keeps(name.as_bytes()));
        kept.cloned().collect()
    }

    /// Makes a folder; one that is there stays as it is.
    fn folder(
        &mut self,
        path: &Path,
        meta: Meta,
        (member, name): (&Member, Option<&Path>),
    ) -> Result<(), CopyError> {
        let wrong = || failed(path, "making the folder");
        let above = path.parent().unwrap_or(Path::new(""));
        if !self.tree.has(above) {
            self.tree.make_folders(above, Meta { mode: 0o755, ..meta }).map_err(wrong())?;
        }
        let (above, last) = self.tree.parent(path).map_err(wrong())?;
        match mkdirat(&above, &last, Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                return self.tree.at(path, OFlags::PATH | OFlags::DIRECTORY, 0).map(drop).map_err(wrong());
            }
            Err(errno) => return Err(wrong()(errno.into())),
        }
        if name == Some(path) {
            let own = self.tree.at(path, OFlags::RDONLY | OFlags::DIRECTORY, 0).map_err(wrong())?;
            self.top = Some((path.to_owned(), own));
        }
        let (attributes, acls) = (self.attributes(member), self.acls(member));
        self.held += held(&attributes, &acls);
        if self.held > live::HELD {
            return Err(wrong()(Excess::Held.into()));
        }
        self.folders.push(Folder { path: path.to_owned(), meta, attributes, acls });
        Ok(())
    }

    fn file<R: Read>(
        &mut self,
        (member, path): (&Member, &Path),
        (above, name): (&OwnedFd, &Path),
        meta: Meta,
        archive: &mut Tar<R>,
    ) -> Result<(), CopyError> {
        let wrong = || failed(path, "writing");
        let (attributes, acls) = (self.attributes(member), self.acls(member));
        let (file, temporary) = temporary(above, name).map_err(wrong())?;
        let mut write = || -> Result<u64, CopyError> {
            let written = self.bytes((member, path), archive, &file)?;
            acl::remove(&file).map_err(wrong())?;
            root::finish_file(&file, meta).map_err(wrong())?;
            self.finish_one(&file, meta.mode, &attributes, &acls).map_err(wrong())?;
            renameat(above, &temporary, above, name).map_err(|errno| wrong()(errno.into()))?;
            Ok(written)
        };
        let written = write().inspect_err(|_| forget(above, &temporary))?;
        self.done.bytes += written;
        Ok(())
    }

    /// Gives a file or folder its attributes and access control lists, after its owner and permissions.
    fn finish_one(
        &mut self,
        file: impl std::os::fd::AsFd,
        mode: u32,
        attributes: &Attributes,
        acls: &Acls,
    ) -> io::Result<()> {
        set_attributes(&file, attributes)?;
        if !acls.set(&file, mode)? {
            self.done.acl_entries += acls.entries() as u64;
        }
        Ok(())
    }

    /// Writes a file's bytes, its holes as holes; what a guest sends leaves a reserve on the host's file system.
    fn bytes<R: Read>(
        &mut self,
        (member, path): (&Member, &Path),
        archive: &mut Tar<R>,
        file: &File,
    ) -> Result<u64, CopyError> {
        let wrong = || failed(path, "writing");
        let whole = [(0, member.size)];
        let pieces = member.pieces.as_deref().unwrap_or(&whole);
        let mut buffer = vec![0; usize::try_from(member.size).map_or(PIECE, |size| size.min(PIECE))];
        let mut written = 0;
        for (begin, length) in pieces {
            if self.rules.trust == Trust::Guest || member.pieces.is_some() {
                self.meter.add(file, *length).map_err(wrong())?;
            }
            let mut done = 0;
            while done < *length {
                let want = usize::try_from(length - done).map_or(PIECE, |left| left.min(PIECE));
                archive.read_exact(&mut buffer[..want]).map_err(|error| broken(error.into()))?;
                file.write_all_at(&buffer[..want], begin + done).map_err(wrong())?;
                done += want as u64;
            }
            written += length;
        }
        if member.pieces.is_some() {
            file.set_len(member.size).map_err(wrong())?;
        }
        Ok(written)
    }

    /// Gives the folders that were made their owners, permissions and times, the inner ones first.
    fn finish(&mut self) -> Result<(), CopyError> {
        for Folder { path, meta, attributes, acls } in std::mem::take(&mut self.folders).into_iter().rev() {
            let wrong = || failed(&path, "finishing the folder");
            let folder = self.tree.at(&path, OFlags::RDONLY | OFlags::DIRECTORY, 0).map_err(wrong())?;
            acl::remove(&folder).map_err(wrong())?;
            root::finish_folder(folder.as_fd(), meta).map_err(wrong())?;
            self.finish_one(&folder, meta.mode, &attributes, &acls).map_err(wrong())?;
        }
        Ok(())
    }

    /// Removes what a copy that failed has made: the directory that all is in, by its handle. Where all went into a
    /// directory that was there, what is whole stays. The error that is reported is the one before.
    fn undo(&mut self) {
        let Some((path, own)) = self.top.take() else {
            let _ = self.finish();
            return;
        };
        let _ = Directory::of(own).and_then(live::empty);
        if let Ok((above, last)) = self.tree.parent(&path) {
            let _ = unlinkat(&above, &last, AtFlags::REMOVEDIR);
        }
    }
}

/// Makes a file beside the one that it will become.
fn temporary(above: &OwnedFd, name: &Path) -> io::Result<(File, PathBuf)> {
    let temporary = PathBuf::from(temporary::new(name.as_os_str()));
    clear(above, &temporary)?;
    Ok((root::new_file(above.as_fd(), &temporary)?, temporary))
}

/// Removes a file or link that is in the way; a folder is an error.
fn clear(above: &OwnedFd, name: &Path) -> io::Result<()> {
    match unlinkat(above, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Removes what is not whole; the error that is told is the one before.
fn forget(above: &OwnedFd, temporary: &Path) {
    let _ = unlinkat(above, temporary, AtFlags::empty());
}
