//! A file or tree into a stream.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read as _, Write},
    os::{fd::AsFd as _, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{FileType, OFlags, Stat};

use super::{Carried, CopyError, failed, is_carried};
use crate::{
    host::{
        live::{self, Directory, Found, Identity, Walker},
        root::Root,
    },
    tarfile::{
        Attributes, acl,
        member::{Bytes, Member, Nothing, Segment, What},
        opened::Opened,
        write::{Form, Tar},
    },
};

/// The name of a whole tree, which has none.
const ROOT: &str = "rootfs";

/// Packs a file or tree. Its first name is the source's own; a last link is packed as a link unless a slash follows.
pub fn pack(root: &Root, path: &Path, output: &mut dyn Write) -> Result<Carried, CopyError> {
    let slash = path.as_os_str().as_bytes().ends_with(b"/");
    let tar = Tar::new(Stream(output), Form { prefix: "", sparse: true });
    let mut packer = Packer { tar, links: HashMap::new(), done: Carried::default() };
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
    let Packer { tar, done, .. } = packer;
    let finished = tar.finish().and_then(|mut out| out.flush());
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
            Ok(Carried { entries: 1, bytes: bytes.map_err(wrong())?, ..Carried::default() })
        }
        _ => Err(wrong()(io::Error::other("it is neither a file nor a folder"))),
    }
}

struct Packer<'a> {
    tar: Tar<Stream<'a>>,
    links: HashMap<(u64, u64), PathBuf>,
    done: Carried,
}

impl Packer<'_> {
    /// Packs a folder that is open, and all below it.
    fn folder(&mut self, top: Directory, name: &Path) -> Result<(), CopyError> {
        let begin = || failed(name, "reading the folder");
        let stat = top.own().map_err(begin())?;
        let own = attributes(&top.again().map_err(begin())?.into_handle()).map_err(begin())?;
        self.folder_entry(&stat, name, &own).map_err(begin())?;
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
            let own = found.open(OFlags::RDONLY | OFlags::DIRECTORY).map(File::from);
            let attributes = match own.and_then(|own| attributes(&own)) {
                Ok(attributes) => attributes,
                // it is seen below whether it went, or is mounted there
                Err(error) if live::vanished(&error) => Attributes::new(),
                Err(error) => return Err(failed(&path, "reading")(error)),
            };
            match walker.enter().map_err(above)? {
                None => self.folder_entry(&stat, &path, &attributes).map_err(failed(&path, "packing"))?,
                // what is mounted in the tree is another tree
                Some(why) if why.raw_os_error() == Some(libc::EXDEV) => {
                    self.done.leave_out(&path, "mounted there");
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn folder_entry(&mut self, stat: &Stat, path: &Path, attributes: &Attributes) -> io::Result<()> {
        self.add(&Member { attributes, ..member(stat, path, What::Folder) }, &mut Nothing)
    }

    fn add(&mut self, member: &Member<'_>, bytes: &mut dyn Bytes) -> io::Result<()> {
        self.done.entries += 1;
        self.tar.add(member, bytes)
    }

    /// Packs what has a name in a folder, and is no folder.
    fn entry(&mut self, found: &Found<'_>, path: &Path) -> io::Result<()> {
        let stat = &found.stat;
        let left_out = match found.kind() {
            FileType::RegularFile | FileType::Symlink | FileType::Fifo => None,
            FileType::Socket => Some("a socket"),
            _ => Some("a device"),
        };
        if let Some(what) = left_out {
            self.done.leave_out(path, what);
            return Ok(());
        }
        if stat.st_nlink > 1
            && let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)).cloned()
        {
            return self.add(&member(stat, path, What::Hard(&first)), &mut Nothing);
        }
        match found.kind() {
            FileType::RegularFile => match found.open(OFlags::RDONLY) {
                Ok(file) => self.file(file.into(), path)?,
                Err(error) if error.raw_os_error() == Some(libc::EXDEV) => {
                    self.done.leave_out(path, "mounted there");
                    return Ok(());
                }
                Err(error) => return Err(error),
            },
            FileType::Symlink => {
                let target = found.link()?;
                self.add(&member(stat, path, What::Link(&target)), &mut Nothing)?;
            }
            _ => {
                let what = What::Node { kind: libc::S_IFIFO, device: 0 };
                self.add(&member(stat, path, what), &mut Nothing)?;
            }
        }
        // known once it is in the stream: a later name must not refer to what vanished
        if stat.st_nlink > 1 {
            self.links.insert((stat.st_dev, stat.st_ino), path.to_owned());
        }
        Ok(())
    }

    fn file(&mut self, file: File, path: &Path) -> io::Result<()> {
        let stat = &rustix::fs::fstat(&file)?;
        let segments = Segment::all(&file, stat)?;
        let attributes = attributes(&file)?;
        self.done.bytes += segments.iter().map(|segment| segment.length).sum::<u64>();
        let what = What::File { size: stat.st_size.cast_unsigned(), segments: &segments };
        let member = Member { attributes: &attributes, ..member(stat, path, what) };
        self.add(&member, &mut Opened::new(file))
    }
}

/// The stream. Its errors are not mistaken for those of the tree.
struct Stream<'a>(&'a mut dyn Write);

impl Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(output)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(output)
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

/// Reads the extended attributes that a copy keeps.
fn attributes(file: &File) -> io::Result<Attributes> {
    let mut all = live::attributes(file)?;
    all.retain(|(name, _)| is_carried(name.as_bytes()) || name == acl::ACCESS || name == acl::DEFAULT);
    Ok(all)
}

const fn member<'a>(stat: &Stat, path: &'a Path, what: What<'a>) -> Member<'a> {
    Member {
        path,
        what,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: stat.st_mtime,
        attributes: &[],
    }
}
