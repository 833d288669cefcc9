//! The newest signed Release file that was seen of each source: for use without a network, and so that an older
//! one is not taken for new.
//!
//! What is read back is verified as if it had come from a mirror: the cache is not trusted. A record is one
//! file that is replaced as a whole, so that no crash leaves half of it.

use std::{
    fs::{self, File},
    io,
    io::Write as _,
    path::{Path, PathBuf},
};

use super::{ArchiveError, Source};
use crate::{digest::Sha256, store::Store};

/// The record of a signed text with the signature around it.
const INLINE: &str = "InRelease";

/// The record of a text and a signature apart: the length of the text in decimal and a line feed, then both.
const DETACHED: &str = "Release+Release.gpg";

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
///
/// It is found by who signs and by the suite, not by the mirrors: what one mirror showed, another must not take
/// back. Architectures are apart, because Ubuntu's ports have Release files of their own. Of foreign archives one
/// signer may have several with suites of the same name, so the mirrors that the user named as one list count too.
fn folder(store: &Store, source: &Source) -> PathBuf {
    let mut signers: Vec<_> = source.keyring.signers().iter().map(ToString::to_string).collect();
    signers.sort();
    let mut key = format!("{}\n{}\n{}", signers.join(" "), source.suite, source.architecture);
    if source.is_foreign {
        let mut mirrors = source.mirrors.clone();
        mirrors.sort();
        key = format!("{key}\n{}", mirrors.join(" "));
    }
    store.root().join("release").join(&Sha256::of(key.as_bytes()).to_string()[..32])
}

/// Keeps a Release file that was just verified.
pub(super) fn keep(store: &Store, source: &Source, raw: &Raw) -> Result<(), ArchiveError> {
    let folder = folder(store, source);
    let failed = |source| ArchiveError::Kept { path: folder.clone(), source };
    fs::create_dir_all(&folder).map_err(failed)?;
    let (name, other, bytes) = match raw {
        Raw::Inline(bytes) => (INLINE, DETACHED, bytes.clone()),
        Raw::Detached { text, signature } => {
            (DETACHED, INLINE, [format!("{}\n", text.len()).as_bytes(), text, signature].concat())
        }
    };
    replace(&folder, name, &bytes).map_err(failed)?;
    // Only now: between the two both are there, and the newer of those that verify counts.
    fs::remove_file(folder.join(other)).or_else(ignore_missing).map_err(failed)
}

/// Reads what is kept of a source, in no order and not verified.
pub(super) fn recall(store: &Store, source: &Source) -> Result<Vec<Raw>, ArchiveError> {
    let folder = folder(store, source);
    let read = |name: &str| match fs::read(folder.join(name)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ArchiveError::Kept { path: folder.join(name), source }),
    };
    let inline = read(INLINE)?.map(Raw::Inline);
    let detached = read(DETACHED)?.and_then(|bytes| apart(&bytes));
    Ok(inline.into_iter().chain(detached).collect())
}

fn apart(bytes: &[u8]) -> Option<Raw> {
    let end = bytes.iter().take(20).position(|byte| *byte == b'\n')?;
    let length: usize = std::str::from_utf8(&bytes[..end]).ok()?.parse().ok()?;
    let (text, signature) = bytes[end + 1..].split_at_checked(length)?;
    Some(Raw::Detached { text: text.to_vec(), signature: signature.to_vec() })
}

fn replace(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let path = folder.join(name);
    if fs::read(&path).is_ok_and(|before| before == bytes) {
        return Ok(());
    }
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(folder)?.sync_all()
}

fn ignore_missing(problem: io::Error) -> io::Result<()> {
    if problem.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(problem) }
}
