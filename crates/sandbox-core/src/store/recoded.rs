//! Packages once more, in a form that is decoded many times faster: the same members, the data archive
//! compressed with Zstandard.
//!
//! ```text
//! <cache>/recoded/ab/ab12…-cd34….deb   made of the package ab12…; cd34… is the SHA-256 of the file itself
//! ```
//!
//! They are made of packages that are used a second time, while nothing else is to be done, and are never
//! needed: what is wrong is removed, what is missing is decoded from the package itself.
//!
//! **Source**: deb(5).

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _},
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

/// How much is decoded at a time.
const PIECE: usize = 256 << 10;

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

    /// Makes the recoded form of a package that was in the cache before this run, where it is worth it and not
    /// there yet; tells whether it was made. `stopped` ends the work early.
    ///
    /// # Errors
    /// What the file system says. Nothing needs it: the package itself is there.
    pub fn recode(&self, package: &Sha256, stopped: &dyn Fn() -> bool) -> io::Result<bool> {
        let checksum = Checksum::Sha256(*package);
        if self.fetched().contains_key(&checksum) || self.recoded_path(package)?.is_some() {
            return Ok(false);
        }
        let bytes = fs::read(self.path_of(&checksum))?;
        let Ok(deb) = Deb::read(&bytes) else { return Ok(false) };
        if Sha256::of(&bytes) != *package || !deb.is_slow() || deb.data_size() < LEAST {
            return Ok(false);
        }
        let folder = self.recoded_folder(package);
        fs::create_dir_all(&folder)?;
        // without a name until it is whole: whoever is killed leaves nothing
        let mut file = tempfile::tempfile_in(&folder)?;
        if !write(&deb, &mut file, stopped)? {
            return Ok(false);
        }
        let name = folder.join(format!("{package}-{}.deb", digest(&mut file)?));
        let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
        linkat(CWD, &unnamed, CWD, &name, AtFlags::SYMLINK_FOLLOW)?;
        Ok(true)
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

/// Writes a package with its data archive recoded; nothing useful where it was stopped.
fn write(deb: &Deb<'_>, file: &mut File, stopped: &dyn Fn() -> bool) -> io::Result<bool> {
    const DATA: &str = "data.tar.zst";
    file.write_all(b"!<arch>\n")?;
    for (name, bytes) in [("debian-binary", &b"2.0\n"[..]), deb.control_member()] {
        write_head(file, name, bytes.len() as u64)?;
        file.write_all(bytes)?;
        file.write_all(if bytes.len() % 2 == 1 { b"\n" } else { b"" })?;
    }
    let head = file.stream_position()?;
    // its size is known at the end only
    write_head(file, DATA, 0)?;
    let start = file.stream_position()?;
    let mut decoded = deb.data().map_err(io::Error::other)?;
    let mut encoder = zstd::stream::write::Encoder::new(BufWriter::with_capacity(PIECE, &mut *file), LEVEL)?;
    let mut piece = vec![0; PIECE];
    loop {
        if stopped() {
            return Ok(false);
        }
        match decoded.read(&mut piece)? {
            0 => break,
            read => encoder.write_all(&piece[..read])?,
        }
    }
    encoder.finish()?.flush()?;
    let size = file.stream_position()? - start;
    file.write_all(if size % 2 == 1 { b"\n" } else { b"" })?;
    file.seek(SeekFrom::Start(head))?;
    write_head(file, DATA, size)?;
    Ok(true)
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
