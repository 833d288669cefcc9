//! A stream into a tree.

use std::{
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, FileType, Gid, Mode, OFlags, Uid, XattrFlags, fchmod, fchown, fsetxattr, linkat, mkdirat,
        renameat, unlinkat,
    },
    io::Errno,
};

use super::{Carried, CopyError, Trust, failed, sparse};
use crate::{
    host::{
        live,
        root::{self, Links, Meta, Root},
        space::{self, Meter},
        temporary,
    },
    machine::{guest::id, volume},
};

/// What may come, and who owns it.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    trust: Trust,
    owner: Option<(u32, u32)>,
}

impl Rules {
    /// Makes the rules of a side; the owner is looked up in its own users.
    pub fn of(trust: Trust, root: &Root, owner: Option<&str>) -> Result<Self, CopyError> {
        let owner = owner.map(|owner| find(root, owner)).transpose()?;
        Ok(Self { trust, owner })
    }

    fn meta(self, header: &tar::Header) -> io::Result<Meta> {
        let number = |number: u64| u32::try_from(number).map_err(io::Error::other);
        let own = (number(header.uid()?)?, number(header.gid()?)?);
        let (uid, gid) = self.owner.unwrap_or(own);
        // a program of a guest's that would run as somebody else on the host
        let mode = header.mode()? & if self.trust == Trust::Guest { 0o1777 } else { 0o7777 };
        Ok(Meta { mode, uid, gid, mtime: i64::try_from(header.mtime()?).unwrap_or(i64::MAX) })
    }

    fn keeps(self, attribute: &str) -> bool {
        attribute.starts_with("user.") || (self.trust == Trust::Host && attribute == "security.capability")
    }

    /// On the host no link is followed at all; in a guest's tree they lead where they lead in the guest.
    const fn links(self) -> Links {
        match self.trust {
            Trust::Host => Links::InTree,
            Trust::Guest => Links::Never,
        }
    }
}

/// Finds `USER`, `UID`, `USER:GROUP` or `UID:GID` among the users of a tree.
fn find(root: &Root, owner: &str) -> Result<(u32, u32), CopyError> {
    let missing = || CopyError::Owner { owner: owner.to_owned() };
    let (user, group) = owner.split_once(':').map_or((owner, None), |(user, group)| (user, Some(group)));
    let is_number = |text: &str| text.parse::<u32>().is_ok();
    let (uid, own_group) = match id(user) {
        Some(uid) => (uid, uid),
        None if is_number(user) => return Err(missing()),
        None => {
            let found = volume::owner(root, user).map_err(failed(Path::new("/etc/passwd"), "reading"))?;
            found.map(|(uid, gid, _)| (uid, gid)).ok_or_else(missing)?
        }
    };
    let gid = match group {
        None => own_group,
        Some(group) => match id(group) {
            Some(gid) => gid,
            None if is_number(group) => return Err(missing()),
            None => {
                let groups =
                    root.read(Path::new("etc/group")).map_err(failed(Path::new("/etc/group"), "reading"))?;
                let groups = String::from_utf8_lossy(&groups);
                let mut lines = groups.lines().map(|line| line.split(':').collect::<Vec<_>>());
                let found = lines.find(|fields| fields.len() > 2 && fields[0] == group);
                found.and_then(|fields| id(fields[2])).ok_or_else(missing)?
            }
        },
    };
    Ok((uid, gid))
}

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
    stream(&folder, Some(&name), rules, input)
}

/// Writes a file of the stream's bytes; where the target is a folder, unpacks the stream into it.
pub fn write(root: &Root, target: &Path, rules: Rules, input: &mut dyn Read) -> Result<Carried, CopyError> {
    let slash = target.as_os_str().as_bytes().ends_with(b"/");
    match root.within(target, Links::InTree) {
        Ok(folder) => stream(&folder, None, rules, input),
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
            Ok(Carried { entries: 1, bytes: bytes.map_err(wrong())?, left_out: Vec::new() })
        }
    }
}

/// Unpacks a stream below a folder; a name takes the place of every entry's first part.
fn stream(
    folder: &Root,
    name: Option<&Path>,
    rules: Rules,
    input: &mut dyn Read,
) -> Result<Carried, CopyError> {
    let broken = |source| CopyError::Stream { source };
    let tree =
        folder.within(Path::new(""), rules.links()).map_err(failed(folder.path(), "opening the folder"))?;
    let mut unpacker = Unpacker {
        tree,
        rules,
        folders: Vec::new(),
        holes: None,
        meter: Meter::default(),
        done: Carried::default(),
    };
    let mut archive = tar::Archive::new(input);
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let holes = sparse::Header::of(&mut entry).map_err(broken)?;
        let named = match holes.as_ref().and_then(|holes| holes.name.clone()) {
            Some(named) => named,
            None => entry.path().map_err(broken)?.into_owned(),
        };
        let path = placed(&named, name)?;
        if path.as_os_str().len() > live::PATH {
            return Err(failed(Path::new(""), "unpacking")(live::Excess::path(path.as_os_str()).into()));
        }
        unpacker.holes = holes;
        unpacker.entry(&mut entry, &path, name)?;
    }
    unpacker.finish()
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

struct Unpacker {
    tree: Root,
    rules: Rules,
    /// Folders that were made, for their times and permissions once all is in them.
    folders: Vec<(PathBuf, Meta)>,
    /// What the member that is under way says of its holes.
    holes: Option<sparse::Header>,
    meter: Meter,
    done: Carried,
}

impl Unpacker {
    fn entry(
        &mut self,
        entry: &mut tar::Entry<'_, impl Read>,
        path: &Path,
        name: Option<&Path>,
    ) -> Result<(), CopyError> {
        let broken = |source| CopyError::Stream { source };
        let wrong = || failed(path, "writing");
        let meta = self.rules.meta(entry.header()).map_err(broken)?;
        self.done.entries += 1;
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            return self.folder(path, meta);
        }
        let above = path.parent().unwrap_or(Path::new(""));
        if !self.tree.has(above) {
            // a tar need not name the folders of what it has
            self.tree.make_folders(above, Meta { mode: 0o755, ..meta }).map_err(wrong())?;
        }
        let (above, last) = self.tree.parent(path).map_err(wrong())?;
        match kind {
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                self.file(entry, &above, &last, meta).map_err(wrong())
            }
            tar::EntryType::Symlink => {
                let target = entry.link_name().map_err(broken)?.unwrap_or_default().into_owned();
                clear(&above, &last).map_err(wrong())?;
                root::make_link(above.as_fd(), &last, target.as_os_str(), meta).map_err(wrong())
            }
            tar::EntryType::Link => {
                let first = entry.link_name().map_err(broken)?.unwrap_or_default().into_owned();
                let first = placed(&first, name)?;
                let (from, old) = self.tree.parent(&first).map_err(wrong())?;
                clear(&above, &last).map_err(wrong())?;
                linkat(&from, &old, &above, &last, AtFlags::empty()).map_err(|errno| wrong()(errno.into()))
            }
            tar::EntryType::Fifo => {
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

    /// Makes a folder; one that is there stays as it is.
    fn folder(&mut self, path: &Path, meta: Meta) -> Result<(), CopyError> {
        let wrong = || failed(path, "making the folder");
        let above = path.parent().unwrap_or(Path::new(""));
        if !self.tree.has(above) {
            self.tree.make_folders(above, Meta { mode: 0o755, ..meta }).map_err(wrong())?;
        }
        let (above, last) = self.tree.parent(path).map_err(wrong())?;
        match mkdirat(&above, &last, Mode::RWXU) {
            Ok(()) => {
                self.folders.push((path.to_owned(), meta));
                Ok(())
            }
            Err(Errno::EXIST) => {
                self.tree.at(path, OFlags::PATH | OFlags::DIRECTORY, 0).map(drop).map_err(wrong())
            }
            Err(errno) => Err(wrong()(errno.into())),
        }
    }

    fn file(
        &mut self,
        entry: &mut tar::Entry<'_, impl Read>,
        above: &OwnedFd,
        name: &Path,
        meta: Meta,
    ) -> io::Result<()> {
        let (mut file, temporary) = temporary(above, name)?;
        let mut write = || -> io::Result<u64> {
            let attributes = attributes(entry)?;
            let written = self.bytes(entry, &mut file)?;
            root::finish_file(&file, meta)?;
            for (key, value) in attributes.iter().filter(|(key, _)| self.rules.keeps(key)) {
                match fsetxattr(&file, key.as_str(), value, XattrFlags::empty()) {
                    Ok(()) | Err(Errno::OPNOTSUPP) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
            renameat(above, &temporary, above, name)?;
            Ok(written)
        };
        let written = write().inspect_err(|_| forget(above, &temporary))?;
        self.done.bytes += written;
        Ok(())
    }

    /// Writes a file's bytes, its holes as holes; what a guest sends leaves a reserve on the host's file system.
    fn bytes(&mut self, entry: &mut tar::Entry<'_, impl Read>, file: &mut File) -> io::Result<u64> {
        if let Some(holes) = self.holes.take() {
            return holes.write(entry, file, &mut self.meter);
        }
        let stored = entry.header().entry_size()?;
        if entry.header().entry_type() == tar::EntryType::GNUSparse {
            // its holes come as zeros, and no side of ours sends one
            if self.rules.trust == Trust::Guest || entry.size().saturating_sub(stored) > live::ZEROS {
                return Err(live::Excess::Zeros.into());
            }
            return space::copy(entry, file);
        }
        if self.rules.trust == Trust::Guest {
            self.meter.add(&*file, stored)?;
        }
        io::copy(entry, file)
    }

    /// Gives the folders that were made their owners, permissions and times, the inner ones first.
    fn finish(self) -> Result<Carried, CopyError> {
        for (path, meta) in self.folders.iter().rev() {
            let wrong = || failed(path, "finishing the folder");
            let folder = self.tree.at(path, OFlags::RDONLY | OFlags::DIRECTORY, 0).map_err(wrong())?;
            root::finish_folder(folder.as_fd(), *meta).map_err(wrong())?;
        }
        Ok(self.done)
    }
}

fn attributes(entry: &mut tar::Entry<'_, impl Read>) -> io::Result<Vec<(String, Vec<u8>)>> {
    let Some(records) = entry.pax_extensions()? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for record in records {
        let record = record?;
        if let Some(key) = record.key().ok().and_then(|key| key.strip_prefix("SCHILY.xattr.")) {
            found.push((key.to_owned(), record.value_bytes().to_vec()));
        }
    }
    Ok(found)
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
