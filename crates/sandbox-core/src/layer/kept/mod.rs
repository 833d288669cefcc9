//! Layers as they are kept on disk, each once, and trees made of them.
//!
//! ```text
//! <state>/layers/
//!   <id>/               a whole layer; the id is 64 hexadecimal digits
//!     layer.json        what it is; whoever uses the layer holds a shared lock (flock) on it
//!     manifest, data    what it has other than the layer below it …
//!     tree/             … or, on btrfs, all of it: a subvolume that nobody can write
//!   claims/<id>         who builds it, in words; locked (flock) by the builder
//!   partial/<id>        one that is being written or removed
//!   locks/<digest>      a lock file that was built from, and the layers that it needs
//!   spares/<id>         a whole tree of a layer, made ahead where that saves time
//! ```
//!
//! A layer gets its name by rename, when all of it is on disk. Whoever dies leaves a folder in `partial` whose claim
//! can be taken, which the next command removes.

mod claim;
pub(crate) mod content;
mod copy;
pub(crate) mod entry;
mod error;
mod list;
mod pack;
mod plan;
mod spare;
mod walk;
pub mod whole;

use std::{
    fmt,
    fs::{self, File},
    io::{self, Write as _},
    os::{
        fd::AsFd as _,
        unix::fs::{DirBuilderExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
};

pub use claim::Claim;
pub(crate) use copy::{finish, new_link, new_node};
pub use error::LayerError;
pub use list::{Listed, Needs, Uses};
pub(crate) use pack::{meta, segments};
use rustix::fs::{FlockOperation, flock};
pub use walk::{Facts, Seen, Walk};

use crate::{
    digest::Sha256,
    host::{clonable, large::Source, live, root},
};

/// A layer's name: the digest of what made it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Id(pub Sha256);

impl Id {
    /// Gives the digits that people are shown.
    #[must_use]
    pub fn short(&self) -> String {
        self.0.to_string()[..12].to_owned()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

/// The folder of a tree in which packages are unpacked ahead.
const BESIDE: &str = crate::unpack::BESIDE;

/// What is known of a layer.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Made {
    /// The format: 1.
    pub version: u32,
    /// Its name.
    pub id: Id,
    /// The layer below it.
    pub parent: Option<Id>,
    /// `image` or `profile`.
    pub kind: String,
    /// The image's or profile's name.
    pub name: String,
    /// The image at the bottom of its stack.
    pub image: String,
    /// When it was built, in seconds since 1970.
    pub created: i64,
    /// The SOURCE_DATE_EPOCH that it was built with.
    pub epoch: i64,
    /// How many bytes of files it adds.
    pub bytes: u64,
    /// How many paths it adds, changes or removes.
    pub paths: usize,
    /// What its name is the digest of.
    pub of: String,
}

/// A layer that is in use: it is not removed while this is there.
#[derive(Debug)]
pub struct Held {
    /// What it is.
    pub made: Made,
    folder: PathBuf,
    lock: File,
}

impl Drop for Held {
    fn drop(&mut self) {
        // closing is not enough: a child that another thread is about to start has the file too until it executes
        let _ = flock(self.lock.as_fd(), FlockOperation::Unlock);
    }
}

/// The folder of all layers.
#[derive(Clone, Debug)]
pub struct Layers {
    folder: PathBuf,
}

impl Layers {
    /// Names the folder of layers below a state directory; it is made with the first layer.
    #[must_use]
    pub fn new(state: &Path) -> Self {
        Self { folder: state.join("layers") }
    }

    /// Gives the folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn place(&self, id: Id) -> PathBuf {
        self.folder.join(id.to_string())
    }

    fn partial(&self, id: Id) -> PathBuf {
        self.folder.join("partial").join(id.to_string())
    }

    fn make(&self, name: &str) -> Result<PathBuf, LayerError> {
        let path = if name.is_empty() { self.folder.clone() } else { self.folder.join(name) };
        // other people's programs of many days, with the rights that they had, are nobody else's to run
        let mut builder = fs::DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(LayerError::io(&path, "making the folder"))?;
        Ok(path)
    }

    /// Holds a layer, none where there is none.
    ///
    /// # Errors
    /// [`LayerError::Damaged`].
    pub fn hold(&self, id: Id) -> Result<Option<Held>, LayerError> {
        let folder = self.place(id);
        let path = folder.join("layer.json");
        let lock = match File::open(&path) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(LayerError::io(&path, "opening the file")(error)),
        };
        flock(lock.as_fd(), FlockOperation::LockShared)
            .map_err(|errno| LayerError::io(&path, "locking the file")(errno.into()))?;
        // removed while it was waited for, and perhaps built anew
        let Some(made) = read_made(&path, id)? else { return Ok(None) };
        if !same_file(&lock, &path) {
            return self.hold(id);
        }
        Ok(Some(Held { made, folder, lock }))
    }

    /// Holds a layer with all below it, the lowest first; none where one of them is missing.
    ///
    /// # Errors
    /// [`LayerError::Damaged`].
    pub fn hold_stack(&self, id: Id) -> Result<Option<Vec<Held>>, LayerError> {
        let mut stack = Vec::new();
        let mut next = Some(id);
        while let Some(id) = next {
            let Some(held) = self.hold(id)? else { return Ok(None) };
            next = held.made.parent;
            stack.push(held);
        }
        stack.reverse();
        Ok(Some(stack))
    }

    /// Holds the longest stack whose top is one of some ids, and says which: the last that is there.
    ///
    /// # Errors
    /// [`LayerError::Damaged`].
    pub fn hold_longest(&self, ids: &[Id]) -> Result<(usize, Vec<Held>), LayerError> {
        for (at, id) in ids.iter().enumerate().rev() {
            if let Some(stack) = self.hold_stack(*id)? {
                return Ok((at + 1, stack));
            }
        }
        Ok((0, Vec::new()))
    }

    /// Tells whether a layer is there.
    #[must_use]
    pub fn has(&self, id: Id) -> bool {
        self.place(id).join("layer.json").exists()
    }

    /// Tells whether there is none at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names("").is_ok_and(|names| names.is_empty())
    }

    /// Claims a layer to build it; where another builds it, `wait` is told who, and it is waited for.
    ///
    /// # Errors
    /// [`LayerError::Io`].
    pub fn claim(&self, id: Id, holder: &str, wait: &mut dyn FnMut(&str)) -> Result<Claim, LayerError> {
        let path = self.make("claims")?.join(id.to_string());
        let mut waiting = |by: &str| {
            wait(by);
            true
        };
        let claim = Claim::take(&path, holder, &mut waiting);
        let claim = claim.map_err(LayerError::io(&path, "claiming the layer"))?;
        claim.ok_or_else(|| LayerError::io(&path, "claiming the layer")(io::ErrorKind::WouldBlock.into()))
    }

    /// Looks at a tree, to tell later what was changed. What is unpacked ahead in it is left out.
    ///
    /// # Errors
    /// [`LayerError::Io`].
    pub fn walk(&self, tree: &Path) -> Result<Walk, LayerError> {
        Walk::of(tree, BESIDE).map_err(LayerError::io(tree, "reading the tree"))
    }

    /// Keeps what was changed in a tree between two walks as a claimed layer.
    ///
    /// # Errors
    /// [`LayerError::Io`]; then nothing is kept.
    pub fn commit(
        &self,
        _claim: &Claim,
        made: &Made,
        tree: &Path,
        walks: (&Walk, &Walk),
    ) -> Result<(), LayerError> {
        let partial = self.partial(made.id);
        self.make("partial")?;
        remove(&partial)?;
        let written = self.write(made, tree, walks, &partial);
        if written.is_err() {
            let _ = remove(&partial);
        }
        written
    }

    fn write(
        &self,
        made: &Made,
        tree: &Path,
        (before, now): (&Walk, &Walk),
        partial: &Path,
    ) -> Result<(), LayerError> {
        fs::create_dir(partial).map_err(LayerError::io(partial, "making the folder"))?;
        let changes = now.since(before);
        let bytes = if !now.has_subvolumes() && kept_whole(tree, &partial.join("tree"))? {
            changes.iter().map(|change| change.bytes()).sum()
        } else {
            difference(tree, &changes, partial)?
        };
        let made = Made { bytes, paths: changes.len(), ..made.clone() };
        let mut text = serde_json::to_vec_pretty(&made)
            .map_err(|error| LayerError::io(partial, "describing the layer")(error.into()))?;
        text.push(b'\n');
        write_synced(&partial.join("layer.json"), &text)?;
        sync_folder(partial)?;
        let place = self.place(made.id);
        match fs::rename(partial, &place) {
            // one without its stack, or one that was built with `--fresh` at the same time
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTEMPTY | libc::EEXIST)) => {
                remove(&place)?;
                fs::rename(partial, &place).map_err(LayerError::io(&place, "naming the layer"))?;
            }
            renamed => renamed.map_err(LayerError::io(&place, "naming the layer"))?,
        }
        sync_folder(&self.folder)
    }

    /// Makes the tree of a stack in a folder that is there and empty, and says how.
    ///
    /// # Errors
    /// [`LayerError::Damaged`], [`LayerError::Io`].
    pub fn lay_out(&self, stack: &[Held], tree: &Path) -> Result<LaidOut, LayerError> {
        if let Some(top) = stack.last() {
            if self.take_spare(top.made.id, tree) {
                return Ok(LaidOut::Ahead);
            }
            let from = top.folder.join("tree");
            if clonable::is_subvolume(&from) && snapshot_over(&from, tree).is_ok() {
                return Ok(LaidOut::Snapshot);
            }
        }
        // a subvolume has all that is below it
        let begin = stack.iter().rposition(|held| held.folder.join("tree").exists()).unwrap_or(0);
        let mut layers = Vec::new();
        let mut sources = Vec::new();
        for held in &stack[begin..] {
            let (entries, source) =
                read(held).map_err(|source| LayerError::Damaged { id: held.made.id.short(), source })?;
            layers.push(entries);
            sources.push(source);
        }
        let plan = plan::Plan::of(&layers);
        let shared = sources.iter().all(|source| source.shares_with(tree));
        if !shared {
            sources.iter_mut().for_each(copy::Bytes::not_shared);
        }
        copy::make(&plan, &sources, tree).map_err(|(path, source)| match source.kind() {
            io::ErrorKind::UnexpectedEof => {
                let id = stack.last().map(|held| held.made.id.short()).unwrap_or_default();
                LayerError::Damaged { id, source }
            }
            _ => LayerError::io(&tree.join(path), "making the path")(source),
        })?;
        Ok(if shared { LaidOut::Shared } else { LaidOut::Copied { bytes: plan.bytes } })
    }

    /// Removes what dead builders and removers left; gives how many.
    ///
    /// # Errors
    /// Where something cannot be removed.
    pub fn recover(&self) -> Result<usize, LayerError> {
        let mut count = 0;
        for id in self.names("partial")? {
            let path = self.folder.join("claims").join(id.to_string());
            self.make("claims")?;
            let claim = Claim::take(&path, "a cleaner", &mut |_| false);
            if claim.map_err(LayerError::io(&path, "claiming the layer"))?.is_some() {
                remove(&self.partial(id))?;
                count += 1;
            }
        }
        Ok(count + self.recover_spares()?)
    }

    /// Lists what in a folder is named as layers are.
    fn names(&self, folder: &str) -> Result<Vec<Id>, LayerError> {
        let folder = if folder.is_empty() { self.folder.clone() } else { self.folder.join(folder) };
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(LayerError::io(&folder, "reading the folder")(error)),
        };
        let name = |entry: io::Result<fs::DirEntry>| {
            Some(Id(Sha256::parse(entry.ok()?.file_name().as_encoded_bytes())?))
        };
        let mut names: Vec<Id> = entries.filter_map(name).collect();
        names.sort();
        Ok(names)
    }
}

/// Keeps a whole tree as a subvolume, where the file system has such; tells whether it has.
fn kept_whole(tree: &Path, place: &Path) -> Result<bool, LayerError> {
    if !clonable::is_subvolume(tree) || clonable::snapshot(tree, place).is_err() {
        return Ok(false);
    }
    let failed = LayerError::io(place, "leaving out what is unpacked ahead");
    root::clear_tree(&place.join(BESIDE)).map_err(failed)?;
    clonable::make_read_only(place).map_err(LayerError::io(place, "closing the subvolume"))?;
    Ok(true)
}

/// How a tree was made of layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaidOut {
    /// A snapshot of a subvolume.
    Snapshot,
    /// A tree that was made ahead, of files that share their bytes with the layers.
    Ahead,
    /// Files that share their bytes with the layers.
    Shared,
    /// Copies.
    Copied {
        /// How many bytes.
        bytes: u64,
    },
}

fn difference(tree: &Path, changes: &[walk::Change<'_>], partial: &Path) -> Result<u64, LayerError> {
    let path = partial.join("data");
    let file = File::options().read(true).write(true).create_new(true).open(&path);
    let file = file.map_err(LayerError::io(&path, "making the file"))?;
    let synced = file.try_clone().map_err(LayerError::io(&path, "opening the file"))?;
    let mut data = pack::Data::new(file, clonable::shares_extents(partial));
    let entries =
        pack::entries(tree, changes, Some(&mut data)).map_err(LayerError::io(tree, "keeping the tree"))?;
    let bytes = data.finish().map_err(LayerError::io(&path, "writing the file"))?;
    synced.sync_all().map_err(LayerError::io(&path, "syncing the file"))?;
    write_synced(&partial.join("manifest"), &entry::write(&entries))?;
    Ok(bytes)
}

/// Reads what a layer adds, and opens its bytes.
fn read(held: &Held) -> io::Result<(Vec<entry::Entry>, copy::Bytes)> {
    let tree = held.folder.join("tree");
    if tree.exists() {
        let now = Walk::of(&tree, BESIDE)?;
        let entries = pack::entries(&tree, &now.since(&Walk::default()), None)?;
        return Ok((entries, copy::Bytes::Tree(live::Directory::top(&tree)?)));
    }
    let path = held.folder.join("data");
    let entries = entry::read(&fs::read(held.folder.join("manifest"))?)?;
    if fs::metadata(&path)?.len() != held.made.bytes {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "its data is not as long as it was"));
    }
    let source = Source::new(File::open(&path)?, File::open(&path).ok());
    Ok((entries, copy::Bytes::Data { source, shared: true }))
}

/// Puts a snapshot in the place of an empty folder.
fn snapshot_over(from: &Path, tree: &Path) -> io::Result<()> {
    fs::remove_dir(tree)?;
    clonable::snapshot(from, tree)
        .or_else(|_| clonable::make_tree(tree).and(Err(io::ErrorKind::Other.into())))
}

fn same_file(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(held), Ok(named)) => (held.dev(), held.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

fn read_made(path: &Path, id: Id) -> Result<Option<Made>, LayerError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(LayerError::io(path, "reading the file")(error)),
    };
    let damaged = |text: &str| {
        let source = io::Error::new(io::ErrorKind::InvalidData, text.to_owned());
        LayerError::Damaged { id: id.short(), source }
    };
    let made: Made = serde_json::from_slice(&bytes).map_err(|error| damaged(&error.to_string()))?;
    if made.id != id {
        return Err(damaged("its name and its description differ"));
    }
    Ok(Some(made))
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), LayerError> {
    let write = || {
        let mut file = File::create_new(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(LayerError::io(path, "writing the file"))
}

fn sync_folder(path: &Path) -> Result<(), LayerError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(LayerError::io(path, "syncing the folder"))
}

/// Removes a layer's folder, with a subvolume in it.
fn remove(path: &Path) -> Result<(), LayerError> {
    let tree = path.join("tree");
    if clonable::is_subvolume(&tree) {
        clonable::remove_subvolume(&tree).map_err(LayerError::io(&tree, "removing the subvolume"))?;
    }
    root::clear_tree(path).map_err(LayerError::io(path, "removing the folder"))
}
