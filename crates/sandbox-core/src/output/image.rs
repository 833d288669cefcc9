//! Images of file systems, written by the programs of the host that are made for it.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::FileType;

use super::{Format, OutputError};
use crate::{
    digest::Hasher,
    host::{
        live::{Directory, Walker},
        root,
        runner::{Command, Runner, program},
    },
};

/// A file system of which images are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filesystem {
    /// Compressed and read-only.
    Squashfs,
    /// Without a journal.
    Ext2,
    /// What most hosts have.
    Ext4,
}

/// What an image is made of.
#[derive(Clone, Copy, Debug)]
pub enum Contents<'a> {
    /// A tree that no other process changes.
    Directory(&'a Path),
    /// A tar file of a tree.
    Tar(&'a Path),
}

/// The file that an image is written to.
#[derive(Clone, Copy, Debug)]
pub struct ImageFile<'a> {
    /// An existing empty file.
    pub path: &'a Path,
    /// The target that it becomes, for messages.
    pub target: &'a Path,
    /// A directory of the same file system for what is needed meanwhile; the caller removes it.
    pub scratch: &'a Path,
    /// The time of the image itself, in seconds since 1970.
    pub epoch: i64,
}

/// Bytes of an ext file system beside its files: superblocks, group descriptors, the journal.
const EXT_BASE: u64 = 48 << 20;
const BLOCK: u64 = 4096;
/// Bytes that each file costs beside its blocks: its inode and its name.
const EXT_FILE: u64 = 512;

impl Filesystem {
    /// Returns the programs that write it, of a tree or of a tar file.
    const fn programs(self, is_tar: bool) -> &'static [&'static str] {
        match self {
            Self::Squashfs if is_tar => &["tar2sqfs", "sqfstar"],
            Self::Squashfs => &["mksquashfs", "tar2sqfs"],
            Self::Ext2 | Self::Ext4 => &["mke2fs"],
        }
    }

    /// Checks that the host has a program that writes it, of a tree or of a tar file.
    ///
    /// # Errors
    /// [`OutputError::Tool`].
    pub fn check(self, is_tar: bool) -> Result<(), OutputError> {
        let programs = self.programs(is_tar);
        if programs.iter().any(|name| program(name).is_some()) {
            return Ok(());
        }
        let package = match self {
            // sqfstar is in newer versions of squashfs-tools alone
            Self::Squashfs if is_tar => "squashfs-tools-ng",
            Self::Squashfs => "squashfs-tools",
            Self::Ext2 | Self::Ext4 => "e2fsprogs",
        };
        Err(OutputError::Tool { format: Format::Image(self), programs, package })
    }

    /// Reports whether the host's program reads a tar file alone, and no directory.
    #[must_use]
    pub fn needs_tar(self) -> bool {
        self == Self::Squashfs && program("mksquashfs").is_none()
    }

    /// Writes an image.
    ///
    /// # Errors
    /// [`OutputError::Tool`], [`OutputError::Program`], and what the file system says.
    pub fn write(
        self,
        contents: Contents<'_>,
        file: ImageFile<'_>,
        runner: &dyn Runner,
    ) -> Result<(), OutputError> {
        self.check(matches!(contents, Contents::Tar(_)))?;
        let command = match (self, contents) {
            (Self::Squashfs, contents) => squashfs(contents, file),
            (Self::Ext2 | Self::Ext4, Contents::Directory(tree)) => self.ext(tree, file)?,
            (Self::Ext2 | Self::Ext4, Contents::Tar(tar)) => {
                let tree = file.scratch.join("unpacked");
                fs::DirBuilder::new().mode(0o700).create(&tree).map_err(OutputError::io(&tree, "created"))?;
                run(&unpacking(tar, &tree), file, runner)?;
                self.ext(&tree, file)?
            }
        };
        run(&command, file, runner)
    }

    /// Makes the command that creates an ext file system of a tree, in a file of a size that fits.
    ///
    /// **Source**: mke2fs(8), `-d`; `E2FSPROGS_FAKE_TIME` and `SOURCE_DATE_EPOCH` of its environment.
    fn ext(self, tree: &Path, file: ImageFile<'_>) -> Result<Command, OutputError> {
        let Size { bytes, files, identity } = measured(tree)?;
        let needed = bytes + files * EXT_FILE + EXT_BASE;
        let size = (needed + needed / 8).next_multiple_of(1 << 20);
        File::options()
            .write(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(file.path)
            .and_then(|file| file.set_len(size))
            .map_err(OutputError::io(file.target, "written"))?;
        let kind = if self == Self::Ext2 { "ext2" } else { "ext4" };
        let inodes = (files + files / 4 + 1024).to_string();
        let seed = format!("hash_seed={identity},root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0");
        let words = ["mke2fs", "-q", "-F", "-t", kind, "-b", "4096", "-m", "0", "-N", &inodes];
        let mut argv: Vec<std::ffi::OsString> = words.map(Into::into).to_vec();
        argv.extend(["-U", &identity, "-E", &seed, "-d"].map(Into::into));
        argv.extend([tree.into(), file.path.into()]);
        Ok(dated(Command::new(argv), file.epoch))
    }
}

/// Makes the command that creates a squashfs image; of a tree, mksquashfs reads extended attributes in every version.
///
/// **Source**: mksquashfs(1), tar2sqfs(1).
fn squashfs(contents: Contents<'_>, file: ImageFile<'_>) -> Command {
    let words = |words: &[&str]| words.iter().map(Into::into).collect::<Vec<std::ffi::OsString>>();
    let with_tar = program("tar2sqfs").is_some();
    let argv = match contents {
        Contents::Directory(tree) => {
            let mut argv = vec!["mksquashfs".into(), tree.into(), file.path.into()];
            let options = ["-noappend", "-no-progress", "-quiet", "-xattrs", "-comp", "zstd"];
            argv.extend(words(&options));
            argv
        }
        // a program that reads a tar file from stdin: the runner has none to give
        Contents::Tar(tar) => {
            let script = if with_tar {
                "exec tar2sqfs --quiet --force --no-skip --compressor zstd \"$2\" <\"$1\""
            } else {
                "exec sqfstar -no-progress -quiet -comp zstd \"$2\" <\"$1\""
            };
            let mut argv = words(&["sh", "-c", script, "sh"]);
            argv.extend([tar.into(), file.path.into()]);
            argv
        }
    };
    dated(Command::new(argv), file.epoch)
}

/// Makes the command that unpacks a tar file of this program's into an empty directory.
fn unpacking(tar: &Path, tree: &Path) -> Command {
    let options =
        ["--extract", "--numeric-owner", "--same-owner", "--preserve-permissions", "--acls", "--xattrs"];
    let mut argv: Vec<std::ffi::OsString> = vec!["tar".into()];
    argv.extend(options.map(Into::into));
    argv.extend([
        "--xattrs-include=*".into(),
        "--file".into(),
        tar.into(),
        "--directory".into(),
        tree.into(),
    ]);
    Command::new(argv)
}

fn dated(command: Command, epoch: i64) -> Command {
    let time = epoch.max(0).to_string();
    command.env("SOURCE_DATE_EPOCH", &time).env("E2FSPROGS_FAKE_TIME", time).env("LC_ALL", "C.UTF-8")
}

fn run(command: &Command, file: ImageFile<'_>, runner: &dyn Runner) -> Result<(), OutputError> {
    let failed = |source| OutputError::Program { path: file.target.to_owned(), source: Box::new(source) };
    runner.run(command).map(drop).map_err(failed)
}

/// What a tree needs of a file system.
struct Size {
    bytes: u64,
    files: u64,
    /// A UUID that is the same for the same tree.
    identity: String,
}

fn measured(tree: &Path) -> Result<Size, OutputError> {
    let failed = |path: PathBuf, source| OutputError::Io { path: tree.join(path), doing: "read", source };
    let top = File::open(tree).and_then(Directory::of).and_then(|top| Walker::new(top, false, true));
    let mut walker = top.map_err(|source| failed(PathBuf::new(), source))?;
    let (mut bytes, mut files, mut hasher) = (0, 0, Hasher::default());
    loop {
        let advanced = walker.advance().map_err(|(path, source)| failed(path, source))?;
        let Some(found) = advanced else { break };
        let (kind, length) = (found.kind(), found.stat.st_size.cast_unsigned());
        // a file of several names is counted for each: too much, not too little
        bytes += if kind == FileType::RegularFile { length.next_multiple_of(BLOCK) } else { BLOCK };
        files += 1;
        hasher.update(found.path.as_os_str().as_encoded_bytes());
        // the length of a directory depends on what was in it before
        hasher.update(&(if kind == FileType::Directory { 0 } else { length }).to_le_bytes());
        if kind == FileType::Directory {
            walker.enter().map_err(|(path, source)| failed(path, source))?;
        }
    }
    Ok(Size { bytes, files, identity: uuid(&hasher.finish().to_string()) })
}

/// Makes a UUID of a digest.
///
/// **Source**: RFC 9562, version 8.
fn uuid(digest: &str) -> String {
    let part = |from: usize, to: usize| digest.get(from..to).unwrap_or_default();
    format!("{}-{}-8{}-8{}-{}", part(0, 8), part(8, 12), part(12, 15), part(15, 18), part(18, 30))
}

/// A directory for what an output needs meanwhile; it is removed when dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Creates it; what a killed process left there is removed.
    ///
    /// # Errors
    /// What the file system says.
    pub fn new(path: PathBuf) -> io::Result<Self> {
        root::clear_tree(&path)?;
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    /// Returns its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = root::remove_tree(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_has_one_identity() {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir(tree.path().join("d")).unwrap();
        fs::write(tree.path().join("d/a"), [1; 5000]).unwrap();
        let first = measured(tree.path()).unwrap();
        assert_eq!(first.files, 2);
        assert!(first.bytes >= 3 * BLOCK, "{}", first.bytes);
        assert_eq!(first.identity, measured(tree.path()).unwrap().identity);
        fs::write(tree.path().join("d/b"), "").unwrap();
        assert_ne!(first.identity, measured(tree.path()).unwrap().identity);
        assert_eq!(first.identity.len(), 36);
    }
}
