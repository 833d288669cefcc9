//! Trees made ahead, where a file system shares the bytes of files and has no snapshots: there a tree costs no bytes
//! but some calls for each of its paths, and those can be made before somebody waits for them.
//!
//! ```text
//! <state>/layers/
//!   spares/<id>         the whole tree of a layer and all below it; a machine takes it by rename
//!   spares/<id>.new     one that is being made; its claim is `claims/<id>.spare`
//! ```

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path};

use super::{Claim, Id, LayerError, Layers, sync_folder};
use crate::{
    digest::Sha256,
    host::{clonable, root},
};

/// The ending of a tree that is not whole.
const NEW: &str = ".new";

impl Layers {
    /// Tells whether a tree should be made ahead for the next machine beside a tree of now: where the file system
    /// shares bytes, has no snapshots, and has both the layers and the machines.
    #[must_use]
    pub fn wants_spare(&self, id: Id, tree: &Path) -> bool {
        let device = |path: &Path| fs::metadata(path).map(|found| found.dev()).ok();
        device(&self.folder) == device(tree)
            && !clonable::is_btrfs(&self.folder)
            && !self.spare(id).exists()
            && clonable::shares_extents(&self.folder)
    }

    /// Makes a tree ahead; tells whether it did, as another may be at it.
    ///
    /// # Errors
    /// [`LayerError::Damaged`], [`LayerError::Io`].
    pub fn make_spare(&self, id: Id, holder: &str) -> Result<bool, LayerError> {
        self.make("spares")?;
        let Some(_claim) = self.claim_spare(id, holder)? else { return Ok(false) };
        let Some(stack) = self.hold_stack(id)? else { return Ok(false) };
        let (place, new) = (self.spare(id), self.new_spare(id));
        if place.exists() {
            return Ok(false);
        }
        gone(&new)?;
        fs::DirBuilder::new().create(&new).map_err(LayerError::io(&new, "making the folder"))?;
        self.lay_out(&stack, &new)?;
        let folder = fs::File::open(&new).map_err(LayerError::io(&new, "opening the folder"))?;
        rustix::fs::syncfs(&folder)
            .map_err(|errno| LayerError::io(&new, "syncing the tree")(errno.into()))?;
        fs::rename(&new, &place).map_err(LayerError::io(&place, "naming the tree"))?;
        sync_folder(&self.folder.join("spares"))?;
        Ok(true)
    }

    /// Puts a tree that was made ahead in the place of an empty folder; tells whether there was one.
    pub(super) fn take_spare(&self, id: Id, tree: &Path) -> bool {
        fs::rename(self.spare(id), tree).is_ok()
    }

    /// Removes the tree that was made ahead of a layer that goes.
    pub(super) fn remove_spare(&self, id: Id) -> Result<(), LayerError> {
        let (place, new) = (self.spare(id), self.new_spare(id));
        // from here on nobody takes it, and a remover that dies leaves what the next command removes
        match fs::rename(&place, &new) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            renamed => renamed.map_err(LayerError::io(&place, "moving the tree away"))?,
        }
        gone(&new)
    }

    /// Removes what dead makers and removers left; gives how many.
    pub(super) fn recover_spares(&self) -> Result<usize, LayerError> {
        let mut count = 0;
        for entry in fs::read_dir(self.folder.join("spares")).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let whole = !name.ends_with(NEW);
            let id = Sha256::parse(name.trim_end_matches(NEW).as_bytes()).map(Id);
            let Some(id) = id.filter(|id| !whole || !self.has(*id)) else { continue };
            if self.claim_spare(id, "a cleaner")?.is_some() {
                self.remove_spare(id)?;
                gone(&self.new_spare(id))?;
                count += 1;
            }
        }
        Ok(count)
    }

    fn claim_spare(&self, id: Id, holder: &str) -> Result<Option<Claim>, LayerError> {
        let path = self.make("claims")?.join(format!("{id}.spare"));
        Claim::take(&path, holder, &mut |_| false).map_err(LayerError::io(&path, "claiming the tree"))
    }

    fn spare(&self, id: Id) -> std::path::PathBuf {
        self.folder.join("spares").join(id.to_string())
    }

    fn new_spare(&self, id: Id) -> std::path::PathBuf {
        self.folder.join("spares").join(format!("{id}{NEW}"))
    }
}

fn gone(path: &Path) -> Result<(), LayerError> {
    root::clear_tree(path).map_err(LayerError::io(path, "removing the folder"))
}
