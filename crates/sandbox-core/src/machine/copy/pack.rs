//! A file or tree into a stream.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs::File,
    io::{self, Read, Write},
    os::{fd::AsFd as _, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{FileType, OFlags, Stat};

use super::{Carried, CopyError, failed, sparse};
use crate::host::{
    live::{self, Directory, Found, Identity, Walker},
    root::Root,
};

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
            let folder = Directory::of(folder).map_err(wrong())?;
            let stat = folder.stat(name.as_os_str()).map_err(wrong())?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                // what the user names may itself be mounted
                let top = root.at(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW, 0);
                let top = top.and_then(Directory::of).map_err(wrong())?;
                packer.folder(top, &name)?;
            } else {
                let found = Found { path: &name, stat, folder: folder.as_fd(), name: &name };
                packer.entry(&found, &name).map_err(wrong())?;
            }
        }
        // `/`, or what a link leads to
        _ => {
            let top = root.at(path, OFlags::PATH | OFlags::DIRECTORY, 0);
            let top = top.and_then(Directory::of).map_err(wrong())?;
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
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
            let mut file = File::from(root.at(path, flags, 0).map_err(wrong())?);
            let now = rustix::fs::fstat(&file).map_err(|errno| wrong()(errno.into()))?;
            let size = now.st_size.cast_unsigned();
            let stored = now.st_blocks.cast_unsigned().saturating_mul(512);
            if Identity::from(&now) != Identity::from(&stat) || size.saturating_sub(stored) > live::ZEROS {
                let excess = live::Excess::Zeros.into();
                let gone = io::Error::from(rustix::io::Errno::STALE);
                return Err(wrong()(if Identity::from(&now) == Identity::from(&stat) {
                    excess
                } else {
                    gone
                }));
            }
            let bytes = io::copy(&mut (&mut file).take(size), output);
            let bytes = bytes.and_then(|bytes| output.flush().map(|()| bytes));
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
    /// Packs a folder that is open, and all below it.
    fn folder(&mut self, top: Directory, name: &Path) -> Result<(), CopyError> {
        let begin = || failed(name, "reading the folder");
        let stat = top.own().map_err(begin())?;
        self.folder_entry(&stat, name).map_err(begin())?;
        let above = |(path, error): (PathBuf, io::Error)| failed(&name.join(path), "reading")(error);
        let mut walker = Walker::new(top, true, true).map_err(begin())?;
        while let Some(found) = walker.advance().map_err(above)? {
            let (path, stat) = (name.join(found.path), found.stat);
            if path.as_os_str().len() > live::PATH {
                return Err(failed(name, "reading")(live::Excess::path(path.as_os_str()).into()));
            }
            if found.kind() != FileType::Directory {
                match self.entry(&found, &path) {
                    // it went while we looked
                    Err(error) if !is_output(&error) && live::vanished(&error) => {}
                    other => other.map_err(failed(&path, "reading"))?,
                }
                continue;
            }
            match walker.enter().map_err(above)? {
                None => self.folder_entry(&stat, &path).map_err(failed(&path, "packing"))?,
                // what is mounted in the tree is another tree
                Some(why) if why.raw_os_error() == Some(libc::EXDEV) => {
                    self.done.leave_out(&path, "mounted there");
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn folder_entry(&mut self, stat: &Stat, path: &Path) -> io::Result<()> {
        let mut name = path.as_os_str().to_owned();
        name.push("/");
        self.append(&mut header(stat, tar::EntryType::Directory), Path::new(&name), io::empty())
    }

    fn append(&mut self, header: &mut tar::Header, name: &Path, data: impl Read) -> io::Result<()> {
        self.done.entries += 1;
        self.builder.append_data(header, name, data).map_err(output)
    }

    fn append_link(
        &mut self,
        header: &mut tar::Header,
        name: &Path,
        target: impl AsRef<Path>,
    ) -> io::Result<()> {
        self.done.entries += 1;
        self.builder.append_link(header, name, target).map_err(output)
    }

    /// Packs what has a name in a folder, and is no folder.
    fn entry(&mut self, found: &Found<'_>, path: &Path) -> io::Result<()> {
        let stat = &found.stat;
        let kind = match found.kind() {
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
        let mut header = header(stat, kind);
        if stat.st_nlink > 1
            && let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)).cloned()
        {
            header.set_entry_type(tar::EntryType::Link);
            return self.append_link(&mut header, path, first);
        }
        match found.kind() {
            FileType::RegularFile => match found.open(OFlags::RDONLY) {
                Ok(file) => self.file(&file.into(), path)?,
                Err(error) if error.raw_os_error() == Some(libc::EXDEV) => {
                    self.done.leave_out(path, "mounted there");
                    return Ok(());
                }
                Err(error) => return Err(error),
            },
            FileType::Symlink => {
                let target = found.link()?;
                self.append_link(&mut header, path, target)?;
            }
            _ => self.append(&mut header, path, io::empty())?,
        }
        // known once it is in the stream: a later name must not refer to what vanished
        if stat.st_nlink > 1 {
            self.links.insert((stat.st_dev, stat.st_ino), path.to_owned());
        }
        Ok(())
    }

    fn file(&mut self, file: &File, path: &Path) -> io::Result<()> {
        let stat = &rustix::fs::fstat(file)?;
        let size = stat.st_size.cast_unsigned();
        let parts = live::data_parts(file, stat)?;
        let stored = sparse::stored(&parts);
        let mut records = Vec::new();
        for (key, value) in live::attributes(file)? {
            if let Some(key) = kept(&key) {
                records.push((format!("SCHILY.xattr.{key}"), value));
            }
        }
        let map = if stored < size {
            records.extend(sparse::records(path, size));
            sparse::map(&parts, size)
        } else {
            Vec::new()
        };
        if !records.is_empty() {
            let records = records.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
            self.builder.append_pax_extensions(records).map_err(output)?;
        }
        let mut header = header(stat, tar::EntryType::Regular);
        header.set_size(map.len() as u64 + stored);
        self.done.bytes += stored;
        self.append(&mut header, path, map.as_slice().chain(sparse::Reader::new(file, &parts)))
    }
}

/// An error of the stream's, which is not mistaken for one of the tree's.
#[derive(Debug, thiserror::Error)]
#[error("the stream cannot be written")]
struct Output(#[source] io::Error);

fn output(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), Output(error))
}

fn is_output(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Output>())
}

fn kept(key: &OsString) -> Option<&str> {
    key.to_str().filter(|key| ATTRIBUTES.iter().any(|kept| key.starts_with(kept)))
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
