//! Takes back the times of what the build itself wrote.
//!
//! Whatever is younger than the epoch was made now, not by a packager, and gets the epoch for its time. So two
//! folders of one set are the same to the second, as two packed trees are.
//!
//! **Source**: deb-src-rules(5) for SOURCE_DATE_EPOCH; reproducible-builds.org, "Timestamps" (clamping).

use std::{io, os::fd::OwnedFd, path::Path};

use rustix::fs::{AtFlags, FileType, OFlags, Stat, Timespec, Timestamps, futimens, utimensat};

use super::{ConfigureError, tree};
use crate::host::{
    live::{Directory, Walker},
    root::Root,
};

/// Gives everything in a tree that is younger than the epoch the epoch's time.
///
/// But for one folder of it, in which others may be at work.
pub fn clamp(root: &Root, epoch: i64, but: &str) -> Result<(), ConfigureError> {
    let top = Path::new("");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let clamped = root.at(top, flags, 0).and_then(|folder| {
        below(&folder, epoch, but)?;
        Ok(futimens(&folder, &times(epoch))?)
    });
    clamped.map_err(tree(Path::new("/")))
}

fn below(folder: &OwnedFd, epoch: i64, but: &str) -> io::Result<()> {
    let mut walker = Walker::new(Directory::of(folder)?, false, false)?;
    loop {
        let is_folder = match walker.advance().map_err(|(_, error)| error)? {
            None => return Ok(()),
            Some(found) if found.path == Path::new(but) => false,
            Some(found) => {
                if is_younger(&found.stat, epoch) {
                    utimensat(found.folder, found.name, &times(epoch), AtFlags::SYMLINK_NOFOLLOW)?;
                }
                found.kind() == FileType::Directory
            }
        };
        if is_folder {
            walker.enter().map_err(|(_, error)| error)?;
        }
    }
}

const fn is_younger(found: &Stat, epoch: i64) -> bool {
    found.st_mtime > epoch || (found.st_mtime == epoch && found.st_mtime_nsec > 0)
}

const fn times(epoch: i64) -> Timestamps {
    let time = Timespec { tv_sec: epoch, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;
    use crate::host::root::Links;

    #[test]
    fn the_young_get_the_epoch_and_the_old_keep_their_time() {
        let outside = tempfile::NamedTempFile::new().unwrap();
        let untouched = outside.as_file().metadata().unwrap().mtime();
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
        std::fs::write(folder.path().join("a/b/new"), "").unwrap();
        std::fs::write(folder.path().join("a/old"), "").unwrap();
        symlink(outside.path(), folder.path().join("a/link")).unwrap();
        let old = std::fs::File::open(folder.path().join("a/old")).unwrap();
        futimens(&old, &times(500)).unwrap();
        clamp(&Root::open(folder.path(), Links::InTree).unwrap(), 1000, "beside").unwrap();
        let time = |name: &str| {
            let found = std::fs::symlink_metadata(folder.path().join(name)).unwrap();
            (found.mtime(), found.mtime_nsec())
        };
        for name in ["", "a", "a/b", "a/b/new", "a/link"] {
            assert_eq!(time(name), (1000, 0), "{name}");
        }
        assert_eq!(time("a/old"), (500, 0));
        assert_eq!(outside.as_file().metadata().unwrap().mtime(), untouched);
    }
}
