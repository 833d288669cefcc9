//! The content-addressed cache of what was downloaded, and the fetching into it.
//!
//! ```text
//! <cache>/
//!   sha256/ab/ab12…       a whole file whose SHA-256 is its name, mode 0644
//!   sha512/cd/cd34…       the same for files known by SHA-512 (npm)
//!   answers/ab12…         what services answered, while it stays true
//!   recoded/ab/ab12…      packages in a form that is decoded faster, made of those above
//!   partial/sha256-ab12…  a download under way or broken off; its writer holds a lock (flock) on it
//!   release/<key>/        the last signed Release file of a suite, for use without a network
//! ```
//!
//! A file gets its name only once its size and digest were seen to be right, by rename within the file system;
//! and it is checked again whenever it is used, so that a damaged disk or a crash costs a download, not a
//! broken tree. Several processes may share a cache: of two that want the same file one waits for the other.

mod answers;
mod checksum;
mod delivery;
mod elsewhere;
mod error;
mod fetch;
mod fill;
mod partial;
mod recoded;

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub use answers::Answers;
pub use checksum::{Checksum, NotAnIntegrity};
pub use delivery::{Delivered, Delivery};
pub use elsewhere::{Elsewhere, Ways};
pub use error::StoreError;
pub(crate) use error::disk_class;
pub use fetch::Wanted;
pub use fill::{Filled, deliver, fill, fill_by};
pub use recoded::Recoder;

use crate::{digest::Sha256, host::transport::Transport};
use checksum::Check;
use partial::Partial;

/// A cache folder.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    silent: Arc<Mutex<BTreeSet<String>>>,
    /// What came over the network since it was opened, with how many bytes.
    fetched: Arc<Mutex<HashMap<Checksum, u64>>>,
}

/// A file of the cache that was just seen to be right.
#[derive(Clone, Debug)]
pub struct Entry {
    path: PathBuf,
    size: u64,
    fetched: u64,
}

impl Entry {
    /// Where it is. It is for reading only.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// How many bytes had to come over the network for it: 0 where it was there.
    #[must_use]
    pub const fn fetched(&self) -> u64 {
        self.fetched
    }
}

/// A file of the cache in the making.
pub(crate) struct Keeping {
    partial: Partial,
    path: PathBuf,
    checksum: Checksum,
}

impl Keeping {
    /// Adds bytes.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.partial.append(bytes)
    }

    /// Gives the file its name if it is right, and removes it if it is not; gives its checksum.
    pub(crate) fn finish(self) -> Result<Checksum, StoreError> {
        let found = self.partial.checksum();
        if found == self.checksum {
            self.partial.rename(&self.path)?;
        } else {
            self.partial.discard()?;
        }
        Ok(found)
    }
}

impl Store {
    /// Opens a cache, making its folders where they are missing.
    ///
    /// # Errors
    /// [`StoreError::Disk`].
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        for folder in ["sha256", "sha512", "partial", "release"] {
            let path = root.join(folder);
            fs::create_dir_all(&path).map_err(|source| StoreError::disk("make", &path, source))?;
        }
        Ok(Self { root: root.to_path_buf(), silent: Arc::default(), fetched: Arc::default() })
    }

    /// Gives the cache's folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Gives a file that is there and right, and nothing where it is not there.
    ///
    /// One that is there and wrong is removed.
    ///
    /// # Errors
    /// [`StoreError::Disk`].
    pub fn find(&self, checksum: &Checksum, size: Option<u64>) -> Result<Option<Entry>, StoreError> {
        let path = self.path_of(checksum);
        let metadata = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(problem) if problem.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::disk("look at", &path, source)),
        };
        let fits = metadata.is_file() && size.is_none_or(|size| size == metadata.len());
        if fits && self.digest_fits(&path, checksum)? {
            return Ok(Some(Entry { path, size: metadata.len(), fetched: 0 }));
        }
        let removed = if metadata.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(StoreError::disk("remove the damaged", &path, source))
            }
            _ => Ok(None),
        }
    }

    /// Gives a file: from the cache, or fetched, checked and kept.
    ///
    /// `progress` is told of bytes as they come, from the cache or the network; never more than the file has.
    ///
    /// # Errors
    /// [`StoreError`]; nothing that is wrong stays in the cache.
    pub fn fetch(
        &self,
        wanted: &Wanted<'_>,
        transport: &dyn Transport,
        progress: &dyn Fn(u64),
    ) -> Result<Entry, StoreError> {
        fetch::fetch(self, wanted, transport, progress)
    }

    /// Fetches what no digest is known of, keeps it, and gives the digest that it has.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn take(&self, url: &str, limit: u64, transport: &dyn Transport) -> Result<Sha256, StoreError> {
        fetch::take(self, url, limit, transport)
    }

    /// Keeps bytes that are made here, and gives their digest.
    ///
    /// # Errors
    /// [`StoreError::Disk`].
    pub fn keep(&self, bytes: &[u8]) -> Result<Sha256, StoreError> {
        let digest = Sha256::of(bytes);
        let mut keeping = self.keeping(&Checksum::Sha256(digest))?;
        keeping.append(bytes)?;
        keeping.finish()?;
        Ok(digest)
    }

    /// Reads a whole file that is there and right; nothing where it is not.
    ///
    /// # Errors
    /// [`StoreError::Disk`].
    pub fn read(&self, checksum: &Checksum, size: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.path_of(checksum);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() && metadata.len() == size => {}
            _ => return Ok(None),
        }
        let bytes = fs::read(&path).map_err(|source| StoreError::disk("read", &path, source))?;
        let mut check = Check::of(checksum);
        check.update(&bytes);
        Ok((check.finish() == *checksum).then_some(bytes))
    }

    /// Keeps bytes that are made here, such as a decoded index, as they come.
    ///
    /// They are not synced to disk: they can be made again, and what a crash leaves is not taken for right.
    ///
    /// # Errors
    /// [`StoreError::Disk`].
    pub(crate) fn keeping(&self, checksum: &Checksum) -> Result<Keeping, StoreError> {
        let mut partial = Partial::lock(&self.root.join("partial"), checksum)?;
        partial.restart()?;
        Ok(Keeping { partial, path: self.path_of(checksum), checksum: *checksum })
    }

    /// The hosts that broke off or did not answer, for as long as this is open.
    fn silent(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fetched(&self) -> MutexGuard<'_, HashMap<Checksum, u64>> {
        self.fetched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path_of(&self, checksum: &Checksum) -> PathBuf {
        let digits = checksum.digits();
        self.root.join(checksum.algorithm()).join(&digits[..2]).join(digits)
    }

    fn digest_fits(&self, path: &Path, checksum: &Checksum) -> Result<bool, StoreError> {
        let mut file = fs::File::open(path).map_err(|source| StoreError::disk("open", path, source))?;
        let mut check = Check::of(checksum);
        check.read(&mut file, u64::MAX).map_err(|source| StoreError::disk("read", path, source))?;
        Ok(check.finish() == *checksum)
    }
}
