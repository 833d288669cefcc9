//! Packs a tree into a tar file, the same bytes for the same tree.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileTypeExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
    time::Instant,
};

use crate::{
    Result,
    error::{Cause, Class, Context as _, Hint},
    host::{runner::Runner, space},
    output::{Compression, Contents, Encoder, Filesystem, ImageFile, Sink},
    report::{Event, Phase, Reporter, Unit},
    tarfile::write,
};

/// How a tree is packed, and where.
#[derive(Clone, Copy, Debug)]
pub struct Packing<'a> {
    /// The file that is made.
    pub file: &'a Path,
    /// A folder of the same file system, for what is not whole yet.
    pub work: &'a Path,
    /// How the tar file is compressed.
    pub compression: Compression,
    /// The latest time that an entry has, in seconds since 1970.
    pub epoch: i64,
}

/// Why a tree is not packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// Something in the tree cannot be read.
    #[error("{path} cannot be packed", path = path.display())]
    Read {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("{path} cannot be written", path = path.display())]
    Write {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Cause for PackError {
    fn class(&self) -> Class {
        Class::Host
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Write { source, .. } => space::hint(source).into_iter().collect(),
            _ => Vec::new(),
        }
    }
}

/// Packs a tree: names in order, owners by number, times no later than the epoch, hard links and extended
/// attributes kept. The file is written under a temporary name, synced, and renamed.
///
/// # Errors
/// [`PackError`].
pub fn pack(
    tree: &Path,
    packing: Packing<'_>,
    reporter: &dyn Reporter,
) -> std::result::Result<(), PackError> {
    let Packing { file, work, compression, epoch } = packing;
    let begun = Instant::now();
    reporter.report(Event::Started { phase: Phase::Pack, unit: Unit::Bytes, total: 0 });
    let failed = |source| PackError::Write { path: file.to_owned(), source };
    let mut temporary = tempfile::NamedTempFile::new_in(work).map_err(failed)?;
    stream(tree, (temporary.as_file_mut(), file), compression, epoch, reporter)?;
    let size = named(temporary, file)?;
    reporter.report(Event::Finished {
        phase: Phase::Pack,
        elapsed: begun.elapsed(),
        summary: format!("{} ({:.0} MB)", file.display(), size as f64 / 1e6),
    });
    Ok(())
}

/// Writes an image of a file system of a tree, as a file that gets its name when it is whole and on disk.
///
/// # Errors
/// [`OutputError`], and of a tar file in between [`PackError`].
pub fn image(
    tree: &Path,
    filesystem: Filesystem,
    packing: Packing<'_>,
    runner: &dyn Runner,
    reporter: &dyn Reporter,
) -> Result<()> {
    let Packing { file, work, epoch, .. } = packing;
    let subject = || file.display().to_string();
    let begun = Instant::now();
    reporter.report(Event::Started { phase: Phase::Pack, unit: Unit::Bytes, total: 0 });
    let failed = |source| PackError::Write { path: file.to_owned(), source };
    let temporary = tempfile::NamedTempFile::new_in(work).map_err(failed).during("write", subject())?;
    let tar = work.join("tree.tar");
    let contents = if filesystem.needs_tar() {
        let mut out = File::create(&tar).map_err(failed).during("write", subject())?;
        stream(tree, (&mut out, file), Compression::Plain, epoch, reporter).during("write", subject())?;
        Contents::Tar(&tar)
    } else {
        Contents::Directory(tree)
    };
    let written = ImageFile { path: temporary.path(), target: file, scratch: work, epoch };
    filesystem.write(contents, written, runner).during("write", subject())?;
    let size = named(temporary, file).during("write", subject())?;
    reporter.report(Event::Finished {
        phase: Phase::Pack,
        elapsed: begun.elapsed(),
        summary: format!("{} ({:.0} MB)", file.display(), size as f64 / 1e6),
    });
    Ok(())
}

/// Gives a written file its permissions and its name, when it is on disk; returns its length.
fn named(temporary: tempfile::NamedTempFile, file: &Path) -> std::result::Result<u64, PackError> {
    let failed = |source| PackError::Write { path: file.to_owned(), source };
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // a program may have replaced the file
    let written = File::open(temporary.path()).map_err(failed)?;
    written.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644)).map_err(failed)?;
    written.sync_all().map_err(failed)?;
    let size = written.metadata().map_err(failed)?.len();
    temporary.persist_noclobber(file).map_err(|error| failed(error.error))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    Ok(size)
}

/// Packs a tree into a stream, as [`pack`] does; `name` is the stream's in messages.
///
/// # Errors
/// [`PackError`].
pub fn stream(
    tree: &Path,
    (out, name): (&mut dyn Write, &Path),
    compression: Compression,
    epoch: i64,
    reporter: &dyn Reporter,
) -> std::result::Result<(), PackError> {
    let failed = |source| PackError::Write { path: name.to_owned(), source };
    let (sink, broken) = Sink::new(out);
    let encoder = Encoder::new(compression, sink).map_err(failed)?;
    // both ends of a copy fail with the same kind of error
    let blame = |problem| match problem {
        PackError::Read { source, .. } if broken.get() => failed(source),
        problem => problem,
    };
    let encoder = append_all(tree, encoder, epoch, reporter).map_err(blame)?;
    encoder.finish().and_then(|mut sink| sink.flush()).map_err(failed)
}

fn append_all<W: Write>(
    tree: &Path,
    out: W,
    epoch: i64,
    reporter: &dyn Reporter,
) -> std::result::Result<W, PackError> {
    let mut builder = tar::Builder::new(out);
    let mut links: HashMap<(u64, u64), PathBuf> = HashMap::new();
    let mut stack = vec![PathBuf::new()];
    while let Some(path) = stack.pop() {
        let full = tree.join(&path);
        let failed = |source| PackError::Read { path: full.clone(), source };
        let found = fs::symlink_metadata(&full).map_err(failed)?;
        if found.is_dir() {
            let mut names = fs::read_dir(&full)
                .and_then(|entries| {
                    entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()
                })
                .map_err(failed)?;
            names.sort_by(|a, b| b.cmp(a));
            stack.extend(names.into_iter().map(|name| path.join(name)));
        }
        // a socket is of a running program: nothing to keep
        if found.file_type().is_socket() {
            continue;
        }
        append(&mut builder, &mut links, &path, &full, &found, epoch).map_err(failed)?;
        reporter.report(Event::Advanced { phase: Phase::Pack, delta: found.len() });
    }
    builder.into_inner().map_err(|source| PackError::Read { path: tree.to_owned(), source })
}

fn append<W: Write>(
    builder: &mut tar::Builder<W>,
    links: &mut HashMap<(u64, u64), PathBuf>,
    path: &Path,
    full: &Path,
    found: &fs::Metadata,
    epoch: i64,
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_uid(found.uid().into());
    header.set_gid(found.gid().into());
    header.set_mode(found.mode() & 0o7777);
    let mtime = found.mtime().min(epoch);
    header.set_mtime(u64::try_from(mtime).unwrap_or(0));
    header.set_size(0);
    // the top is `./`; nothing else has a dot in front, which the writer would strip from short names only
    let name = if path.as_os_str().is_empty() { PathBuf::from(".") } else { path.to_owned() };
    let kind = found.file_type();
    if !kind.is_dir() && found.nlink() > 1 {
        if let Some(first) = links.get(&(found.dev(), found.ino())) {
            header.set_entry_type(tar::EntryType::Link);
            return builder.append_link(&mut header, &name, first);
        }
        links.insert((found.dev(), found.ino()), name.clone());
    }
    let mut records = records(full)?;
    records.extend(write::far(mtime).map(|(key, value)| (key.to_owned(), value.into_bytes())));
    if !records.is_empty() {
        let records = records.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
        builder.append_pax_extensions(records)?;
    }
    if kind.is_dir() {
        header.set_entry_type(tar::EntryType::Directory);
        let mut name = name.into_os_string();
        name.push("/");
        builder.append_data(&mut header, name, io::empty())
    } else if kind.is_symlink() {
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        builder.append_link(&mut header, &name, fs::read_link(full)?)
    } else if kind.is_file() {
        header.set_size(found.len());
        header.set_entry_type(tar::EntryType::Regular);
        builder.append_data(&mut header, &name, io::Read::take(File::open(full)?, found.len()))
    } else {
        header.set_entry_type(if kind.is_char_device() {
            tar::EntryType::Char
        } else if kind.is_block_device() {
            tar::EntryType::Block
        } else {
            tar::EntryType::Fifo
        });
        header.set_device_major(rustix::fs::major(found.rdev()))?;
        header.set_device_minor(rustix::fs::minor(found.rdev()))?;
        builder.append_data(&mut header, &name, io::empty())
    }
}

/// Reads extended attributes as records, in order; those of the host are left out.
fn records(path: &Path) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut names = vec![0; 4 << 10];
    let length = match rustix::fs::llistxattr(path, names.as_mut_slice()) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(errno) => return Err(errno.into()),
    };
    let mut found = Vec::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = OsStr::from_bytes(name);
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::lgetxattr(path, name, value.as_mut_slice())?;
        let records = write::attribute(name, &value[..length]).into_iter();
        found.extend(records.map(|(key, value)| (String::from_utf8_lossy(&key).into_owned(), value)));
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_tree_gives_the_same_bytes() {
        let tree = tempfile::tempdir().unwrap();
        let root = tree.path().join("t");
        fs::create_dir_all(root.join("b/long".to_owned() + &"x".repeat(120))).unwrap();
        fs::write(root.join("b/file"), "text").unwrap();
        fs::hard_link(root.join("b/file"), root.join("a")).unwrap();
        std::os::unix::fs::symlink("b/file", root.join("c")).unwrap();
        let pack = |name: &str, compression| {
            let file = tree.path().join(name);
            let packing = Packing { file: &file, work: tree.path(), compression, epoch: 1000 };
            super::pack(&root, packing, &crate::report::Silent).unwrap();
            fs::read(file).unwrap()
        };
        let first = pack("1.tar", Compression::Plain);
        assert_eq!(first, pack("2.tar", Compression::Plain));
        let mut archive = tar::Archive::new(first.as_slice());
        let entries: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                assert!(entry.header().mtime().unwrap() <= 1000);
                (entry.path().unwrap().display().to_string(), entry.header().entry_type())
            })
            .collect();
        assert_eq!(entries[0].0, "./");
        assert!(entries[1..].iter().all(|(name, _)| !name.starts_with('.')), "{entries:?}");
        assert!(entries.contains(&("b/file".to_owned(), tar::EntryType::Link)), "{entries:?}");
        let packed = pack("3.tar.zst", Compression::Zstd);
        assert_eq!(zstd::decode_all(packed.as_slice()).unwrap(), first);
    }

    #[test]
    fn lists_and_old_times_are_in_it_and_what_is_of_the_host_is_not() {
        use crate::tarfile::{
            acl::{ACCESS, Acl},
            read::Tar,
        };
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("t");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("file"), "text").unwrap();
        let acl = Acl::of_text(b"user::rw-,user:33:rw-,group::r--,mask::rw-,other::---").unwrap();
        let set = |name: &str, value: &[u8]| {
            rustix::fs::setxattr(root.join("file"), name, value, rustix::fs::XattrFlags::empty()).unwrap();
        };
        set(ACCESS, &acl.attribute());
        set("user.note", b"x");
        if nix::unistd::geteuid().is_root() {
            set("trusted.other", b"x");
        }
        let old = std::time::UNIX_EPOCH - std::time::Duration::from_secs(315_619_200);
        File::open(root.join("file")).unwrap().set_modified(old).unwrap();
        let file = place.path().join("tar");
        let packing =
            Packing { file: &file, work: place.path(), compression: Compression::Plain, epoch: 1000 };
        super::pack(&root, packing, &crate::report::Silent).unwrap();
        let mut tar = Tar::new(File::open(file).unwrap());
        assert_eq!(tar.next().unwrap().unwrap().path, b"./");
        let member = tar.next().unwrap().unwrap();
        assert_eq!((member.mtime, member.acls.access), (-315_619_200, Some(acl)));
        assert_eq!(member.attributes, [("user.note".into(), b"x".to_vec())]);
    }
}
