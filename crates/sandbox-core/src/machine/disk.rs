//! What a tree takes on disk, counted file by file.
//!
//! No file system keeps this number without quotas, so that it costs a walk: some hundred milliseconds for a machine,
//! and seconds where nothing of it is in memory. Blocks that files share (reflinks, snapshots of btrfs) are counted in
//! each of them.

use std::{collections::HashSet, io, path::Path};

use rustix::fs::{FileType, Stat};

use crate::host::live::{Directory, Walker};

/// The unit of `st_blocks`, whatever the file system's own.
///
/// **Source**: inode(7).
const BLOCK: u64 = 512;

/// Returns the bytes of the blocks of a tree, which a machine may change meanwhile. A hard link counts once, and what is
/// mounted in it does not.
///
/// # Errors
/// What the kernel says, and a tree beyond the limits of [`Walker`].
///
/// **Source**: stat(2), `st_blocks`, as du(1) counts.
pub fn used(tree: &Path) -> io::Result<u64> {
    let top = Directory::top(tree)?;
    let own = top.own()?;
    let mut blocks = blocks(&own);
    let mut seen = HashSet::new();
    let mut walker = Walker::new(top, true, false)?;
    while let Some(found) = walker.advance().map_err(|(_, error)| error)? {
        let stat = found.stat;
        let is_directory = found.kind() == FileType::Directory;
        if stat.st_dev != own.st_dev {
            continue;
        }
        if is_directory || stat.st_nlink < 2 || seen.insert(stat.st_ino) {
            blocks = blocks.saturating_add(self::blocks(&stat));
        }
        if is_directory {
            walker.enter().map_err(|(_, error)| error)?;
        }
    }
    Ok(blocks.saturating_mul(BLOCK))
}

fn blocks(stat: &Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt as _};

    use super::*;

    #[test]
    fn a_file_counts_once_and_a_hole_does_not() {
        let place = tempfile::tempdir().unwrap();
        let tree = place.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        let directories: u64 =
            ["", "a", "a/b"].iter().map(|path| fs::metadata(tree.join(path)).unwrap().blocks() * BLOCK).sum();
        assert_eq!(used(&tree).unwrap(), directories);
        fs::write(tree.join("a/file"), vec![b'x'; 1 << 20]).unwrap();
        fs::hard_link(tree.join("a/file"), tree.join("a/b/link")).unwrap();
        fs::File::create(tree.join("hole")).unwrap().set_len(1 << 30).unwrap();
        std::os::unix::fs::symlink("/usr", tree.join("usr")).unwrap();
        let file = fs::metadata(tree.join("a/file")).unwrap().blocks() * BLOCK;
        let found = used(&tree).unwrap();
        assert!(found >= directories + file && found < directories + file + (1 << 16), "{found}");
        used(&place.path().join("nothing")).unwrap_err();
    }
}
