//! A volume's first content: what the tree has in its place.
//!
//! What the volume has already stays, and what a guest made of an earlier volume is never followed: a link in place of a
//! directory is left alone. A file gets its name once it is whole, and a directory its times and attributes once all is
//! in it, so that a process that was killed leaves nothing that a later one takes for the volume's own.

use std::{
    collections::HashMap,
    ffi::OsString,
    io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType, OFlags, RenameFlags, linkat, renameat_with, unlinkat},
    io::Errno,
};

use crate::{
    host::{
        large::{Buffer, Source},
        live::{self, Cursor, Directory, Found, Identity, Walker},
        root::{self, Meta},
        temporary,
    },
    layer::kept,
};

type Attributes = Vec<(OsString, Vec<u8>)>;

/// The access list of a volume's own directory would widen the permissions that its definition has.
const ACCESS: &str = "system.posix_acl_access";

/// Copies what a volume does not have, with hard links, owners, permissions, times and attributes.
pub(super) fn fill(from: &Directory, to: &Directory) -> io::Result<()> {
    let mut filler = Filler {
        to: Cursor::new(to.again()?),
        first: Cursor::new(to.again()?),
        links: HashMap::new(),
        folders: Vec::new(),
        buffer: Buffer::default(),
    };
    let mut walker = Walker::new(from.again()?, false, true)?;
    while let Some(found) = walker.advance().map_err(live::named)? {
        if filler.one(&found)? {
            walker.enter().map_err(live::named)?;
        }
    }
    filler.finish()
}

/// Gives a volume's own directory its owner and permissions, and a new one the times and attributes of the tree's.
pub(super) fn finish_top(from: &Directory, to: Directory, meta: Meta, is_new: bool) -> io::Result<()> {
    let model = if is_new { from.own()? } else { to.own()? };
    let mut attributes = Attributes::new();
    if is_new {
        attributes = live::attributes(&from.again()?.into_handle())?;
        attributes.retain(|(name, _)| name != ACCESS);
    }
    let own = kept::entry::Meta { mode: meta.mode, uid: meta.uid, gid: meta.gid, ..kept::meta(&model) };
    kept::finish(&to.into_handle(), own, &attributes)
}

struct Filler {
    to: Cursor,
    /// The second place of a hard link.
    first: Cursor,
    /// The first name of each file with several that was copied.
    links: HashMap<Identity, PathBuf>,
    /// Directories that were made.
    folders: Vec<(PathBuf, kept::entry::Meta, Attributes)>,
    buffer: Buffer,
}

impl Filler {
    /// Copies one path, and reports whether it is a directory that the volume has then too.
    fn one(&mut self, found: &Found<'_>) -> io::Result<bool> {
        let above = found.path.parent().unwrap_or(Path::new(""));
        let name = found.name.as_os_str();
        let there = match self.to.go(above)?.stat(name) {
            Ok(stat) => Some(FileType::from_raw_mode(stat.st_mode)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        match (found.kind(), there) {
            (FileType::Directory, Some(FileType::Directory)) => return Ok(true),
            (FileType::Directory, None) => {
                self.folder(found)?;
                return Ok(true);
            }
            (_, None) => self.other(found)?,
            _ => {}
        }
        Ok(false)
    }

    fn folder(&mut self, found: &Found<'_>) -> io::Result<()> {
        let meta = kept::meta(&found.stat);
        let attributes = live::attributes(&found.open(OFlags::RDONLY | OFlags::DIRECTORY)?.into())?;
        let above = self.to.go(found.path.parent().unwrap_or(Path::new("")))?;
        let early = Meta { mode: meta.mode, uid: meta.uid, gid: meta.gid, mtime: 0 };
        root::make_folder(above.as_fd(), found.name, early)?;
        self.folders.push((found.path.to_owned(), meta, attributes));
        Ok(())
    }

    fn other(&mut self, found: &Found<'_>) -> io::Result<()> {
        let (above, name) = (found.path.parent().unwrap_or(Path::new("")), found.name.as_os_str());
        let identity = Identity::from(&found.stat);
        if let Some(first) = self.links.get(&identity) {
            let old = first.file_name().unwrap_or_default();
            let from = self.first.go(first.parent().unwrap_or(Path::new("")))?;
            return Ok(linkat(from, old, self.to.go(above)?, name, AtFlags::empty())?);
        }
        let to = self.to.go(above)?;
        let meta = kept::meta(&found.stat);
        let device = found.stat.st_rdev;
        match found.kind() {
            FileType::RegularFile => copy_file(found, to, &mut self.buffer)?,
            FileType::Symlink => kept::new_link(to, name, &found.link()?, meta)?,
            // what overlays have in place of what was removed is a device without a number
            kind @ (FileType::Fifo | FileType::Socket | FileType::CharacterDevice) if device == 0 => {
                kept::new_node(to, name, (kind.as_raw_mode(), device), meta)?;
            }
            // a backend makes its own devices
            _ => return Ok(()),
        }
        if found.stat.st_nlink > 1 {
            self.links.insert(identity, found.path.to_owned());
        }
        Ok(())
    }

    /// Gives directories that were made their times and attributes, the innermost first.
    fn finish(mut self) -> io::Result<()> {
        for (path, meta, attributes) in self.folders.iter().rev() {
            kept::finish(self.to.go(path)?, *meta, attributes)?;
        }
        Ok(())
    }
}

/// Copies a file under a temporary name and renames it.
fn copy_file(found: &Found<'_>, above: &Directory, buffer: &mut Buffer) -> io::Result<()> {
    let temporary = temporary::new(found.name.as_os_str());
    match unlinkat(above, &*temporary, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let source = Source::new(found.open(OFlags::RDONLY)?.into(), None);
    let attributes = live::attributes(source.file())?;
    let new = root::new_file(above.as_fd(), Path::new(&temporary))?;
    let mut put = || -> io::Result<()> {
        live::copy_data(&source, &found.stat, &new, buffer)?;
        kept::finish(&new, kept::meta(&found.stat), &attributes)?;
        Ok(renameat_with(above, &*temporary, above, found.name, RenameFlags::NOREPLACE)?)
    };
    put().inspect_err(|_| {
        let _ = unlinkat(above, &*temporary, AtFlags::empty());
    })
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    };

    use rustix::fs::{CWD, Timespec, Timestamps, XattrFlags, lgetxattr, lsetxattr, mkfifoat, utimensat};

    use super::*;

    /// `user::rw-`, `user:1234:r--`, `group::r--`, `mask::r--`, `other::---`.
    ///
    /// **Source**: acl(5); `linux/posix_acl_xattr.h` of the kernel.
    fn access_list() -> Vec<u8> {
        let entry = |tag: u16, permissions: u16, id: u32| {
            [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        let (all, none) = (u32::MAX, u32::MAX);
        let entries = [(1, 6, none), (2, 4, 1234), (4, 4, none), (16, 4, all), (32, 0, none)]
            .map(|(t, p, i)| entry(t, p, i));
        [2_u32.to_le_bytes().to_vec(), entries.concat()].concat()
    }

    fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
        let mut value = vec![0; 256];
        let length = lgetxattr(path, name, &mut *value).ok()?;
        value.truncate(length);
        Some(value)
    }

    fn set_time(path: &Path, seconds: i64, nanoseconds: i64) {
        let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }

    fn filled(from: &Path, to: &Path) {
        fill(&Directory::top(from).unwrap(), &Directory::top(to).unwrap()).unwrap();
    }

    #[test]
    fn what_a_path_has_is_what_the_volume_gets() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("d")).unwrap();
        fs::create_dir(&to).unwrap();
        let long = "x".repeat(temporary::NAME);
        for name in [&*long, "first", "d/listed"] {
            fs::write(from.join(name), name).unwrap();
        }
        fs::hard_link(from.join("first"), from.join("d/second")).unwrap();
        mkfifoat(CWD, from.join("pipe"), 0o640.into()).unwrap();
        std::os::unix::fs::symlink("/nowhere", from.join("link")).unwrap();
        lsetxattr(from.join("first"), "user.note", b"kept", XattrFlags::empty()).unwrap();
        for name in ["system.posix_acl_access", "system.posix_acl_default"] {
            lsetxattr(from.join("d"), name, &access_list(), XattrFlags::empty()).unwrap();
        }
        lsetxattr(from.join("d/listed"), ACCESS, &access_list(), XattrFlags::empty()).unwrap();
        let names = [&*long, "first", "pipe", "link", "d/listed", "d/second", "d"];
        for (at, name) in names.iter().enumerate() {
            set_time(&from.join(name), at as i64 - 2, 123_456_789);
        }
        filled(&from, &to);
        for name in names {
            let [old, new] = [&from, &to].map(|tree| fs::symlink_metadata(tree.join(name)).unwrap());
            let facts =
                |of: &fs::Metadata| (of.mode(), of.uid(), of.gid(), of.mtime(), of.mtime_nsec(), of.nlink());
            assert_eq!(facts(&new), facts(&old), "{name}");
            for key in ["user.note", ACCESS, "system.posix_acl_default"] {
                let [old, new] = [&from, &to].map(|tree| attribute(&tree.join(name), key));
                assert_eq!(new, old, "{name}: {key}");
            }
        }
        let inode = |name: &str| fs::metadata(to.join(name)).unwrap().ino();
        assert_eq!(inode("first"), inode("d/second"));
    }

    #[test]
    fn what_the_volume_has_keeps_all_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        for tree in [&from, &to] {
            fs::create_dir_all(tree.join("d")).unwrap();
        }
        fs::write(from.join("a"), "of the tree").unwrap();
        fs::hard_link(from.join("a"), from.join("b")).unwrap();
        fs::hard_link(from.join("a"), from.join("d/c")).unwrap();
        fs::write(to.join("a"), "of the guest").unwrap();
        fs::set_permissions(to.join("d"), fs::Permissions::from_mode(0o711)).unwrap();
        set_time(&to.join("a"), 5, 7);
        // what a killed process left
        let left = to.join(temporary::new("b".as_ref()));
        fs::write(&left, "half").unwrap();
        filled(&from, &to);
        let found = fs::metadata(to.join("a")).unwrap();
        assert_eq!((found.mtime(), found.mtime_nsec(), found.nlink()), (5, 7, 1));
        assert_eq!(fs::read(to.join("a")).unwrap(), b"of the guest");
        assert_eq!(fs::read(to.join("b")).unwrap(), b"of the tree");
        let inode = |name: &str| fs::metadata(to.join(name)).unwrap().ino();
        assert_eq!(inode("b"), inode("d/c"));
        assert_eq!(fs::metadata(to.join("d")).unwrap().mode() & 0o777, 0o711);
        assert!(!left.exists());
    }

    #[test]
    fn the_volumes_own_directory_has_the_trees_times_once_and_never_its_access_list() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        for tree in [&from, &to] {
            fs::create_dir(tree).unwrap();
        }
        for name in [ACCESS, "system.posix_acl_default"] {
            lsetxattr(&from, name, &access_list(), XattrFlags::empty()).unwrap();
        }
        set_time(&from, 11, 13);
        let own = nix::unistd::getuid().as_raw();
        let meta = Meta { mode: 0o700, uid: own, gid: nix::unistd::getgid().as_raw(), mtime: 0 };
        let finish = |is_new| {
            finish_top(&Directory::top(&from).unwrap(), Directory::top(&to).unwrap(), meta, is_new).unwrap();
            let found = fs::metadata(&to).unwrap();
            (found.mode() & 0o777, found.mtime(), found.mtime_nsec())
        };
        assert_eq!(finish(true), (0o700, 11, 13));
        assert_eq!(attribute(&to, ACCESS), None);
        assert!(attribute(&to, "system.posix_acl_default").is_some());
        set_time(&to, 17, 19);
        assert_eq!(finish(false), (0o700, 17, 19));
    }
}
