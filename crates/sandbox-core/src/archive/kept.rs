//! The last signed Release file of each source, kept for use without a network.
//!
//! What is read back is verified as if it had come from a mirror: the cache is not trusted.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use super::{ArchiveError, Source};
use crate::{digest::Sha256, store::Store};

/// A signed Release file as it came.
pub(super) enum Raw {
    /// One file with the signature around the text.
    Inline(Vec<u8>),
    /// Two files.
    Detached {
        /// Release.
        text: Vec<u8>,
        /// Release.gpg.
        signature: Vec<u8>,
    },
}

/// Gives the folder of a source: its name is a digest, so that no field can lead out of the cache.
fn folder(store: &Store, source: &Source) -> PathBuf {
    let key = format!("{}\n{}", source.mirrors.join("\n"), source.suite);
    store.root().join("release").join(&Sha256::of(key.as_bytes()).to_string()[..32])
}

/// Keeps a Release file that was just verified.
pub(super) fn keep(store: &Store, source: &Source, raw: &Raw) -> Result<(), ArchiveError> {
    let folder = folder(store, source);
    let failed = |source| ArchiveError::Kept { path: folder.clone(), source };
    fs::create_dir_all(&folder).map_err(failed)?;
    let write = |name: &str, bytes: &[u8]| replace(&folder, name, bytes).map_err(failed);
    match raw {
        Raw::Inline(bytes) => write("InRelease", bytes),
        Raw::Detached { text, signature } => {
            fs::remove_file(folder.join("InRelease")).or_else(ignore_missing).map_err(failed)?;
            write("Release", text)?;
            write("Release.gpg", signature)
        }
    }
}

/// Reads a Release file back.
pub(super) fn recall(store: &Store, source: &Source) -> Result<Option<Raw>, ArchiveError> {
    let folder = folder(store, source);
    let read = |name: &str| match fs::read(folder.join(name)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ArchiveError::Kept { path: folder.join(name), source }),
    };
    if let Some(bytes) = read("InRelease")? {
        return Ok(Some(Raw::Inline(bytes)));
    }
    let both = read("Release")?.zip(read("Release.gpg")?);
    Ok(both.map(|(text, signature)| Raw::Detached { text, signature }))
}

fn replace(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let path = folder.join(name);
    if fs::read(&path).is_ok_and(|before| before == bytes) {
        return Ok(());
    }
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_data()?;
    file.persist(path)?;
    Ok(())
}

fn ignore_missing(problem: io::Error) -> io::Result<()> {
    if problem.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(problem) }
}
