//! Vendors' archives, unpacked below a folder of the tree: whatever they hold, nothing is made elsewhere.
//!
//! Of modes the right to execute is kept; owners and times are not the vendor's to say. Links are kept where they
//! stay inside the folder.

mod bounds;
mod tar;
mod zip;

use std::{
    fs::File,
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use bounds::{Bounded, Budget, TooMuch};
use rustix::fs::{AtFlags, Gid, OFlags, Uid, chownat};

use crate::{
    error::{Cause, Class},
    host::root::{Links, Meta, Root, make_hard_link},
    spec::ArchiveKind,
};

/// The most entries of an archive.
const ENTRIES: u64 = 1 << 20;

/// The longest target of a link.
const TARGET: u64 = 4096;

/// Why an archive is not in the tree.
#[derive(Debug, thiserror::Error)]
pub enum UnarchiveError {
    /// It is none, or breaks off.
    #[error("the archive is damaged, or of another kind")]
    Unreadable {
        /// What its reader says.
        source: io::Error,
    },
    /// A path leads out of the folder.
    #[error("the archive has the path `{path}`, which leads out of its folder")]
    Escape {
        /// As it stands in the archive.
        path: String,
    },
    /// A link leads out of the folder.
    #[error("the archive has the link `{path}` to `{target}`, which leads out of its folder")]
    Link {
        /// As it stands in the archive.
        path: String,
        /// What it says.
        target: String,
    },
    /// Something that no program needs: a device, a pipe.
    #[error("the archive has `{path}`, which is neither file, folder nor link")]
    Kind {
        /// As it stands in the archive.
        path: String,
    },
    /// It unpacks to more than an archive of its size has.
    #[error(
        "the archive unpacks to more than {limit} bytes or {ENTRIES} entries, which is no archive but a bomb"
    )]
    Bomb {
        /// The most that it may.
        limit: u64,
    },
    /// A path that is asked for is not there.
    #[error("the archive has no `{path}`")]
    Missing {
        /// What `only` says.
        path: String,
    },
    /// The tree cannot be written.
    #[error("`{path}` cannot be written into the tree")]
    Write {
        /// The path.
        path: String,
        /// Why.
        source: io::Error,
    },
}

impl Cause for UnarchiveError {
    fn class(&self) -> Class {
        match self {
            Self::Missing { .. } => Class::Unavailable,
            Self::Write { source, .. } => Class::of_path(source),
            _ => Class::Untrusted,
        }
    }
}

/// What is taken of an archive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken<'a> {
    /// How many folders go from the front of each path.
    pub strip: usize,
    /// The only paths, after that; none takes all.
    pub only: &'a [String],
    /// The time of all files.
    pub epoch: i64,
    /// User and group of all.
    pub owner: (u32, u32),
}

impl Taken<'_> {
    const fn meta(&self, mode: u32) -> Meta {
        Meta { mode, uid: self.owner.0, gid: self.owner.1, mtime: self.epoch }
    }
}

/// Unpacks an archive into a folder of a tree; `size` is the archive's own.
pub(super) fn unpack(
    kind: ArchiveKind,
    file: File,
    size: u64,
    root: &Root,
    into: &Path,
    taken: &Taken<'_>,
) -> Result<(), UnarchiveError> {
    let mut folder = Folder::open(root, into, size, taken)?;
    let file = io::BufReader::with_capacity(128 << 10, file);
    let unreadable = |source| UnarchiveError::Unreadable { source };
    match kind {
        ArchiveKind::Zip => zip::unpack(file.into_inner(), &mut folder)?,
        ArchiveKind::TarXz => {
            tar::unpack(liblzma::read::XzDecoder::new_multi_decoder(file), size, &mut folder)?
        }
        ArchiveKind::TarZst => {
            let decoder = ::zstd::Decoder::new(file).map_err(unreadable)?;
            tar::unpack(decoder, size, &mut folder)?;
        }
        _ => tar::unpack(flate2::read::MultiGzDecoder::new(file), size, &mut folder)?,
    }
    folder.end()
}

/// The folder that an archive is unpacked into.
pub(super) struct Folder<'a> {
    inside: Root,
    taken: &'a Taken<'a>,
    budget: Budget,
    entries: u64,
    /// Which of the asked paths were there.
    seen: Vec<bool>,
    /// The links, with what they say.
    links: Vec<(PathBuf, String)>,
}

/// Unpacks a file that is packed alone.
pub(super) fn one(
    mut from: impl io::Read,
    size: u64,
    root: &Root,
    into: &Path,
    name: &Path,
    taken: &Taken<'_>,
) -> Result<(), UnarchiveError> {
    Folder::open(root, into, size, taken)?.file(name, true, &mut from)
}

impl<'a> Folder<'a> {
    /// Makes and opens the folder.
    pub(super) fn open(
        root: &Root,
        into: &Path,
        size: u64,
        taken: &'a Taken<'a>,
    ) -> Result<Self, UnarchiveError> {
        let failed = |source| UnarchiveError::Write { path: into.display().to_string(), source };
        root.make_folders(into, taken.meta(0o755)).map_err(failed)?;
        // links that are there already, such as /bin, lead on; those of the archive lead nowhere else
        let inside = root.within(into, Links::Refused).map_err(failed)?;
        let budget = Budget::of(size);
        let seen = vec![false; taken.only.len()];
        Ok(Self { inside, taken, budget, entries: 0, seen, links: Vec::new() })
    }

    /// Gives where an entry goes: nowhere where it is not asked for.
    fn place(&mut self, name: &[u8]) -> Result<Option<PathBuf>, UnarchiveError> {
        self.entries += 1;
        if self.entries > ENTRIES {
            return Err(UnarchiveError::Bomb { limit: self.budget.limit() });
        }
        let Some(path) = stripped(name, self.taken.strip)? else { return Ok(None) };
        if self.taken.only.is_empty() {
            return Ok(Some(path));
        }
        let mut asked = false;
        for (only, seen) in self.taken.only.iter().zip(&mut self.seen) {
            if path.starts_with(only) {
                *seen = true;
                asked = true;
            }
        }
        Ok(asked.then_some(path))
    }

    pub(super) fn folder(&self, path: &Path) -> Result<(), UnarchiveError> {
        self.inside.make_folders(path, self.taken.meta(0o755)).map_err(|source| written(path, source))
    }

    fn above(&self, path: &Path) -> Result<(), UnarchiveError> {
        path.parent().map_or(Ok(()), |folder| self.folder(folder))
    }

    pub(super) fn file(
        &mut self,
        path: &Path,
        executable: bool,
        from: &mut dyn io::Read,
    ) -> Result<(), UnarchiveError> {
        self.above(path)?;
        let meta = self.taken.meta(if executable { 0o755 } else { 0o644 });
        let limit = self.budget.limit();
        let mut from = self.budget.reader(from);
        let outcome = self.inside.write_from(path, &mut from, meta);
        match (from.problem, outcome) {
            (Some(problem), _) => Err(unreadable(problem, limit)),
            (None, Err(source)) => Err(written(path, source)),
            (None, Ok(())) => Ok(()),
        }
    }

    pub(super) fn link(&mut self, path: &Path, target: &[u8]) -> Result<(), UnarchiveError> {
        let shown = String::from_utf8_lossy(target).into_owned();
        let depth = path.components().count().saturating_sub(1);
        if !stays_inside(target, depth) {
            return Err(UnarchiveError::Link { path: path.display().to_string(), target: shown });
        }
        self.above(path)?;
        let made = self.inside.link(path, std::ffi::OsStr::from_bytes(target), self.taken.epoch);
        made.and_then(|()| self.own_link(path)).map_err(|source| written(path, source))?;
        self.links.push((path.to_owned(), shown));
        Ok(())
    }

    fn own_link(&self, path: &Path) -> io::Result<()> {
        let (user, group) = self.taken.owner;
        let (folder, name) = self.inside.parent(path)?;
        let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
        Ok(chownat(&folder, &name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Makes a second name of a file that was unpacked before.
    fn hard_link(&mut self, path: &Path, target: &[u8]) -> Result<(), UnarchiveError> {
        let Some(target) = stripped(target, self.taken.strip)? else {
            return Err(UnarchiveError::Escape { path: String::from_utf8_lossy(target).into_owned() });
        };
        self.above(path)?;
        self.inside.remove(path).map_err(|source| written(path, source))?;
        let made = self.inside.parent(&target).and_then(|(from, name)| {
            use std::os::fd::AsFd as _;
            let (to, new) = self.inside.parent(path)?;
            make_hard_link((from.as_fd(), &name), (to.as_fd(), &new))
        });
        made.map_err(|source| written(path, source))
    }

    /// Sees that all that was asked for is there, and that no link leads out by way of another.
    pub(super) fn end(self) -> Result<(), UnarchiveError> {
        if let Some((path, _)) = self.taken.only.iter().zip(&self.seen).find(|(_, seen)| !**seen) {
            return Err(UnarchiveError::Missing { path: path.clone() });
        }
        for (path, target) in self.links {
            match self.inside.at(&path, OFlags::PATH, 0) {
                Err(problem) if problem.raw_os_error() == Some(libc::EXDEV) => {
                    return Err(UnarchiveError::Link { path: path.display().to_string(), target });
                }
                // it may lead to nothing, or in a circle: that harms nobody
                _ => {}
            }
        }
        Ok(())
    }
}

fn written(path: &Path, source: io::Error) -> UnarchiveError {
    let path = path.display().to_string();
    if source.raw_os_error() == Some(libc::EXDEV) {
        return UnarchiveError::Escape { path };
    }
    UnarchiveError::Write { path, source }
}

fn unreadable(source: io::Error, limit: u64) -> UnarchiveError {
    if source.get_ref().is_some_and(|inner| inner.is::<TooMuch>()) {
        return UnarchiveError::Bomb { limit };
    }
    UnarchiveError::Unreadable { source }
}

/// Gives a path without its first folders; nothing where it is one of them.
fn stripped(name: &[u8], strip: usize) -> Result<Option<PathBuf>, UnarchiveError> {
    let escape = || UnarchiveError::Escape { path: String::from_utf8_lossy(name).into_owned() };
    let text = std::str::from_utf8(name).map_err(|_| escape())?;
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if text.starts_with('/') || text.contains('\0') || parts.contains(&"..") {
        return Err(escape());
    }
    let path: PathBuf = parts.iter().skip(strip).collect();
    Ok((!path.as_os_str().is_empty()).then_some(path))
}

/// Tells whether a link that stands so many folders deep stays inside: it goes up first, no further than to the
/// folder, and then down.
fn stays_inside(target: &[u8], depth: usize) -> bool {
    let Ok(text) = std::str::from_utf8(target) else { return false };
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let up = parts.iter().take_while(|part| **part == "..").count();
    !text.is_empty()
        && !text.starts_with('/')
        && !text.contains('\0')
        && up <= depth
        && !parts[up..].contains(&"..")
}

#[cfg(test)]
mod tests;
