//! A file or tree into a stream.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, openat2, statat},
    io::Errno,
};

use super::{Carried, CopyError, failed};
use crate::host::root::{self, Root};

/// Extended attributes that are kept: a user's own, and what a program may do.
const ATTRIBUTES: [&str; 2] = ["user.", "security.capability"];

/// The name of a whole tree, which has none.
const ROOT: &str = "rootfs";

/// Packs a file or tree. Its first name is the source's own; a last link is packed as a link unless a slash follows.
pub fn pack(root: &Root, path: &Path, output: &mut dyn Write) -> Result<Carried, CopyError> {
    let slash = path.as_os_str().as_bytes().ends_with(b"/");
    let mut packer =
        Packer { builder: tar::Builder::new(output), links: HashMap::new(), done: Carried::default() };
    let wrong = || failed(path, "reading");
    match root.parent(path) {
        Ok((folder, name)) if !slash => {
            let packed = packer.entry(&folder, &name, &name, ResolveFlags::empty());
            packed.map_err(|error| match error {
                // what the user typed, where it is that which is not there
                CopyError::Io { path: at, doing, source } if at == name => {
                    CopyError::Io { path: path.to_owned(), doing, source }
                }
                other => other,
            })?;
        }
        // `/`, or what a link leads to
        _ => {
            let top = root.at(path, OFlags::RDONLY | OFlags::DIRECTORY, 0).map_err(wrong())?;
            let name = path.file_name().map_or_else(|| PathBuf::from(ROOT), PathBuf::from);
            packer.folder(top, &name)?;
        }
    }
    let Packer { builder, done, .. } = packer;
    let finished = builder.into_inner().and_then(|out| out.flush());
    finished.map_err(|source| CopyError::Stream { source })?;
    Ok(done)
}

/// Gives a file as it is, a folder as tar.
pub fn read(root: &Root, path: &Path, output: &mut dyn Write) -> Result<Carried, CopyError> {
    let wrong = || failed(path, "reading");
    let found = root.at(path, OFlags::PATH, 0).map_err(wrong())?;
    let stat = rustix::fs::fstat(&found).map_err(|errno| wrong()(errno.into()))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => pack(root, path, output),
        FileType::RegularFile => {
            let mut file = File::from(root.at(path, OFlags::RDONLY | OFlags::NONBLOCK, 0).map_err(wrong())?);
            let bytes = io::copy(&mut file, output).and_then(|bytes| output.flush().map(|()| bytes));
            Ok(Carried { entries: 1, bytes: bytes.map_err(wrong())?, left_out: Vec::new() })
        }
        _ => Err(wrong()(io::Error::other("it is neither a file nor a folder"))),
    }
}

struct Packer<'a> {
    builder: tar::Builder<&'a mut dyn Write>,
    links: HashMap<(u64, u64), PathBuf>,
    done: Carried,
}

impl Packer<'_> {
    /// Packs a folder that is open, and all below it: a stack of our own, for trees may be deep.
    fn folder(&mut self, top: OwnedFd, name: &Path) -> Result<(), CopyError> {
        let mut stack = vec![(name.to_owned(), self.begin(top, name)?)];
        while let Some((path, (folder, names))) = stack.last_mut() {
            let Some(name) = names.pop() else {
                stack.pop();
                continue;
            };
            let inner = path.join(&name);
            let folder = folder.try_clone().map_err(failed(&inner, "opening the folder"))?;
            // what is mounted in the tree is another tree
            match open(&folder, &name, OFlags::RDONLY | OFlags::DIRECTORY, ResolveFlags::NO_XDEV) {
                Ok(below) => {
                    let begun = self.begin(below, &inner)?;
                    stack.push((inner, begun));
                }
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    self.entry(&folder, &name, &inner, ResolveFlags::NO_XDEV)?;
                }
                Err(Errno::XDEV) => self.done.leave_out(&inner, "mounted there"),
                // it went while we looked
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(failed(&inner, "opening the folder")(errno.into())),
            }
        }
        Ok(())
    }

    /// Packs a folder's own entry and lists its names, the last first.
    fn begin(&mut self, folder: OwnedFd, path: &Path) -> Result<(OwnedFd, Vec<PathBuf>), CopyError> {
        let read = |source| failed(path, "reading the folder")(source);
        let stat = rustix::fs::fstat(&folder).map_err(|errno| read(errno.into()))?;
        let mut names: Vec<_> =
            root::entries(&folder).map_err(read)?.into_iter().map(|(name, _)| name).collect();
        names.sort_by(|a, b| b.cmp(a));
        let mut name = path.as_os_str().to_owned();
        name.push("/");
        let mut header = header(&stat, tar::EntryType::Directory);
        self.append(&mut header, Path::new(&name), io::empty())?;
        Ok((folder, names))
    }

    fn append(&mut self, header: &mut tar::Header, name: &Path, data: impl Read) -> Result<(), CopyError> {
        self.done.entries += 1;
        self.builder.append_data(header, name, data).map_err(failed(name, "packing"))
    }

    fn append_link(
        &mut self,
        header: &mut tar::Header,
        name: &Path,
        target: impl AsRef<Path>,
    ) -> Result<(), CopyError> {
        self.done.entries += 1;
        self.builder.append_link(header, name, target).map_err(failed(name, "packing"))
    }

    /// Packs what has a name in a folder.
    fn entry(
        &mut self,
        folder: &OwnedFd,
        name: &Path,
        path: &Path,
        within: ResolveFlags,
    ) -> Result<(), CopyError> {
        let wrong = || failed(path, "reading");
        let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|errno| wrong()(errno.into()))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let below = open(folder, name, flags, within).map_err(|errno| wrong()(errno.into()))?;
            return self.folder(below, path);
        }
        let entry_type = match kind {
            FileType::RegularFile => tar::EntryType::Regular,
            FileType::Symlink => tar::EntryType::Symlink,
            FileType::Fifo => tar::EntryType::Fifo,
            FileType::Socket => {
                self.done.leave_out(path, "a socket");
                return Ok(());
            }
            _ => {
                self.done.leave_out(path, "a device");
                return Ok(());
            }
        };
        let mut header = header(&stat, entry_type);
        if stat.st_nlink > 1 {
            let identity = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&identity).cloned() {
                header.set_entry_type(tar::EntryType::Link);
                return self.append_link(&mut header, path, first);
            }
            self.links.insert(identity, path.to_owned());
        }
        match kind {
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
                match open(folder, name, flags, within) {
                    Ok(file) => self.file(file.into(), path),
                    Err(Errno::XDEV) => {
                        self.done.leave_out(path, "mounted there");
                        Ok(())
                    }
                    Err(Errno::NOENT) => Ok(()),
                    Err(errno) => Err(wrong()(errno.into())),
                }
            }
            FileType::Symlink => {
                let target = root::target(folder.as_fd(), name).map_err(wrong())?;
                self.append_link(&mut header, path, target)
            }
            _ => self.append(&mut header, path, io::empty()),
        }
    }

    fn file(&mut self, file: File, path: &Path) -> Result<(), CopyError> {
        let wrong = || failed(path, "reading the file");
        let stat = rustix::fs::fstat(&file).map_err(|errno| wrong()(errno.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        let attributes = attributes(&file).map_err(wrong())?;
        if !attributes.is_empty() {
            let records: Vec<(String, &[u8])> = attributes
                .iter()
                .map(|(key, value)| (format!("SCHILY.xattr.{key}"), value.as_slice()))
                .collect();
            let records = records.iter().map(|(key, value)| (key.as_str(), *value));
            self.builder.append_pax_extensions(records).map_err(wrong())?;
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let mut header = header(&stat, tar::EntryType::Regular);
        header.set_size(size);
        // one that is written to meanwhile has the length that it had, as with tar(1)
        let data = file.take(size).chain(io::repeat(0)).take(size);
        self.done.bytes += size;
        self.append(&mut header, path, data)
    }
}

/// Opens a name in a folder, no link followed.
fn open(folder: &OwnedFd, name: &Path, flags: OFlags, within: ResolveFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | within;
    openat2(folder, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), resolve)
}

fn header(stat: &Stat, kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_uid(stat.st_uid.into());
    header.set_gid(stat.st_gid.into());
    header.set_mode(stat.st_mode & 0o7777);
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    header.set_size(0);
    header.set_entry_type(kind);
    header
}

fn attributes(file: &File) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut names = vec![0; 64 << 10];
    let length = match rustix::fs::flistxattr(file, names.as_mut_slice()) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(errno) => return Err(errno.into()),
    };
    let mut found = Vec::new();
    for name in names[..length].split(|byte| *byte == 0) {
        let Ok(text) = std::str::from_utf8(name) else { continue };
        if ATTRIBUTES.iter().any(|kept| text.starts_with(kept)) {
            let mut value = vec![0; 64 << 10];
            match rustix::fs::fgetxattr(file, OsStr::from_bytes(name), value.as_mut_slice()) {
                Ok(length) => value.truncate(length),
                Err(Errno::NODATA) => continue,
                Err(errno) => return Err(errno.into()),
            }
            found.push((text.to_owned(), value));
        }
    }
    Ok(found)
}
