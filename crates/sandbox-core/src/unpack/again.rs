//! A batch whose packages share paths with others: as far as they do, the tree's own dpkg unpacks them.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use rustix::fs::{FileType, OFlags};

use super::{
    Halt, UnpackError, Unpacked, Unpacking,
    below::{Below, special},
    merge::merged,
    package::{Contents, Package},
    preinsts, read,
    shared::{self, Claim, What},
    skeleton,
    tree::{Folders, Writer},
    with_deb, write_one,
};
use crate::{
    host::{
        parallel::{parallel, processors},
        root::{Links, Root},
    },
    store::Filled,
};

impl Unpacking<'_> {
    /// Unpacks a batch once more, after [`Self::batch`] said that it is entangled: packages whose paths are their
    /// own as ever, the others by dpkg, which knows what they may replace and divert.
    ///
    /// # Errors
    /// Of the first package that fails.
    pub fn again(&self, batch: usize, filled: &Filled) -> Result<Unpacked, UnpackError> {
        let root = Root::open(self.tree(), Links::InTree).map_err(UnpackError::tree(self.tree()))?;
        let packages = read(filled)?;
        let split = {
            let below = self.below();
            packages.iter().try_for_each(|(package, claims)| refuse(package, claims, &below))?;
            let ground = Ground { root: &root, special: special(&root)?, below: &below };
            shared::split(&packages, &|path, what| ground.takes(path, what))?
        };
        let (mut direct, mut deferred) = split;
        let mut contents = self.write_again(batch, &root, &direct)?;
        match self.merge(batch, &direct, &contents.iter().collect::<Vec<_>>()) {
            Ok(()) => {}
            Err(Halt::Failed(problem)) => return Err(problem),
            Err(Halt::Entangled | Halt::Undelivered) => {
                (direct, contents) = (Vec::new(), Vec::new());
                deferred = packages.iter().map(|(package, _)| package).collect();
                self.note(batch, &root, &[], &[])?;
            }
        }
        self.brought(batch, &contents.iter().collect::<Vec<_>>())?;
        self.below().stale = !deferred.is_empty();
        Ok(Unpacked {
            tree: self.tree().to_owned(),
            preinsts: preinsts(&direct),
            deferred: deferred.iter().map(|package| package.path.clone()).collect(),
            named: super::named(&contents.iter().collect::<Vec<_>>()),
            packages: packages.len(),
        })
    }

    /// Does as [`Self::again`] as far as it tells of packages that lie, for a tree that will not be whole.
    ///
    /// # Errors
    /// Of the first package that fails.
    pub fn proved(&self, batch: usize, filled: &Filled) -> Result<(), UnpackError> {
        let root = Root::open(self.tree(), Links::InTree).map_err(UnpackError::tree(self.tree()))?;
        let packages = read(filled)?;
        let (direct, _) = shared::split(&packages, &|_, _| false)?;
        self.write_again(batch, &root, &direct).map(drop)
    }

    /// Writes packages beside the tree, where nothing of the first attempt is left.
    fn write_again(
        &self,
        batch: usize,
        root: &Root,
        packages: &[&Package<'_>],
    ) -> Result<Vec<Contents>, UnpackError> {
        let (beside, epoch) = (&self.places[batch].root, self.options.epoch);
        beside.empty(Path::new("")).map_err(UnpackError::tree(beside.path()))?;
        skeleton::repeat(root, beside, epoch)?;
        self.make_info(beside)?;
        let folders = Folders::default();
        let all: Vec<(usize, &Package<'_>)> = packages.iter().copied().enumerate().collect();
        let written = parallel(&all, processors(), |(at, package)| {
            with_deb(package.locked, &package.path, |deb| {
                write_one(package, deb, &mut Writer::new(beside, &folders, *at), epoch, None)
            })
        });
        let contents = written.into_iter().collect::<Result<Vec<_>, _>>()?;
        folders.finish(beside, epoch)?;
        Ok(contents)
    }
}

/// Refuses a package that has a path of a profile's, unless it is a configuration file.
fn refuse(package: &Package<'_>, claims: &[Claim], below: &Below) -> Result<(), UnpackError> {
    if below.reserved.is_empty() {
        return Ok(());
    }
    let conffiles: HashSet<PathBuf> = package.conffiles().map(merged).collect();
    let files = claims.iter().filter(|(path, what)| *what != What::Folder && !conffiles.contains(path));
    match files.filter_map(|(path, _)| below.taken(path, &package.locked.name)).next() {
        Some(problem) => Err(problem),
        None => Ok(()),
    }
}

/// A tree that packages are to come into.
struct Ground<'a> {
    root: &'a Root,
    special: HashSet<PathBuf>,
    below: &'a Below,
}

impl Ground<'_> {
    /// Tells whether dpkg must decide what becomes of a path.
    fn takes(&self, path: &Path, what: What) -> bool {
        let kind = self.root.kind(path).ok().flatten();
        if what == What::Folder {
            let is_one = || self.root.at(path, OFlags::PATH | OFlags::DIRECTORY, 0).is_ok();
            return kind.is_some() && !is_one();
        }
        self.below.owned.contains(path) || self.special.contains(path) || kind == Some(FileType::Directory)
    }
}
