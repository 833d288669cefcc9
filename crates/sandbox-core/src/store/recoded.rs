//! Packages once more, in a form that is decoded many times faster: the same members, the data archive
//! compressed with Zstandard.
//!
//! ```text
//! <cache>/recoded/ab/ab12…-cd34….deb   made of the package ab12…; cd34… is the SHA-256 of the file itself
//! ```
//!
//! They are made of packages that are used a second time, out of what is decoded for the tree anyway, and are never
//! needed: what is wrong is removed, what is missing is decoded from the package itself.
//!
//! **Source**: deb(5).

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, BufWriter, Seek as _, SeekFrom, Write as _},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use rustix::fs::{AtFlags, CWD, linkat};

use super::{Checksum, Entry, Store, StoreError};
use crate::{
    deb::archive::{Deb, write_head},
    digest::{Hasher, Sha256},
};

/// What all of them may take on disk; beyond it those go first that were made first.
const MOST: u64 = 2 << 30;

/// Smaller data archives are decoded before a file would be found.
const LEAST: usize = 64 << 10;

/// The level of compression: decoding costs the same at all.
const LEVEL: i32 = 1;

/// How much is written at a time.
const PIECE: usize = 256 << 10;

/// The data archive's name.
const DATA: &str = "data.tar.zst";

impl Store {
    /// Gives the recoded form of a package, seen to be whole.
    ///
    /// # Errors
    /// [`StoreError::Disk`].
    pub(super) fn recoded(&self, package: &Sha256) -> Result<Option<Entry>, StoreError> {
        let folder = self.recoded_folder(package);
        let found = self.recoded_path(package).map_err(|source| StoreError::disk("list", &folder, source))?;
        let Some((path, own)) = found else { return Ok(None) };
        if self.digest_fits(&path, &Checksum::Sha256(own))? {
            let size = fs::symlink_metadata(&path).map_or(0, |found| found.len());
            return Ok(Some(Entry { path, size, fetched: 0 }));
        }
        remove(&path).map_err(|source| StoreError::disk("remove the damaged", &path, source))?;
        Ok(None)
    }

    /// Says where the recoded form of a package goes that is used again: not of one that this run has fetched.
    pub(super) fn recoding(&self, package: &Sha256) -> Option<Recoding> {
        let is_new = self.fetched().contains_key(&Checksum::Sha256(*package));
        (!is_new).then(|| Recoding { folder: self.recoded_folder(package), package: *package })
    }

    /// Removes the oldest recoded packages until the rest takes no more than it may.
    ///
    /// # Errors
    /// What the file system says.
    pub fn trim_recoded(&self) -> io::Result<()> {
        let mut found: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for folder in list(&self.root.join("recoded"))? {
            for path in list(&folder)? {
                let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
                found.push((metadata.modified()?, metadata.len(), path));
            }
        }
        found.sort();
        let mut total: u64 = found.iter().map(|(_, size, _)| size).sum();
        for (_, size, path) in found {
            if total <= MOST {
                break;
            }
            remove(&path)?;
            total -= size;
        }
        Ok(())
    }

    fn recoded_folder(&self, package: &Sha256) -> PathBuf {
        self.root.join("recoded").join(&package.to_string()[..2])
    }

    /// Finds the recoded form of a package by its name, with the digest that it must have.
    fn recoded_path(&self, package: &Sha256) -> io::Result<Option<(PathBuf, Sha256)>> {
        let start = format!("{package}-");
        let own = |path: &PathBuf| -> Option<Sha256> {
            let name = path.file_name().and_then(OsStr::to_str)?;
            name.strip_prefix(&start)?.strip_suffix(".deb")?.parse().ok()
        };
        let found = list(&self.recoded_folder(package))?;
        Ok(found.into_iter().find_map(|path| own(&path).map(|own| (path, own))))
    }
}

/// A package that is to be recoded when it is decoded next.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Recoding {
    folder: PathBuf,
    package: Sha256,
}

impl Recoding {
    /// Begins with the recoded form, where it is worth it; none where the disk refuses it, which nobody needs to know.
    #[must_use]
    pub fn begin(&self, deb: &Deb<'_>) -> Option<Recoder> {
        let is_worth = deb.is_slow() && deb.data_size() >= LEAST;
        if is_worth { self.head(deb).ok() } else { None }
    }

    fn head(&self, deb: &Deb<'_>) -> io::Result<Recoder> {
        fs::create_dir_all(&self.folder)?;
        // without a name until it is whole: whoever is killed leaves nothing
        let mut file = tempfile::tempfile_in(&self.folder)?;
        file.write_all(b"!<arch>\n")?;
        for (name, bytes) in [("debian-binary", &b"2.0\n"[..]), deb.control_member()] {
            write_head(&mut file, name, bytes.len() as u64)?;
            file.write_all(bytes)?;
            file.write_all(if bytes.len() % 2 == 1 { b"\n" } else { b"" })?;
        }
        let head = file.stream_position()?;
        // its size is known at the end only
        write_head(&mut file, DATA, 0)?;
        let start = file.stream_position()?;
        let encoder = zstd::stream::write::Encoder::new(BufWriter::with_capacity(PIECE, file), LEVEL)?;
        Ok(Recoder { recoding: self.clone(), head, start, encoder })
    }
}

/// The recoded form of a package as it is made, out of the decoded data archive that is written into it.
pub struct Recoder {
    recoding: Recoding,
    /// Where the data archive's head is.
    head: u64,
    /// Where the data archive begins.
    start: u64,
    encoder: zstd::stream::write::Encoder<'static, BufWriter<File>>,
}

impl io::Write for Recoder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.encoder.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.encoder.flush()
    }
}

impl Recoder {
    /// Keeps it, after all of the data archive was written.
    ///
    /// # Errors
    /// What the file system says. Nothing needs it: the package itself is there.
    pub fn keep(self) -> io::Result<()> {
        let Self { recoding: Recoding { folder, package }, head, start, encoder } = self;
        let mut file = encoder.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        let size = file.stream_position()? - start;
        file.write_all(if size % 2 == 1 { b"\n" } else { b"" })?;
        file.seek(SeekFrom::Start(head))?;
        write_head(&mut file, DATA, size)?;
        let name = folder.join(format!("{package}-{}.deb", digest(&mut file)?));
        let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
        linkat(CWD, &unnamed, CWD, &name, AtFlags::SYMLINK_FOLLOW)?;
        Ok(())
    }
}

fn digest(file: &mut File) -> io::Result<Sha256> {
    file.seek(SeekFrom::Start(0))?;
    let mut hasher = Hasher::default();
    io::copy(file, &mut hasher)?;
    Ok(hasher.finish())
}

/// Lists a folder; one that is not there has nothing.
fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(problem) => Err(problem),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(problem) if problem.kind() != io::ErrorKind::NotFound => Err(problem),
        _ => Ok(()),
    }
}
